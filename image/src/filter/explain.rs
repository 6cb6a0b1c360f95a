//! Why a path is left alone, or not: what `--explain` prints.

use std::fmt;

use serde::Serialize;

use super::{Decision, Exclusions, Side};
use crate::fs::Shown;

/// What the lists say of one path, on either side, and which lines say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The path, from the root.
    pub path: String,
    /// Whether it was taken for a directory, which patterns that end with `/` ask for.
    pub directory: bool,
    /// Whether it is captured, or written by an install or update.
    pub sender: Verdict,
    /// Whether an update leaves it where the version does not have it.
    pub receiver: Verdict,
}

/// What one side decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether it is left alone.
    pub excluded: bool,
    /// The path that the line matched: the path itself, or a directory above it.
    pub matched: Option<String>,
    /// The file or option that the line stands in.
    pub origin: Option<String>,
    /// The line's number, from 1.
    pub line: Option<usize>,
    /// The line.
    pub text: Option<String>,
}

impl Exclusions {
    /// Explains what the lists say of `path`: names joined by `/` from the root; leading and doubled slashes do not
    /// matter, one at the end says that it is a directory. `None` for what is no such path: `.` and `..` are no names.
    pub fn explain(&self, path: &[u8], directory: bool) -> Option<Explanation> {
        let directory = directory || path.ends_with(b"/");
        let names: Vec<&[u8]> = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
            .collect();
        if names.iter().any(|name| matches!(*name, b"." | b"..")) {
            return None;
        }
        let path = names.join(&b'/');
        let verdict = |side| {
            let (at, decision) = self.deciding(side, &path, directory);
            Verdict::of(at, &decision)
        };
        Some(Explanation {
            path: shown(&path),
            directory,
            sender: verdict(Side::Sender),
            receiver: verdict(Side::Receiver),
        })
    }
}

impl Verdict {
    fn of(at: &[u8], decision: &Decision<'_>) -> Self {
        let by = decision.by.as_ref();
        Self {
            excluded: decision.excluded,
            matched: by.map(|_| shown(at)),
            origin: by.map(|by| by.origin.to_owned()),
            line: by.map(|by| by.line),
            text: by.map(|by| Shown(by.text).to_string()),
        }
    }

    fn write(&self, path: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(origin), Some(line), Some(text)) = (&self.origin, self.line, &self.text) else {
            return f.write_str("\n  no line of any list matches it");
        };
        write!(f, "\n  {origin}:{line}: {text}")?;
        match self.matched.as_deref() {
            Some(matched) if matched != path => write!(f, "  (by its directory {matched})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match (self.sender.excluded, self.receiver.excluded) {
            (true, true) => "left alone: not captured, not written, not deleted",
            (false, false) => "not excluded: captured, written, and deleted where a version does not have it",
            (true, false) => "not captured and not written, and deleted as if no version had it",
            (false, true) => "captured and written, but not deleted where a version does not have it",
        };
        write!(f, "{}: {said}", self.path)?;
        self.sender.write(&self.path, f)?;
        if self.receiver != self.sender {
            self.receiver.write(&self.path, f)?;
        }
        Ok(())
    }
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        "/".to_owned()
    } else {
        format!("/{}", Shown(path))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::filter::ExclusionList;

    fn lists() -> Exclusions {
        let list =
            |text: &str, origin: &str| Arc::new(ExclusionList::parse(text.as_bytes(), origin).unwrap());
        Exclusions::new([
            list("+ /etc/hostname", "--exclude"),
            list(
                "# names\n/etc/host*\n/srv/*/\nP /opt/*\nH *.log\n",
                "image/gold.exclude",
            ),
        ])
    }

    #[test]
    fn the_line_that_decides_is_told() {
        for (path, directory, told) in [
            (
                "/etc/hosts",
                false,
                "/etc/hosts: left alone: not captured, not written, not deleted\n  image/gold.exclude:2: /etc/host*",
            ),
            (
                "etc//hostname",
                false,
                "/etc/hostname: not excluded: captured, written, and deleted where a version does not have it\n  \
                 --exclude:1: + /etc/hostname",
            ),
            (
                "/srv/a/b",
                false,
                "/srv/a/b: left alone: not captured, not written, not deleted\n  image/gold.exclude:3: /srv/*/  (by its \
                 directory /srv/a)",
            ),
            (
                "/opt/x",
                true,
                "/opt/x: captured and written, but not deleted where a version does not have it\n  no line of any list \
                 matches it\n  image/gold.exclude:4: P /opt/*",
            ),
            (
                "/a.log",
                false,
                "/a.log: not captured and not written, and deleted as if no version had it\n  image/gold.exclude:5: H *.log\n  no line of any \
                 list matches it",
            ),
            (
                "/",
                true,
                "/: not excluded: captured, written, and deleted where a version does not have it\n  no line of any list \
                 matches it",
            ),
        ] {
            assert_eq!(
                lists().explain(path.as_bytes(), directory).unwrap().to_string(),
                told
            );
        }
    }

    #[test]
    fn a_slash_at_the_end_makes_a_directory_and_dots_are_no_names() {
        assert!(lists().explain(b"/srv/a/", false).unwrap().sender.excluded);
        assert!(!lists().explain(b"/srv/a", false).unwrap().sender.excluded);
        assert_eq!(lists().explain(b"/srv/../etc", false), None);
    }
}
