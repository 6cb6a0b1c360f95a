//! Keys and tags of control packets (protocol.md 7).
//!
//! The sender holds the session's secret. A receiver gets two keys made from it: the group's, with which it checks
//! what the sender announces, and its own, with which it signs its reports. So a member of the group can forge
//! neither another receiver's reports nor be mistaken for it; it could forge an announce, which moves no data.

use std::fmt;

/// Bytes of a control packet's tag.
pub const TAG_BYTES: usize = 16;
/// Bytes of a data packet's tag: what its header has room for.
pub const DATA_TAG_BYTES: usize = 12;

/// Number of a session on the wire: random, so that packets of an earlier session are foreign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// Number of a receiver in its session. Whoever offers the session gives each receiver another one, and a receiver
/// that starts again a new one; the sender then takes no old report for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverId(pub u64);

/// The secret of a session; only the sender has it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey([u8; 32]);

/// What one receiver gets of the secret, over a private channel.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverKeys {
    /// Checks announces.
    pub group: TagKey,
    /// Signs this receiver's reports.
    pub own: TagKey,
}

/// A key that makes and checks tags.
#[derive(Clone, PartialEq, Eq)]
pub struct TagKey([u8; 32]);

impl SessionKey {
    /// Takes 32 random bytes as the secret.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of what the sender says to the group.
    pub fn group(&self) -> TagKey {
        TagKey(blake3::derive_key("simulcast multicast v1 group", &self.0))
    }

    /// The key of data packets, once they carry tags. Every member of the group can make it from the group's key.
    pub fn data(&self) -> TagKey {
        self.group().data()
    }

    /// The key of what this receiver says to the sender.
    pub fn receiver(&self, receiver: ReceiverId) -> TagKey {
        let mut material = [0; 40];
        material[..32].copy_from_slice(&self.0);
        material[32..].copy_from_slice(&receiver.0.to_le_bytes());
        TagKey(blake3::derive_key("simulcast multicast v1 receiver", &material))
    }

    /// The two keys that this receiver is given.
    pub fn receiver_keys(&self, receiver: ReceiverId) -> ReceiverKeys {
        ReceiverKeys {
            group: self.group(),
            own: self.receiver(receiver),
        }
    }
}

impl TagKey {
    /// The key of data packets that belongs to a group's key.
    pub fn data(&self) -> Self {
        Self(blake3::derive_key("simulcast multicast v1 data", &self.0))
    }

    /// Takes a key that came over a private channel.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key itself, to give it to its receiver.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Appends the tag of all bytes in `packet`.
    pub fn seal(&self, packet: &mut Vec<u8>) {
        let tag = self.tag(packet);
        packet.extend_from_slice(&tag);
    }

    /// The bytes before the tag, when the tag is right.
    pub fn open<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let (body, tag) = packet.split_at_checked(packet.len().checked_sub(TAG_BYTES)?)?;
        same(&self.tag(body), tag).then_some(body)
    }

    /// The tag of a data packet of this beginning and these pieces of a payload.
    pub(crate) fn data_tag<'p>(
        &self,
        head: &[u8],
        payload: impl IntoIterator<Item = &'p [u8]>,
    ) -> [u8; DATA_TAG_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(head);
        payload.into_iter().for_each(|piece| _ = hasher.update(piece));
        let hash = hasher.finalize();
        let mut tag = [0; DATA_TAG_BYTES];
        tag.copy_from_slice(&hash.as_bytes()[..DATA_TAG_BYTES]);
        tag
    }

    /// Whether `tag` is that of a data packet.
    pub(crate) fn is_data_tag<'p>(
        &self,
        tag: &[u8; DATA_TAG_BYTES],
        head: &[u8],
        payload: impl IntoIterator<Item = &'p [u8]>,
    ) -> bool {
        same(&self.data_tag(head, payload), tag)
    }

    fn tag(&self, body: &[u8]) -> [u8; TAG_BYTES] {
        let hash = blake3::keyed_hash(&self.0, body);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hash.as_bytes()[..TAG_BYTES]);
        tag
    }
}

/// Whether two tags of one length are equal. It takes the same time wherever they differ.
fn same(right: &[u8], tag: &[u8]) -> bool {
    right.iter().zip(tag).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

macro_rules! secret {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
}
secret!(SessionKey);
secret!(ReceiverKeys);
secret!(TagKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_opens_only_with_its_key_and_bytes() {
        let key = SessionKey::from_bytes([7; 32]);
        let mut packet = b"report".to_vec();
        key.receiver(ReceiverId(1)).seal(&mut packet);
        assert_eq!(key.receiver(ReceiverId(1)).open(&packet), Some(&b"report"[..]));
        assert_eq!(key.receiver(ReceiverId(2)).open(&packet), None);
        assert_eq!(key.group().open(&packet), None);
        for at in 0..packet.len() {
            let mut forged = packet.clone();
            forged[at] ^= 1;
            assert_eq!(key.receiver(ReceiverId(1)).open(&forged), None, "byte {at}");
        }
        assert_eq!(key.group().open(&[0; 15]), None);
    }

    #[test]
    fn keys_do_not_print() {
        assert_eq!(
            format!("{:?}", SessionKey::from_bytes([7; 32])),
            "SessionKey(secret)"
        );
    }
}
