//! Where the file systems of an installed machine lie on its disk, read from outside: neither md nor LVM has to run here.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::command::{command, read};

/// Bytes of a sector, as partition tables, md and LVM count them here.
const SECTOR: u64 = 512;

/// Longest text in which LVM describes a group.
const TEXT: u64 = 64 << 10;

/// A file system on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Where it is mounted.
    pub(super) point: String,
    /// Its first byte.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) bytes: u64,
}

/// The file systems with files of the version, the root first. Partitions and volumes have the names that the layouts of
/// the laboratory give them: `root`, and otherwise that of the directory. In an MBR, which has no names, there is `/boot`, and a
/// member of a group.
///
/// # Errors
/// When there is none that is the root, or md's or LVM's own data make no sense.
pub(super) fn places(disk: &Path) -> Result<Vec<Place>> {
    let table: Value = serde_json::from_str(&read(command("sfdisk").arg("--json").arg(disk))?)
        .with_context(|| format!("read the table of {}", disk.display()))?;
    let file = File::open(disk).with_context(|| format!("open {}", disk.display()))?;
    let partitions = table["partitiontable"]["partitions"].as_array();
    let mut found = Vec::new();
    for partition in partitions.into_iter().flatten() {
        let number = |key: &str| partition[key].as_u64().map(|sectors| sectors * SECTOR);
        let (start, bytes) = (number("start"), number("size"));
        let (start, bytes) = (start.context("it has a start")?, bytes.context("it has a size")?);
        let text = |key: &str| partition[key].as_str().unwrap_or_default();
        match (text("name"), text("type")) {
            ("lvm", _) | ("", "8e") => found.extend(volumes(&file, start)?),
            ("root", _) => found.push(member(&file, place("root", start, bytes))?),
            ("boot", _) | ("", "83") => found.push(place("boot", start, bytes)),
            _ => {}
        }
    }
    found.sort_by(|one, other| one.point.cmp(&other.point));
    match found.first() {
        Some(root) if root.point == "/" => Ok(found),
        _ => bail!("{} has no root", disk.display()),
    }
}

fn place(name: &str, offset: u64, bytes: u64) -> Place {
    let point = if name == "root" { "" } else { name };
    Place {
        point: format!("/{point}"),
        offset,
        bytes,
    }
}

fn bytes_at<const N: usize>(file: &File, at: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at)
        .with_context(|| format!("read the disk at {at}"))?;
    Ok(bytes)
}

fn number_at(file: &File, at: u64) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes_at(file, at)?))
}

/// The place behind the array's own data, if it is a member of one. md(4): version 1.2 of the metadata lies 4 KiB behind the
/// start; 128 bytes into it stands where the data begins, then how many sectors they are.
fn member(file: &File, place: Place) -> Result<Place> {
    let metadata = place.offset + 4096;
    if bytes_at(file, metadata)? != [0xfc, 0x4e, 0x2b, 0xa9] {
        return Ok(place);
    }
    let (data, sectors) = (number_at(file, metadata + 128)?, number_at(file, metadata + 136)?);
    ensure!(
        data < 1 << 30 && sectors < 1 << 40,
        "the array's data begins at sector {data}"
    );
    Ok(Place {
        offset: place.offset + data * SECTOR,
        bytes: sectors * SECTOR,
        ..place
    })
}

/// The volumes of a group that has one member, each in one piece. The label is in the second sector, and lists areas for data
/// and for metadata; in the latter a header says where the group is described in words (`format_text/layout.h` of LVM2).
fn volumes(file: &File, start: u64) -> Result<Vec<Place>> {
    let label = start + SECTOR;
    ensure!(
        &bytes_at(file, label)? == b"LABELONE",
        "a member of a group has no label of LVM"
    );
    // Behind the label's own 32 bytes: an identity of 32 bytes, a size; areas of data end with one of zeros.
    let data = number_at(file, label + 72)?;
    let area = start + number_at(file, label + 104)?;
    ensure!(
        number_at(file, label + 88)? == 0 && &bytes_at(file, area + 4)? == b" LVM2 x[5A%r0N*>",
        "a member of a group has its metadata elsewhere"
    );
    let (at, length) = (number_at(file, area + 40)?, number_at(file, area + 48)?);
    ensure!(length < TEXT, "a group is described in {length} bytes");
    let mut text = vec![0; usize::try_from(length).context("its length is bounded")?];
    file.read_exact_at(&mut text, area + at)
        .context("read how a group is described")?;
    described(&String::from_utf8_lossy(&text), start + data)
}

/// The volumes that a description has; the first extent is at byte `first`.
fn described(text: &str, first: u64) -> Result<Vec<Place>> {
    let (group, volumes) = text
        .split_once("logical_volumes {")
        .context("a group describes no volumes")?;
    let value = |text: &str, key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
        line?
            .trim_start_matches([' ', '='])
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    let extent = value(group, "extent_size").context("a group has extents")? * SECTOR;
    let mut found = Vec::new();
    for (name, rest) in ["root", "var"]
        .into_iter()
        .filter_map(|name| Some((name, volumes.split_once(&format!("\n{name} {{"))?.1)))
    {
        ensure!(
            value(rest, "segment_count") == Some(1),
            "{name} is not in one piece"
        );
        let (count, at) = (value(rest, "extent_count"), value(rest, "\"pv0\","));
        let (count, at) = count.zip(at).with_context(|| format!("{name} has extents"))?;
        found.push(place(name, first + at * extent, count * extent));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_found_where_lvm_says_that_they_are() {
        let text = "vg0 {\nextent_size = 8192\n}\nlogical_volumes {\n\nvar {\nsegment_count = 1\n\nsegment1 {\nextent_count = 3\n\
                    stripes = [\n\"pv0\", 0\n]\n}\n}\n\nroot {\nsegment_count = 1\n\nsegment1 {\nextent_count = 5\nstripes = [\n\
                    \"pv0\", 3\n]\n}\n}\n}\n";
        assert_eq!(
            described(text, 1 << 20).unwrap(),
            [place("root", 13 << 20, 20 << 20), place("var", 1 << 20, 12 << 20)]
        );
        assert!(described(&text.replace("segment_count = 1", "segment_count = 2"), 0).is_err());
        assert!(described("vg0 {\n}\n", 0).is_err());
    }
}
