//! Words of a kernel command line that an operator chose.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of all words together: with ours, less than the 2,048 that every kernel takes.
const BYTES: usize = 1024;

/// What begins a word that is for the installer in the mini-kernel.
const OURS: &str = "si.";

/// Words of a kernel command line, as in `console=ttyS0,115200 nomodeset`. Of those that are for the installer an operator may
/// say where it stops (`si.break=STEP`) and that it says everything (`si.debug`).
///
/// They stand in scripts of three boot loaders, so they have only characters that mean nothing to any of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct KernelArgs(String);

impl KernelArgs {
    /// The words, with one blank between each two; empty when there are none.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The words one by one.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }

    /// The terminals that the kernel is told of, as in `ttyS0`.
    pub(crate) fn consoles(&self) -> impl Iterator<Item = &str> {
        let told = self.words().filter_map(|word| word.strip_prefix("console="));
        told.map(|console| console.split(',').next().unwrap_or(console))
    }
}

/// Whether a word is for the installer in the mini-kernel, and no other kernel should get it.
pub(crate) fn is_ours(word: &str) -> bool {
    word.starts_with(OURS)
}

impl TryFrom<String> for KernelArgs {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<KernelArgs> for String {
    fn from(args: KernelArgs) -> Self {
        args.0
    }
}

impl std::str::FromStr for KernelArgs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/=+@%~".contains(c);
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        if let Some(word) = words.iter().find(|word| !word.chars().all(plain)) {
            let word: String = word.chars().take(60).collect();
            return Err(format!(
                "{word:?} cannot stand on a kernel command line here: use letters, digits and -_.,:/=+@%~"
            ));
        }
        if let Some(word) = words.iter().find(|word| {
            is_ours(word) && **word != "si.debug" && !word.starts_with("si.break=")
                || word.starts_with("BOOTIF=")
        }) {
            return Err(format!("{word:?} is for si-server to say"));
        }
        let joined = words.join(" ");
        if joined.len() > BYTES {
            return Err(format!(
                "these are more than {BYTES} bytes for a kernel command line"
            ));
        }
        Ok(Self(joined))
    }
}

impl fmt::Display for KernelArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_that_no_boot_loader_understands_are_taken() {
        let args: KernelArgs = "  console=ttyS0,115200  nomodeset ".parse().unwrap();
        assert_eq!(args.as_str(), "console=ttyS0,115200 nomodeset");
        assert_eq!(args.consoles().collect::<Vec<_>>(), ["ttyS0"]);
        for text in [
            "a;b", "a\"b", "${x}", "a&&b", "a|b", "#x", "{a", "a>b", "a\\b", "é",
        ] {
            let error = text.parse::<KernelArgs>().unwrap_err();
            assert!(error.contains("cannot stand"), "{error}");
        }
        // A line end is a blank like any other: nothing begins a new line of a script.
        assert_eq!("a\nchain".parse::<KernelArgs>().unwrap().as_str(), "a chain");
        let stops: KernelArgs = "si.debug si.break=mount".parse().unwrap();
        assert!(stops.as_str().split(' ').all(is_ours));
        for text in ["si.server=http://evil", "si.break", "x BOOTIF=01-2"] {
            assert!(
                text.parse::<KernelArgs>()
                    .unwrap_err()
                    .ends_with("is for si-server to say")
            );
        }
        assert!("x".repeat(1025).parse::<KernelArgs>().is_err());
    }
}
