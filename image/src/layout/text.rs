//! The text of a layout: names in it, and reading it with line numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CheckError, Layout, TEXT_BYTES};

/// Bytes of a name: a GPT has room for 36 characters.
const NAME_BYTES: usize = 32;

/// The name of a disk, partition, array, group or volume in a layout: letters, digits, `_` and `-`, beginning with a
/// letter or digit, at most 32 bytes. Device names, arguments and paths are made from it, so nothing else can be built.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// What something lies on: `DISK.PARTITION`, `GROUP.VOLUME` or `ARRAY`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// The disk, group or array.
    pub whole: Label,
    /// The partition or volume of it.
    pub part: Option<Label>,
}

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use up to 32 letters, digits, '_' or '-', beginning with a letter or digit")]
pub struct ParseLabelError(String);

/// A text that says nothing that something could lie on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no place: write DISK.PARTITION, GROUP.VOLUME or the name of an array")]
pub struct ParsePlaceError(String);

/// A layout that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// It is longer than any layout needs.
    #[error("a layout has at most 256 KiB")]
    Long,
    /// The text has the wrong form.
    #[error("line {line}: {message}")]
    Text {
        /// Where, from 1.
        line: usize,
        /// What.
        message: String,
    },
    /// It makes no sense.
    #[error(transparent)]
    Check(#[from] CheckError),
}

pub(super) fn parse(text: &str) -> Result<Layout, LayoutError> {
    if text.len() > TEXT_BYTES {
        return Err(LayoutError::Long);
    }
    let layout: Layout = toml::from_str(text).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(before).filter(|&byte| byte == b'\n').count();
        LayoutError::Text {
            line,
            message: error.message().to_owned(),
        }
    })?;
    layout.check()?;
    Ok(layout)
}

impl Label {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = ParseLabelError;

    fn try_from(text: String) -> Result<Self, ParseLabelError> {
        let ok = text.len() <= NAME_BYTES
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if ok {
            Ok(Self(text))
        } else {
            Err(ParseLabelError(text.chars().take(80).collect()))
        }
    }
}

impl FromStr for Label {
    type Err = ParseLabelError;

    fn from_str(text: &str) -> Result<Self, ParseLabelError> {
        Self::try_from(text.to_owned())
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Place {
    /// A partition of a disk, or a volume of a group.
    pub fn part_of(whole: &Label, part: &Label) -> Self {
        Self {
            whole: whole.clone(),
            part: Some(part.clone()),
        }
    }

    /// An array.
    pub fn whole(whole: &Label) -> Self {
        Self {
            whole: whole.clone(),
            part: None,
        }
    }
}

impl TryFrom<String> for Place {
    type Error = ParsePlaceError;

    fn try_from(text: String) -> Result<Self, ParsePlaceError> {
        let wrong = || ParsePlaceError(text.chars().take(80).collect());
        let (whole, part) = match text.split_once('.') {
            Some((whole, part)) => (whole, Some(part)),
            None => (text.as_str(), None),
        };
        Ok(Self {
            whole: whole.parse().map_err(|_| wrong())?,
            part: part.map(|part| part.parse().map_err(|_| wrong())).transpose()?,
        })
    }
}

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, ParsePlaceError> {
        Self::try_from(text.to_owned())
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => write!(f, "{}.{part}", self.whole),
            None => self.whole.fmt(f),
        }
    }
}
