//! Whether dnsmasq can get at what it gives out: it starts as root and goes on as a user who owns nothing, so directories on
//! the way must let everybody pass. Otherwise it would start, and every machine would wait for its files in vain.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use simulcast_cli::{Exit, Remark};

use super::files::BootFile;

/// What everybody must be allowed to do with a directory that is passed, and with a file that is read.
const PASS: u32 = 0o001;
const READ: u32 = 0o004;

/// Where the kernel keeps who else may do what: then the mode does not tell all.
const ACL: &str = "system.posix_acl_access";

/// Checks the way to `directory`, which TFTP gives files from, and the boot loaders in it.
///
/// # Errors
/// The first directory or file that dnsmasq cannot get at, and what opens it.
pub(super) fn check(directory: &Path, files: &[BootFile]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        // It goes on as whoever started it.
        return Ok(());
    }
    let way = directory
        .canonicalize()
        .with_context(|| format!("cannot find {}", directory.display()))?;
    let mut wanted: Vec<(PathBuf, u32)> = way.ancestors().map(|path| (path.to_owned(), PASS)).collect();
    wanted.reverse();
    wanted.extend(files.iter().map(|file| (way.join(file.name()), READ)));
    for (path, bit) in wanted {
        let mode = fs::metadata(&path)
            .with_context(|| format!("cannot look at {}", path.display()))?
            .mode();
        if mode & bit == 0 && rustix::fs::getxattr(&path, ACL, &mut [0u8; 0]).is_err() {
            let (cannot, mend) = if bit == PASS {
                ("pass through", "o+x")
            } else {
                ("read", "o+r")
            };
            return Err(anyhow!(
                "dnsmasq gives up root's rights, and then cannot {cannot} {} (mode {:o})",
                path.display(),
                mode & 0o7777
            ))
            .exit(Exit::Usage)
            .hint(format!("chmod {mend} {}", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_nobody_may_pass_is_named() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let (state, tftp) = (scratch.path().join("state"), scratch.path().join("state/tftp"));
        fs::create_dir_all(&tftp).unwrap();
        fs::write(tftp.join("snponly.efi"), "MZ").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(scratch.path(), 0o755);
        assert!(check(&tftp, &[BootFile::Snponly]).is_ok());
        mode(&state, 0o700);
        let error = check(&tftp, &[]).unwrap_err();
        let expected = format!(
            "dnsmasq gives up root's rights, and then cannot pass through {} (mode 700)",
            state.display()
        );
        assert_eq!(error.chain().last().unwrap().to_string(), expected);
        mode(&state, 0o711);
        mode(&tftp.join("snponly.efi"), 0o600);
        let error = format!("{:#}", check(&tftp, &[BootFile::Snponly]).unwrap_err());
        assert!(
            error.contains("cannot read ") && error.contains("snponly.efi (mode 600)"),
            "{error}"
        );
    }
}
