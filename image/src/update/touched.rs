//! What a plan touches besides the paths themselves: directories, and what the machine boots with.

use std::collections::BTreeSet;

use serde::Serialize;

use super::plan::{Action, Plan};
use super::rank::{is_initramfs, is_kernel};
use crate::manifest::Kind;

/// Which files that matter for booting a plan writes, changes or deletes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BootFiles {
    /// A kernel in `/boot`.
    pub kernel: bool,
    /// An initramfs in `/boot`.
    pub initramfs: bool,
    /// Modules or firmware of kernels, which an initramfs has copies of.
    pub modules: bool,
    /// What an initramfs is made after.
    pub initramfs_configuration: bool,
    /// What the boot loader's menu is made after.
    pub loader_configuration: bool,
    /// The boot loader's own files.
    pub loader: bool,
}

/// What an initramfs is made after: its tools and their configuration, and what they copy.
const INITRAMFS: [&[u8]; 10] = [
    b"etc/initramfs-tools/",
    b"usr/share/initramfs-tools/",
    b"etc/dracut.conf",
    b"etc/dracut.conf.d/",
    b"usr/lib/dracut/",
    b"etc/mkinitcpio.conf",
    b"etc/modprobe.d/",
    b"etc/modules",
    b"etc/crypttab",
    b"etc/mdadm/",
];

/// What the boot loader's menu is made after.
const LOADER: [&[u8]; 4] = [
    b"etc/default/grub",
    b"etc/grub.d/",
    b"etc/kernel/",
    b"usr/lib/grub/",
];

impl Plan<'_> {
    /// Directories in which something is made, replaced or deleted: their times change with that.
    pub(super) fn touched_directories(&self) -> BTreeSet<Vec<u8>> {
        let written = self
            .actions()
            .filter(|(_, action)| *action == Action::Write)
            .map(|(index, _)| self.manifest.path(index));
        let gone = self.deleted().map(<[u8]>::to_vec);
        written
            .chain(gone)
            .map(|path| {
                let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                path[..end].to_vec()
            })
            .collect()
    }

    /// What of the machine's booting is concerned.
    pub fn boot_files(&self) -> BootFiles {
        let mut found = BootFiles::default();
        for (index, action) in self.actions() {
            let directory = self.manifest.entries[index as usize].kind == Kind::Directory;
            if action == Action::Write && !directory {
                found.note(&self.manifest.path(index));
            }
        }
        self.deleted().for_each(|path| found.note(path));
        found
    }
}

impl BootFiles {
    /// Whether a new initramfs is due.
    pub fn concern_initramfs(self) -> bool {
        self.kernel || self.initramfs || self.modules || self.initramfs_configuration
    }

    /// Whether the boot loader's menu is to be made anew.
    pub fn concern_loader(self) -> bool {
        self.kernel || self.initramfs || self.loader_configuration
    }

    fn note(&mut self, path: &[u8]) {
        let below_usr = path.strip_prefix(b"usr/").unwrap_or(path);
        if below_usr.starts_with(b"lib/modules/") || below_usr.starts_with(b"lib/firmware/") {
            self.modules = true;
        }
        if let Some(name) = path.strip_prefix(b"boot/") {
            self.kernel |= is_kernel(name);
            self.initramfs |= is_initramfs(name);
            self.loader |= ["grub/", "grub2/", "loader/", "efi/"]
                .iter()
                .any(|dir| name.starts_with(dir.as_bytes()));
        }
        self.initramfs_configuration |= INITRAMFS.iter().any(|place| path.starts_with(place));
        self.loader_configuration |= LOADER.iter().any(|place| path.starts_with(place));
    }
}
