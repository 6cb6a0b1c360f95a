//! Quantities as people write and read them: byte counts and rates.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A count of bytes that prints for people: `17 B`, `1.4 kB`, `3.20 GB` (powers of 1,000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        let mut unit = 1u64;
        let mut index = 0;
        while index + 1 < UNITS.len() && self.0 / unit >= 1_000_000 {
            unit *= 1000;
            index += 1;
        }
        let thousandths = self.0 / unit;
        write!(
            f,
            "{}.{:02} {}",
            thousandths / 1000,
            thousandths % 1000 / 10,
            UNITS[index]
        )
    }
}

/// A rate of transmission in bits per second, from 1 bit/s; written `1Gbit`, `250Mbit`, `64kbit` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u64);

/// A text that is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate: write bits per second, as in 250Mbit, 1Gbit or 64000")]
pub struct ParseRateError(String);

impl Rate {
    /// A rate of so many bits per second; 0 is taken as 1.
    pub const fn from_bits_per_second(bits: u64) -> Self {
        Self(if bits == 0 { 1 } else { bits })
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// How long `bytes` take at this rate.
    pub fn time_for(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor = match unit {
            "" | "bit" => Some(1),
            "kbit" => Some(1_000),
            "Mbit" => Some(1_000_000),
            "Gbit" => Some(1_000_000_000),
            _ => None,
        };
        let number = digits
            .parse::<u64>()
            .ok()
            .zip(factor)
            .and_then(|(n, factor)| n.checked_mul(factor));
        number
            .filter(|&n| n > 0)
            .map(Self)
            .ok_or_else(|| ParseRateError(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Rate {
    type Error = ParseRateError;

    fn try_from(text: String) -> Result<Self, ParseRateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (factor, unit) in [(1_000_000_000, "Gbit"), (1_000_000, "Mbit"), (1_000, "kbit")] {
            if self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}bit", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_for_people() {
        let shown = |n| Bytes(n).to_string();
        assert_eq!(
            [
                shown(0),
                shown(999),
                shown(1000),
                shown(1_234_567),
                shown(3_200_000_000),
                shown(u64::MAX)
            ],
            ["0 B", "999 B", "1.00 kB", "1.23 MB", "3.20 GB", "18.44 EB"]
        );
    }

    #[test]
    fn rates_round_trip_and_refuse_nonsense() {
        for text in ["1Gbit", "250Mbit", "64kbit", "1500bit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "0", "-1", "1gbit", "1 Gbit", "99999999999Gbit"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
        assert_eq!(
            Rate::from_bits_per_second(8_000).time_for(1_000),
            Duration::from_secs(1)
        );
    }
}
