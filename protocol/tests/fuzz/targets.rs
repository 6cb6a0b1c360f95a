//! What is fuzzed: every decoder, and sequences of calls into both state machines. Each takes any bytes and panics
//! when something does not hold. The fuzzer and the replay of its corpus run these same functions.

mod packets;
mod receiving;
mod script;
mod sending;

/// One thing that takes any bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Announce,
    Fin,
    Report,
    Data,
    Offer,
    Sender,
    Receiver,
}

impl Target {
    /// All of them, with the names of their programs and of the folders of their corpora.
    pub(crate) const ALL: [(Self, &str); 7] = [
        (Self::Announce, "announce"),
        (Self::Fin, "fin"),
        (Self::Report, "report"),
        (Self::Data, "data"),
        (Self::Offer, "offer"),
        (Self::Sender, "sender"),
        (Self::Receiver, "receiver"),
    ];

    /// Runs the target of this name.
    pub(crate) fn run(name: &str, bytes: &[u8]) {
        let named = Self::ALL.iter().find(|(_, known)| *known == name);
        match named.expect("there is such a target").0 {
            Self::Announce => packets::announce(bytes),
            Self::Fin => packets::fin(bytes),
            Self::Report => packets::report(bytes),
            Self::Data => packets::data(bytes),
            Self::Offer => packets::offer(bytes),
            Self::Sender => sending::run(bytes),
            Self::Receiver => receiving::run(bytes),
        }
    }
}
