//! One term: a name with ranges in brackets.

use super::{NODES, NodeSetError, shortened};

/// Digits of a number; with more it would not be counted up to.
pub(super) const DIGITS: usize = 9;

/// A literal text, or the numbers of a bracket as they are written.
enum Piece<'a> {
    Text(&'a str),
    Numbers(Vec<String>),
}

/// The texts that a term stands for, in its order. It has no operators outside of brackets, and its brackets match.
pub(super) fn expand(term: &str) -> Result<Vec<String>, NodeSetError> {
    let too_many = || NodeSetError::TooMany(shortened(term));
    let (mut pieces, mut rest, mut count) = (Vec::new(), term, 1usize);
    while let Some((before, inside)) = rest.split_once('[') {
        let (inside, after) = inside
            .split_once(']')
            .ok_or_else(|| NodeSetError::Brackets(shortened(term)))?;
        pieces.push(Piece::Text(before));
        let numbers = numbers(inside)?;
        count = count
            .checked_mul(numbers.len())
            .filter(|&count| count <= NODES)
            .ok_or_else(too_many)?;
        pieces.push(Piece::Numbers(numbers));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    let mut names = vec![String::new()];
    for piece in &pieces {
        names = match piece {
            Piece::Text(text) => names.into_iter().map(|name| name + text).collect(),
            Piece::Numbers(numbers) => names
                .iter()
                .flat_map(|name| numbers.iter().map(move |number| format!("{name}{number}")))
                .collect(),
        };
    }
    Ok(names)
}

/// The numbers of a bracket: ranges with commas between.
fn numbers(inside: &str) -> Result<Vec<String>, NodeSetError> {
    let mut numbers = Vec::new();
    for range in inside.split(',') {
        let wrong = || NodeSetError::Range(shortened(range));
        let (bounds, step) = match range.split_once('/') {
            Some((bounds, step)) => (bounds, number(step).filter(|&step| step > 0).ok_or_else(wrong)?),
            None => (range, 1),
        };
        let (first, last) = bounds.split_once('-').unwrap_or((bounds, bounds));
        let (from, to) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
        // 1-016 leaves open how many digits are meant.
        let unclear = last.len() != first.len() && last.starts_with('0');
        if from > to || unclear || last.len() < first.len() {
            return Err(wrong());
        }
        if numbers.len() + (to - from) / step >= NODES {
            return Err(NodeSetError::TooMany(shortened(range)));
        }
        let width = first.len();
        numbers.extend(
            (from..=to)
                .step_by(step)
                .map(|number| format!("{number:0width$}")),
        );
    }
    Ok(numbers)
}

fn number(text: &str) -> Option<usize> {
    let digits = (1..=DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
