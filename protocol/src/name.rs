//! Names of images and versions: `golden01`, `golden01@7`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest image name in bytes: it becomes a directory name, with room for suffixes.
const IMAGE_NAME_BYTES: usize = 64;

/// The name of an image: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 64 bytes.
///
/// It is safe as a directory name and in a URL, because nothing else can be built.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

/// The number of a version of an image; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub NonZeroU32);

/// An image, or one version of it: `NAME` means the newest, `NAME@V` that one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// Which image.
    pub name: ImageName,
    /// Which version; `None` for the newest.
    pub version: Option<Version>,
}

/// A text that names no image or version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// The image name has a wrong form.
    #[error(
        "{0:?} is not an image name: use up to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
    )]
    Image(String),
    /// The part behind `@` is not a positive number.
    #[error("{0:?} is not a version: use a whole number from 1, as in golden01@3")]
    Version(String),
}

impl ImageName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Version {
    /// The first version of an image.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The version with this number; `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The version after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl TryFrom<String> for ImageName {
    type Error = ParseNameError;

    fn try_from(text: String) -> Result<Self, ParseNameError> {
        let ok = text.len() <= IMAGE_NAME_BYTES
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if ok {
            Ok(Self(text))
        } else {
            Err(ParseNameError::Image(text.chars().take(80).collect()))
        }
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

impl FromStr for ImageName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        Self::try_from(text.to_owned())
    }
}

impl FromStr for Version {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number
            .map(Self)
            .ok_or_else(|| ParseNameError::Version(text.chars().take(80).collect()))
    }
}

impl FromStr for ImageRef {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        match text.split_once('@') {
            None => Ok(Self {
                name: text.parse()?,
                version: None,
            }),
            Some((name, version)) => Ok(Self {
                name: name.parse()?,
                version: Some(version.parse()?),
            }),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip() {
        for text in ["golden01", "golden01@7", "a.b_c-d@4294967295"] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        for text in [
            "", "..", ".x", "-x", "a/b", "a b", "é", "a@", "a@0", "a@-1", "a@+1", "a@1@2", "@1",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text:?}");
        }
        assert!("x".repeat(65).parse::<ImageName>().is_err());
    }
}
