//! Which disk of a machine is which disk of a layout.

use std::collections::BTreeMap;

use simulcast_protocol::install::NodeName;

use super::{Choose, DiskFacts, Label, Layout};

/// A disk of the layout has no disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// None is as the layout wants it.
    #[error("no disk of this machine can be disk.{disk}: it has {found}")]
    None {
        /// What the layout calls it.
        disk: Label,
        /// What there is, and why each does not fit.
        found: String,
    },
    /// The one that fits was chosen for something else.
    #[error(
        "{path} would be disk.{first} as well as disk.{second}: give them different order, by-id or size"
    )]
    Twice {
        /// The device.
        path: String,
        /// What it is already.
        first: Label,
        /// What it should be too.
        second: Label,
    },
}

/// For each disk of the layout, the index in `disks` of the one that it is. Disks that are named by their identity are
/// chosen first, then those with a number, then the others in the order of their names in the layout. A disk that `node`
/// has been installed on comes before others that fit as well, so that device names may change between two boots.
///
/// # Errors
/// [`ChooseError`]: one disk of the layout cannot be found.
pub fn choose(
    layout: &Layout,
    disks: &[DiskFacts],
    node: &NodeName,
) -> Result<BTreeMap<Label, usize>, ChooseError> {
    let mut sorted: Vec<usize> = (0..disks.len()).collect();
    sorted.sort_by(|&a, &b| natural(&disks[a].name).cmp(&natural(&disks[b].name)));
    let mut wanted: Vec<_> = layout.disk.iter().collect();
    wanted.sort_by_key(|(_, disk)| (disk.choose.by_id.is_none(), disk.choose.order.is_none()));
    let mut chosen: BTreeMap<Label, usize> = BTreeMap::new();
    for (name, disk) in wanted {
        let fitting: Vec<usize> = sorted
            .iter()
            .copied()
            .filter(|&index| disk.choose.refuses(&disks[index]).is_none())
            .collect();
        let taken = |index: &usize| {
            chosen
                .iter()
                .find(|(_, other)| *other == index)
                .map(|(name, _)| name)
        };
        let index = match disk.choose.order {
            Some(order) => usize::try_from(order).ok().and_then(|order| fitting.get(order)),
            None => {
                let free = || fitting.iter().filter(|index| taken(index).is_none());
                let ours = free().find(|&&index| is_marked(&disks[index], node, name));
                ours.or_else(|| free().next()).or(fitting.first())
            }
        };
        let Some(&index) = index else {
            return Err(ChooseError::None {
                disk: name.clone(),
                found: describe(disks, &sorted, &disk.choose),
            });
        };
        if let Some(first) = taken(&index) {
            return Err(ChooseError::Twice {
                path: disks[index].path.clone(),
                first: first.clone(),
                second: name.clone(),
            });
        }
        chosen.insert(name.clone(), index);
    }
    Ok(chosen)
}

fn is_marked(disk: &DiskFacts, node: &NodeName, name: &Label) -> bool {
    disk.content
        .mark
        .as_ref()
        .is_some_and(|mark| mark.node == *node && mark.disk == *name)
}

fn describe(disks: &[DiskFacts], sorted: &[usize], choose: &Choose) -> String {
    if disks.is_empty() {
        return "no disks at all; is the driver of its controller in the mini-kernel?".to_owned();
    }
    let each = sorted.iter().map(|&index| {
        let disk = &disks[index];
        let why = choose
            .refuses(disk)
            .unwrap_or("there are fewer of its kind than its order asks for");
        format!(
            "{} ({} {}: {why})",
            disk.path,
            crate::layout::Bytes(disk.bytes),
            disk.bus
        )
    });
    each.take(16).collect::<Vec<_>>().join(", ")
}

impl Choose {
    /// Why a disk is not what is wanted; `None` when it is.
    fn refuses(&self, disk: &DiskFacts) -> Option<&'static str> {
        let matches =
            |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| glob(wanted, found));
        let named = self.by_id.is_some();
        let asked_for_usb = self.bus.as_deref() == Some("usb");
        let reasons = [
            (disk.read_only, "it cannot be written"),
            (disk.bytes == 0, "it has no medium"),
            (disk.removable && !named, "its medium can be taken out"),
            (
                disk.bus == "usb" && !named && !asked_for_usb,
                "it is a USB disk, which must be asked for",
            ),
            (self.min.is_some_and(|min| disk.bytes < min.0), "it is too small"),
            (self.max.is_some_and(|max| disk.bytes > max.0), "it is too large"),
            (
                self.bus.as_ref().is_some_and(|bus| *bus != disk.bus),
                "its bus is another",
            ),
            (!matches(&self.model, &disk.model), "its model is another"),
            (
                self.rotational.is_some_and(|turns| turns != disk.rotational),
                "it is of the other kind, turning or not",
            ),
            (
                self.by_id
                    .as_ref()
                    .is_some_and(|id| !disk.ids.iter().any(|found| glob(id, found))),
                "it has another identity",
            ),
        ];
        reasons.into_iter().find(|(wrong, _)| *wrong).map(|(_, why)| why)
    }
}

