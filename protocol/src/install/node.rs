//! Names of nodes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name in bytes, as of a host name (RFC 1123).
const NAME_BYTES: usize = 63;

/// The name of a node, which becomes its host name: small letters, digits and `-`, beginning and ending with a letter or
/// digit, at most 63 bytes (RFC 1123, without capitals and dots).
///
/// It is safe in a path, in a URL and on a kernel command line, because nothing else can be built.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// A text that names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a node's name: use up to 63 small letters, digits or '-', beginning and ending with a letter or digit"
)]
pub struct ParseNodeNameError(String);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = ParseNodeNameError;

    fn try_from(text: String) -> Result<Self, ParseNodeNameError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ok = text.len() <= NAME_BYTES
            && text.starts_with(plain)
            && text.ends_with(plain)
            && text.chars().all(|c| plain(c) || c == '-');
        if ok {
            Ok(Self(text))
        } else {
            Err(ParseNodeNameError(text.chars().take(80).collect()))
        }
    }
}

impl FromStr for NodeName {
    type Err = ParseNodeNameError;

    fn from_str(text: &str) -> Result<Self, ParseNodeNameError> {
        Self::try_from(text.to_owned())
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_taken_and_all_else_is_refused() {
        for text in ["node01", "n", "a-b-c", "7", &"x".repeat(63)] {
            assert_eq!(text.parse::<NodeName>().unwrap().as_str(), text);
        }
        for text in [
            "",
            "-a",
            "a-",
            "Node",
            "a.b",
            "a_b",
            "a/b",
            "a b",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(text.parse::<NodeName>().is_err(), "{text:?}");
        }
    }
}
