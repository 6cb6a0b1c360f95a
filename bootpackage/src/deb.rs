//! Kernel packages of Debian and its relatives: an `ar` archive with a tar archive in it.

use std::fs;
use std::io::Read;
use std::path::{Component, Path};

use crate::error::PackageError;
use crate::unpack::Zstd;

/// The mark of an `ar` archive, and bytes of the header of a member.
const MARK: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;

/// Directories of a kernel package that a mini-kernel is made of.
const WANTED: [&str; 3] = ["boot", "lib/modules", "usr/lib/modules"];

/// Unpacks the kernel and modules of the package `deb` into `directory`. Nothing is written outside of it.
///
/// # Errors
/// When the package cannot be read or is none, or the directory cannot be written.
pub(crate) fn unpack(deb: &Path, directory: &Path) -> Result<(), PackageError> {
    let bytes = fs::read(deb).map_err(PackageError::read(deb))?;
    let (name, data) = data_member(&bytes)
        .ok_or_else(|| PackageError::malformed(deb, "it is no Debian package, or one without files"))?;
    let reader: Box<dyn Read + '_> = match name {
        "data.tar" => Box::new(data),
        "data.tar.xz" => Box::new(liblzma::read::XzDecoder::new(data)),
        "data.tar.zst" => Box::new(Zstd::new(data)),
        other => {
            let what = format!("its files are compressed in a way that is not known: {other}");
            return Err(PackageError::malformed(deb, what));
        }
    };
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_mtime(false);
    let entries = archive.entries().map_err(PackageError::read(deb))?;
    for entry in entries {
        let mut entry = entry.map_err(PackageError::read(deb))?;
        let path = entry.path().map_err(PackageError::read(deb))?.into_owned();
        let kind = entry.header().entry_type();
        if wanted(&path) && (kind.is_file() || kind.is_dir()) {
            // It refuses to leave the directory, by `..` or through a link.
            entry
                .unpack_in(directory)
                .map_err(PackageError::write(&directory.join(&path)))?;
        }
    }
    Ok(())
}

fn wanted(path: &Path) -> bool {
    let plain: std::path::PathBuf = path
        .components()
        .filter(|part| !matches!(part, Component::CurDir))
        .collect();
    WANTED.iter().any(|directory| plain.starts_with(directory))
}

/// The member that holds the files: its name and its bytes.
fn data_member(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let mut rest = bytes.strip_prefix(MARK)?;
    loop {
        let header = rest.get(..HEADER)?;
        let name = std::str::from_utf8(&header[..16]).ok()?.trim_end();
        let size = std::str::from_utf8(&header[48..58]).ok()?.trim_end();
        let size: usize = size.parse().ok()?;
        let body = rest.get(HEADER..)?;
        if name.starts_with("data.tar") {
            return Some((name.trim_end_matches('/'), body.get(..size)?));
        }
        // Members begin at even places.
        rest = body.get(size.checked_next_multiple_of(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = MARK.to_vec();
        for (name, body) in members {
            out.extend(
                format!(
                    "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                    0,
                    0,
                    0,
                    644,
                    body.len()
                )
                .bytes(),
            );
            out.extend_from_slice(body);
            if body.len() % 2 == 1 {
                out.push(b'\n');
            }
        }
        out
    }

    fn files(paths: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for path in paths {
            let mut header = tar::Header::new_gnu();
            header.set_size(4);
            header.set_mode(0o644);
            // `set_path` would refuse what an attacker writes.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, &b"text"[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn kernel_and_modules_are_taken_and_nothing_leaves_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let (deb, to) = (directory.path().join("a.deb"), directory.path().join("to"));
        fs::create_dir(&to).unwrap();
        let data = files(&[
            "./boot/vmlinuz-6",
            "./lib/modules/6/a.ko",
            "./usr/share/doc/x",
            "./boot/../../evil",
            "boot/../../evil",
        ]);
        let data = crate::archive::compress(&data, 1).unwrap();
        fs::write(
            &deb,
            ar(&[
                ("debian-binary", b"2.0\n"),
                ("control.tar", b"odd"),
                ("data.tar.zst", &data),
            ]),
        )
        .unwrap();
        unpack(&deb, &to).unwrap();
        assert_eq!(fs::read(to.join("boot/vmlinuz-6")).unwrap(), b"text");
        assert_eq!(fs::read(to.join("lib/modules/6/a.ko")).unwrap(), b"text");
        assert!(!to.join("usr/share").exists());
        assert!(!directory.path().join("evil").exists());
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let deb = directory.path().join("a.deb");
        let huge = {
            let mut huge = ar(&[("data.tar", b"")]);
            huge[8 + 48..8 + 58].copy_from_slice(b"9999999999");
            huge
        };
        for bytes in [&b"PK"[..], MARK, &ar(&[("x", b"y")]), &huge] {
            fs::write(&deb, bytes).unwrap();
            let error = unpack(&deb, directory.path()).unwrap_err();
            assert!(matches!(error, PackageError::Malformed { .. }), "{error}");
        }
        fs::write(&deb, ar(&[("data.tar.lzma", b"y")])).unwrap();
        let error = unpack(&deb, directory.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("in a way that is not known: data.tar.lzma"),
            "{error}"
        );
    }
}
