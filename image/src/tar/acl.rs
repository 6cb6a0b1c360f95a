//! POSIX ACLs as text, which tar archives have, and as the attribute `system.posix_acl_*` that the kernel has.
//!
//! The attribute is a version (2) and rows of tag, permissions and identity, little-endian, in the order of tags
//! (`linux/posix_acl_xattr.h`). The text is that of acl(5), entries separated by commas or line ends.

use std::fmt::Write;

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The identity in rows that have none.
const NOBODY: u32 = u32::MAX;

/// Entries of one ACL that we take; the kernel's attribute of 64 KiB holds no more than 8,191.
const ENTRIES: usize = 8191;

/// The attribute for a text; `None` when the text is wrong or names users that only the machine it comes from knows.
pub(super) fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut rows = Vec::new();
    for line in text.split([',', '\n']) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if rows.len() == ENTRIES {
            return None;
        }
        rows.push(row(line.strip_prefix("default:").unwrap_or(line))?);
    }
    if rows.is_empty() {
        return None;
    }
    rows.sort_unstable();
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in rows {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    Some(bytes)
}

/// `user:1000:rw-`, or with the number behind the name: `user:joe:rw-:1000`.
fn row(line: &str) -> Option<(u16, u32, u16)> {
    let mut fields = line.split(':').map(str::trim);
    let (what, who, permissions, number) = (fields.next()?, fields.next()?, fields.next(), fields.next());
    // `mask:rwx` and `other:rwx` are written with one colon as well.
    let (who, permissions) = match permissions {
        Some(permissions) => (who, permissions),
        None => ("", who),
    };
    let id = |tag: u16, own: u16| {
        if who.is_empty() {
            return Some((own, NOBODY));
        }
        let id = number.unwrap_or(who).parse().ok()?;
        Some((tag, id))
    };
    let (tag, id) = match what {
        "user" | "u" => id(USER, USER_OBJ)?,
        "group" | "g" => id(GROUP, GROUP_OBJ)?,
        "mask" | "m" => (MASK, NOBODY),
        "other" | "o" => (OTHER, NOBODY),
        _ => return None,
    };
    let mut bits = 0;
    for letter in permissions.chars() {
        bits |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return None,
        };
    }
    Some((tag, id, bits))
}

/// Whether an attribute says no more than a mode does: then the kernel keeps none.
pub(super) fn is_minimal(attribute: &[u8]) -> bool {
    rows(attribute).is_some_and(|rows| {
        rows.iter()
            .all(|(tag, _, _)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER))
    })
}

/// The text for an attribute; `None` when it is not of the form that Linux gives it.
pub(super) fn to_text(attribute: &[u8]) -> Option<String> {
    let mut text = String::new();
    for (tag, id, permissions) in rows(attribute)? {
        let (what, who) = match tag {
            USER_OBJ => ("user", String::new()),
            USER => ("user", id.to_string()),
            GROUP_OBJ => ("group", String::new()),
            GROUP => ("group", id.to_string()),
            MASK => ("mask", String::new()),
            OTHER => ("other", String::new()),
            _ => return None,
        };
        let letter = |bit: u16, letter: char| if permissions & bit != 0 { letter } else { '-' };
        let (r, w, x) = (letter(4, 'r'), letter(2, 'w'), letter(1, 'x'));
        writeln!(text, "{what}:{who}:{r}{w}{x}").expect("writing to a string does not fail");
    }
    Some(text)
}

fn rows(attribute: &[u8]) -> Option<Vec<(u16, u32, u16)>> {
    let (version, rows) = attribute.split_first_chunk::<4>()?;
    let (rows, rest) = rows.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    let row = |row: &[u8; 8]| {
        let [tag0, tag1, permissions0, permissions1, id @ ..] = *row;
        (
            u16::from_le_bytes([tag0, tag1]),
            u32::from_le_bytes(id),
            u16::from_le_bytes([permissions0, permissions1]),
        )
    };
    Some(rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attribute_round_trip() {
        let text =
            "user::rw-\nuser:1000:r--\nuser:4294967294:---\ngroup::r-x\ngroup:7:rwx\nmask::rwx\nother::--x\n";
        let attribute = from_text(text.as_bytes()).unwrap();
        assert_eq!(attribute.len(), 4 + 7 * 8);
        assert_eq!(attribute[..12], [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255]);
        assert_eq!(to_text(&attribute).unwrap(), text);
        assert!(!is_minimal(&attribute));
        assert!(is_minimal(
            &from_text(b"user::rw-,group::r--,other::r--").unwrap()
        ));
    }

    #[test]
    fn other_spellings_are_understood() {
        let one = from_text(b"other:r--,mask:rwx,u:joe:rw-:1000,group::---,u::rwx #effective").unwrap();
        let two = from_text(b"default:user::rwx\ndefault:user:1000:rw-\ngroup::---\nmask::rwx\nother::r--\n")
            .unwrap();
        assert_eq!(one, two);
    }

    #[test]
    fn names_and_nonsense_are_refused() {
        for text in [
            "user:joe:rw-",
            "",
            "x",
            "user::q",
            "who:1:r--",
            "user:1",
            "user:-1:r--",
        ] {
            assert_eq!(from_text(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(from_text(b"\xff"), None);
        assert_eq!(from_text("user:1:r--,".repeat(8192).as_bytes()), None);
        for bytes in [&b""[..], &[1, 0, 0, 0], &[2, 0, 0, 0, 1]] {
            assert_eq!(to_text(bytes), None);
        }
    }
}
