//! Counters of both ends. The hot path counts; whoever wants to tell people reads these.

use super::packet::Malformed;
use super::rate::Bounds;

/// Packets that were dropped because of what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    /// Ended early.
    pub short: u64,
    /// Wrong length.
    pub length: u64,
    /// Unknown version.
    pub version: u64,
    /// Unknown or unexpected type.
    pub kind: u64,
    /// A field out of bounds.
    pub field: u64,
    /// Of another session or version of the image.
    pub foreign: u64,
    /// Wrong tag.
    pub tag: u64,
    /// A number that was already taken: repeated or replayed.
    pub replayed: u64,
    /// More receivers than a session can have.
    pub crowd: u64,
}

impl Refused {
    pub(crate) fn count(&mut self, why: Malformed) {
        let counter = match why {
            Malformed::Short => &mut self.short,
            Malformed::Length => &mut self.length,
            Malformed::Version => &mut self.version,
            Malformed::Kind => &mut self.kind,
            Malformed::Field => &mut self.field,
        };
        *counter += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        let malformed = self.short + self.length + self.version + self.kind + self.field;
        malformed + self.foreign + self.tag + self.replayed + self.crowd
    }
}

/// What a sender did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderStats {
    /// Data packets sent.
    pub packets: u64,
    /// Source symbols among them that were sent for the first time.
    pub source: u64,
    /// Source symbols that were sent again.
    pub repeated: u64,
    /// Parity symbols.
    pub parity: u64,
    /// Control packets sent.
    pub control: u64,
    /// UDP payload bytes sent, of data and control packets.
    pub bytes: u64,
    /// UDP payload bytes received that belonged to valid reports.
    pub report_bytes: u64,
    /// Valid JOINs and REPORTs.
    pub reports: u64,
    /// Reports that carried deficits.
    pub naks: u64,
    /// Deficits that were taken.
    pub deficits: u64,
    /// Wants that were passed over because their chunk was sent after the report was written.
    pub stale: u64,
    /// Wants that nobody renewed.
    pub expired: u64,
    /// Stragglers that were sent to another transport.
    pub parted: u64,
    /// How long what bounded the rate.
    pub bounds: Bounds,
    /// Chunks that the driver could not read.
    pub unreadable: u64,
    /// Most stored bytes held at a time, parity included.
    pub held_peak: u64,
    /// What was dropped.
    pub refused: Refused,
}

/// What a receiver did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiverStats {
    /// Data packets of this session.
    pub packets: u64,
    /// Symbols that were new and kept.
    pub symbols: u64,
    /// Symbols of chunks that are not needed, or came twice.
    pub unneeded: u64,
    /// Symbols dropped because no memory was left.
    pub no_room: u64,
    /// Incomplete chunks given up for memory.
    pub evicted: u64,
    /// Data packets whose number cannot be.
    pub implausible: u64,
    /// Announces taken.
    pub announces: u64,
    /// Chunks accepted.
    pub accepted: u64,
    /// Chunks whose bytes had not their hash.
    pub rejected: u64,
    /// Chunks given up to another transport.
    pub given_up: u64,
    /// Control packets sent, and their bytes.
    pub reports: u64,
    /// UDP payload bytes of those.
    pub report_bytes: u64,
    /// Deficits sent.
    pub naks: u64,
    /// NAKs not sent because the sender planned as much already.
    pub suppressed: u64,
    /// Most bytes of chunk buffers held at a time.
    pub memory_peak: u64,
    /// What was dropped.
    pub refused: Refused,
}
