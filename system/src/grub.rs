//! GRUB's first stages, put in place by ourselves: `grub-install` takes as long as the rest of a small install, and does no
//! more than this.
//!
//! A PC BIOS runs the first sector of a disk (`boot.img`), which loads the first sector of `core.img` (`diskboot.img`),
//! which loads what follows it. Both know by block numbers where the next one lies; everything else of GRUB is found by
//! `core.img` itself, from the UUID of a file system in the configuration that is built into it. The offsets are those of
//! `boot.S`, `diskboot.S` and `util/setup.c` of GRUB 2.

use std::path::{Path, PathBuf};

/// Bytes of a sector as BIOS and GRUB count them here.
const SECTOR: usize = 512;

/// In `boot.img`: the sector where `core.img` begins (8 bytes).
const CORE_SECTOR: usize = 0x5c;

/// In `boot.img`: a jump that trusts the BIOS to say which drive it boots; without it hard disks are told from others.
const DRIVE_CHECK: usize = 0x66;

/// In the first sector: parameters of a FAT (behind the first jump), which stay.
const PARAMETERS: std::ops::Range<usize> = 0x03..0x5a;

/// In the first sector: the disk's identity and the partition table, which stay.
const TABLE: std::ops::Range<usize> = 0x1b8..0x1fe;

/// In the first sector of `core.img`: its only list of blocks (8 bytes of start, 2 of length, 2 of segment).
const BLOCKS: usize = SECTOR - 12;

/// Segment at which the rest of `core.img` is loaded: 0x8200 as an address.
const SEGMENT: u16 = 0x820;

/// Sectors that a list of blocks can count here; the largest images have 300.
const CORE_SECTORS: usize = 0x7fff;

/// The stages for a PC BIOS as they are to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stages {
    /// The first sector of the disk.
    pub boot: Vec<u8>,
    /// What is written at the place of `core.img`.
    pub core: Vec<u8>,
}

/// Images that cannot be put in place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrubError {
    /// A file has not the form of GRUB's.
    #[error("{0} is no image of GRUB's: {1}")]
    Form(&'static str, &'static str),
    /// `core.img` does not fit.
    #[error("GRUB's core image has {needed} bytes, and its place on the disk {room}")]
    Room {
        /// Its size.
        needed: usize,
        /// What there is.
        room: u64,
    },
}

/// Makes `boot.img` and `core.img` fit for a disk whose first sector is `first` now, with `core.img` at byte `at`, where
/// `room` bytes are free. Identity and table of the disk stay as they are.
///
/// # Errors
/// [`GrubError`].
pub fn stages(boot: &[u8], core: &[u8], first: &[u8], at: u64, room: u64) -> Result<Stages, GrubError> {
    if boot.len() != SECTOR || !boot.ends_with(&[0x55, 0xaa]) {
        return Err(GrubError::Form(
            "boot.img",
            "it is not one sector with the signature of a boot sector",
        ));
    }
    if core.len() <= SECTOR || core.len().div_ceil(SECTOR) > CORE_SECTORS {
        return Err(GrubError::Form("core.img", "its size is wrong"));
    }
    if first.len() != SECTOR {
        return Err(GrubError::Form("the disk's first sector", "it is not 512 bytes"));
    }
    if core.len() as u64 > room {
        return Err(GrubError::Room {
            needed: core.len(),
            room,
        });
    }
    let sector = at / SECTOR as u64;
    let mut boot = boot.to_vec();
    boot[PARAMETERS].copy_from_slice(&first[PARAMETERS]);
    boot[TABLE].copy_from_slice(&first[TABLE]);
    boot[CORE_SECTOR..CORE_SECTOR + 8].copy_from_slice(&sector.to_le_bytes());
    boot[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    let mut core = core.to_vec();
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    let rest = u16::try_from(core.len() / SECTOR - 1).expect("it was bounded above");
    core[BLOCKS..BLOCKS + 8].copy_from_slice(&(sector + 1).to_le_bytes());
    core[BLOCKS + 8..BLOCKS + 10].copy_from_slice(&rest.to_le_bytes());
    core[BLOCKS + 10..BLOCKS + 12].copy_from_slice(&SEGMENT.to_le_bytes());
    Ok(Stages { boot, core })
}

/// What GRUB runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// A PC BIOS.
    Pc,
    /// UEFI on x86-64.
    Efi64,
    /// UEFI on 64-bit ARM.
    EfiArm64,
}

