//! Sets of nodes as people write and read them: `node[01-16,20],login1`.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};

/// Nodes that one text may stand for.
const NODES: usize = 16_384;

/// The nodes that a text stands for, in its order.
///
/// # Errors
/// When brackets or ranges make no sense, or there are too many nodes.
pub(super) fn expand(text: &str) -> Result<Vec<String>> {
    let mut nodes = Vec::new();
    for word in split(text)? {
        let wrong =
            || anyhow!("{word:?} is no set of nodes: write node[01-16], or names with commas between");
        let Some((before, rest)) = word.split_once('[') else {
            if word.is_empty() || word.contains(']') {
                return Err(wrong());
            }
            nodes.push(word.to_owned());
            continue;
        };
        let (inside, after) = rest.split_once(']').ok_or_else(wrong)?;
        if after.contains(['[', ']']) {
            return Err(wrong());
        }
        for range in inside.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| {
                let digits = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<usize>().ok().filter(|_| digits)
            };
            let (from, to) = number(first)
                .zip(number(last))
                .filter(|(from, to)| from <= to)
                .ok_or_else(wrong)?;
            if to - from >= NODES || nodes.len() + (to - from) >= NODES {
                bail!("{text:?} are more than {NODES} nodes");
            }
            let width = first.len();
            nodes.extend((from..=to).map(|number| format!("{before}{number:0width$}{after}")));
        }
    }
    Ok(nodes)
}

/// Splits at commas outside of brackets.
fn split(text: &str) -> Result<Vec<&str>> {
    let (mut words, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            '[' | ']' => bail!("{text:?} is no set of nodes: its brackets do not match"),
            ',' if !inside => {
                words.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        bail!("{text:?} is no set of nodes: its brackets do not match");
    }
    words.push(&text[start..]);
    Ok(words)
}

/// The shortest text for these nodes: those that differ in their last number share a bracket.
pub(super) fn fold(nodes: &[String]) -> String {
    let (mut groups, mut order) = (BTreeMap::<_, Vec<usize>>::new(), Vec::new());
    for node in nodes {
        let key = parts(node);
        let (before, width, number, after) = key;
        let group = (before, width, after);
        if !groups.contains_key(&group) {
            order.push(group);
        }
        groups.entry(group).or_default().extend(number);
    }
    let words = order.into_iter().map(|group| {
        let (before, width, after) = group;
        let mut numbers = groups.remove(&group).unwrap_or_default();
        numbers.sort_unstable();
        numbers.dedup();
        match numbers.as_slice() {
            [] => format!("{before}{after}"),
            [one] => format!("{before}{one:0width$}{after}"),
            many => format!("{before}[{}]{after}", ranges(many, width)),
        }
    });
    words.collect::<Vec<_>>().join(",")
}

/// A name around its last number, which has so many digits.
fn parts(node: &str) -> (&str, usize, Option<usize>, &str) {
    let digit = |c: char| c.is_ascii_digit();
    let end = node.rfind(digit).map_or(0, |at| at + 1);
    let start = node[..end].trim_end_matches(digit).len();
    let number = node[start..end].parse().ok().filter(|_| end - start <= 9);
    match number {
        Some(number) => (&node[..start], end - start, Some(number), &node[end..]),
        None => (node, 0, None, ""),
    }
}

fn ranges(numbers: &[usize], width: usize) -> String {
    let runs = numbers
        .chunk_by(|one, next| one + 1 == *next)
        .map(|run| match run {
            [one] => format!("{one:0width$}"),
            [first, .., last] => format!("{first:0width$}-{last:0width$}"),
            [] => String::new(),
        });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_expand_and_fold_again() {
        for (text, count) in [
            ("node1", 1),
            ("node[01-16]", 16),
            ("node[1,3-4,9].rack,login", 5),
            ("a,b,c", 3),
            ("node[098-101]", 4),
        ] {
            let nodes = expand(text).unwrap();
            assert_eq!((nodes.len(), fold(&nodes)), (count, text.to_owned()));
        }
        assert_eq!(expand("n[8-10]").unwrap(), ["n8", "n9", "n10"]);
        let names = ["node9", "node10", "x", "node1", "10.0.0.1"].map(str::to_owned);
        assert_eq!(fold(&names), "node[1,9],node10,x,10.0.0.1");
        assert_eq!(fold(&[]), "");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "a,,b",
            "n[1-",
            "n]1[",
            "n[2-1]",
            "n[]",
            "n[1][2]",
            "n[a]",
            "n[1-1234567890]",
        ] {
            assert!(expand(text).is_err(), "{text:?}");
        }
        let error = expand("n[1-99999]").unwrap_err().to_string();
        assert_eq!(error, "\"n[1-99999]\" are more than 16384 nodes");
    }
}
