//! The token that every request carries.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// Authorises whoever presents it: 32 random bytes, written as 64 hexadecimal digits. It prints nowhere by accident.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Token([u8; 32]);

/// A text that is no token. It does not repeat the text, which may be a token with a slip of the pen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is 64 hexadecimal digits")]
pub struct ParseTokenError;

impl Token {
    /// Takes 32 random bytes as the token.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The text that travels and that is kept in files.
    pub fn reveal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The value of the `Authorization` header.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.reveal())
    }

    /// Whether the value of an `Authorization` header carries this token. Comparing takes the same time wherever they
    /// differ, so that a token cannot be found digit by digit.
    pub fn authorizes(&self, header: &[u8]) -> bool {
        let Some(text) = header
            .strip_prefix(b"Bearer ")
            .and_then(|text| std::str::from_utf8(text).ok())
        else {
            return false;
        };
        text.parse::<Self>().is_ok_and(|other| self.same(&other))
    }

    fn same(&self, other: &Self) -> bool {
        let differ = self.0.iter().zip(&other.0).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differ) == 0
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.same(other)
    }
}

impl Eq for Token {}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.reveal())
    }
}

impl TryFrom<String> for Token {
    type Error = ParseTokenError;

    fn try_from(text: String) -> Result<Self, ParseTokenError> {
        text.parse()
    }
}

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        // A token has the form of an identity.
        let id = text.trim().parse::<crate::id::ManifestId>();
        id.map(|id| Self(*id.as_bytes())).map_err(|_| ParseTokenError)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_is_authorised() {
        let token = Token::from_bytes([0x5a; 32]);
        let header = token.authorization();
        assert!(token.authorizes(header.as_bytes()));
        for at in 0..header.len() {
            let mut other = header.clone().into_bytes();
            other[at] = if other[at] == b'7' { b'8' } else { b'7' };
            assert!(!token.authorizes(&other), "byte {at}");
        }
        for header in [
            "",
            "Bearer ",
            "Bearer 5a",
            "Basic 5a",
            &header[..header.len() - 1],
        ] {
            assert!(!token.authorizes(header.as_bytes()), "{header:?}");
        }
        assert!(!token.authorizes(&[0xff; 71]));
    }

    #[test]
    fn text_round_trips_and_is_not_printed() {
        let token = Token::from_bytes([1; 32]);
        let again: Token = format!("{}\n", token.reveal()).parse().unwrap();
        assert!(token.same(&again));
        assert_eq!(format!("{token:?}"), "Token(secret)");
        assert_eq!(
            "secret".parse::<Token>().unwrap_err().to_string(),
            "a token is 64 hexadecimal digits"
        );
    }
}
