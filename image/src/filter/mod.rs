//! Exclusion lists: what a capture or an update leaves alone.
//!
//! A list is text, one rule a line, with the meaning that these lines have for rsync (`rsync(1)`, "FILTER RULES" and
//! "PATTERN MATCHING RULES"):
//!
//! | Line | Meaning |
//! |---|---|
//! | `PATTERN` or `- PATTERN` | excluded: not captured, not sent, not deleted |
//! | `+ PATTERN` | included, whatever later rules say |
//! | `H PATTERN`, `S PATTERN` | hidden or shown to [`Side::Sender`] only |
//! | `P PATTERN`, `R PATTERN` | protected from or at the risk of deletion on [`Side::Receiver`] only |
//! | `# …`, `; …`, empty | nothing |
//!
//! The first rule that matches decides; what none matches is included. A pattern that begins with `/` is matched from
//! the root of the tree, others at the end of the path; one that ends with `/` matches directories alone; `*` and `?`
//! stop at `/`, `**` does not, a trailing `/***` is a directory and all in it; `[…]` are classes; a backslash takes the
//! next character as it is, but only in patterns with `*`, `?` or `[`. A directory that is excluded is not entered, so
//! what is below it is not asked for.
//!
//! What else rsync knows (merge files, modifiers, `!`, long rule names) is refused by name rather than misread.
//!
//! Several lists are asked in order, the most specific first ([`Exclusions`]); how they are layered stands in
//! `docs/exclusion.md`.
//!
//! Owned here: text to decision. Unknown here: what a capture, an install or an update does with it.

mod explain;
mod glob;
mod layer;
#[cfg(test)]
mod rsync_tests;
mod rule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use explain::{Explanation, Verdict};
pub use layer::ReadListError;
pub use rule::FilterError;
use rule::{Rule, parse_line};

/// Rules of one list: far more than anybody writes, few enough that each path can be held against all of them.
const RULES: usize = 10_000;

/// What every capture and update leaves alone, unless it is told otherwise.
pub const DEFAULT_LIST: &str = include_str!("default.exclude");

/// Where [`DEFAULT_LIST`] comes from, as decisions and errors name it.
pub const DEFAULT_ORIGIN: &str = "default.exclude";

/// What every update leaves alone besides.
const UPDATE_LIST: &str = include_str!("update.exclude");
/// What a backup of one machine, with its identity, leaves alone.
pub const REPLICANT_LIST: &str = include_str!("replicant.exclude");

/// Where [`REPLICANT_LIST`] comes from.
pub const REPLICANT_ORIGIN: &str = "replicant.exclude";

/// Which end of a transfer asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Whether an entry is captured from a golden client, or sent to a node: `+`, `-`, `H`, `S`.
    Sender,
    /// Whether an entry of a node is kept although the version does not have it: `+`, `-`, `P`, `R`.
    Receiver,
}

/// The rules of one text.
#[derive(Debug, Clone)]
pub struct ExclusionList {
    origin: Arc<str>,
    rules: Vec<Rule>,
}

/// Several lists in order: the first list with a rule that matches decides.
#[derive(Debug, Clone, Default)]
pub struct Exclusions {
    lists: Vec<Arc<ExclusionList>>,
}

/// What the rules say of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it is left alone.
    pub excluded: bool,
    /// The rule that decided; `None` when none matched.
    pub by: Option<RuleRef<'a>>,
}

/// A rule as an administrator finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleRef<'a> {
    /// The file or option that the list came from.
    pub origin: &'a str,
    /// Its line, from 1.
    pub line: usize,
    /// The line's text.
    pub text: &'a [u8],
}

impl ExclusionList {
    /// Reads a list. `origin` is what errors and decisions call it: a file's path, an option.
    ///
    /// # Errors
    /// The first line that is no rule, or uses what is not supported, with origin and line.
    pub fn parse(text: &[u8], origin: &str) -> Result<Self, FilterError> {
        let origin: Arc<str> = origin.into();
        let mut rules = Vec::new();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            // rsync takes a carriage return for the end of a line as well.
            for piece in line.split(|&byte| byte == b'\r') {
                if let Some(rule) =
                    parse_line(piece, index + 1).map_err(|fault| fault.at(&origin, index + 1, piece))?
                {
                    rules.push(rule);
                }
            }
            if rules.len() > RULES {
                return Err(rule::Fault::TooMany.at(&origin, index + 1, line));
            }
        }
        Ok(Self { origin, rules })
    }

    /// The shipped list.
    #[expect(
        clippy::missing_panics_doc,
        reason = "the text is part of the program, and a test reads it"
    )]
    pub fn default_list() -> Self {
        Self::parse(DEFAULT_LIST.as_bytes(), DEFAULT_ORIGIN).expect("the shipped list is correct")
    }

    /// The shipped list that holds for updates only.
    #[expect(
        clippy::missing_panics_doc,
        reason = "the text is part of the program, and a test reads it"
    )]
    pub fn update_list() -> Self {
        Self::parse(UPDATE_LIST.as_bytes(), "update.exclude").expect("the shipped list is correct")
    }

    /// How many rules it has.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it has no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What this list alone says of `path`; see [`Exclusions::decide`].
    pub fn decide(&self, side: Side, path: &[u8], is_dir: bool) -> Decision<'_> {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.applies(side) && rule.matches(path, is_dir));
        Decision {
            excluded: rule.is_some_and(Rule::excludes),
            by: rule.map(|rule| RuleRef {
                origin: &self.origin,
                line: rule.line,
                text: &rule.text,
            }),
        }
    }
}

impl Exclusions {
    /// These lists, the most specific first: command line, node, group, image, default.
    pub fn new(lists: impl IntoIterator<Item = Arc<ExclusionList>>) -> Self {
        Self {
            lists: lists.into_iter().collect(),
        }
    }

    /// What the rules say of the entry `path`: names joined by `/` from the root, without one at either end. The
    /// directories above it are taken to be included, as a walk that does not enter excluded ones sees to; the root
    /// itself (empty) is always included.
    pub fn decide(&self, side: Side, path: &[u8], is_dir: bool) -> Decision<'_> {
        self.lists
            .iter()
            .map(|list| list.decide(side, path, is_dir))
            .find(|decision| decision.by.is_some())
            .unwrap_or(Decision {
                excluded: false,
                by: None,
            })
    }

    /// What the rules say of `path` when nothing is known of the directories above it: the first of them that is
    /// excluded decides.
    pub fn decide_from_root(&self, side: Side, path: &[u8], is_dir: bool) -> Decision<'_> {
        self.deciding(side, path, is_dir).1
    }

    /// The same, with the path that the deciding rule matched: `path`, or a directory above it.
    fn deciding<'p>(&self, side: Side, path: &'p [u8], is_dir: bool) -> (&'p [u8], Decision<'_>) {
        let above = path
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'/')
            .map(|(at, _)| &path[..at]);
        above
            .map(|dir| (dir, self.decide(side, dir, true)))
            .find(|(_, decision)| decision.excluded)
            .unwrap_or_else(|| (path, self.decide(side, path, is_dir)))
    }
}
