//! The exclusion lists of the configuration directory: `exclude.d/{image,group,node}/NAME.exclude`, and what its overrides
//! put on nodes: that is not the image's to write or delete.
//!
//! They are read whenever somebody asks, so that a change takes effect in the run that follows it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use simulcast_image::filter::{
    DEFAULT_LIST, DEFAULT_ORIGIN, ExclusionList, FilterError, REPLICANT_LIST, REPLICANT_ORIGIN,
};
use simulcast_protocol::exclusion::{EXCLUSION_BYTES, ListText, NodeLists};
use simulcast_protocol::install::NodeName;
use simulcast_protocol::name::ImageName;

use crate::extras::{ExtraError, entries};
use crate::inventory::{Effective, Inventory};

/// The directory of lists in the configuration directory.
const DIRECTORY: &str = "exclude.d";

/// A list cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// Its file cannot be read.
    #[error("cannot read the exclusion list {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is too long, or no text.
    #[error("the exclusion list {} is not text of at most {EXCLUSION_BYTES} bytes in UTF-8", .0.display())]
    Text(PathBuf),
    /// A line is wrong.
    #[error(transparent)]
    Line(#[from] FilterError),
    /// Overrides cannot be listed.
    #[error(transparent)]
    Overrides(#[from] ExtraError),
}

/// The list of an image, if it has one.
///
/// # Errors
/// [`ListError`].
pub(crate) fn of_image(config: &Path, image: &ImageName) -> Result<Option<ListText>, ListError> {
    read(config, &format!("image/{image}"))
}

/// The lists for a node that has an image, the most specific first: the node's, those of its groups as they decide, the
/// image's. Without a node, or for one that is not in the inventory, the image's alone.
///
/// # Errors
/// [`ListError`].
pub(crate) fn of_node(
    config: &Path,
    inventory: &Inventory,
    image: &ImageName,
    node: Option<&NodeName>,
) -> Result<NodeLists, ListError> {
    let known = node.and_then(|node| Some((node, inventory.effective(node)?)));
    let lists = match &known {
        Some((node, effective)) => of_effective(config, node, effective, image)?,
        None => of_image(config, image)?.into_iter().collect(),
    };
    Ok(NodeLists {
        node: known.map(|(node, _)| node.clone()),
        lists,
    })
}

/// The lists for a node of which it is known what holds for it.
///
/// # Errors
/// [`ListError`].
pub(crate) fn of_effective(
    config: &Path,
    node: &NodeName,
    effective: &Effective,
    image: &ImageName,
) -> Result<Vec<ListText>, ListError> {
    let mut lists = Vec::new();
    // Those that decide last stand at the end.
    let groups = effective
        .groups
        .iter()
        .rev()
        .map(|group| format!("group/{group}"));
    let names = [format!("node/{node}")].into_iter().chain(groups);
    for name in names.chain([format!("image/{image}")]) {
        lists.extend(read(config, &name)?);
        lists.extend(overridden(config, &name)?);
    }
    Ok(lists)
}

/// The paths of overrides, as a list.
fn overridden(config: &Path, name: &str) -> Result<Option<ListText>, ListError> {
    let origin = format!("overrides/{name}");
    let tree = config.join(&origin);
    let mut text = String::new();
    for (path, found) in entries(&tree)? {
        if !found.is_dir() {
            let path = path.strip_prefix(&tree).unwrap_or(&path);
            text.push('/');
            text.push_str(&literal(path.as_os_str().as_bytes()));
            text.push('\n');
        }
    }
    ExclusionList::parse(text.as_bytes(), &origin)?;
    Ok((!text.is_empty()).then_some(ListText { origin, text }))
}

/// The pattern that matches this path alone. Bytes that a line of text cannot have become `?`.
fn literal(path: &[u8]) -> String {
    let mut text = String::new();
    for piece in path.utf8_chunks() {
        for c in piece.valid().chars() {
            match c {
                '\n' | '\r' => text.push('?'),
                c => text.push(c),
            }
        }
        text.extend(piece.invalid().iter().map(|_| '?'));
    }
    let odd = path.iter().any(|byte| b"*?[\n\r".contains(byte)) || std::str::from_utf8(path).is_err();
    if !odd {
        return text;
    }
    // Only in a pattern with wildcards is a backslash more than itself.
    let escape = |c: char| match c {
        '*' | '[' | '\\' => format!("\\{c}"),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// The shipped list, as it travels.
pub(crate) fn shipped() -> ListText {
    ListText {
        origin: DEFAULT_ORIGIN.to_owned(),
        text: DEFAULT_LIST.to_owned(),
    }
}

/// The shipped list for backups of one machine, as it travels.
pub(crate) fn of_replicants() -> ListText {
    ListText {
        origin: REPLICANT_ORIGIN.to_owned(),
        text: REPLICANT_LIST.to_owned(),
    }
}

fn read(config: &Path, name: &str) -> Result<Option<ListText>, ListError> {
    let origin = format!("{DIRECTORY}/{name}.exclude");
    let path = config.join(&origin);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| ListError::Read(path.clone(), error))?,
    };
    let mut bytes = Vec::new();
    let taken = file.take(EXCLUSION_BYTES as u64 + 1).read_to_end(&mut bytes);
    taken.map_err(|error| ListError::Read(path.clone(), error))?;
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|text| text.len() <= EXCLUSION_BYTES);
    let text = text.ok_or_else(|| ListError::Text(path.clone()))?;
    // What is wrong is said where it was written, and not by each node.
    ExclusionList::parse(text.as_bytes(), &path.display().to_string())?;
    Ok(Some(ListText { origin, text }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use simulcast_image::filter::Side;

    use super::*;
    use crate::inventory::load;

    #[test]
    fn node_before_groups_before_image() {
        let site = tempfile::tempdir().unwrap();
        let config = site.path();
        let write = |path: &str, text: &str| {
            let path = config.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "nodes.d/x.toml",
            "[node.n1]\ngroups = [\"gpu\", \"rack\"]\n[node.n2]\n",
        );
        write("groups.d/x.toml", "[group.gpu]\npriority = 5\n[group.rack]\n");
        for name in ["node/n1", "group/gpu", "group/all", "image/gold"] {
            write(&format!("exclude.d/{name}.exclude"), &format!("# {name}\n/x\n"));
        }
        let inventory = load(config, &BTreeMap::new()).unwrap();
        let names = |node: Option<&str>, image: &str| {
            let node = node.map(|node| node.parse().unwrap());
            let found = of_node(config, &inventory, &image.parse().unwrap(), node.as_ref()).unwrap();
            let origins: Vec<_> = found
                .lists
                .iter()
                .map(|list| {
                    let name = list.origin.strip_prefix("exclude.d/").unwrap();
                    name.strip_suffix(".exclude").unwrap().to_owned()
                })
                .collect();
            (found.node.is_some(), origins.join(" "))
        };
        assert_eq!(
            names(Some("n1"), "gold"),
            (true, "node/n1 group/gpu group/all image/gold".into())
        );
        assert_eq!(names(Some("n2"), "gold"), (true, "group/all image/gold".into()));
        assert_eq!(names(Some("n3"), "gold"), (false, "image/gold".into()));
        assert_eq!(names(None, "other"), (false, String::new()));
        write("overrides/node/n1/etc/a*b\\c", "");
        write("overrides/node/n1/etc/motd", "");
        let n1 = "n1".parse().unwrap();
        let found = of_node(config, &inventory, &"gold".parse().unwrap(), Some(&n1)).unwrap();
        assert_eq!(found.lists[1].origin, "overrides/node/n1");
        assert_eq!(found.lists[1].text, "/etc/a\\*b\\\\c\n/etc/motd\n");
        let list = ExclusionList::parse(found.lists[1].text.as_bytes(), "x").unwrap();
        let decide = |path: &str| list.decide(Side::Sender, path.as_bytes(), false).excluded;
        assert_eq!(
            ["etc/a*b\\c", "etc/axb\\c", "etc/motd"].map(decide),
            [true, false, true]
        );
        write("exclude.d/image/gold.exclude", "ok\n! \n. x\n");
        let error = of_image(config, &"gold".parse().unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exclude.d/image/gold.exclude:3: merge files"),
            "{error}"
        );
        fs::write(config.join("exclude.d/image/gold.exclude"), b"\xff\n").unwrap();
        assert!(matches!(
            of_image(config, &"gold".parse().unwrap()),
            Err(ListError::Text(_))
        ));
    }
}
