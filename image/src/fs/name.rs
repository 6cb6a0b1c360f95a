//! Names as bytes: the one check that keeps every call inside its directory, and names as people read them.

use std::fmt::{self, Write};

use simulcast_protocol::limits;

use super::{Act, Cause, FsError};

/// A path in a message that is longer than twice this keeps so many bytes of its beginning and of its end.
const SHOWN_BYTES: usize = 400;

/// Refuses what is not a single name: empty, `.`, `..`, longer than 255 bytes, or with a `/` or NUL in it.
///
/// # Errors
/// [`Cause::Name`] with `act` and the name.
pub fn check_name(act: Act, name: &[u8]) -> Result<(), FsError> {
    let single = !matches!(name, b"" | b"." | b"..")
        && name.len() <= limits::NAME_BYTES
        && !name.iter().any(|&byte| byte == b'/' || byte == 0);
    if single {
        Ok(())
    } else {
        Err(FsError::new(act, name, Cause::Name))
    }
}

/// A name or path for messages: what could steer a terminal or break a line is escaped, so are invalid UTF-8 and
/// backslashes, and very long paths lose their middle.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        if self.0.len() <= 2 * SHOWN_BYTES {
            return escape(self.0, f);
        }
        escape(&self.0[..SHOWN_BYTES], f)?;
        f.write_str("…")?;
        escape(&self.0[self.0.len() - SHOWN_BYTES..], f)
    }
}

fn escape(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                c if c.is_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c if steers_text(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        for byte in piece.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Characters that are not shown themselves but change how others are: directions, joiners, line separators.
fn steers_text(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_names_pass() {
        for name in [&b"a"[..], b"...", b"-", b"\n", b"\xff\xfe", &[b'x'; 255]] {
            assert!(check_name(Act::Open, name).is_ok(), "{name:?}");
        }
        for name in [&b""[..], b".", b"..", b"/", b"a/b", b"a/", b"a\0b", &[b'x'; 256]] {
            let error = check_name(Act::Open, name).unwrap_err();
            assert!(matches!(error.cause(), Cause::Name), "{name:?}");
        }
    }

    #[test]
    fn names_are_shown_without_harm() {
        let shown = |name: &[u8]| Shown(name).to_string();
        assert_eq!(shown(b"etc/passwd"), "etc/passwd");
        assert_eq!(shown("größe".as_bytes()), "größe");
        assert_eq!(shown(b"a\nb\x1b[31m\\\xff\x7f"), r"a\nb\x1b[31m\\\xff\x7f");
        assert_eq!(shown("a\u{202e}b".as_bytes()), r"a\u{202e}b");
        assert_eq!(shown(b""), ".");
        let long = shown(&[b'x'; 5000]);
        assert_eq!(long.chars().count(), 801);
        assert!(long.contains('…'));
    }
}
