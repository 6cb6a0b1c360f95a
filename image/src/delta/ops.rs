//! librsync's delta format: a magic number, then operations, then an end mark.
//!
//! An operation is one byte and up to two big-endian numbers of 1, 2, 4 or 8 bytes:
//!
//! | Byte | Meaning |
//! |---|---|
//! | `00` | end |
//! | `01`-`40` | literal of that many bytes, which follow |
//! | `41`-`44` | literal, its length in 1, 2, 4, 8 bytes |
//! | `45`-`54` | copy: offset in 1, 2, 4, 8 bytes (by fours), length in 1, 2, 4, 8 bytes |

use std::io::{self, Read, Write};

use super::DeltaError;

/// The first four bytes of a delta.
pub(super) const MAGIC: [u8; 4] = 0x7273_0236_u32.to_be_bytes();

/// Literals of up to so many bytes have no length beside them.
const SHORT_LITERAL: u8 = 0x40;

/// One step in making a content. Lengths are never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// So many bytes follow.
    Literal(u64),
    /// Bytes of the basis.
    Copy { offset: u64, len: u64 },
    /// Nothing follows.
    End,
}

impl Op {
    /// Reads the next operation, but not the bytes of a literal.
    pub(super) fn read(from: &mut impl Read) -> Result<Self, DeltaError> {
        let op = match number(from, 1)? {
            0 => return Ok(Self::End),
            short @ 0x01..=0x40 => Self::Literal(short),
            code @ 0x41..=0x44 => Self::Literal(number(from, 1 << (code - 0x41))?),
            code @ 0x45..=0x54 => Self::Copy {
                offset: number(from, 1 << ((code - 0x45) / 4))?,
                len: number(from, 1 << ((code - 0x45) % 4))?,
            },
            _ => return Err(DeltaError::WrongDelta("an operation that does not exist")),
        };
        if matches!(op, Self::Literal(0) | Self::Copy { len: 0, .. }) {
            return Err(DeltaError::WrongDelta("an operation that does nothing"));
        }
        Ok(op)
    }

    /// Writes the operation in its shortest form, but not the bytes of a literal; says how many bytes it took.
    pub(super) fn write(self, to: &mut impl Write) -> io::Result<u64> {
        let mut bytes = Vec::with_capacity(17);
        match self {
            Self::End => bytes.push(0),
            Self::Literal(len) => match u8::try_from(len) {
                Ok(short @ 1..=SHORT_LITERAL) => bytes.push(short),
                _ => {
                    bytes.push(0x41 + size_class(len));
                    push_number(&mut bytes, len);
                }
            },
            Self::Copy { offset, len } => {
                bytes.push(0x45 + 4 * size_class(offset) + size_class(len));
                push_number(&mut bytes, offset);
                push_number(&mut bytes, len);
            }
        }
        to.write_all(&bytes)?;
        Ok(bytes.len() as u64)
    }
}

/// The power of two of bytes that a number takes: 0 for 1 byte to 3 for 8 bytes.
fn size_class(number: u64) -> u8 {
    match number {
        0..=0xff => 0,
        0x100..=0xffff => 1,
        0x1_0000..=0xffff_ffff => 2,
        _ => 3,
    }
}

fn push_number(bytes: &mut Vec<u8>, number: u64) {
    let len = 1 << size_class(number);
    bytes.extend_from_slice(&number.to_be_bytes()[8 - len..]);
}

fn number(from: &mut impl Read, len: usize) -> Result<u64, DeltaError> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes[8 - len..])
        .map_err(DeltaError::ReadDelta)?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(op: Op) -> Vec<u8> {
        let mut bytes = Vec::new();
        let len = op.write(&mut bytes).unwrap();
        assert_eq!(len, bytes.len() as u64);
        bytes
    }

    #[test]
    fn the_format_is_librsyncs() {
        assert_eq!(bytes(Op::Literal(64)), [0x40]);
        assert_eq!(bytes(Op::Literal(65)), [0x41, 65]);
        assert_eq!(bytes(Op::Literal(0x1234)), [0x42, 0x12, 0x34]);
        assert_eq!(bytes(Op::Copy { offset: 0, len: 255 }), [0x45, 0, 255]);
        assert_eq!(
            bytes(Op::Copy {
                offset: 0x1_0000,
                len: 0x100
            }),
            [0x4e, 0, 1, 0, 0, 1, 0]
        );
        assert_eq!(bytes(Op::End), [0]);
        for wrong in [&[0x55][..], &[0xff], &[0x41, 0], &[0x45, 1, 0], &[0x42, 1], &[]] {
            assert!(Op::read(&mut &wrong[..]).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn operations_round_trip(shift in 0u32..64, offset: u64, len: u64) {
            let (offset, len) = (offset >> shift, (len >> shift).max(1));
            for op in [Op::Literal(len), Op::Copy { offset, len }] {
                prop_assert_eq!(Op::read(&mut bytes(op).as_slice()).unwrap(), op);
            }
        }
    }
}
