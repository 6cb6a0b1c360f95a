//! One line of an exclusion list: its reading, and which paths it matches.

use super::Side;
use super::glob::{Glob, GlobFault};

/// Bytes of one line: a path of `PATH_MAX` with every character escaped fits.
const LINE_BYTES: usize = 8192;

/// Rule names of rsync's filter files. Behind `--exclude-from` they would be file names; whoever pastes a filter file
/// here means the rule.
const LONG_NAMES: [&[u8]; 9] = [
    b"exclude",
    b"include",
    b"merge",
    b"dir-merge",
    b"hide",
    b"show",
    b"protect",
    b"risk",
    b"clear",
];

/// A line that cannot be taken as a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}:{line}: {fault} in {}", crate::fs::Shown(text))]
pub struct FilterError {
    origin: String,
    line: usize,
    fault: Fault,
    text: Vec<u8>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("there is no pattern")]
    NoPattern,
    #[error("the pattern means the root itself, which cannot be left alone")]
    Root,
    #[error("a NUL byte, which no path has,")]
    Nul,
    #[error("there are more than 8,192 bytes")]
    TooLong,
    #[error("there are more than 10,000 rules before this line, which begins")]
    TooMany,
    #[error("merge files (\". FILE\", \": FILE\") are not supported: give each list by itself; found")]
    Merge,
    #[error("\"!\" (forget all rules before) is not supported")]
    Clear,
    #[error("modifiers of a rule are not supported (for a name, write \"- \" before it)")]
    Modifier,
    #[error("long rule names are not supported: write + - P R H S (for a name, write \"- \" before it)")]
    LongName,
    #[error(
        "a pattern that can never match, since it lies outside the chosen directory (patterns begin at the root of the tree),"
    )]
    Outside,
    #[error(transparent)]
    Glob(#[from] GlobFault),
}

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) line: usize,
    pub(super) text: Box<[u8]>,
    excludes: bool,
    /// The one side that it is for; `None` for both.
    side: Option<Side>,
    pattern: Pattern,
}

impl FilterError {
    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl Fault {
    pub(super) fn at(self, origin: &str, line: usize, text: &[u8]) -> FilterError {
        FilterError {
            origin: origin.to_owned(),
            line,
            fault: self,
            text: text.to_vec(),
        }
    }
}

/// Reads one line; `None` for one that is empty or a comment. As for rsync, white space belongs to the pattern.
pub(super) fn parse_line(text: &[u8], line: usize) -> Result<Option<Rule>, Fault> {
    if matches!(text, [] | [b'#' | b';', ..]) {
        return Ok(None);
    }
    if text.len() > LINE_BYTES {
        return Err(Fault::TooLong);
    }
    if text.contains(&0) {
        return Err(Fault::Nul);
    }
    let (excludes, side, pattern) = match *text {
        [b'-', b' ', ref pattern @ ..] => (true, None, pattern),
        [b'+', b' ', ref pattern @ ..] => (false, None, pattern),
        [b'H', b' ', ref pattern @ ..] => (true, Some(Side::Sender), pattern),
        [b'S', b' ', ref pattern @ ..] => (false, Some(Side::Sender), pattern),
        [b'P', b' ', ref pattern @ ..] => (true, Some(Side::Receiver), pattern),
        [b'R', b' ', ref pattern @ ..] => (false, Some(Side::Receiver), pattern),
        [b'!'] => return Err(Fault::Clear),
        [b'.' | b':', b' ' | b',', ..] => return Err(Fault::Merge),
        _ => {
            refuse_rule_like(text)?;
            (true, None, text)
        }
    };
    Ok(Some(Rule {
        line,
        text: text.into(),
        excludes,
        side,
        pattern: Pattern::parse(pattern)?,
    }))
}

/// Refuses a line that reads like a rule that we do not have.
fn refuse_rule_like(text: &[u8]) -> Result<(), Fault> {
    let word = text
        .split(|&byte| matches!(byte, b' ' | b'\t'))
        .next()
        .unwrap_or(text);
    if word.len() == text.len() {
        // Without a space it is a name, or a lone rule name.
        return if matches!(text, [b'-' | b'+' | b'H' | b'S' | b'P' | b'R']) {
            Err(Fault::NoPattern)
        } else {
            Ok(())
        };
    }
    let name = word.split(|&byte| byte == b',').next().unwrap_or(word);
    if LONG_NAMES.contains(&name) {
        return Err(Fault::LongName);
    }
    match word {
        [
            b'+' | b'-' | b'H' | b'S' | b'P' | b'R' | b'.' | b':',
            modifiers @ ..,
        ] if modifiers.iter().all(|byte| b",!/Csrpxenw".contains(byte)) => Err(Fault::Modifier),
        _ => Ok(()),
    }
}

impl Rule {
    pub(super) fn excludes(&self) -> bool {
        self.excludes
    }