/// Whether `pattern`, in which `*` stands for any text, fits all of `text`.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(previous) = last.replace(part) {
            // The leftmost place leaves most to what follows.
            match rest.find(previous) {
                Some(at) => rest = &rest[at + previous.len()..],
                None => return false,
            }
        }
    }
    match last {
        None => rest.is_empty(),
        Some(last) => rest.ends_with(last),
    }
}

/// Orders `sda`, `sdb`, `sdaa` and `nvme2n1`, `nvme10n1` as people do.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut key: Vec<(String, u64)> = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(digits);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(end);
        // Of SCSI's names the shorter ones come first.
        let text = match text.strip_prefix("sd").or(text.strip_prefix("vd")) {
            Some(letters) => format!("{}{:04}{letters}", &text[..2], letters.len()),
            None => text.to_owned(),
        };
        key.push((text, number.parse().unwrap_or(0)));
        rest = after;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn disk(name: &str, gb: u64, bus: &str) -> DiskFacts {
        DiskFacts {
            bus: bus.into(),
            ids: vec![format!("{bus}-{name}")],
            ..DiskFacts::new(name, gb * 1_000_000_000)
        }
    }

    fn layout(disks: &[(&str, &str)]) -> Layout {
        let mut text = String::new();
        for (name, choose) in disks {
            text += &format!(
                "[disk.{name}]\nchoose = {{ {choose} }}\npartition = [{{ name = \"p\", size = \"rest\" }}]\n"
            );
        }
        text += &format!(
            "[[filesystem]]\non = \"{}.p\"\nkind = \"ext4\"\nmount = \"/\"\n",
            disks[0].0
        );
        Layout::parse(&text).unwrap()
    }

    fn chosen(layout: &Layout, disks: &[DiskFacts]) -> Result<Vec<(String, String)>, String> {
        let node = "node01".parse().unwrap();
        let chosen = choose(layout, disks, &node).map_err(|error| error.to_string())?;
        Ok(chosen
            .into_iter()
            .map(|(name, index)| (name.to_string(), disks[index].name.clone()))
            .collect())
    }

    fn names(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn disks_are_chosen_by_what_they_are() {
        let machine = [
            disk("sdb", 100, "sata"),
            disk("nvme10n1", 50, "nvme"),
            disk("sda", 10, "usb"),
            disk("nvme2n1", 50, "nvme"),
        ];
        let choice = |disks: &[(&str, &str)]| chosen(&layout(disks), &machine).unwrap();
        assert_eq!(choice(&[("a", "")]), names(&[("a", "nvme2n1")]));
        assert_eq!(choice(&[("a", "min = \"80GB\"")]), names(&[("a", "sdb")]));
        assert_eq!(choice(&[("a", "bus = \"usb\"")]), names(&[("a", "sda")]));
        assert_eq!(
            choice(&[("a", "order = 1"), ("b", "order = 0")]),
            names(&[("a", "nvme10n1"), ("b", "nvme2n1")])
        );
        // What is named is not given away to what is not.
        assert_eq!(
            choice(&[("a", ""), ("b", "by-id = \"nvme-*2n1\"")]),
            names(&[("a", "nvme10n1"), ("b", "nvme2n1")])
        );
        assert_eq!(
            choice(&[("a", ""), ("b", ""), ("c", "")]),
            names(&[("a", "nvme2n1"), ("b", "nvme10n1"), ("c", "sdb")])
        );
    }

    #[test]
    fn what_cannot_be_found_is_explained() {
        let mut machine = [disk("sda", 10, "sata"), disk("sdb", 10, "usb")];
        machine[0].read_only = true;
        assert_eq!(
            chosen(&layout(&[("a", "")]), &machine).unwrap_err(),
            "no disk of this machine can be disk.a: it has /dev/sda (10GB sata: it cannot be written), \
             /dev/sdb (10GB usb: it is a USB disk, which must be asked for)"
        );
        machine[0].read_only = false;
        assert_eq!(
            chosen(&layout(&[("a", "order = 0"), ("b", "")]), &machine).unwrap_err(),
            "/dev/sda would be disk.a as well as disk.b: give them different order, by-id or size"
        );
        assert!(
            chosen(&layout(&[("a", "")]), &[])
                .unwrap_err()
                .contains("no disks at all")
        );
    }

    #[test]
    fn patterns_fit_whole_texts() {
        for (pattern, text, fits) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*", "a", true),
            ("*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("**b", "ab", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        let mut sorted = ["sdaa", "sdb", "nvme10n1", "vda", "nvme2n1", "sda"];
        sorted.sort_by_key(|name| natural(name));
        assert_eq!(sorted, ["nvme2n1", "nvme10n1", "sda", "sdb", "sdaa", "vda"]);
    }
}
