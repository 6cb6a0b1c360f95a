//! Sizes as people write them in a layout.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes, written `512MiB`, `20GB`, `1.5TB` or plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

/// How large something is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Size {
    /// So many bytes.
    Fixed(Bytes),
    /// So many hundredths of the whole disk or group, 1 to 100.
    PerCent(u8),
    /// What everything else leaves.
    Rest,
}

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size: write 512MiB, 20GB, 30% or rest")]
pub struct ParseSizeError(String);

const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

impl FromStr for Bytes {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let wrong = || ParseSizeError(text.chars().take(40).collect());
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = unit.trim_start();
        let factor = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        // Three digits behind the point are enough for anybody.
        if whole.is_empty() || fraction.is_empty() || fraction.len() > 3 {
            return Err(wrong());
        }
        let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| wrong())?;
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let bytes =
            u128::from(whole) * u128::from(factor) + u128::from(thousandths) * u128::from(factor) / 1000;
        u64::try_from(bytes)
            .ok()
            .filter(|&bytes| bytes > 0)
            .map(Self)
            .ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    /// In the unit that says it exactly with the fewest digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().filter(|(_, factor)| self.0.is_multiple_of(*factor));
        let (name, factor) = exact.max_by_key(|(_, factor)| *factor).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let wrong = || ParseSizeError(text.chars().take(40).collect());
        if text == "rest" {
            return Ok(Self::Rest);
        }
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Fixed),
            Some(number) => match number.trim_end().parse() {
                Ok(per_cent @ 1..=100) if !number.starts_with('+') => Ok(Self::PerCent(per_cent)),
                _ => Err(wrong()),
            },
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => bytes.fmt(f),
            Self::PerCent(per_cent) => write!(f, "{per_cent}%"),
            Self::Rest => f.write_str("rest"),
        }
    }
}

macro_rules! text_form {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = ParseSizeError;

            fn try_from(text: String) -> Result<Self, ParseSizeError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

text_form!(Bytes);
text_form!(Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip_in_their_shortest_form() {
        for (text, shown) in [
            ("512MiB", "512MiB"),
            ("1024 MiB", "1GiB"),
            ("20GB", "20GB"),
            ("1.5TB", "1500GB"),
            ("0.5GiB", "512MiB"),
            ("1536", "1536"),
            ("4096B", "4KiB"),
            ("30%", "30%"),
            ("100 %", "100%"),
            ("rest", "rest"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Size>(), Ok(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "0",
            "0%",
            "101%",
            "+5%",
            "-1",
            "1.GB",
            ".5GB",
            "1.2345GB",
            "1.2.3GB",
            "5gb",
            "5 G",
            "Rest",
            "99999999TiB",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
        assert_eq!(
            "5gb".parse::<Size>().unwrap_err().to_string(),
            "\"5gb\" is not a size: write 512MiB, 20GB, 30% or rest"
        );
    }
}
