//! One member of an archive, put together from its headers.

use std::ops::Range;

use simulcast_protocol::limits::{FILE_BYTES, SYMLINK_BYTES, XATTR_BYTES, XATTRS};
use tar::{EntryType, Header};

use super::pax::Pax;
use super::{TarError, acl};
use crate::fs::{Device, Meta, Timestamp, Xattr};

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// A member: its metadata; its data are read from the archive behind it.
#[derive(Debug)]
pub(super) struct Member {
    /// Its path as the archive has it.
    pub(super) path: Vec<u8>,
    /// What it is.
    pub(super) what: What,
    /// Its metadata.
    pub(super) meta: Meta,
    /// What could not be taken of them, for the report.
    pub(super) notes: Vec<&'static str>,
}

/// What a member is.
#[derive(Debug)]
pub(super) enum What {
    Directory,
    /// A file of this length. Where it is sparse, the extents that hold its data, in order.
    File {
        size: u64,
        extents: Option<Vec<Range<u64>>>,
    },
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
    /// Something that has no place in a tree; why.
    Other(&'static str),
}

/// A header with what the extension headers before it said.
pub(super) struct Parsed<'a> {
    pub(super) at: u64,
    pub(super) header: &'a Header,
    pub(super) pax: Pax,
    pub(super) long_path: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
}

impl Parsed<'_> {
    /// Bytes of data behind the header.
    pub(super) fn data_len(&self) -> Result<u64, TarError> {
        if has_no_data(self.what_type()) {
            return Ok(0);
        }
        match self.pax.size {
            Some(size) => Ok(size),
            None => self.unsigned(&self.header.as_old().size, "has no size"),
        }
    }

    /// Puts the member together. `extents` are those of a sparse file, with its length.
    pub(super) fn into_member(mut self, sparse: Option<(u64, Vec<Range<u64>>)>) -> Result<Member, TarError> {
        let path = self
            .pax
            .path
            .take()
            .or_else(|| self.long_path.take())
            .unwrap_or_else(|| self.header.path_bytes().into_owned());
        let link = self
            .pax
            .link
            .take()
            .or_else(|| self.long_link.take())
            .unwrap_or_else(|| self.header.link_name_bytes().unwrap_or_default().into_owned());
        let (meta, notes) = self.meta(&path)?;
        let what = match self.what_type() {
            EntryType::Directory => What::Directory,
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") && sparse.is_none() => {
                What::Directory
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let (size, extents) = match sparse {
                    Some((size, extents)) => (size, Some(extents)),
                    None => (self.data_len()?, None),
                };
                if size > FILE_BYTES {
                    return Err(TarError::member(
                        &path,
                        "has more bytes than a version can hold in one file (2^44)",
                    ));
                }
                What::File { size, extents }
            }
            EntryType::Link => What::HardLink(link),
            EntryType::Symlink if !(1..=SYMLINK_BYTES).contains(&link.len()) || link.contains(&0) => {
                return Err(TarError::member(
                    &path,
                    "is a symlink whose target no Linux file system can hold",
                ));
            }
            EntryType::Symlink => What::Symlink(link),
            EntryType::Char => What::CharDevice(self.device()?),
            EntryType::Block => What::BlockDevice(self.device()?),
            EntryType::Fifo => What::Fifo,
            other => match other.as_byte() {
                b'V' => What::Other("is a volume label"),
                // A directory of an incremental archive; its data are a list of names.
                b'D' => What::Directory,
                b'M' => {
                    return Err(TarError::member(
                        &path,
                        "continues a file of another volume: join the volumes first",
                    ));
                }
                _ => What::Other("is of a type that this program does not know"),
            },
        };
        Ok(Member {
            path,
            what,
            meta,
            notes,
        })
    }

    fn what_type(&self) -> EntryType {
        self.header.entry_type()
    }

    fn meta(&mut self, path: &[u8]) -> Result<(Meta, Vec<&'static str>), TarError> {
        let old = self.header.as_old();
        let mode = self.unsigned(&old.mode, "has no mode")? & 0o7777;
        let owner = |id: Option<u32>, field: &[u8]| match id {
            Some(id) => Ok(id),
            None => u32::try_from(self.unsigned(field, "has no owner")?)
                .map_err(|_| TarError::Header(self.at, "has an owner that Linux does not")),
        };
        let mtime = match self.pax.mtime {
            Some(mtime) => mtime,
            None => Timestamp {
                secs: number(&old.mtime).ok_or(TarError::Header(self.at, "has no time"))?,
                nanos: 0,
            },
        };
        let (uid, gid) = (owner(self.pax.uid, &old.uid)?, owner(self.pax.gid, &old.gid)?);
        let mut notes = Vec::new();
        let xattrs = xattrs(&mut self.pax, &mut notes).ok_or_else(|| {
            TarError::member(path, "has extended attributes that no Linux file system can hold")
        })?;
        let mode = u16::try_from(mode).expect("12 bits");
        let meta = Meta {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        };
        Ok((meta, notes))
    }

    fn device(&self) -> Result<Device, TarError> {
        let fields = match (self.header.as_ustar(), self.header.as_gnu()) {
            (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
            (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
            _ => return Err(TarError::Header(self.at, "is of a device without a number")),
        };
        let field = |bytes: &[u8]| {
            let value = self.unsigned(bytes, "is of a device without a number")?;
            u32::try_from(value)
                .map_err(|_| TarError::Header(self.at, "is of a device that Linux does not have"))
        };
        Ok(Device {
            major: field(fields.0)?,
            minor: field(fields.1)?,
        })
    }

    fn unsigned(&self, field: &[u8], missing: &'static str) -> Result<u64, TarError> {
        number(field)
            .and_then(|number| u64::try_from(number).ok())
            .ok_or(TarError::Header(self.at, missing))
    }
}

/// Whether the size in a header of this type means nothing; some programs write one all the same.
fn has_no_data(entry_type: EntryType) -> bool {
    matches!(
        entry_type,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Fifo
            | EntryType::Directory
    )
}

/// A number in a header: octal digits, or with the first bit set the GNU way, big-endian binary.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign.
        let start = if first & 0x40 != 0 {
            -1
        } else {
            i128::from(first & 0x3f)
        };
        let value = rest.iter().try_fold(start, |value: i128, &byte| {
            value.checked_mul(256).map(|value| value | i128::from(byte))
        })?;
        return i64::try_from(value).ok();
    }
    let blank = |byte: &u8| matches!(*byte, b' ' | 0);
    let digits: Vec<u8> = field
        .iter()
        .copied()
        .skip_while(blank)
        .take_while(|byte| !blank(byte))
        .collect();
    digits.iter().try_fold(0i64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 8)?;
        number.checked_mul(8)?.checked_add(digit.into())
    })
}