impl Platform {
    /// As GRUB calls it, and the directory of its modules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pc => "i386-pc",
            Self::Efi64 => "x86_64-efi",
            Self::EfiArm64 => "arm64-efi",
        }
    }

    /// The file that UEFI firmware starts from a disk of which it knows nothing; none for a BIOS.
    pub fn removable(self) -> Option<&'static str> {
        match self {
            Self::Pc => None,
            Self::Efi64 => Some("EFI/BOOT/BOOTX64.EFI"),
            Self::EfiArm64 => Some("EFI/BOOT/BOOTAA64.EFI"),
        }
    }

    /// The modules that are built in, so that the directory with all others can be read from whatever it lies on.
    pub fn modules(self) -> Vec<&'static str> {
        let mut modules = vec![
            "part_gpt",
            "part_msdos",
            "fat",
            "ext2",
            "xfs",
            "btrfs",
            "lvm",
            "diskfilter",
            "mdraid09",
            "mdraid1x",
            "search",
            "search_fs_uuid",
            "search_fs_file",
            "normal",
            "configfile",
            "linux",
            "echo",
            "test",
            "ls",
            "minicmd",
        ];
        if self == Self::Pc {
            modules.push("biosdisk");
        }
        modules
    }

    /// The package of Debian that has it.
    pub fn package(self) -> &'static str {
        match self {
            Self::Pc => "grub-pc-bin",
            Self::Efi64 => "grub-efi-amd64-bin",
            Self::EfiArm64 => "grub-efi-arm64-bin",
        }
    }

    /// Where one of its modules may be in a tree, which tells the directory of all.
    pub fn module_files(self) -> Vec<String> {
        let dirs = ["usr/lib/grub", "usr/lib/grub2", "usr/share/grub2"];
        dirs.iter()
            .map(|dir| format!("{dir}/{}/normal.mod", self.name()))
            .collect()
    }

    /// Where its modules are in a tree; none if the tree has none.
    pub fn modules_in(self, tree: &Path) -> Option<PathBuf> {
        let found = self
            .module_files()
            .into_iter()
            .find(|file| tree.join(file).is_file())?;
        Path::new(&found).parent().map(Path::to_owned)
    }
}

/// The configuration that is built in: it finds the file system with GRUB's directory by its UUID, which no other disk has.
pub fn early_config(uuid: &str, directory: &str) -> String {
    format!("search.fs_uuid {uuid} root\nset prefix=($root){directory}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_find_each_other_and_leave_the_table() {
        let mut boot = vec![0xee; SECTOR];
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        let core = vec![0xcc; 3 * SECTOR + 1];
        let first = vec![0x11; SECTOR];
        let made = stages(&boot, &core, &first, 1 << 20, 1 << 20).unwrap();
        assert_eq!(&made.boot[CORE_SECTOR..CORE_SECTOR + 8], &2048u64.to_le_bytes());
        assert_eq!(made.boot[TABLE], [0x11; 0x46]);
        assert_eq!(
            (made.boot[0], made.boot[0x5a], made.boot[0x1b7]),
            (0xee, 0xee, 0xee)
        );
        assert_eq!(&made.boot[510..], &[0x55, 0xaa]);
        assert_eq!(made.core.len(), 4 * SECTOR);
        assert_eq!(
            &made.core[BLOCKS..SECTOR],
            &[1, 8, 0, 0, 0, 0, 0, 0, 3, 0, 0x20, 0x08]
        );
        let room = stages(&boot, &core, &first, 512, 1024).unwrap_err();
        assert_eq!(
            room.to_string(),
            "GRUB's core image has 1537 bytes, and its place on the disk 1024"
        );
        assert!(stages(&core, &core, &first, 512, 1 << 20).is_err());
        assert!(stages(&boot, &boot, &first, 512, 1 << 20).is_err());
        assert!(stages(&boot, &core, &first[1..], 512, 1 << 20).is_err());
    }

    #[test]
    fn the_root_is_found_by_its_uuid() {
        assert_eq!(
            early_config("1b2c", "/boot/grub"),
            "search.fs_uuid 1b2c root\nset prefix=($root)/boot/grub\n"
        );
    }
}
