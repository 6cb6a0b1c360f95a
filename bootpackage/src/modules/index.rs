//! The indexes that `modprobe` reads: a trie of keys with values, as `libkmod-index.h` of kmod 30 describes it.
//!
//! A node is its prefix, a table of children for a range of bytes, and its values; where it is in the file and which of
//! the three it has stands in the table of its parent. All numbers are big-endian.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;

/// An index that is being made.
#[derive(Debug, Default)]
pub(super) struct Index(Node);

#[derive(Debug, Default)]
struct Node {
    prefix: Vec<u8>,
    children: BTreeMap<u8, Node>,
    values: Vec<(u32, String)>,
}

impl Index {
    /// Adds a value under a key. Of several values, those with a lower `rank` are tried first. A key that is not ASCII is
    /// left out: nobody can ask for it.
    pub(super) fn insert(&mut self, key: &str, value: &str, rank: u32) {
        if key.is_ascii() && !key.bytes().chain(value.bytes()).any(|byte| byte == 0) {
            self.0.insert(key.as_bytes(), value, rank);
        }
    }

    /// The bytes of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = [MAGIC, VERSION, 0].map(u32::to_be_bytes).concat();
        let root = self.0.encode(&mut out);
        out[8..12].copy_from_slice(&root.to_be_bytes());
        out
    }
}

impl Node {
    fn leaf(key: &[u8], value: &str, rank: u32) -> Self {
        Self {
            prefix: key.to_vec(),
            children: BTreeMap::new(),
            values: vec![(rank, value.to_owned())],
        }
    }

    fn insert(&mut self, key: &[u8], value: &str, rank: u32) {
        let same = self.prefix.iter().zip(key).take_while(|(a, b)| a == b).count();
        if same < self.prefix.len() {
            self.split(same);
        }
        match key[same..].split_first() {
            None => {
                let pair = (rank, value.to_owned());
                if let Err(at) = self.values.binary_search(&pair) {
                    self.values.insert(at, pair);
                }
            }
            Some((&byte, rest)) => match self.children.get_mut(&byte) {
                Some(child) => child.insert(rest, value, rank),
                None => {
                    self.children.insert(byte, Self::leaf(rest, value, rank));
                }
            },
        }
    }

    /// Makes what this node is the only child of a node with the first `at` bytes of its prefix.
    fn split(&mut self, at: usize) {
        let mut below = std::mem::take(self);
        self.prefix = below.prefix[..at].to_vec();
        let byte = below.prefix[at];
        below.prefix.drain(..=at);
        self.children.insert(byte, below);
    }

    /// Writes what is below, then this node; says where it is and what it has.
    fn encode(&self, out: &mut Vec<u8>) -> u32 {
        let places: BTreeMap<u8, u32> = self
            .children
            .iter()
            .map(|(&byte, child)| (byte, child.encode(out)))
            .collect();
        let mut place = u32::try_from(out.len()).expect("an index of all modules has some MB");
        if !self.prefix.is_empty() {
            out.extend_from_slice(&self.prefix);
            out.push(0);
            place |= HAS_PREFIX;
        }
        if let (Some((&first, _)), Some((&last, _))) = (places.first_key_value(), places.last_key_value()) {
            out.extend([first, last]);
            for byte in first..=last {
                out.extend(places.get(&byte).copied().unwrap_or(0).to_be_bytes());
            }
            place |= HAS_CHILDREN;
        }
        if !self.values.is_empty() {
            let count = u32::try_from(self.values.len()).expect("at most as many as there are modules");
            out.extend(count.to_be_bytes());
            for (rank, value) in &self.values {
                out.extend(rank.to_be_bytes());
                out.extend_from_slice(value.as_bytes());
                out.push(0);
            }
            place |= HAS_VALUES;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keys and values, read back as `modprobe` does.
    fn read(bytes: &[u8], place: u32, key: &mut Vec<u8>, found: &mut Vec<(String, String)>) {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let text = |at: usize| bytes[at..].split(|&byte| byte == 0).next().unwrap();
        let (mut at, depth) = ((place & 0x0fff_ffff) as usize, key.len());
        if place & HAS_PREFIX != 0 {
            key.extend_from_slice(text(at));
            at += text(at).len() + 1;
        }
        let mut children = Vec::new();
        if place & HAS_CHILDREN != 0 {
            let (first, last) = (bytes[at], bytes[at + 1]);
            at += 2;
            for byte in first..=last {
                children.push((byte, number(at)));
                at += 4;
            }
        }
        if place & HAS_VALUES != 0 {
            let count = number(at);
            at += 4;
            for _ in 0..count {
                let value = text(at + 4);
                found.push((
                    String::from_utf8(key.clone()).unwrap(),
                    String::from_utf8(value.to_vec()).unwrap(),
                ));
                at += 4 + value.len() + 1;
            }
        }
        for (byte, place) in children.into_iter().filter(|(_, place)| *place != 0) {
            key.push(byte);
            read(bytes, place, key, found);
            key.pop();
        }
        key.truncate(depth);
    }

    #[test]
    fn every_key_is_found_again_with_its_values_by_rank() {
        let mut index = Index::default();
        for (key, value, rank) in [
            ("pci:v*", "late", 9),
            ("pci:v*", "early", 1),
            ("pci:v*", "early", 1),
            ("pci:va", "a", 1),
            ("pc", "short", 1),
            ("usb", "u", 1),
            ("\u{e9}", "never", 1),
        ] {
            index.insert(key, value, rank);
        }
        let bytes = index.encode();
        assert_eq!(&bytes[..8], b"\xb0\x07\xf4\x57\0\x02\0\x01");
        let mut found = Vec::new();
        let root = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
        read(&bytes, root, &mut Vec::new(), &mut found);
        let pairs: Vec<_> = found
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("pc", "short"),
                ("pci:v*", "early"),
                ("pci:v*", "late"),
                ("pci:va", "a"),
                ("usb", "u")
            ]
        );
    }
}
