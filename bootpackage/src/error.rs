//! Why a mini-kernel could not be built.

use std::io;
use std::path::{Path, PathBuf};

/// Why a mini-kernel could not be built. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file or directory could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: {what}", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is no kernel, or not the one that was asked for, or more than one.
    #[error("{}: {what}", .place.display())]
    Kernel {
        /// Where it was looked for.
        place: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Programs that no mini-kernel can do without are not installed.
    #[error("programs that a mini-kernel needs are not installed: {}", .0.join(", "))]
    Programs(
        /// Each with the package that has it.
        Vec<String>,
    ),
    /// A library that a program needs is nowhere.
    #[error("{}: the library {library} is nowhere", .program.display())]
    Library {
        /// Who needs it.
        program: PathBuf,
        /// Its name.
        library: String,
    },
    /// A program is for another processor than the kernel.
    #[error("{} is for {found}, the kernel for {wanted}", .path.display())]
    Architecture {
        /// Which program.
        path: PathBuf,
        /// What it is for.
        found: String,
        /// What the kernel is for.
        wanted: String,
    },
    /// The initramfs could not be compressed.
    #[error("cannot compress the initramfs: {0}")]
    Compress(
        /// What zstd says.
        &'static str,
    ),
}

impl PackageError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn malformed(path: &Path, what: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}
