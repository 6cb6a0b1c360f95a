//! Decoding: source symbols that lack, from parity.
//!
//! The code's own decoder takes the same time however few symbols lack: two transforms over twice the chunk and a
//! polynomial over the whole field, 1.3 ms for a usual chunk. Where few lack, solving for them is faster, four times
//! where 1 % lacks: the parity of what is there differs from the parity that came by the parity of what lacks, which is a small
//! system of linear equations. Both are the same code; which one is taken nobody can tell from the result.

use reed_solomon_simd::engine::tables::{self, ExpLog};
use reed_solomon_simd::engine::{DefaultEngine, Engine, GfElement};
use reed_solomon_simd::{Error, ReedSolomonDecoder, ReedSolomonEncoder};

use super::Symbols;
use crate::limits::PARITY;

/// Solving is faster than the code's own decoder as long as the square of the symbols that lack is at most so many times
/// the chunk's symbols: measured with 1,024 symbols of 1,440 bytes, where 55 lack.
const FEW: usize = 3;

/// Bytes of the unit in which the code computes: the low bytes of 32 field elements, then their high bytes.
const UNIT: usize = 64;
const LANES: usize = UNIT / 2;

/// Restores chunks; keeps its working memory from one to the next. One per thread.
#[derive(Default)]
pub struct Decoder {
    whole: Option<ReedSolomonDecoder>,
    encoder: Option<ReedSolomonEncoder>,
    probe: Option<ReedSolomonEncoder>,
    engine: Option<DefaultEngine>,
    /// What the parity symbols differ by, in units; the equations' right sides, and in the end their solution.
    rows: Vec<[u8; UNIT]>,
    term: Vec<[u8; UNIT]>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    /// Fills in the source symbols that lack.
    pub(super) fn restore(&mut self, symbols: &mut Symbols) -> Result<(), Error> {
        let full = usize::from(symbols.sources) * symbols.symbol;
        symbols.source.resize(full, 0);
        let missing: Vec<usize> = (0..symbols.sources)
            .filter(|&number| !symbols.has(number))
            .map(usize::from)
            .collect();
        if missing.len() * missing.len() <= FEW * usize::from(symbols.sources) {
            self.solve(symbols, &missing)
        } else {
            self.restore_by_transform(symbols)
        }
    }

    fn restore_by_transform(&mut self, symbols: &mut Symbols) -> Result<(), Error> {
        let (sources, symbol) = (usize::from(symbols.sources), symbols.symbol);
        let decoder = match &mut self.whole {
            Some(decoder) => {
                decoder.reset(sources, PARITY, symbol)?;
                decoder
            }
            none => none.insert(ReedSolomonDecoder::new(sources, PARITY, symbol)?),
        };
        for number in (0..symbols.sources).filter(|&number| symbols.has(number)) {
            let start = usize::from(number) * symbol;
            decoder.add_original_shard(number.into(), &symbols.source[start..start + symbol])?;
        }
        for (number, parity) in symbols
            .parity_numbers
            .iter()
            .zip(symbols.parity.chunks_exact(symbol))
        {
            decoder.add_recovery_shard(usize::from(*number), parity)?;
        }
        let result = decoder.decode()?;
        for (number, restored) in result.restored_original_iter() {
            symbols.source[number * symbol..][..symbol].copy_from_slice(restored);
        }
        Ok(())
    }

