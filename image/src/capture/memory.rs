//! What the last capture of this machine found in each file, so that unchanged files are not read again.
//!
//! A file is unchanged when inode, length, mtime and ctime are the same. A ctime cannot be set by a program, so this is
//! safer than what rsync trusts. A file that changed within the last seconds before it was read is not remembered: its
//! next change might leave the same stamp.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::entry::ScannedContent;
use crate::fs::{Device, Stat, Timestamp};

/// Seconds for which a change is too fresh: more than the granularity of any file system's clock.
const FRESH: i64 = 3;

/// The format of the file; another one is ignored.
const FORMAT: u32 = 1;

/// Bytes of the file that are read: millions of files take less.
const BYTES: u64 = 1 << 30;

/// What tells whether a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: Device,
    inode: u64,
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

/// Contents by path.
#[derive(Debug, Default)]
pub(super) struct Memory {
    path: Option<PathBuf>,
    known: HashMap<Vec<u8>, (Stamp, ScannedContent)>,
    found: Vec<(Vec<u8>, Stamp, ScannedContent)>,
    fresh_from: i64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    files: Vec<(Vec<u8>, Stamp, ScannedContent)>,
}

impl Memory {
    /// The memory that is kept in the file `path`, if any; empty when it cannot be used, for it only saves work.
    pub(super) fn load(path: Option<&Path>, forget: bool) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut memory = Self {
            path: path.map(Path::to_owned),
            fresh_from: i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(FRESH),
            ..Self::default()
        };
        if let Some(saved) = path.filter(|_| !forget).and_then(read) {
            memory.known = saved
                .files
                .into_iter()
                .map(|(path, stamp, content)| (path, (stamp, content)))
                .collect();
        }
        memory
    }

    /// The content of a file, if it was not changed since.
    pub(super) fn recall(&self, path: &[u8], stat: &Stat) -> Option<&ScannedContent> {
        self.known
            .get(path)
            .filter(|(stamp, _)| *stamp == Stamp::of(stat))
            .map(|(_, content)| content)
    }

    /// Remembers what was found, unless the file was changed just now.
    pub(super) fn remember(&mut self, path: Vec<u8>, stat: &Stat, content: &ScannedContent) {
        if self.path.is_some() && stat.ctime.secs < self.fresh_from && stat.size == content.size {
            self.found.push((path, Stamp::of(stat), content.clone()));
        }
    }

    /// Keeps what was found for the next capture.
    pub(super) fn save(self) {
        let Some(path) = self.path else { return };
        let saved = Saved {
            format: FORMAT,
            files: self.found,
        };
        if let Err(error) = write(&path, &saved) {
            tracing::warn!(path = %path.display(), %error, "cannot remember what was captured; the next capture reads everything");
        }
    }
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.dev,
            inode: stat.ino,
            size: stat.size,
            mtime: stat.meta.mtime,
            ctime: stat.ctime,
        }
    }
}

fn read(path: &Path) -> Option<Saved> {
    let frame = match fs::metadata(path) {
        Ok(metadata) if metadata.len() <= BYTES => fs::read(path).ok()?,
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot read what the last capture found");
            return None;
        }
        _ => return None,
    };
    let len = zstd_safe::get_frame_content_size(&frame).ok()??;
    let mut raw = Vec::with_capacity(usize::try_from(len.min(BYTES)).ok()?);
    zstd_safe::decompress(&mut raw, &frame).ok()?;
    postcard::from_bytes::<Saved>(&raw)
        .ok()
        .filter(|saved| saved.format == FORMAT)
}

fn write(path: &Path, saved: &Saved) -> std::io::Result<()> {
    let raw = postcard::to_stdvec(saved).map_err(std::io::Error::other)?;
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
    zstd_safe::compress(&mut frame, &raw, 1)
        .map_err(|code| std::io::Error::other(zstd_safe::get_error_name(code)))?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, frame)?;
    fs::rename(&new, path)
}
