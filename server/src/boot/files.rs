//! Boot loaders: where the distribution has them, and where firmware gets them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::package;
use super::settings::Loader;

/// Bytes of the largest boot loader.
const BYTES: u64 = 32 << 20;

/// A file that firmware or a boot loader loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BootFile {
    /// iPXE that uses the BIOS' own driver of the card.
    Undionly,
    /// iPXE that uses the UEFI's own driver of the card.
    Snponly,
    /// iPXE with its own drivers, for a UEFI that has none.
    IpxeEfi,
    /// iPXE for UEFI on arm64.
    IpxeArm64,
    /// PXELINUX that can HTTP.
    Lpxelinux,
    /// What PXELINUX needs beside it.
    Ldlinux,
    /// GRUB for a BIOS.
    GrubBios,
    /// GRUB for UEFI.
    GrubUefi,
    /// GRUB for UEFI that boots the local disk and does nothing else.
    LocalUefi,
}

impl BootFile {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Undionly,
        Self::Snponly,
        Self::IpxeEfi,
        Self::IpxeArm64,
        Self::Lpxelinux,
        Self::Ldlinux,
        Self::GrubBios,
        Self::GrubUefi,
        Self::LocalUefi,
    ];

    /// Its name, by TFTP and by HTTP.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Undionly => "undionly.kpxe",
            Self::Snponly => "snponly.efi",
            Self::IpxeEfi => "ipxe.efi",
            Self::IpxeArm64 => "snponly-arm64.efi",
            Self::Lpxelinux => "lpxelinux.0",
            Self::Ldlinux => "ldlinux.c32",
            Self::GrubBios => "grub.0",
            Self::GrubUefi => "grubx64.efi",
            Self::LocalUefi => "local.efi",
        }
    }

    /// The file of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
    }

    /// Where distributions have it; nowhere when it is made by `grub-mkimage`.
    pub(crate) fn sources(self) -> &'static [&'static str] {
        match self {
            Self::Undionly => &["/usr/lib/ipxe/undionly.kpxe", "/usr/share/ipxe/undionly.kpxe"],
            Self::Snponly => &[
                "/usr/lib/ipxe/snponly.efi",
                "/usr/share/ipxe/ipxe-snponly-x86_64.efi",
            ],
            Self::IpxeEfi => &["/usr/lib/ipxe/ipxe.efi", "/usr/share/ipxe/ipxe-x86_64.efi"],
            Self::IpxeArm64 => &[
                "/usr/lib/ipxe/snponly-arm64.efi",
                "/usr/lib/ipxe/ipxe-arm64.efi",
                "/usr/share/ipxe/arm64-efi/snponly.efi",
            ],
            Self::Lpxelinux => &["/usr/lib/PXELINUX/lpxelinux.0", "/usr/share/syslinux/lpxelinux.0"],
            Self::Ldlinux => &[
                "/usr/lib/syslinux/modules/bios/ldlinux.c32",
                "/usr/share/syslinux/ldlinux.c32",
            ],
            Self::GrubBios | Self::GrubUefi | Self::LocalUefi => &[],
        }
    }

    /// The package of Debian that has it, or what it is made of.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Undionly | Self::Snponly | Self::IpxeEfi | Self::IpxeArm64 => "ipxe",
            Self::Lpxelinux => "pxelinux",
            Self::Ldlinux => "syslinux-common",
            Self::GrubBios => "grub-pc-bin",
            Self::GrubUefi | Self::LocalUefi => "grub-efi-amd64-bin",
        }
    }

    /// Whether `bytes` can be this file: firmware says nothing about a file that it does not like.
    pub(crate) fn check(self, bytes: &[u8]) -> Result<()> {
        let efi = bytes.starts_with(b"MZ");
        let ok = match self {
            Self::Snponly | Self::IpxeEfi | Self::IpxeArm64 | Self::GrubUefi | Self::LocalUefi => efi,
            Self::Ldlinux => bytes.starts_with(b"\x7fELF"),
            Self::Undionly | Self::Lpxelinux | Self::GrubBios => bytes.len() > 512 && !efi,
        };
        if !ok {
            bail!("{} is not what its name says", self.name());
        }
        Ok(())
    }
}

/// What a BIOS loads first.
pub(crate) fn for_bios(loader: Loader) -> BootFile {
    match loader {
        Loader::Ipxe => BootFile::Undionly,
        Loader::Pxelinux => BootFile::Lpxelinux,
        Loader::Grub => BootFile::GrubBios,
    }
}

/// What a UEFI loads first.
pub(crate) fn for_uefi(loader: Loader) -> BootFile {
    match loader {
        Loader::Ipxe | Loader::Pxelinux => BootFile::Snponly,
        Loader::Grub => BootFile::GrubUefi,
    }
}

/// The directory that TFTP gives files from.
pub(crate) fn directory(state: &Path) -> PathBuf {
    package::directory(state).join("tftp")
}

/// The files that are in place.
pub(crate) fn there(state: &Path) -> Vec<BootFile> {
    let directory = directory(state);
    let there = |file: &BootFile| directory.join(file.name()).is_file();
    BootFile::ALL.into_iter().filter(there).collect()
}

/// The distribution's copy of a file, if it is installed below `root`.
///
/// # Errors
/// When it is there and cannot be read, or is something else.
pub(crate) fn installed(file: BootFile, root: &Path) -> Result<Option<Vec<u8>>> {
    for source in file.sources() {
        let path = root.join(source.trim_start_matches('/'));
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        if length > BYTES {
            bail!("{} is too long for a boot loader", path.display());
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        file.check(&bytes)
            .with_context(|| format!("cannot use {}", path.display()))?;
        return Ok(Some(bytes));
    }
    Ok(None)
}

/// Whether a file is there with just these bytes.
pub(crate) fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|there| there == bytes)
}

/// Writes a file so that others see it whole or not at all. Says whether that changed anything.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<bool> {
    let failed = || format!("cannot write {}", path.display());
    if holds(path, bytes) {
        return Ok(false);
    }
    let mut name = path.file_name().with_context(failed)?.to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    fs::write(&fresh, bytes).with_context(failed)?;
    fs::rename(&fresh, path).with_context(failed)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_files_are_checked() {
        for file in BootFile::ALL {
            assert_eq!(BootFile::named(file.name()), Some(file));
        }
        assert_eq!(BootFile::named("../leases"), None);
        let root = tempfile::tempdir().unwrap();
        assert_eq!(installed(BootFile::Snponly, root.path()).unwrap(), None);
        fs::create_dir_all(root.path().join("usr/lib/ipxe")).unwrap();
        let path = root.path().join("usr/lib/ipxe/snponly.efi");
        fs::write(&path, "MZ and more").unwrap();
        assert_eq!(
            installed(BootFile::Snponly, root.path()).unwrap().unwrap(),
            b"MZ and more"
        );
        fs::write(&path, "<html>").unwrap();
        let error = format!("{:#}", installed(BootFile::Snponly, root.path()).unwrap_err());
        assert!(
            error.ends_with("snponly.efi is not what its name says"),
            "{error}"
        );
    }

    #[test]
    fn writing_the_same_again_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        assert!(write(&path, b"1").unwrap());
        assert!(!write(&path, b"1").unwrap());
        assert!(write(&path, b"2").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
