//! Names of groups of nodes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::NodeName;

/// The name of a group of nodes, of the same form as a node's: it stands in paths and in node sets, as in `@gpu`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

/// A text that names no group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a group's name: use up to 63 small letters, digits or '-', beginning and ending with a letter or digit"
)]
pub struct ParseGroupNameError(String);

impl GroupName {
    /// The group that every node is in: it holds what is set for all.
    pub const ALL: &str = "all";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The group that every node is in.
    pub fn all() -> Self {
        Self(Self::ALL.to_owned())
    }
}

impl TryFrom<String> for GroupName {
    type Error = ParseGroupNameError;

    fn try_from(text: String) -> Result<Self, ParseGroupNameError> {
        match text.parse::<NodeName>() {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(ParseGroupNameError(text.chars().take(80).collect())),
        }
    }
}

impl FromStr for GroupName {
    type Err = ParseGroupNameError;

    fn from_str(text: &str) -> Result<Self, ParseGroupNameError> {
        Self::try_from(text.to_owned())
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> Self {
        name.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_nodes_could_have() {
        assert_eq!("gpu-2".parse::<GroupName>().unwrap().as_str(), "gpu-2");
        assert_eq!(GroupName::all().to_string().parse(), Ok(GroupName::all()));
        for text in ["", "../x", "GPU", "a b"] {
            let error = text.parse::<GroupName>().unwrap_err().to_string();
            assert!(error.contains("is not a group's name"), "{error}");
        }
    }
}
