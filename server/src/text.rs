//! How things of an image read: dates, modes, versions.

use std::fmt;

use simulcast_image::fs::{Shown, Timestamp};
use simulcast_image::manifest::Kind;

const DAY: i64 = 86_400;

/// A point in time as RFC 3339 writes it, in UTC: `2026-11-20T09:41:27Z`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Utc(pub(crate) i64);

/// The same with nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UtcNanos(pub(crate) Timestamp);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_time(f, self.0, None)
    }
}

impl fmt::Display for UtcNanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_time(f, self.0.secs, Some(self.0.nanos))
    }
}

fn write_time(f: &mut fmt::Formatter<'_>, seconds: i64, nanos: Option<u32>) -> fmt::Result {
    let (year, month, day) = date(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    write!(
        f,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )?;
    if let Some(nanos) = nanos {
        write!(f, ".{nanos:09}")?;
    }
    f.write_str("Z")
}

/// Year, month and day of the day that is `days` after 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that a leap day is the last of its year; an era is 400 years of 146,097 days.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Seconds since 1970 now.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 is wrong anyway.
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The ten characters of `ls -l`: kind and permissions.
pub(crate) fn mode(kind: &Kind, mode: u16) -> String {
    let mut text = String::from(kind.letter());
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bit = |bit: u16| mode >> shift & bit != 0;
        text.push(if bit(4) { 'r' } else { '-' });
        text.push(if bit(2) { 'w' } else { '-' });
        text.push(match (mode & special != 0, bit(1)) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A path or target with its names escaped one by one, so that none is cut however long the whole is.
pub(crate) fn escaped(path: &[u8]) -> String {
    let name = |name: &[u8]| {
        if name.is_empty() {
            String::new()
        } else {
            Shown(name).to_string()
        }
    };
    path.split(|&byte| byte == b'/')
        .map(name)
        .collect::<Vec<_>>()
        .join("/")
}

/// What an entry is, in one word.
pub(crate) fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::File(_) => "file",
        Kind::Symlink(_) => "symlink",
        Kind::CharDevice(_) => "char device",
        Kind::BlockDevice(_) => "block device",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::HardLink(_) => "hard link",
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, what: &str) -> String {
    match (number, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_167_687, "2026-11-20T09:41:27Z"),
            (-2_203_891_200, "1900-03-01T00:00:00Z"),
            (253_402_300_800, "10000-01-01T00:00:00Z"),
        ] {
            assert_eq!(Utc(seconds).to_string(), text);
        }
        let nanos = UtcNanos(Timestamp { secs: -1, nanos: 5 });
        assert_eq!(nanos.to_string(), "1969-12-31T23:59:59.000000005Z");
        // No time that fits the field is refused.
        assert!(Utc(i64::MIN).to_string().ends_with('Z') && Utc(i64::MAX).to_string().ends_with('Z'));
    }

    #[test]
    fn modes_read_as_ls_writes_them() {
        assert_eq!(mode(&Kind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(&Kind::Fifo, 0o4755), "prwsr-xr-x");
        assert_eq!(mode(&Kind::Socket, 0o7000), "s--S--S--T");
        assert_eq!(mode(&Kind::Symlink([].into()), 0o640), "lrw-r-----");
    }

    #[test]
    fn long_paths_are_not_cut() {
        let path = [
            &b"a\n"[..],
            &[b'x'; 255],
            &[b'y'; 255],
            &[b'z'; 255],
            &[b'\xff'; 255],
        ]
        .join(&b'/');
        assert_eq!(escaped(&path).len(), 3 + 3 * 255 + 4 * 255 + 4);
        assert_eq!(escaped(b"/etc//x"), "/etc//x");
    }

    #[test]
    fn numbers_agree_with_their_words() {
        assert_eq!(
            [count(1, "file"), count(0, "file"), count(2, "entry")],
            ["1 file", "0 files", "2 entries"]
        );
    }
}
