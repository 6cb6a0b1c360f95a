//! What is known of a machine's disks, as far as a layout asks.

use serde::{Deserialize, Serialize};

use super::Mark;

/// What starts the boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// A PC BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskFacts {
    /// Its name, as in `sda`.
    pub name: String,
    /// The device, as in `/dev/sda`.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes of one of its sectors, as it is spoken to.
    #[serde(default = "usual_sector")]
    pub sector: u64,
    /// How it is attached; empty where nobody knows.
    #[serde(default)]
    pub bus: String,
    /// Its model; empty where there is none.
    #[serde(default)]
    pub model: String,
    /// Names that stay: those of /dev/disk/by-id, the serial number, the world-wide name.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Whether it turns.
    #[serde(default)]
    pub rotational: bool,
    /// Whether it can be taken out.
    #[serde(default)]
    pub removable: bool,
    /// Whether it can be written.
    #[serde(default)]
    pub read_only: bool,
    /// What is on it.
    #[serde(default)]
    pub content: Content,
}

/// What is on a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Content {
    /// The kind of its partition table, as `blkid` calls it: `gpt`, `dos`.
    #[serde(default)]
    pub table: Option<String>,
    /// The identity of that table, in lower case.
    #[serde(default)]
    pub table_id: Option<String>,
    /// What else lies on the disk as a whole: `ext4`, `LVM2_member`.
    #[serde(default)]
    pub signature: Option<String>,
    /// Its partitions by number.
    #[serde(default)]
    pub partitions: Vec<Extent>,
    /// What we wrote on it, if we did.
    #[serde(default)]
    pub mark: Option<Mark>,
}

/// A partition that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Extent {
    /// Its number, from 1.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its label in a GPT.
    #[serde(default)]
    pub label: Option<String>,
    /// Its type: a UUID in a GPT, `0x83` in a DOS table.
    #[serde(default)]
    pub kind: Option<String>,
    /// Its identity in a GPT.
    #[serde(default)]
    pub id: Option<String>,
    /// What is in it: `ext4`, `swap`, `LVM2_member`.
    #[serde(default)]
    pub signature: Option<String>,
}

impl DiskFacts {
    /// An empty disk `/dev/NAME` of so many bytes that can be written; nothing else is known of it.
    pub fn new(name: &str, bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            path: format!("/dev/{name}"),
            bytes,
            sector: usual_sector(),
            bus: String::new(),
            model: String::new(),
            ids: Vec::new(),
            rotational: false,
            removable: false,
            read_only: false,
            content: Content::default(),
        }
    }
}

impl Content {
    /// Whether there is nothing that anybody could miss.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.signature.is_none()
    }

    /// In words: `a gpt table with 3 partitions (vfat, ext4, swap)`.
    pub fn describe(&self) -> String {
        let mut words = Vec::new();
        if let Some(table) = &self.table {
            let inside: Vec<_> = self
                .partitions
                .iter()
                .map(|partition| partition.signature.as_deref().unwrap_or("unknown"))
                .take(8)
                .collect();
            words.push(format!(
                "a {table} table with {} partitions ({})",
                self.partitions.len(),
                inside.join(", ")
            ));
        }
        words.extend(
            self.signature
                .as_ref()
                .map(|signature| format!("{signature} on the whole disk")),
        );
        if words.is_empty() {
            return "nothing".to_owned();
        }
        words.join(" and ")
    }
}

fn usual_sector() -> u64 {
    512
}