    pub(super) fn applies(&self, side: Side) -> bool {
        self.side.is_none_or(|only| only == side)
    }

    pub(super) fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        self.pattern.matches(path, is_dir)
    }

    /// Whether no path inside `directory`, nor the directory itself or one above it, can ever match.
    pub(super) fn is_outside(&self, directory: &[u8]) -> bool {
        self.pattern.is_outside(directory)
    }
}

/// What stands behind a rule's name, taken apart as rsync does.
#[derive(Debug, Clone)]
struct Pattern {
    dirs_only: bool,
    place: Place,
    text: Text,
    /// A trailing `***`: `dir/***` matches the directory `dir` as well.
    with_contents: bool,
    /// The pattern without the slashes at its ends.
    source: Box<[u8]>,
}

#[derive(Debug, Clone)]
enum Text {
    Literal(Box<[u8]>),
    Glob(Glob),
}

/// Which part of a path a pattern is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The whole path: it began with `/`.
    Whole,
    /// The whole path with a `/` before it: it begins with `**`, so that `**/a` finds `a` at the root as well.
    WholeAfterSlash,
    /// So many names at the end: as many as the pattern has, without `**`.
    Last(usize),
    /// What follows any `/`, and the whole path: there is a `**` inside.
    AfterAnySlash,
}

impl Pattern {
    fn parse(text: &[u8]) -> Result<Self, Fault> {
        let (text, dirs_only) = match text {
            [] => return Err(Fault::NoPattern),
            [b'/'] => return Err(Fault::Root),
            [name @ .., b'/'] => (name, true),
            name => (name, false),
        };
        let (anchored, rest) = match text {
            [b'/', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        if rest.is_empty() {
            return Err(Fault::Root);
        }
        let wild = rest.iter().any(|byte| b"*?[".contains(byte));
        let double = rest.windows(2).any(|pair| pair == b"**");
        let slashes = rest.iter().filter(|&&byte| byte == b'/').count();
        let place = match (anchored, double) {
            (true, _) => Place::Whole,
            (false, true) if rest.starts_with(b"**") => Place::WholeAfterSlash,
            (false, true) => Place::AfterAnySlash,
            (false, false) => Place::Last(slashes + 1),
        };
        Ok(Self {
            dirs_only,
            place,
            text: if wild {
                Text::Glob(Glob::parse(rest)?)
            } else {
                Text::Literal(rest.into())
            },
            with_contents: rest.ends_with(b"***"),
            source: rest.into(),
        })
    }

    fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        if path.is_empty() || self.dirs_only && !is_dir {
            return false;
        }
        let after: &[u8] = if self.with_contents && is_dir { b"/" } else { b"" };
        match self.place {
            Place::Whole => self.text.matches(&[path, after]),
            Place::WholeAfterSlash => self.text.matches(&[b"/", path, after]),
            Place::Last(names) => last_names(path, names).is_some_and(|end| self.text.matches(&[end, after])),
            Place::AfterAnySlash => {
                let starts = path
                    .iter()
                    .enumerate()
                    .filter(|&(_, &byte)| byte == b'/')
                    .map(|(at, _)| at + 1);
                std::iter::once(0)
                    .chain(starts)
                    .any(|start| self.text.matches(&[&path[start..], after]))
            }
        }
    }
}

impl Pattern {
    /// See [`Rule::is_outside`]. Only a pattern from the root can be, and only names before the first `**` tell; in doubt
    /// it is not.
    fn is_outside(&self, directory: &[u8]) -> bool {
        if self.place != Place::Whole {
            return false;
        }
        let wild = matches!(self.text, Text::Glob(_));
        let names = directory
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty());
        for (piece, name) in self.source.split(|&byte| byte == b'/').zip(names) {
            if piece.windows(2).any(|pair| pair == b"**") {
                return false;
            }
            let differs = if wild {
                // A class may have held the slash: then the piece is no pattern.
                Glob::parse(piece).is_ok_and(|glob| !glob.matches(&[name]))
            } else {
                piece != name
            };
            if differs {
                return true;
            }
        }
        false
    }
}

impl Text {
    fn matches(&self, pieces: &[&[u8]]) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(pieces),
            Self::Literal(text) => {
                let rest = pieces
                    .iter()
                    .try_fold(&**text, |rest, piece| rest.strip_prefix(*piece));
                rest.is_some_and(<[u8]>::is_empty)
            }
        }
    }
}

/// The last `count` names of `path`; `None` when it has fewer.
fn last_names(path: &[u8], count: usize) -> Option<&[u8]> {
    let mut slashes = path
        .iter()
        .enumerate()
        .rev()
        .filter(|&(_, &byte)| byte == b'/')
        .map(|(at, _)| at);
    match slashes.by_ref().nth(count - 1) {
        Some(at) => Some(&path[at + 1..]),
        None => {
            let names = path.iter().filter(|&&byte| byte == b'/').count() + 1;
            (names == count).then_some(path)
        }
    }
}
