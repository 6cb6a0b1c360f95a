//! Folding names into brackets.
//!
//! Each name is taken apart into texts and numbers. Names of the same texts are merged one number after the other: those
//! that differ in this one alone share a bracket. So a full grid becomes one term, and what is not a grid several.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::term::DIGITS;
use crate::install::NodeName;

/// The numbers at one place of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Numbers {
    /// The fewest digits that they are written with.
    width: usize,
    values: BTreeSet<u32>,
}

/// A name's texts, one more than it has numbers; and its numbers as they are written.
type Parts<'a> = (Vec<&'a str>, Vec<&'a str>);

/// What names are sorted by, so that `node2` comes before `node10`.
pub(super) fn natural(name: &NodeName) -> Vec<(String, u32)> {
    let (texts, digits) = parts(name.as_str());
    let numbers = digits.into_iter().map(value).chain([0]);
    texts.into_iter().map(str::to_owned).zip(numbers).collect()
}

/// The shortest text of this kind.
pub(super) fn fold<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut shapes: BTreeMap<Vec<&str>, Vec<Vec<&str>>> = BTreeMap::new();
    for (texts, digits) in names.map(parts) {
        shapes.entry(texts).or_default().push(digits);
    }
    let mut words = Vec::new();
    for (texts, names) in shapes {
        for grid in grids(&names) {
            words.push(written(&texts, &grid));
        }
    }
    words.join(",")
}

/// The grids that names of one shape make.
fn grids(names: &[Vec<&str>]) -> Vec<Vec<Numbers>> {
    let places = names.first().map_or(0, Vec::len);
    // Which widths numbers with zeros in front have, at each place: 10 goes with 01, 9 does not.
    let padded: Vec<BTreeSet<usize>> = (0..places)
        .map(|place| {
            names
                .iter()
                .map(|digits| digits[place])
                .filter(|text| is_padded(text))
                .map(str::len)
                .collect()
        })
        .collect();
    let numbers = |digits: &Vec<&str>| -> Vec<Numbers> {
        let widths = digits
            .iter()
            .zip(&padded)
            .map(|(text, padded)| match is_padded(text) {
                true => text.len(),
                false => padded.range(..=text.len()).next_back().copied().unwrap_or(1),
            });
        widths
            .zip(digits)
            .map(|(width, text)| Numbers {
                width,
                values: BTreeSet::from([value(text)]),
            })
            .collect()
    };
    let mut grids: Vec<Vec<Numbers>> = names.iter().map(numbers).collect();
    for place in (0..places).rev() {
        let mut merged: BTreeMap<Vec<Numbers>, BTreeSet<u32>> = BTreeMap::new();
        for mut grid in grids {
            let values = std::mem::take(&mut grid[place].values);
            merged.entry(grid).or_default().extend(values);
        }
        let back = |(mut grid, values): (Vec<Numbers>, BTreeSet<u32>)| {
            grid[place].values = values;
            grid
        };
        grids = merged.into_iter().map(back).collect();
    }
    grids.sort_by_key(|grid| {
        grid.iter()
            .map(|numbers| numbers.values.first().copied())
            .collect::<Vec<_>>()
    });
    grids
}

fn written(texts: &[&str], grid: &[Numbers]) -> String {
    let mut word = String::new();
    for (text, numbers) in texts.iter().zip(grid) {
        word.push_str(text);
        let width = numbers.width;
        match numbers.values.len() {
            1 => numbers
                .values
                .iter()
                .for_each(|one| push(&mut word, format_args!("{one:0width$}"))),
            _ => {
                let values: Vec<u32> = numbers.values.iter().copied().collect();
                let runs = values
                    .chunk_by(|one, next| one + 1 == *next)
                    .map(|run| match run {
                        [first, .., last] => format!("{first:0width$}-{last:0width$}"),
                        run => run.iter().map(|one| format!("{one:0width$}")).collect(),
                    });
                let runs: Vec<String> = runs.collect();
                push(&mut word, format_args!("[{}]", runs.join(",")));
            }
        }
    }
    word.extend(texts.last().copied());
    word
}

fn push(word: &mut String, text: std::fmt::Arguments<'_>) {
    word.write_fmt(text).expect("a string takes all");
}

/// Takes a name apart. Longer numbers than are counted with are texts.
fn parts(name: &str) -> Parts<'_> {
    let (mut texts, mut digits, mut start, mut at) = (Vec::new(), Vec::new(), 0, 0);
    while let Some(found) = name[at..].find(|c: char| c.is_ascii_digit()) {
        let from = at + found;
        let to = name[from..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(name.len(), |len| from + len);
        if to - from <= DIGITS {
            texts.push(&name[start..from]);
            digits.push(&name[from..to]);
            start = to;
        }
        at = to;
    }
    texts.push(&name[start..]);
    (texts, digits)
}

fn value(digits: &str) -> u32 {
    digits.parse().expect("at most nine digits")
}

/// Whether the zeros in front say how many digits numbers have.
fn is_padded(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}
