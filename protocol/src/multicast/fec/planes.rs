//! Sums of products in the code's field, for whole symbols at once.
//!
//! A product by a constant is linear in the bits of an element. So symbols are taken apart into planes, one for each of the 16
//! bits, and a plane of the product is the sum of some planes of the factor. With a table of the sums of all subsets of the
//! lower eight planes, and one of the upper eight, two entries have to be added for each plane, whole machine words at a time.

use std::array::from_fn;
use std::sync::LazyLock;

use reed_solomon_simd::engine::GfElement;
use reed_solomon_simd::engine::tables;

use super::UNIT;
use super::cauchy::times;

/// Bits of an element.
const BITS: usize = 16;
/// Planes of which all sums are in the table.
const GROUP: usize = 8;
const GROUPS: usize = BITS / GROUP;
const SUMS: usize = 1 << GROUP;

/// A piece of a plane that is added at once.
type Block = [u8; 32];

/// Which planes of a factor make each plane of its product, as bits: for each constant that is one byte, low or high.
static MAPS: LazyLock<[[[u16; BITS]; SUMS]; GROUPS]> = LazyLock::new(|| {
    let field = tables::get_exp_log();
    let mut maps = [[[0; BITS]; SUMS]; GROUPS];
    for (group, maps) in maps.iter_mut().enumerate() {
        for (sum, map) in (0u16..).zip(maps) {
            let constant = sum << (GROUP * group);
            for plane in 0..BITS {
                let log = field.log[1usize << plane];
                let product = times(field, constant, log);
                let to = map.iter_mut().enumerate();
                to.for_each(|(bit, from)| *from |= (product >> bit & 1) << plane);
            }
        }
    }
    maps
});

/// Sums of products that are being made, and what is needed for it. It keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Blocks of one plane of a symbol.
    plane: usize,
    sums: Vec<Block>,
    factor: Vec<Block>,
    table: Vec<Block>,
}

impl Sums {
    /// Begins `count` sums of symbols of `symbol` bytes.
    pub(super) fn begin(&mut self, count: usize, symbol: usize) {
        self.plane = words_of(symbol).div_ceil(size_of::<Block>());
        self.sums.clear();
        self.sums.resize(count * BITS * self.plane, Block::default());
        self.table.resize(GROUPS * SUMS * self.plane, Block::default());
    }

    /// Adds `factor` times the element with the logarithm `logs[n]` to each sum n.
    pub(super) fn add(&mut self, factor: &[u8], logs: impl Iterator<Item = GfElement>) {
        self.factor.clear();
        self.factor.resize(BITS * self.plane, Block::default());
        take_apart(factor, &mut self.factor, self.plane);
        let groups = self.factor.chunks_exact(GROUP * self.plane);
        let tables = self.table.chunks_exact_mut(SUMS * self.plane);
        tables
            .zip(groups)
            .for_each(|(table, planes)| add_up(table, planes, self.plane));
        let field = tables::get_exp_log();
        let sums = self.sums.chunks_exact_mut(BITS * self.plane);
        for (sum, log) in sums.zip(logs) {
            let constant = field.exp[usize::from(log)];
            add_product(sum, &self.table, &map(constant), self.plane);
        }
    }

    /// Writes sum `number` to `to`, which has the bytes of a symbol.
    pub(super) fn write(&self, number: usize, to: &mut [u8]) {
        let sum = &self.sums[number * BITS * self.plane..][..BITS * self.plane];
        put_together(sum, to, self.plane);
    }
}

/// Which planes of a factor make each plane of its product by `constant`.
fn map(constant: GfElement) -> [u16; BITS] {
    let mut map = [0; BITS];
    for (group, maps) in MAPS.iter().enumerate() {
        let part = &maps[usize::from(constant >> (GROUP * group)) % SUMS];
        map.iter_mut().zip(part).for_each(|(to, from)| *to ^= from);
    }
    map
}

/// The table of one group: the sums of all subsets of its planes.
fn add_up(table: &mut [Block], planes: &[Block], size: usize) {
    table[..size].fill(Block::default());
    for (bit, plane) in planes.chunks_exact(size).enumerate() {
        let (known, new) = table.split_at_mut(size << bit);
        for (new, known) in new.chunks_exact_mut(size).zip(known.chunks_exact(size)) {
            let sums = new.iter_mut().zip(known.iter().zip(plane));
            sums.for_each(|(new, (known, plane))| *new = from_fn(|at| known[at] ^ plane[at]));
        }
    }
}

fn add_product(sum: &mut [Block], table: &[Block], map: &[u16; BITS], size: usize) {
    for (plane, &from) in sum.chunks_exact_mut(size).zip(map) {
        let part = |group: usize| {
            let at = usize::from(from >> (GROUP * group)) % SUMS;
            &table[(group * SUMS + at) * size..][..size]
        };
        let (a, b) = (part(0), part(1));
        for (to, (a, b)) in plane.iter_mut().zip(a.iter().zip(b)) {
            *to = from_fn(|at| to[at] ^ a[at] ^ b[at]);
        }
    }
}