/// The attributes in the order and with the bounds of a manifest; ACLs from their text, where they are not there raw.
fn xattrs(pax: &mut Pax, notes: &mut Vec<&'static str>) -> Option<Vec<Xattr>> {
    let mut xattrs = std::mem::take(&mut pax.xattrs);
    // The last one of a name counts.
    xattrs.reverse();
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    xattrs.dedup_by(|a, b| a.name == b.name);
    for (name, text) in [
        (ACL_ACCESS, pax.acl_access.take()),
        (ACL_DEFAULT, pax.acl_default.take()),
    ] {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            continue;
        };
        if xattrs.iter().any(|xattr| *xattr.name == *name) {
            continue;
        }
        match acl::from_text(&text) {
            Some(value) if name == ACL_ACCESS && acl::is_minimal(&value) => {}
            Some(value) => xattrs.push(Xattr {
                name: name.into(),
                value: value.into(),
            }),
            None => notes
                .push("has an ACL that names users instead of numbers; pack with --numeric-owner to keep it"),
        }
    }
    xattrs.sort_unstable();
    let sound = xattrs.len() <= XATTRS
        && xattrs.iter().all(|xattr| {
            (1..=255).contains(&xattr.name.len())
                && !xattr.name.contains(&0)
                && xattr.value.len() <= XATTR_BYTES
        });
    sound.then_some(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_forms() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"  644 \0 "), Some(0o644));
        assert_eq!(number(b"77777777"), Some(0o77_777_777));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0x20, 0, 0]), Some(1 << 21));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(b"0000009\0"), None);
        assert_eq!(
            number(&[0x80, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            None
        );
        assert_eq!(number(&[0xbf; 12]), None);
    }
}
