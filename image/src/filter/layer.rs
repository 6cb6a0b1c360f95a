//! Lists as files and as layers: reading them within a bound, and refusing those that cannot mean anything.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use simulcast_protocol::exclusion::{EXCLUSION_BYTES, ListText};

use super::rule::Fault;
use super::{ExclusionList, Exclusions, FilterError};

/// A file that cannot be used as an exclusion list.
#[derive(Debug, thiserror::Error)]
pub enum ReadListError {
    /// It cannot be read.
    #[error("cannot read the exclusion list {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is longer than any list that somebody wrote.
    #[error("the exclusion list {} has more than {EXCLUSION_BYTES} bytes", .0.display())]
    TooLong(PathBuf),
    /// A line is wrong.
    #[error(transparent)]
    Line(#[from] FilterError),
}

impl ExclusionList {
    /// Reads the file `path`, which errors and decisions call by its path.
    ///
    /// # Errors
    /// [`ReadListError`].
    pub fn read(path: &Path) -> Result<Self, ReadListError> {
        let (mut text, failed) = (Vec::new(), |error| ReadListError::Read(path.to_owned(), error));
        let file = File::open(path).map_err(failed)?;
        file.take(EXCLUSION_BYTES as u64 + 1)
            .read_to_end(&mut text)
            .map_err(failed)?;
        if text.len() > EXCLUSION_BYTES {
            return Err(ReadListError::TooLong(path.to_owned()));
        }
        Ok(Self::parse(&text, &path.display().to_string())?)
    }

    /// Refuses a list with a pattern that can match nothing in `directory` (names joined by `/`, empty for the root):
    /// whoever wrote it for an update of that directory meant something else.
    ///
    /// # Errors
    /// The first such line.
    pub fn within(self, directory: &[u8]) -> Result<Self, FilterError> {
        match self.rules.iter().find(|rule| rule.is_outside(directory)) {
            Some(rule) => Err(Fault::Outside.at(&self.origin, rule.line, &rule.text)),
            None => Ok(self),
        }
    }
}

impl Exclusions {
    /// The lists that a server sent, the most specific first.
    ///
    /// # Errors
    /// The first line that is no rule.
    pub fn of(lists: &[ListText]) -> Result<Self, FilterError> {
        let parsed = lists
            .iter()
            .map(|list| ExclusionList::parse(list.text.as_bytes(), &list.origin).map(Arc::new));
        Ok(Self::new(parsed.collect::<Result<Vec<_>, _>>()?))
    }

    /// These lists, and behind them those of `less`.
    #[must_use]
    pub fn before(mut self, less: Self) -> Self {
        self.lists.extend(less.lists);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(pattern: &str, directory: &str) -> Option<String> {
        let list = ExclusionList::parse(pattern.as_bytes(), "--exclude").unwrap();
        list.within(directory.as_bytes())
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn patterns_outside_the_chosen_directory_are_refused() {
        for (pattern, directory) in [
            ("/var/log/*", "etc"),
            ("/etc/ssh", "etc/network"),
            ("/etc/s*/x", "etc/network"),
            ("/[a-d]*/x", "etc"),
            ("- /srv/**", "etc"),
            ("/e\\*c/x*", "etc"),
            ("/us?/lib**", "usrx"),
        ] {
            let told = refused(pattern, directory).unwrap_or_else(|| panic!("{pattern} in {directory}"));
            let end = format!("in {}", crate::fs::Shown(pattern.as_bytes()));
            assert!(told.contains("can never match") && told.ends_with(&end), "{told}");
            assert!(told.starts_with("--exclude:1: "), "{told}");
        }
        for (pattern, directory) in [
            ("/etc/ssh", "etc"),
            ("/etc", "etc/network"),
            ("/e*/ssh", "etc"),
            ("/**/ssh", "etc"),
            ("/e**", "etc/ssh"),
            ("*.log", "etc"),
            ("a/b", "etc"),
            ("**/a/b", "etc"),
            ("/var/log/*", ""),
            ("/[a/]tc/x", "etc"),
        ] {
            assert_eq!(refused(pattern, directory), None, "{pattern} in {directory}");
        }
    }

    #[test]
    fn layers_are_asked_in_order_and_long_files_are_refused() {
        let layer = |origin: &str, text: &str| ListText {
            origin: origin.to_owned(),
            text: text.to_owned(),
        };
        let node = Exclusions::of(&[layer("node", "+ /a"), layer("image", "/a\n/b")]).unwrap();
        let all = node.before(Exclusions::of(&[layer("default", "/c\n+ /b")]).unwrap());
        let excluded = |path: &str| {
            all.decide(super::super::Side::Sender, path.as_bytes(), false)
                .excluded
        };
        assert_eq!(["a", "b", "c"].map(excluded), [false, true, true]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#".repeat(EXCLUSION_BYTES)).unwrap();
        assert!(ExclusionList::read(file.path()).is_ok());
        std::fs::write(file.path(), "#".repeat(EXCLUSION_BYTES + 1)).unwrap();
        assert!(matches!(
            ExclusionList::read(file.path()),
            Err(ReadListError::TooLong(_))
        ));
        let missing = ExclusionList::read(Path::new("/nowhere")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the exclusion list /nowhere");
    }
}