/// Words of eight elements in a symbol.
fn words_of(symbol: usize) -> usize {
    symbol / UNIT * 4 + (symbol % UNIT / 2).div_ceil(8)
}

/// Where the low and the high bytes of each eight elements stand, and how many there are.
fn places(symbol: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..symbol).step_by(UNIT).flat_map(move |start| {
        // The last unit may be shorter.
        let half = UNIT.min(symbol - start) / 2;
        (0..half)
            .step_by(8)
            .map(move |at| (start + at, start + half + at, (half - at).min(8)))
    })
}

fn take_apart(symbol: &[u8], planes: &mut [Block], size: usize) {
    let (low, high) = planes.split_at_mut(8 * size);
    let mut words = places(symbol.len());
    for octet in 0..words_of(symbol.len()).div_ceil(8) {
        let mut turned = [[0; 8]; 2];
        for (word, (at_low, at_high, count)) in words.by_ref().take(8).enumerate() {
            for (turned, at) in turned.iter_mut().zip([at_low, at_high]) {
                let mut bytes = [0; 8];
                bytes[..count].copy_from_slice(&symbol[at..at + count]);
                turned[word] = transpose(u64::from_le_bytes(bytes));
            }
        }
        for (planes, turned) in [&mut *low, &mut *high].into_iter().zip(turned) {
            for (plane, word) in planes.chunks_exact_mut(size).zip(columns(turned)) {
                plane.as_flattened_mut()[8 * octet..][..8].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

fn put_together(planes: &[Block], symbol: &mut [u8], size: usize) {
    let (low, high) = planes.split_at(8 * size);
    let mut words = places(symbol.len());
    for octet in 0..words_of(symbol.len()).div_ceil(8) {
        let turned = [low, high].map(|planes| {
            let mut rows = [0; 8];
            for (row, plane) in rows.iter_mut().zip(planes.chunks_exact(size)) {
                let bytes = plane.as_flattened()[8 * octet..].first_chunk();
                *row = u64::from_le_bytes(*bytes.expect("a plane has whole words"));
            }
            columns(rows)
        });
        for (word, (at_low, at_high, count)) in words.by_ref().take(8).enumerate() {
            for (turned, at) in turned.iter().zip([at_low, at_high]) {
                let bytes = transpose(turned[word]).to_le_bytes();
                symbol[at..at + count].copy_from_slice(&bytes[..count]);
            }
        }
    }
}

/// Exchanges byte n of word m and byte m of word n.
fn columns(rows: [u64; 8]) -> [u64; 8] {
    let rows = rows.map(u64::to_le_bytes);
    from_fn(|column| u64::from_le_bytes(from_fn(|row| rows[row][column])))
}

/// Exchanges bit n of byte m and bit m of byte n (H. S. Warren, Hacker's Delight, 7-3).
fn transpose(mut x: u64) -> u64 {
    for (shift, mask) in [
        (7, 0x00aa_00aa_00aa_00aa),
        (14, 0x0000_cccc_0000_cccc),
        (28, 0x0000_0000_f0f0_f0f0),
    ] {
        let differ = (x ^ (x >> shift)) & mask;
        x ^= differ ^ (differ << shift);
    }
    x
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The elements of a symbol, as the code places them.
    fn elements(symbol: &[u8]) -> Vec<u16> {
        symbol
            .chunks(UNIT)
            .flat_map(|unit| {
                let (low, high) = unit.split_at(unit.len() / 2);
                low.iter()
                    .zip(high)
                    .map(|(&low, &high)| u16::from_le_bytes([low, high]))
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sums_are_those_of_the_elements(
            half in 1usize..120, seed: [u8; 32], logs in prop::collection::vec(0u16..65_535, 6),
        ) {
            let symbol = |number: usize| -> Vec<u8> {
                (0..2 * half).map(|at| seed[(at * 7 + number) % 32] ^ (at * 31 + number).to_le_bytes()[0]).collect()
            };
            let field = tables::get_exp_log();
            let mut sums = Sums::default();
            sums.begin(2, 2 * half);
            let mut expected = [vec![0; half], vec![0; half]];
            for factor in 0..3 {
                let logs = [logs[factor], logs[factor + 3]];
                sums.add(&symbol(factor), logs.into_iter());
                for (sum, log) in expected.iter_mut().zip(logs) {
                    sum.iter_mut().zip(elements(&symbol(factor))).for_each(|(sum, x)| *sum ^= times(field, x, log));
                }
            }
            for (number, expected) in expected.iter().enumerate() {
                let mut got = vec![0; 2 * half];
                sums.write(number, &mut got);
                prop_assert_eq!(&elements(&got), expected);
            }
        }
    }
}
