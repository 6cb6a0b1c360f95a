//! What a mini-kernel is made of: `package.json` beside it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The names of the three files of a mini-kernel.
pub const KERNEL: &str = "vmlinuz";
/// The initramfs.
pub const INITRD: &str = "initrd.img";
/// The record itself.
pub const FILE: &str = "package.json";

/// The form of a record that is written.
pub(crate) const FORMAT: u32 = 1;

/// Hexadecimal digits of an identity: enough that two packages of a site never share one.
const ID_DIGITS: usize = 16;

/// What a mini-kernel is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The form of this record.
    pub format: u32,
    /// The kernel, as `uname -r` says.
    pub kernel: String,
    /// What it runs on, as `uname -m` says.
    pub architecture: String,
    /// The file [`KERNEL`].
    pub vmlinuz: FileRecord,
    /// The file [`INITRD`].
    pub initrd: FileRecord,
    /// Bytes of the initramfs when it is unpacked in memory.
    pub unpacked: u64,
    /// Classes of modules.
    pub classes: Vec<String>,
    /// The modules, by their paths.
    pub modules: Vec<String>,
    /// Firmware files, by their names.
    pub firmware: Vec<String>,
    /// Firmware files that modules may ask for and that are not in it.
    pub firmware_missing: Vec<String>,
    /// Programs and libraries, by their paths.
    pub programs: BTreeMap<String, ProgramRecord>,
    /// Programs that would be in it if they were installed, with the packages that have them.
    pub programs_missing: Vec<String>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its content, in hexadecimal digits.
    pub blake3: String,
}

/// A program or library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRecord {
    /// Where it was taken from.
    pub from: String,
    /// What it is.
    #[serde(flatten)]
    pub file: FileRecord,
}

impl Record {
    /// Names this kernel and initramfs, and no others: sixteen hexadecimal digits.
    pub fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.vmlinuz.blake3.as_bytes());
        hasher.update(self.initrd.blake3.as_bytes());
        hasher.finalize().to_hex()[..ID_DIGITS].to_owned()
    }
}

impl FileRecord {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            blake3: blake3::hash(bytes).to_hex().to_string(),
        }
    }
}

impl ProgramRecord {
    pub(crate) fn of(from: &Path, bytes: &[u8]) -> Self {
        Self {
            from: from.display().to_string(),
            file: FileRecord::of(bytes),
        }
    }
}