    /// Solves the equations, one for each parity symbol, for the symbols in `missing`, which are zero so far.
    fn solve(&mut self, symbols: &mut Symbols, missing: &[usize]) -> Result<(), Error> {
        let symbol = symbols.symbol;
        let numbers = &symbols.parity_numbers[..missing.len()];
        let units = symbol.div_ceil(UNIT);
        let encoder = encoder(&mut self.encoder, symbols.sources.into(), symbol)?;
        for source in symbols.source.chunks_exact(symbol) {
            encoder.add_original_shard(source)?;
        }
        let known = encoder.encode()?;
        self.rows.clear();
        self.rows.resize(missing.len() * units, [0; UNIT]);
        let came = symbols.parity.chunks_exact(symbol).zip(numbers);
        for (row, (came, &number)) in self.rows.chunks_exact_mut(units).zip(came) {
            let known = known.recovery(number.into()).unwrap_or_default();
            let bytes = row.as_flattened_mut().iter_mut();
            bytes
                .zip(came.iter().zip(known))
                .for_each(|(to, (a, b))| *to = a ^ b);
            to_lanes(row, symbol);
        }
        drop(known);
        let coefficients = self.coefficients(symbols, missing)?;
        self.eliminate(coefficients, missing.len(), units);
        for (row, &number) in self.rows.chunks_exact_mut(units).zip(missing) {
            from_lanes(row, symbol);
            symbols.source[number * symbol..][..symbol].copy_from_slice(&row.as_flattened()[..symbol]);
        }
        Ok(())
    }

    /// What each missing symbol counts in each parity symbol, row by row: found by encoding chunks that are all zero
    /// but for a one, 32 of them side by side in the lanes of one unit.
    fn coefficients(&mut self, symbols: &Symbols, missing: &[usize]) -> Result<Vec<GfElement>, Error> {
        let mut coefficients = vec![0; missing.len() * missing.len()];
        for (block, columns) in missing.chunks(LANES).enumerate() {
            let probe = encoder(&mut self.probe, symbols.sources.into(), UNIT)?;
            let mut next = columns.iter().enumerate().peekable();
            for number in 0..usize::from(symbols.sources) {
                let mut shard = [0; UNIT];
                if let Some((lane, _)) = next.next_if(|(_, missing)| **missing == number) {
                    shard[lane] = 1;
                }
                probe.add_original_shard(shard)?;
            }
            let encoded = probe.encode()?;
            let rows = coefficients.chunks_exact_mut(missing.len());
            for (row, &number) in rows.zip(&symbols.parity_numbers) {
                let parity = encoded.recovery(number.into()).unwrap_or_default();
                let (low, high) = parity.split_at(LANES.min(parity.len()));
                let lanes = low
                    .iter()
                    .zip(high)
                    .map(|(&low, &high)| u16::from_le_bytes([low, high]));
                let columns = row[block * LANES..].iter_mut().take(columns.len());
                columns.zip(lanes).for_each(|(to, from)| *to = from);
            }
        }
        Ok(coefficients)
    }

    /// Gauss and Jordan: afterwards row n of `rows` is the n-th missing symbol. Any rows and columns of the code's matrix
    /// are independent, so there always is a pivot.
    fn eliminate(&mut self, mut matrix: Vec<GfElement>, size: usize, units: usize) {
        let field = tables::get_exp_log();
        let engine = self.engine.get_or_insert_with(DefaultEngine::new);
        let mut own = Vec::new();
        for column in 0..size {
            let Some(pivot) = (column..size).find(|row| matrix[row * size + column] != 0) else {
                return; // The result then fails its hash, as any wrong symbol makes it.
            };
            if pivot != column {
                (0..size).for_each(|at| matrix.swap(pivot * size + at, column * size + at));
                (0..units).for_each(|at| self.rows.swap(pivot * units + at, column * units + at));
            }
            let inverse = GfElement::MAX - field.log[usize::from(matrix[column * size + column])];
            // What stands before the pivot is zero in its row.
            let row = &mut matrix[column * size..][column..size];
            row.iter_mut().for_each(|x| *x = times(field, *x, inverse));
            own.clear();
            own.extend_from_slice(row);
            engine.mul(&mut self.rows[column * units..][..units], inverse);
            for other in (0..size).filter(|&other| other != column) {
                let factor = matrix[other * size + column];
                if factor == 0 {
                    continue;
                }
                let log = field.log[usize::from(factor)];
                let row = &mut matrix[other * size..][column..size];
                row.iter_mut()
                    .zip(&own)
                    .for_each(|(x, own)| *x ^= times(field, *own, log));
                self.term.clear();
                self.term.extend_from_slice(&self.rows[column * units..][..units]);
                engine.mul(&mut self.term, log);
                let row = self.rows[other * units..][..units].as_flattened_mut().iter_mut();
                row.zip(self.term.as_flattened()).for_each(|(x, term)| *x ^= term);
            }
        }
    }
}

