//! Mini-kernels as they lie in the state directory: `boot/NAME/{vmlinuz,initrd.img,package.json}`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use simulcast_bootpackage::{INITRD, KERNEL, RECORD, Record};

/// Longest name in bytes: it becomes a directory name.
const NAME_BYTES: usize = 32;

/// Bytes of the longest record that is read: one of all modules has half a megabyte.
const RECORD_BYTES: u64 = 16 << 20;

/// The directory of the state directory that everything for booting is in.
const DIRECTORY: &str = "boot";

/// Names that mean something else in that directory.
const TAKEN: [&str; 1] = ["tftp"];

/// The name of a mini-kernel: small letters, digits and `-`, beginning with a letter or digit. It is safe in a path, in a
/// URL and in a boot loader's script, because nothing else can be built.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PackageName(String);

impl PackageName {
    /// What nodes boot unless told otherwise.
    pub(crate) const DEFAULT: &str = "default";
}

impl Default for PackageName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for PackageName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ok = text.len() <= NAME_BYTES
            && text.starts_with(plain)
            && text.chars().all(|c| plain(c) || c == '-')
            && !TAKEN.contains(&text);
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            let text: String = text.chars().take(60).collect();
            Err(format!(
                "{text:?} is no name of a mini-kernel: use up to {NAME_BYTES} small letters, digits or '-', beginning with a \
                 letter or digit, and not {}",
                TAKEN.join(", ")
            ))
        }
    }
}

impl TryFrom<String> for PackageName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PackageName> for String {
    fn from(name: PackageName) -> Self {
        name.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where everything for booting is kept, below the state directory.
pub(crate) fn directory(state: &Path) -> PathBuf {
    state.join(DIRECTORY)
}

/// A mini-kernel that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: PackageName,
    /// Names this very build: sixteen hexadecimal digits.
    pub(crate) id: String,
    directory: PathBuf,
}

impl Package {
    /// Reads what was built under a name.
    ///
    /// # Errors
    /// When nothing was, or its record cannot be read.
    pub(crate) fn load(state: &Path, name: &PackageName) -> Result<Self> {
        let directory = directory(state).join(&name.0);
        let path = directory.join(RECORD);
        let failed = || format!("cannot read {}", path.display());
        let length = fs::metadata(&path).with_context(failed)?.len();
        anyhow::ensure!(
            length <= RECORD_BYTES,
            "{} is no record of a mini-kernel",
            path.display()
        );
        let text = fs::read(&path).with_context(failed)?;
        let record: Record =
            serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Self {
            name: name.clone(),
            id: record.id(),
            directory,
        })
    }

    /// The file of this name, which is the kernel's or the initramfs'.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        [KERNEL, INITRD]
            .contains(&name)
            .then(|| self.directory.join(name))
    }
}

#[cfg(test)]
impl Package {
    /// A mini-kernel that has a name and nothing else.
    pub(crate) fn sample(name: PackageName, id: &str) -> Self {
        Self {
            name,
            id: id.to_owned(),
            directory: PathBuf::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_everywhere() {
        for text in ["default", "a", "6-1-cloud"] {
            assert_eq!(text.parse::<PackageName>().unwrap().to_string(), text);
        }
        for text in ["", "-a", "A", "a.b", "a/b", "..", "a b", "tftp", &"a".repeat(33)] {
            assert!(text.parse::<PackageName>().is_err(), "{text:?}");
        }
    }
}
