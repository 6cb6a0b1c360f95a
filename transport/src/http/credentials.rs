//! Where a program finds what it needs to be let in, and to know that it talks to the right server.
//!
//! What is given by option or environment wins; a program on the image server itself finds the rest in its state
//! directory.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use simulcast_protocol::api::{ParseTokenError, Token};

/// Bytes of a token or key that are read: either is 64 digits and a line end.
const TEXT_BYTES: u64 = 256;

/// A token or key is missing or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is no token anywhere.
    #[error("a token is needed, and none is given")]
    NoToken,
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// The file holds something else.
    #[error("cannot use {0}")]
    Token(PathBuf, #[source] ParseTokenError),
}

impl CredentialError {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        "copy keys/token from the server's state directory, and give it with --token-file FILE or SI_TOKEN"
    }
}

/// The token: that of the file `file`, else `given`, else that of the state directory.
///
/// # Errors
/// [`CredentialError`].
pub fn token(file: Option<&Path>, given: Option<&Token>, state: &Path) -> Result<Token, CredentialError> {
    if let (None, Some(token)) = (file, given) {
        return Ok(token.clone());
    }
    let path = file.map_or_else(|| state.join("keys").join("token"), Path::to_owned);
    match read(&path) {
        Ok(text) => text.parse().map_err(|error| CredentialError::Token(path, error)),
        Err(error) if error.kind() == ErrorKind::NotFound && file.is_none() => Err(CredentialError::NoToken),
        Err(error) => Err(CredentialError::Read(path, error)),
    }
}

/// The text of the server's signing key in the state directory, if this is the image server itself.
///
/// # Errors
/// [`CredentialError::Read`].
pub fn server_key(state: &Path) -> Result<Option<String>, CredentialError> {
    let path = state.join("keys").join("signing.pub");
    match read(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CredentialError::Read(path, error)),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(TEXT_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_given_wins_over_the_state_directory() {
        let state = tempfile::tempdir().unwrap();
        let found = |file: Option<&Path>, given: Option<&Token>| token(file, given, state.path());
        assert!(matches!(found(None, None), Err(CredentialError::NoToken)));
        assert!(matches!(server_key(state.path()), Ok(None)));
        let text = |byte: u8| Token::from_bytes([byte; 32]).reveal();
        fs::create_dir(state.path().join("keys")).unwrap();
        fs::write(state.path().join("keys/token"), text(1) + "\n").unwrap();
        fs::write(state.path().join("keys/signing.pub"), "abc\n").unwrap();
        let file = state.path().join("file");
        assert!(matches!(found(Some(&file), None), Err(CredentialError::Read(..))));
        fs::write(&file, text(2)).unwrap();
        let given = Token::from_bytes([3; 32]);
        assert_eq!(found(None, None).unwrap().reveal(), text(1));
        assert_eq!(found(None, Some(&given)).unwrap().reveal(), text(3));
        assert_eq!(found(Some(&file), Some(&given)).unwrap().reveal(), text(2));
        assert_eq!(server_key(state.path()).unwrap().as_deref(), Some("abc"));
        fs::write(&file, "nonsense").unwrap();
        let error = found(Some(&file), None).unwrap_err();
        assert!(matches!(error, CredentialError::Token(path, _) if path == file));
    }
}