/// The encoder in `kept`, ready for the symbols of another chunk.
fn encoder(
    kept: &mut Option<ReedSolomonEncoder>,
    sources: usize,
    symbol: usize,
) -> Result<&mut ReedSolomonEncoder, Error> {
    match kept {
        Some(encoder) => {
            encoder.reset(sources, PARITY, symbol)?;
            Ok(encoder)
        }
        none => Ok(none.insert(ReedSolomonEncoder::new(sources, PARITY, symbol)?)),
    }
}

/// `x` times the element whose logarithm is `log`.
fn times(field: &ExpLog, x: GfElement, log: GfElement) -> GfElement {
    if x == 0 {
        0
    } else {
        tables::mul(x, log, &field.exp, &field.log)
    }
}

/// The end of a symbol that fills no unit has its own low and high bytes; they go where those of a whole unit are.
fn to_lanes(row: &mut [[u8; UNIT]], symbol: usize) {
    let (half, last) = (symbol % UNIT / 2, row.last_mut());
    if let Some(last) = last.filter(|_| half > 0) {
        last.copy_within(half..2 * half, LANES);
        last[half..LANES].fill(0);
    }
}

/// The other way round.
fn from_lanes(row: &mut [[u8; UNIT]], symbol: usize) {
    let (half, last) = (symbol % UNIT / 2, row.last_mut());
    if let Some(last) = last.filter(|_| half > 0) {
        last.copy_within(LANES..LANES + half, half);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{Rng, RngExt, SeedableRng};

    use super::*;
    use crate::id::{ChunkId, ManifestId};
    use crate::multicast::fec::Parity;
    use crate::multicast::table::{ChunkInfo, ChunkTable, Geometry};

    /// A chunk, and its symbols with `lost` source symbols replaced by parity from number `first` on.
    fn holed(rng: &mut Xoshiro256PlusPlus, sources: u16, symbol: usize, lost: u16) -> (Vec<u8>, Symbols) {
        let mut chunk = vec![0; usize::from(sources) * symbol];
        rng.fill_bytes(&mut chunk);
        let info = ChunkInfo {
            id: ChunkId::of(b""),
            len: u32::try_from(chunk.len()).unwrap(),
        };
        let table = ChunkTable::new(ManifestId::of(b""), vec![info]).unwrap();
        let geometry = Geometry::new(Arc::new(table), symbol).unwrap();
        let (parity, mut symbols) = (Parity::of(&chunk, symbol).unwrap(), Symbols::new(&geometry, 0));
        let mut missing = std::collections::BTreeSet::new();
        while missing.len() < lost.into() {
            missing.insert(rng.random_range(0..sources));
        }
        for number in (0..sources).filter(|number| !missing.contains(number)) {
            symbols.add(number, &chunk[geometry.range(number, chunk.len())]);
        }
        let first = rng.random_range(0..=256 - lost);
        for number in first..first + lost {
            symbols.add(sources + number, parity.get(number).unwrap());
        }
        assert_eq!(symbols.deficit(), 0);
        (chunk, symbols)
    }

    #[test]
    fn solving_and_transforming_restore_the_same_bytes() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut decoder = Decoder::default();
        for symbol in [16, 62, 64, 66, 96, 1440] {
            for (sources, lost) in [
                (1, 1),
                (2, 1),
                (40, 40),
                (300, 1),
                (300, 7),
                (300, 30),
                (300, 31),
                (1024, 10),
                (1024, 55),
            ] {
                let (chunk, symbols) = holed(&mut rng, sources, symbol, lost);
                let (mut solved, mut transformed) = (symbols.clone(), symbols);
                decoder.restore(&mut solved).unwrap();
                transformed.source.resize(chunk.len(), 0);
                decoder.restore_by_transform(&mut transformed).unwrap();
                assert!(
                    solved.source == chunk,
                    "{lost} of {sources} symbols of {symbol} bytes"
                );
                assert!(
                    transformed.source == chunk,
                    "{lost} of {sources} symbols of {symbol} bytes"
                );
            }
        }
    }
}
