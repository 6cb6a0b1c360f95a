//! What `blkid -p -o export` finds on devices: lines `NAME=value`, an empty line between devices.

use std::collections::BTreeMap;

/// What was found on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The device's path.
    pub path: String,
    values: BTreeMap<String, String>,
}

impl Probe {
    /// The value of this name, as in `TYPE`, `UUID`, `PART_ENTRY_TYPE`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// Reads the output of `blkid -o export`, low-level probing or not. Lines that are no assignments are passed over.
pub fn parse_blkid(text: &[u8]) -> Vec<Probe> {
    let text = String::from_utf8_lossy(text);
    let mut probes: Vec<Probe> = Vec::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let value = unescape(value);
        if name == "DEVNAME" {
            probes.push(Probe {
                path: value,
                values: BTreeMap::new(),
            });
        } else if let Some(probe) = probes.last_mut() {
            probe.values.insert(name.to_owned(), value);
        }
    }
    probes
}

/// Undoes the backslash that blkid puts before what a shell would take for something else.
fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next()),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_output_is_read() {
        let probes = parse_blkid(include_bytes!("../../fixtures/blkid-debian12-gpt.txt"));
        assert_eq!(probes.len(), 5);
        let disk = &probes[0];
        assert_eq!(
            (disk.path.as_str(), disk.get("PTTYPE")),
            ("/dev/loop0", Some("gpt"))
        );
        let esp = &probes[1];
        assert_eq!(esp.get("TYPE"), Some("vfat"));
        assert_eq!(
            esp.get("PART_ENTRY_TYPE"),
            Some("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
        );
        assert_eq!(probes[3].get("LABEL"), Some("my swap"));
        assert_eq!(probes[4].get("LABEL"), Some(r#"root "x" \ y"#));
        assert_eq!(probes[4].get("NONE"), None);
    }

    #[test]
    fn nonsense_is_passed_over() {
        assert_eq!(parse_blkid(b""), []);
        assert_eq!(parse_blkid(b"TYPE=ext4\nnonsense\n\xff\n"), []);
        let probes = parse_blkid(b"DEVNAME=/dev/sda\nnonsense\nTYPE=a\\\n");
        assert_eq!(probes[0].get("TYPE"), Some("a"));
    }
}
