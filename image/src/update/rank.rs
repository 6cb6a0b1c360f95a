//! In which order things are put in place, so that whatever runs or boots in between finds what it needs: libraries
//! before the programs that load them, a kernel after its modules and its initramfs, the boot loader's configuration
//! after the kernels that it names.

use crate::manifest::{Kind, Manifest};

use super::plan::{Action, Plan};

/// When an entry is put in place. Earlier ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Directories: everything else needs them.
    Directory,
    /// Libraries, and the modules of kernels.
    Library,
    /// Names of libraries: `libx.so.1` shall never point to what is not there.
    LibraryLink,
    /// What is neither of the others: data, configuration.
    Data,
    /// What is run.
    Program,
    /// What the kernel is started with.
    Initramfs,
    /// Kernels.
    Kernel,
    /// What names kernels: the boot loader's files, and `/vmlinuz`.
    Boot,
}

/// Entries that are written, in the order in which they are put in place: a further name of a file after the file.
pub(super) fn in_order(plan: &Plan<'_>) -> Vec<u32> {
    let manifest = plan.manifest;
    let mut ranks: Vec<Rank> = Vec::with_capacity(manifest.entries.len());
    let mut order = Vec::new();
    for (index, action) in plan.actions() {
        let rank = match (&manifest.entries[index as usize].kind, action) {
            (Kind::HardLink(to), Action::Write) => rank(manifest, index).max(ranks[*to as usize]),
            (_, Action::Write) => rank(manifest, index),
            _ => Rank::Directory,
        };
        ranks.push(rank);
        if action == Action::Write {
            order.push(index);
        }
    }
    order.sort_by_key(|&index| ranks[index as usize]);
    order
}

fn rank(manifest: &Manifest, index: u32) -> Rank {
    rank_of(&manifest.path(index), &manifest.entries[index as usize].kind)
}

/// The rank of a path, by the places where Linux distributions keep things.
pub(super) fn rank_of(path: &[u8], kind: &Kind) -> Rank {
    if *kind == Kind::Directory {
        return Rank::Directory;
    }
    let link = matches!(kind, Kind::Symlink(_));
    let below_usr = path.strip_prefix(b"usr/").unwrap_or(path);
    let (top, rest) = match below_usr.iter().position(|&byte| byte == b'/') {
        Some(at) => (&below_usr[..at], &below_usr[at + 1..]),
        None => (&b""[..], below_usr),
    };
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    match top {
        b"" if link && (name.starts_with(b"vmlinuz") || name.starts_with(b"initrd")) => Rank::Boot,
        b"boot" if is_kernel(rest) => Rank::Kernel,
        b"boot" if is_initramfs(rest) => Rank::Initramfs,
        b"boot" | b"efi" => Rank::Boot,
        b"bin" | b"sbin" | b"libexec" => Rank::Program,
        b"lib" | b"lib32" | b"lib64" | b"libx32" if is_library(rest, name) => {
            if link {
                Rank::LibraryLink
            } else {
                Rank::Library
            }
        }
        b"local" if [&b"bin/"[..], b"sbin/"].iter().any(|dir| rest.starts_with(dir)) => Rank::Program,
        b"local" if rest.starts_with(b"lib") && is_library(rest, name) => Rank::Library,
        _ => Rank::Data,
    }
}

/// Whether a name in `/boot` is a kernel's.
pub(super) fn is_kernel(name: &[u8]) -> bool {
    [&b"vmlinuz"[..], b"vmlinux", b"bzImage", b"Image"]
        .iter()
        .any(|kernel| name.starts_with(kernel))
}

/// Whether a name in `/boot` is an initramfs's.
pub(super) fn is_initramfs(name: &[u8]) -> bool {
    name.starts_with(b"initrd") || name.starts_with(b"initramfs")
}

fn is_library(rest: &[u8], name: &[u8]) -> bool {
    rest.starts_with(b"modules/")
        || rest.starts_with(b"firmware/")
        || name.ends_with(b".so")
        || name.windows(4).any(|four| four == b".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first() {
        let file = Kind::Fifo;
        let link = Kind::Symlink(b"x".to_vec().into());
        for (path, kind, rank) in [
            ("usr/lib/x86_64-linux-gnu/libc.so.6", &file, Rank::Library),
            ("usr/lib/x86_64-linux-gnu/libz.so.1", &link, Rank::LibraryLink),
            ("lib64/ld-linux-x86-64.so.2", &file, Rank::Library),
            ("usr/lib/modules/6.1/kernel/a.ko", &file, Rank::Library),
            ("lib/systemd/system/a.service", &file, Rank::Data),
            ("usr/sbin/sshd", &file, Rank::Program),
            ("bin/sh", &link, Rank::Program),
            ("usr/local/bin/x", &file, Rank::Program),
            ("etc/passwd", &file, Rank::Data),
            ("boot/initrd.img-6.1", &file, Rank::Initramfs),
            ("boot/vmlinuz-6.1", &file, Rank::Kernel),
            ("boot/grub/grub.cfg", &file, Rank::Boot),
            ("boot/config-6.1", &file, Rank::Boot),
            ("vmlinuz", &link, Rank::Boot),
            ("initrd.img.old", &link, Rank::Boot),
            ("usr/lib", &Kind::Directory, Rank::Directory),
            ("srv/lib/a.so", &file, Rank::Data),
        ] {
            assert_eq!(rank_of(path.as_bytes(), kind), rank, "{path}");
        }
        assert!(Rank::Library < Rank::Program && Rank::Initramfs < Rank::Kernel && Rank::Kernel < Rank::Boot);
    }
}
