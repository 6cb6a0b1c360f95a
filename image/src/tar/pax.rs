//! The records of pax headers: `LENGTH KEY=VALUE\n`, the length in decimal and counting itself (POSIX.1-2024, pax,
//! "pax Header Block").

use std::ops::Range;

use crate::fs::{Timestamp, Xattr};

/// Extents of a sparse file that we read: 16 bytes of memory each, and more than anybody has.
pub(super) const EXTENTS: usize = 1 << 20;

/// What pax headers say of the member behind them.
#[derive(Debug, Clone, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) acl_access: Option<Vec<u8>>,
    pub(super) acl_default: Option<Vec<u8>>,
    pub(super) sparse: Option<Sparse>,
}

/// What the records `GNU.sparse.*` say.
#[derive(Debug, Clone, Default)]
pub(super) struct Sparse {
    /// Format 1.0: the extents stand in front of the data.
    pub(super) in_data: bool,
    /// The file's length, holes included.
    pub(super) size: Option<u64>,
    /// The extents of formats 0.0 and 0.1.
    pub(super) extents: Vec<Range<u64>>,
    /// The start of an extent whose length comes in the next record.
    start: Option<u64>,
}

impl Pax {
    /// Takes the records of one header; later ones win. `None` when they are damaged.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let space = bytes.iter().take(20).position(|&byte| byte == b' ')?;
            let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
            let (record, after) = bytes.split_at_checked(length)?;
            let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            self.record(&record[..equals], &record[equals + 1..])?;
            bytes = after;
        }
        Some(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" | b"GNU.sparse.name" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(u32::try_from(decimal(value)?).ok()?),
            b"gid" => self.gid = Some(u32::try_from(decimal(value)?).ok()?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"SCHILY.acl.access" => self.acl_access = Some(value.to_vec()),
            b"SCHILY.acl.default" => self.acl_default = Some(value.to_vec()),
            b"GNU.sparse.major" => self.sparse().in_data = value == b"1",
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse().size = Some(decimal(value)?),
            b"GNU.sparse.offset" => self.sparse().start = Some(decimal(value)?),
            b"GNU.sparse.numbytes" => {
                let start = self.sparse().start.take()?;
                self.extent(start, decimal(value)?)?;
            }
            b"GNU.sparse.map" => {
                let mut numbers = value.split(|&byte| byte == b',');
                while let Some(start) = numbers.next().filter(|number| !number.is_empty()) {
                    self.extent(decimal(start)?, decimal(numbers.next()?)?)?;
                }
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push(Xattr {
                        name: name.into(),
                        value: value.into(),
                    });
                }
            }
        }
        Some(())
    }

    fn sparse(&mut self) -> &mut Sparse {
        self.sparse.get_or_insert_default()
    }

    fn extent(&mut self, start: u64, len: u64) -> Option<()> {
        let extents = &mut self.sparse().extents;
        extents.push(start..start.checked_add(len)?);
        (extents.len() <= EXTENTS).then_some(())
    }
}

/// A record with its length in front.
pub(super) fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let bare = key.len() + value.len() + b" =\n".len();
    // The length counts its own digits.
    let mut length = bare + 1;
    while length != bare + length.to_string().len() {
        length = bare + length.to_string().len();
    }
    out.extend(length.to_string().as_bytes());
    out.push(b' ');
    out.extend(key);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
}

/// A plain decimal number.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, &digit| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Seconds with a fraction, `-1.25` for instance; digits behind the ninth are cut off.
fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    let secs = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits: Vec<u8> = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .collect();
    let nanos = u32::try_from(decimal(&digits)?).ok()?;
    Some(match (negative, nanos) {
        (false, nanos) => Timestamp { secs, nanos },
        (true, 0) => Timestamp {
            secs: -secs,
            nanos: 0,
        },
        (true, nanos) => Timestamp {
            secs: -secs - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

/// A time as pax writes it.
pub(super) fn time_text(time: Timestamp) -> String {
    let Timestamp { secs, nanos } = time;
    let (sign, secs, nanos) = match (secs < 0, nanos) {
        (false, _) | (true, 0) => (if secs < 0 { "-" } else { "" }, secs.unsigned_abs(), nanos),
        (true, _) => ("-", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
    };
    if nanos == 0 {
        format!("{sign}{secs}")
    } else {
        format!("{sign}{secs}.{nanos:09}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let mut bytes = Vec::new();
        // Lengths at which the number of digits of the length changes.
        for length in [0, 85, 86, 87, 88, 985, 986, 987, 988, 60_000] {
            push_record(&mut bytes, b"SCHILY.xattr.a", &vec![b'\n'; length]);
        }
        push_record(&mut bytes, b"path", b"a=b\xff");
        let mut pax = Pax::default();
        pax.take(&bytes).unwrap();
        let lengths: Vec<_> = pax.xattrs.iter().map(|xattr| xattr.value.len()).collect();
        assert_eq!(lengths, [0, 85, 86, 87, 88, 985, 986, 987, 988, 60_000]);
        assert_eq!(pax.path.unwrap(), b"a=b\xff");
    }

    #[test]
    fn times_round_trip() {
        for (secs, nanos, text) in [
            (0, 0, "0"),
            (5, 1, "5.000000001"),
            (-1, 0, "-1"),
            (-1, 750_000_000, "-0.250000000"),
            (-2, 1, "-1.999999999"),
            (i64::MAX, 999_999_999, "9223372036854775807.999999999"),
        ] {
            let stamp = Timestamp { secs, nanos };
            assert_eq!(time_text(stamp), text);
            assert_eq!(time(text.as_bytes()), Some(stamp));
        }
        assert_eq!(
            time(b"1.5"),
            Some(Timestamp {
                secs: 1,
                nanos: 500_000_000
            })
        );
        assert_eq!(
            time(b"1.1234567899"),
            Some(Timestamp {
                secs: 1,
                nanos: 123_456_789
            })
        );
        for text in ["", "-", ".5", "1.x", "99999999999999999999", "--1"] {
            assert_eq!(time(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        for bytes in [
            &b"5 a=b\n"[..],
            b"7 a=b\n",
            b"6 a=bx",
            b"x a=b\n",
            b"6  a=b\n",
            b"5 ab\n",
            b"0 \n",
            b"18446744073709551617 a=b\n",
            b"12 uid=x\n",
            b"18 uid=4294967296\n",
            b"25 GNU.sparse.numbytes=1\n",
            b"20 GNU.sparse.map=1\n",
        ] {
            assert!(
                Pax::default().take(bytes).is_none(),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
