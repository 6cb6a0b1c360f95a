//! What is read of the record. Fields that it does not have are empty: older records have fewer.

use serde::Deserialize;

use crate::layout::{Firmware, PartitionKind};

/// The record.
#[derive(Debug, Deserialize)]
pub(super) struct Record {
    pub(super) disks: Vec<Device>,
    #[serde(default)]
    firmware: serde_json::Value,
    #[serde(default)]
    fstab: String,
}

/// A device, and what was made out of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) bytes: u64,
    pub(super) start: Option<u64>,
    pub(super) table: Option<String>,
    pub(super) partition_type: Option<String>,
    pub(super) partition_uuid: Option<String>,
    pub(super) fs_type: Option<String>,
    pub(super) fs_version: Option<String>,
    pub(super) label: Option<String>,
    pub(super) uuid: Option<String>,
    pub(super) mount_points: Vec<String>,
    pub(super) children: Vec<Self>,
}

/// A line of fstab that mounts something.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    source: String,
    pub(super) point: String,
    options: String,
}

impl Record {
    pub(super) fn firmware(&self) -> Firmware {
        let uefi = self.firmware.get("uefi").is_some() || self.firmware.as_str() == Some("uefi");
        if uefi { Firmware::Uefi } else { Firmware::Bios }
    }

    /// What fstab mounts, swap included.
    pub(super) fn mounts(&self) -> Vec<Entry> {
        let lines = self
            .fstab
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines
            .filter_map(|words| match words[..] {
                [source, point, kind, ..]
                    if !source.starts_with('#') && (point.starts_with('/') || kind == "swap") =>
                {
                    Some(Entry {
                        source: source.replace('"', ""),
                        point: point.to_owned(),
                        options: words.get(3).copied().unwrap_or_default().to_owned(),
                    })
                }
                _ => None,
            })
            .collect()
    }
}

impl Entry {
    /// Whether this line means that device.
    pub(super) fn names(&self, device: &Device) -> bool {
        let same = |name: &str, value: &Option<String>| {
            let wanted = self
                .source
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='));
            wanted.is_some_and(|wanted| {
                value
                    .as_deref()
                    .is_some_and(|value| value.eq_ignore_ascii_case(wanted))
            })
        };
        let path = |path: &str| !path.is_empty() && self.source == path;
        same("UUID", &device.uuid)
            || same("LABEL", &device.label)
            || same("PARTUUID", &device.partition_uuid)
            || path(&device.path)
            || device
                .group_and_volume()
                .is_some_and(|(group, volume)| path(&format!("/dev/{group}/{volume}")))
    }

    /// The subvolume that it mounts, and all other options, if there are any.
    pub(super) fn split_options(&self) -> (Option<String>, Option<String>) {
        let subvolume = self
            .options
            .split(',')
            .find_map(|option| option.strip_prefix("subvol="));
        let rest: Vec<&str> = self
            .options
            .split(',')
            .filter(|option| !option.starts_with("subvol") && !matches!(*option, "" | "defaults"))
            .collect();
        let rest = rest.join(",");
        (
            subvolume.map(|name| name.trim_start_matches('/').to_owned()),
            Some(rest).filter(|rest| !rest.is_empty()),
        )
    }
}

impl Device {
    /// Whether it is the partition of an MBR that holds logical ones.
    pub(super) fn is_extended(&self) -> bool {
        matches!(self.partition_type.as_deref(), Some("0x5" | "0xf" | "0x85"))
    }

    /// What its type in the partition table says.
    pub(super) fn type_kind(&self) -> Option<PartitionKind> {
        match self.partition_type.as_deref()?.to_ascii_lowercase().as_str() {
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" | "0xef" => Some(PartitionKind::Efi),
            "21686148-6449-6e6f-744e-656564454649" => Some(PartitionKind::BiosBoot),
            _ => None,
        }
    }

    /// Of a volume of LVM, the names of its group and its own: device mapper writes a dash in them twice.
    pub(super) fn group_and_volume(&self) -> Option<(String, String)> {
        if self.kind != "lvm" {
            return None;
        }
        let hidden = self.name.replace("--", "\0");
        let (group, volume) = hidden.split_once('-')?;
        Some((group.replace('\0', "-"), volume.replace('\0', "-")))
    }
}
