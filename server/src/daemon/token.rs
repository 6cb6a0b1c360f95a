//! The token that requests must carry: made at first start, readable by root alone.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use simulcast_protocol::api::Token;

/// Reads the token at `path`, making one where there is none.
pub(super) fn obtain(path: &Path) -> Result<Token> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(path).with_context(|| format!("cannot make the token {}", path.display()))?;
            fs::read_to_string(path)
        }
        other => other,
    };
    let text = text.with_context(|| format!("cannot read the token {}", path.display()))?;
    text.parse()
        .with_context(|| format!("cannot use the token {}", path.display()))
}

/// Linked into place when whole, so that two first starts at once agree on one token.
fn make(path: &Path) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let token = Token::from_bytes(rand::random());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(file, "{}", token.reveal())?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_once_and_kept_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let first = obtain(&path).unwrap().reveal();
        assert_eq!(obtain(&path).unwrap().reveal(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_spoilt_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "123\n").unwrap();
        let error = format!("{:#}", obtain(&path).unwrap_err());
        assert_eq!(
            error,
            format!(
                "cannot use the token {}: a token is 64 hexadecimal digits",
                path.display()
            )
        );
    }
}
