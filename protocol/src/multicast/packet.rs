//! Packet formats (protocol.md 2 to 6): what stands in which byte, and nothing about what is done with it.
//!
//! All numbers are little-endian. Every packet begins with eight bytes: version and type, flags, a symbol number
//! (zero except in data packets), session. Decoding checks every field against its bounds; what fails is a
//! [`Malformed`], and nothing of the packet is used.

mod announce;
mod bytes;
mod data;
mod probe;
mod report;

pub use announce::{Announce, Fin, Phase, Plan, Reason};
pub use data::Data;
pub use probe::{PROBE_BYTES, Path, Probe};
pub use report::{Bitmap, Report, WHOLE, Want};

use crate::multicast::key::SessionId;
use bytes::{Reader, Writer};

/// Version of all packet formats; a packet of another version is malformed.
pub const VERSION: u8 = 1;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A symbol, from the sender to the group.
    Data,
    /// State of the session, from the sender to the group.
    Announce,
    /// A receiver's first words, to the sender.
    Join,
    /// A receiver's state, deficits and wants, to the sender.
    Report,
    /// End of the session, from the sender to the group.
    Fin,
}

/// Why a packet cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends before its last field.
    #[error("packet ends early")]
    Short,
    /// It goes on after its last field, or has not the session's length.
    #[error("packet has a wrong length")]
    Length,
    /// Not a version that we know.
    #[error("packet of an unknown version")]
    Version,
    /// A type or flag that this version does not define, or that this side does not take.
    #[error("packet of an unexpected type")]
    Kind,
    /// A field out of its bounds.
    #[error("packet with a field out of bounds")]
    Field,
}

/// Reads type and session of a packet; all that can be said before its tag is checked.
pub fn peek(packet: &[u8]) -> Result<(Kind, SessionId), Malformed> {
    let mut reader = Reader::new(packet);
    let first = reader.u8()?;
    let flags = reader.u8()?;
    let _symbol = reader.u16()?;
    let session = SessionId(reader.u32()?);
    if first >> 4 != VERSION {
        return Err(Malformed::Version);
    }
    let kind = match first & 0xf {
        1 => Kind::Data,
        2 => Kind::Announce,
        3 => Kind::Join,
        4 => Kind::Report,
        5 => Kind::Fin,
        _ => return Err(Malformed::Kind),
    };
    // Flags that this version does not know mean something that it would misread.
    let known = match kind {
        Kind::Data | Kind::Announce | Kind::Join | Kind::Report => FLAG,
        Kind::Fin => 0,
    };
    if flags & !known != 0 {
        Err(Malformed::Kind)
    } else {
        Ok((kind, session))
    }
}

/// The only flag. DATA: it carries a tag. ANNOUNCE: all DATA does. JOIN and REPORT: forged DATA came in.
const FLAG: u8 = 1;

/// Whether a packet that [`peek`] took has the flag.
fn flagged(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|flags| flags & FLAG != 0)
}

fn set_flag(packet: &mut [u8], on: bool) {
    packet[1] |= if on { FLAG } else { 0 };
}

/// Appends the eight common bytes.
fn write_head(to: &mut Writer<'_>, kind: Kind, symbol: u16, session: SessionId) {
    let number = match kind {
        Kind::Data => 1,
        Kind::Announce => 2,
        Kind::Join => 3,
        Kind::Report => 4,
        Kind::Fin => 5,
    };
    to.u8(VERSION << 4 | number);
    to.u8(0);
    to.u16(symbol);
    to.u32(session.0);
}

/// Reads the common bytes of a control packet, whose symbol number is zero.
fn read_control_head<'a>(body: &'a [u8], kinds: &[Kind]) -> Result<(Kind, SessionId, Reader<'a>), Malformed> {
    let (kind, session) = peek(body)?;
    if !kinds.contains(&kind) {
        return Err(Malformed::Kind);
    }
    let mut reader = Reader::new(body);
    let (_, symbol, _) = (reader.u16()?, reader.u16()?, reader.u32()?);
    if symbol == 0 {
        Ok((kind, session, reader))
    } else {
        Err(Malformed::Field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_versions_types_and_flags_are_told_apart() {
        let head = |first, flags| peek(&[first, flags, 0, 0, 1, 0, 0, 0]);
        assert_eq!(head(0x11, 0), Ok((Kind::Data, SessionId(1))));
        assert_eq!(head(0x21, 0), Err(Malformed::Version));
        assert_eq!(head(0x10, 0), Err(Malformed::Kind));
        assert_eq!(head(0x16, 0), Err(Malformed::Kind));
        assert_eq!(head(0x11, 1), Ok((Kind::Data, SessionId(1))));
        assert_eq!(head(0x11, 2), Err(Malformed::Kind));
        assert_eq!(head(0x15, 1), Err(Malformed::Kind));
        assert_eq!(peek(&[0x11, 0, 0, 0, 1, 0, 0]), Err(Malformed::Short));
    }
}
