//! A set of chunk indexes as a bitmap: what a receiver has, lacks or gave up.

/// Chunk indexes below a fixed number. Operations on an index outside do nothing and answer `false`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSet {
    words: Vec<u64>,
    size: u32,
    count: u32,
}

impl ChunkSet {
    /// No chunk of `size`.
    pub fn empty(size: u32) -> Self {
        let words = usize::try_from(size.div_ceil(64)).unwrap_or(0);
        Self {
            words: vec![0; words],
            size,
            count: 0,
        }
    }

    /// All chunks of `size`.
    pub fn full(size: u32) -> Self {
        let mut set = Self::empty(size);
        (0..size).for_each(|index| _ = set.insert(index));
        set
    }

    /// How many indexes there could be.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// How many are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether none is in the set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether `index` is in the set.
    pub fn contains(&self, index: u32) -> bool {
        self.place(index)
            .is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// Adds `index`; true when it was not there.
    pub fn insert(&mut self, index: u32) -> bool {
        let Some((word, bit)) = self.place(index) else {
            return false;
        };
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u32::from(new);
        new
    }

    /// Takes `index` out; true when it was there.
    pub fn remove(&mut self, index: u32) -> bool {
        let Some((word, bit)) = self.place(index) else {
            return false;
        };
        let there = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        self.count -= u32::from(there);
        there
    }

    /// The smallest index in the set from `from` on.
    pub fn next(&self, from: u32) -> Option<u32> {
        let (first, bit) = self.place(from)?;
        let masked = self.words[first] & !(bit - 1);
        let rest = self.words[first + 1..].iter().copied();
        let (skipped, word) = std::iter::once(masked)
            .chain(rest)
            .enumerate()
            .find(|(_, word)| *word != 0)?;
        let base = u32::try_from((first + skipped) * 64).ok()?;
        Some(base + word.trailing_zeros())
    }

    /// The indexes in the set, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let index = self.next(from)?;
            from = index + 1;
            Some(index)
        })
    }

    /// The first run of neighbours from `from` on: its first index and its length.
    pub fn next_run(&self, from: u32) -> Option<(u32, u32)> {
        let first = self.next(from)?;
        let mut end = first + 1;
        while self.contains(end) {
            end += 1;
        }
        Some((first, end - first))
    }

    fn place(&self, index: u32) -> Option<(usize, u64)> {
        let inside = index < self.size;
        inside.then(|| (usize::try_from(index / 64).unwrap_or(0), 1 << (index % 64)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_an_ordered_set(size in 1u32..300, steps in prop::collection::vec((any::<bool>(), 0u32..320), 0..200), from in 0u32..320) {
            let (mut set, mut slow) = (ChunkSet::empty(size), BTreeSet::new());
            for (add, index) in steps {
                if add {
                    prop_assert_eq!(set.insert(index), index < size && slow.insert(index));
                } else {
                    prop_assert_eq!(set.remove(index), slow.remove(&index));
                }
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), slow.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(usize::try_from(set.count()).unwrap(), slow.len());
            prop_assert_eq!(set.next(from), slow.range(from..).next().copied());
            let run = slow.range(from..).next().map(|&first| (first, (first..).take_while(|i| slow.contains(i)).count()));
            prop_assert_eq!(set.next_run(from).map(|(first, n)| (first, usize::try_from(n).unwrap())), run);
        }
    }

    #[test]
    fn full_has_everything() {
        let set = ChunkSet::full(65);
        assert_eq!(
            (set.count(), set.next_run(0), set.next(65)),
            (65, Some((0, 65)), None)
        );
    }
}
