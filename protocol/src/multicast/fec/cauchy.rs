//! What each source symbol counts in each parity symbol, and the inverse of that for those that lack.
//!
//! A parity symbol is a polynomial of degree below 256 for each 256 source symbols, taken where the parity lies (S.-J. Lin and
//! others, "Novel Polynomial Basis and Its Application to Reed-Solomon Erasure Codes", 2014; the code of reed-solomon-simd).
//! By Lagrange's formula source symbol s counts c / (p + 256 + s) in parity symbol p: sums are without carry, and c depends only
//! on which 256 they are. So the matrix is Cauchy's, whose inverse has a closed form.

use reed_solomon_simd::engine::tables::{self, ExpLog};
use reed_solomon_simd::engine::{GF_MODULUS, GfElement};
use reed_solomon_simd::{Error, ReedSolomonEncoder};

use super::UNIT;
use crate::limits::PARITY;

/// Source symbols of a chunk from which on the above holds: with fewer the code exchanges the places of source and parity.
pub(super) const SOURCES_MIN: usize = PARITY / 2 + 1;

/// The matrix of a chunk's parity. It depends on the number of source symbols only through how many it must know of.
#[derive(Debug, Default)]
pub(super) struct Cauchy {
    /// Logarithm of what the symbols of each 256 have in common.
    scales: Vec<u32>,
}

impl Cauchy {
    /// The logarithms of the inverse: row j, column i is what the difference of parity symbol `parity[i]` counts in source
    /// symbol `missing[j]`, of a chunk of `sources` symbols. There are as many of one as of the other.
    pub(super) fn inverse(
        &mut self,
        sources: usize,
        missing: &[usize],
        parity: &[u16],
    ) -> Result<Vec<GfElement>, Error> {
        self.learn(sources)?;
        let field = tables::get_exp_log();
        let log = |a: usize, b: usize| u32::from(field.log[a ^ b]);
        let rows: Vec<usize> = parity.iter().map(|&number| usize::from(number)).collect();
        let columns: Vec<usize> = missing.iter().map(|number| PARITY + number).collect();
        // Sums of at most 256 logarithms of 16 bits.
        let others = |of: usize, all: &[usize]| -> u32 {
            all.iter()
                .filter(|&&other| other != of)
                .map(|&other| log(of, other))
                .sum()
        };
        let of_row: Vec<u32> = rows
            .iter()
            .map(|&row| quotient(others(row, &columns), others(row, &rows)))
            .collect();
        let mut inverse = Vec::with_capacity(rows.len() * columns.len());
        for (&column, &number) in columns.iter().zip(missing) {
            let scale = self.scales[number / PARITY];
            let of_column = quotient(others(column, &rows), others(column, &columns) + scale);
            let entry = |(&row, of_row): (&usize, &u32)| {
                let entry = quotient(of_row + of_column, log(row, column));
                GfElement::try_from(entry).expect("below the modulus")
            };
            inverse.extend(rows.iter().zip(&of_row).map(entry));
        }
        Ok(inverse)
    }

    /// Finds the scales for chunks of so many symbols, by encoding one that is zero but for the first of each 256 symbols,
    /// each of which is one in a lane of its own.
    fn learn(&mut self, sources: usize) -> Result<(), Error> {
        if self.scales.len() * PARITY >= sources {
            return Ok(());
        }
        let mut encoder = ReedSolomonEncoder::new(sources, PARITY, UNIT)?;
        for number in 0..sources {
            let mut shard = [0; UNIT];
            if number.is_multiple_of(PARITY) {
                shard[number / PARITY] = 1;
            }
            encoder.add_original_shard(shard)?;
        }
        let encoded = encoder.encode()?;
        let field = tables::get_exp_log();
        let first = encoded.recovery(0).unwrap_or(&[0; UNIT]);
        let (low, high) = first.split_at(UNIT / 2);
        let counts = low
            .iter()
            .zip(high)
            .map(|(&low, &high)| u16::from_le_bytes([low, high]));
        let scale = |(number, count): (usize, u16)| {
            let place = PARITY + number * PARITY;
            u32::from(field.log[usize::from(count)]) + u32::from(field.log[place])
        };
        self.scales = counts
            .take(sources.div_ceil(PARITY))
            .enumerate()
            .map(scale)
            .collect();
        Ok(())
    }
}

/// The logarithm of a quotient, below the modulus.
fn quotient(numerator: u32, denominator: u32) -> u32 {
    let modulus = u32::from(GF_MODULUS);
    (numerator % modulus + modulus - denominator % modulus) % modulus
}

/// `x` times the element whose logarithm is `log`.
pub(super) fn times(field: &ExpLog, x: GfElement, log: GfElement) -> GfElement {
    if x == 0 {
        0
    } else {
        tables::mul(x, log, &field.exp, &field.log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What source symbol `source` counts in parity symbol `parity`, by encoding.
    fn count(sources: usize, source: usize, parity: usize) -> GfElement {
        let mut encoder = ReedSolomonEncoder::new(sources, PARITY, UNIT).unwrap();
        for number in 0..sources {
            let mut shard = [0; UNIT];
            shard[0] = u8::from(number == source);
            encoder.add_original_shard(shard).unwrap();
        }
        let encoded = encoder.encode().unwrap();
        let parity = encoded.recovery(parity).unwrap();
        u16::from_le_bytes([parity[0], parity[UNIT / 2]])
    }

    #[test]
    fn the_inverse_times_the_matrix_is_one() {
        let field = tables::get_exp_log();
        let mut cauchy = Cauchy::default();
        for (sources, missing, parity) in [
            (SOURCES_MIN, vec![0, 77, 128], vec![0, 5, 255]),
            (256, vec![3, 4, 255], vec![9, 8, 7]),
            (1_020, vec![0, 255, 256, 700, 1_019], vec![1, 0, 100, 254, 17]),
            (2_913, vec![2_912, 2_560, 511], vec![0, 1, 2]),
        ] {
            let size = missing.len();
            let inverse = cauchy.inverse(sources, &missing, &parity).unwrap();
            for row in 0..size {
                for (column, &source) in missing.iter().enumerate() {
                    let product = (0..size).fold(0, |sum, at| {
                        let count = count(sources, source, parity[at].into());
                        sum ^ times(field, count, inverse[row * size + at])
                    });
                    assert_eq!(product, u16::from(row == column), "{row}, {column} of {sources}");
                }
            }
        }
    }
}
