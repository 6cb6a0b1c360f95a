//! Decoding: source symbols that lack, from parity.
//!
//! The code's own decoder takes the same time however few symbols lack: two transforms over twice the chunk and a
//! polynomial over the whole field. Where few lack, solving for them is faster: the parity of what is
//! there differs from the parity that came by the parity of what lacks, and the inverse of that is known ([`Cauchy`]).
//! Both are the same code; which one is taken nobody can tell from the result.

use reed_solomon_simd::{Error, ReedSolomonDecoder, ReedSolomonEncoder};

use super::Symbols;
use super::cauchy::{Cauchy, SOURCES_MIN};
use super::planes::Sums;
use crate::limits::PARITY;

/// Solving is faster than the code's own decoder as long as the square of the symbols that lack is at most so many times
/// the chunk's symbols: with 1,024 symbols of 1,440 bytes, where 90 lack (the test `times` prints it).
const FEW: usize = 8;

/// Restores chunks; keeps its working memory from one to the next. One per thread.
#[derive(Default)]
pub struct Decoder {
    whole: Option<ReedSolomonDecoder>,
    encoder: Option<ReedSolomonEncoder>,
    cauchy: Cauchy,
    sums: Sums,
    differences: Vec<u8>,
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
        let sources = usize::from(symbols.sources);
        if sources >= SOURCES_MIN && missing.len() * missing.len() <= FEW * sources {
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

    /// Makes the symbols in `missing`, which are zero so far, from as many parity symbols.
    fn solve(&mut self, symbols: &mut Symbols, missing: &[usize]) -> Result<(), Error> {
        let (sources, symbol) = (usize::from(symbols.sources), symbols.symbol);
        let numbers = &symbols.parity_numbers[..missing.len()];
        let inverse = self.cauchy.inverse(sources, missing, numbers)?;
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                encoder.reset(sources, PARITY, symbol)?;
                encoder
            }
            none => none.insert(ReedSolomonEncoder::new(sources, PARITY, symbol)?),
        };
        for source in symbols.source.chunks_exact(symbol) {
            encoder.add_original_shard(source)?;
        }
        let known = encoder.encode()?;
        self.sums.begin(missing.len(), symbol);
        let came = symbols.parity.chunks_exact(symbol).zip(numbers);
        for (column, (came, &number)) in came.enumerate() {
            let known = known.recovery(number.into()).unwrap_or_default();
            self.differences.clear();
            self.differences
                .extend(came.iter().zip(known).map(|(came, known)| came ^ known));
            let logs = inverse[column..].iter().step_by(missing.len());
            self.sums.add(&self.differences, logs.copied());
        }
        for (row, &number) in missing.iter().enumerate() {
            self.sums
                .write(row, &mut symbols.source[number * symbol..][..symbol]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

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
        let (parity, mut symbols) = (
            Parity::of(&chunk, symbol).unwrap(),
            Symbols::new(&geometry, 0, Vec::new()),
        );
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

    /// Prints what both ways cost, for the choice of [`FEW`]:
    /// `cargo test --release -p simulcast-protocol times -- --ignored --nocapture`.
    #[test]
    #[ignore = "a table of figures"]
    fn times() {
        const CHUNKS: u32 = 20;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(12);
        let mut decoder = Decoder::default();
        println!("lacking of 1024   solved ms   transformed ms");
        for lost in [1, 10, 30, 60, 80, 90, 100, 120] {
            let mut spent = [Duration::ZERO; 2];
            for _ in 0..CHUNKS {
                let (chunk, symbols) = holed(&mut rng, 1024, 1440, lost);
                let missing: Vec<usize> = (0..1024)
                    .filter(|&number| !symbols.has(number))
                    .map(usize::from)
                    .collect();
                let mut solved = symbols.clone();
                solved.source.resize(chunk.len(), 0);
                let mut transformed = solved.clone();
                let begin = Instant::now();
                decoder.solve(&mut solved, &missing).unwrap();
                let between = Instant::now();
                decoder.restore_by_transform(&mut transformed).unwrap();
                spent[0] += between - begin;
                spent[1] += between.elapsed();
                assert!(solved.source == chunk && transformed.source == chunk);
            }
            let [solved, transformed] = spent.map(|spent| spent.as_secs_f64() * 1e3 / f64::from(CHUNKS));
            println!("{lost:>15} {solved:>11.3} {transformed:>16.3}");
        }
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
                (129, 20),
                (1024, 10),
                (1024, 90),
                (1024, 91),
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
