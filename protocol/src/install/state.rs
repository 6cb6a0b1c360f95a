//! What becomes of a node when it boots next.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Action;

/// The state of a node that the operator has adopted.
///
/// `install` and `installing` make it install itself when it boots from the network, `failed` and `rescue` let the
/// operator in, `installed` and `local` start the local disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It will be installed when it boots next.
    Install,
    /// It has its order, and carries it out.
    Installing,
    /// It was installed, and boots its local disk.
    Installed,
    /// Its install failed; it waits for the operator.
    Failed,
    /// The operator wants it in the mini-kernel.
    Rescue,
    /// It boots its local disk; nothing was installed by us.
    Local,
}

/// A text that is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state of a node: write install, installing, installed, failed, rescue or local")]
pub struct ParseNodeStateError(String);

impl NodeState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Install,
        Self::Installing,
        Self::Installed,
        Self::Failed,
        Self::Rescue,
        Self::Local,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Installing => "installing",
            Self::Installed => "installed",
            Self::Failed => "failed",
            Self::Rescue => "rescue",
            Self::Local => "local",
        }
    }

    /// What a node in this state should do when it is in the mini-kernel.
    pub const fn action(self) -> Action {
        match self {
            Self::Install | Self::Installing => Action::Install,
            Self::Failed | Self::Rescue => Action::Rescue,
            Self::Installed | Self::Local => Action::Local,
        }
    }
}

impl FromStr for NodeState {
    type Err = ParseNodeStateError;

    fn from_str(text: &str) -> Result<Self, ParseNodeStateError> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| ParseNodeStateError(text.chars().take(40).collect()))
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_everywhere() {
        for state in NodeState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert!("gone".parse::<NodeState>().is_err());
    }
}
