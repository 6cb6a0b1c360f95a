//! Where the time of an install went.

use super::{Course, Node};

/// Seconds of each part of one install, in the order in which they come.
#[derive(Debug)]
pub struct Times {
    name: String,
    parts: Vec<(&'static str, Option<f64>)>,
}

/// The steps that make up a part.
const PARTS: [(&str, &[&str]); 6] = [
    (
        "partition+format",
        &[
            "disks",
            "erase",
            "partition",
            "raid",
            "lvm",
            "format",
            "assemble",
            "mount",
        ],
    ),
    ("receive", &["receive"]),
    ("verify", &["verify"]),
    (
        "finish",
        &[
            "fstab",
            "identity",
            "network-files",
            "overrides",
            "post-install",
            "initramfs",
        ],
    ),
    ("boot loader", &["boot-loader"]),
    ("unmount", &["unmount"]),
];

impl Times {
    /// The times of a machine that has come to its login prompt, from its console and from what it reported.
    pub fn of(name: &str, course: &Course, node: &Node) -> Self {
        let at = |mark| course.at(mark).map(|at| at.as_secs_f64());
        let between = |from: Option<f64>, to: Option<f64>| Some(to? - from?);
        // The installer's first step began so long after the kernel.
        let kernel = between(node.began("modules"), at("mini-kernel"));
        let mut parts = vec![
            ("firmware+load", kernel),
            ("mini-kernel", between(kernel, at("hello"))),
        ];
        for (part, steps) in PARTS {
            let took: Vec<f64> = steps.iter().filter_map(|step| node.step(step)).collect();
            parts.push((part, (!took.is_empty()).then(|| took.iter().sum())));
        }
        parts.push(("second boot", between(at("installed"), at("login"))));
        Self {
            name: name.to_owned(),
            parts,
        }
    }
}

/// A table with a line for each part and a column for each machine.
pub fn table(all: &[Times]) -> String {
    let mut text = format!("{:<18}", "seconds");
    for times in all {
        text += &format!("{:>10}", times.name);
    }
    text.push('\n');
    let rows = all.first().map_or(0, |times| times.parts.len());
    for row in 0..rows {
        text += &format!("{:<18}", all[0].parts[row].0);
        for times in all {
            let cell = times.parts[row]
                .1
                .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"));
            text += &format!("{cell:>10}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_column_for_each_machine() {
        let times = |name: &str, seconds| Times {
            name: name.to_owned(),
            parts: vec![("receive", seconds)],
        };
        assert_eq!(
            table(&[times("node01", Some(12.34)), times("node02", None)]),
            "seconds               node01    node02\nreceive                 12.3         -\n"
        );
    }
}
