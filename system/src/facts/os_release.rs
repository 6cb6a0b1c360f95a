//! os-release(5): which distribution a tree is of.

use serde::{Deserialize, Serialize};

/// What a tree says of its distribution; empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsRelease {
    /// Its name for programs: `debian`, `fedora`. The specification's default is `linux`.
    pub id: String,
    /// Names of distributions that it derives from, closest first.
    pub id_like: Vec<String>,
    /// Its version for programs: `12`, `24.04`. Rolling distributions have none.
    pub version_id: String,
    /// The version's code name: `bookworm`.
    pub codename: String,
    /// Name and version for people.
    pub pretty_name: String,
}

impl OsRelease {
    /// Reads the text of an os-release file. Lines that are no assignments are passed over, as the specification asks.
    pub fn parse(text: &str) -> Self {
        let mut release = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.trim().split_once('=')) {
            let value = unquote(value);
            match name {
                "ID" => release.id = value,
                "ID_LIKE" => release.id_like = value.split_whitespace().map(str::to_owned).collect(),
                "VERSION_ID" => release.version_id = value,
                "VERSION_CODENAME" => release.codename = value,
                "PRETTY_NAME" => release.pretty_name = value,
                _ => {}
            }
        }
        release
    }
}

/// Undoes the shell's quotes; the specification allows no more of the shell than these.
fn unquote(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (None | Some('"'), '\\') => plain.extend(chars.next()),
            _ => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_several_distributions() {
        let debian = OsRelease::parse(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n\
             VERSION=\"12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\nHOME_URL=\"https://www.debian.org/\"\n",
        );
        assert_eq!(
            debian,
            OsRelease {
                id: "debian".into(),
                id_like: vec![],
                version_id: "12".into(),
                codename: "bookworm".into(),
                pretty_name: "Debian GNU/Linux 12 (bookworm)".into(),
            }
        );
        let rocky = OsRelease::parse("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID='9.4'\n");
        assert_eq!((rocky.id.as_str(), rocky.version_id.as_str()), ("rocky", "9.4"));
        assert_eq!(rocky.id_like, ["rhel", "centos", "fedora"]);
    }

    #[test]
    fn quotes_and_nonsense() {
        let parsed = |text: &str| OsRelease::parse(text).pretty_name;
        assert_eq!(
            parsed("# c\n\nnonsense\nPRETTY_NAME=\"a \\\"b\\\" \\$c \\\\\"\n"),
            r#"a "b" $c \"#
        );
        assert_eq!(parsed("PRETTY_NAME='a \\ b'"), r"a \ b");
        assert_eq!(parsed("PRETTY_NAME=a\"b\"'c'"), "abc");
        assert_eq!(parsed("PRETTY_NAME=\"open\\"), "open");
        assert_eq!(parsed("PRETTY_NAME="), "");
    }
}
