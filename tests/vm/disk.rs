//! Disks of a machine: sparse files.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio: `vda`.
    Virtio,
    /// NVMe: `nvme0n1`.
    Nvme,
    /// SATA: `sda`.
    Sata,
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    bus: Bus,
}

impl Disk {
    pub(super) fn new(path: PathBuf, bus: Bus, mib: u64) -> Result<Self> {
        let made = File::create(&path).and_then(|file| file.set_len(mib << 20));
        made.with_context(|| format!("make the disk {}", path.display()))?;
        Ok(Self { path, bus })
    }

    /// The file that holds its bytes: look at it only while the machine is off.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What QEMU is told; `number` is its place in the order of booting, and names it.
    pub(super) fn arguments(&self, number: usize) -> String {
        let device = match self.bus {
            Bus::Virtio => "virtio-blk-pci",
            Bus::Nvme => "nvme",
            Bus::Sata => "ide-hd",
        };
        format!(
            "-drive if=none,id=disk{number},file={},format=raw,cache=unsafe,discard=unmap -device \
             {device},drive=disk{number},serial=DISK{number},bootindex={number}",
            self.path.file_name().unwrap_or_default().display()
        )
    }
}
