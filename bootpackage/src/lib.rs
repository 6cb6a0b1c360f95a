//! The builder of the mini-kernel: a distribution's kernel, and an initramfs of modules, programs with their libraries,
//! and our installer as `/init`.
//!
//! It needs no root and starts no program: it reads kernel packages, modules, ELF files and busybox's list of applets
//! itself, and writes the archive and the indexes of `modprobe` itself. So a package can be built on any machine, also
//! for another architecture, and two builds from the same files are equal byte for byte: everything is sorted, and
//! neither times nor numbers of inodes come from the machine that it was built on.
//!
//! Unknown here: images, networks, what is done with the mini-kernel.

#![forbid(unsafe_code)]

mod archive;
mod build;
mod deb;
mod elf;
mod error;
mod kernel;
mod modules;
mod programs;
mod record;
mod root;
mod skeleton;
mod tree;
mod unpack;

pub use build::{Built, Recipe, build};
pub use error::PackageError;
pub use kernel::{Kernel, unpack_deb};
pub use modules::Class;
pub use record::{FILE as RECORD, FileRecord, INITRD, KERNEL, ProgramRecord, Record};
pub use root::Root;
