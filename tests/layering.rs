//! The arrows between the parts are those of the design, and no others.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use simulcast_testkit::command::{command, read};
use simulcast_testkit::run::workspace;

/// Which of our parts each part may depend on. The testkit and the benchmarks are free, and nobody depends on them
/// except for tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("simulcast-protocol", &[]),
    ("simulcast-image", &["simulcast-protocol"]),
    ("simulcast-system", &["simulcast-protocol"]),
    ("simulcast-transport", &["simulcast-protocol"]),
    ("simulcast-cli", &["simulcast-protocol"]),
    // It reads kernels and programs, and knows nothing of us.
    ("simulcast-bootpackage", &[]),
    (
        "simulcast-node",
        &[
            "simulcast-protocol",
            "simulcast-image",
            "simulcast-transport",
            "simulcast-cli",
        ],
    ),
    // The server links no code that touches a disk or a partition.
    (
        "simulcast-server",
        &[
            "simulcast-protocol",
            "simulcast-image",
            "simulcast-transport",
            "simulcast-cli",
            "simulcast-bootpackage",
        ],
    ),
    (
        "simulcast-client",
        &[
            "simulcast-protocol",
            "simulcast-image",
            "simulcast-transport",
            "simulcast-system",
            "simulcast-cli",
            "simulcast-node",
        ],
    ),
    (
        "simulcast-initramfs",
        &[
            "simulcast-protocol",
            "simulcast-image",
            "simulcast-transport",
            "simulcast-system",
            "simulcast-cli",
            "simulcast-node",
        ],
    ),
];

const FREE: &[&str] = &["simulcast-testkit", "simulcast-benches"];

/// Crates that would bring I/O, time or threads into the pure part.
const IMPURE: &[&str] = &[
    "tokio",
    "socket2",
    "libc",
    "rustix",
    "mio",
    "crossbeam-channel",
    "ureq",
    "axum",
    "reqwest",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// None for what the part itself needs, "dev" for its tests, "build" for its build script.
    kind: Option<String>,
}

/// What is wrong with the arrows, one sentence each.
fn faults(metadata: &Metadata) -> Vec<String> {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ALLOWED
        .iter()
        .map(|(name, to)| (*name, to.iter().copied().collect()))
        .collect();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if FREE.contains(&name) {
            continue;
        }
        let Some(to) = allowed.get(name) else {
            faults.push(format!(
                "{name} is a part that tests/layering.rs does not know: say what it may depend on"
            ));
            continue;
        };
        let dependencies = package
            .dependencies
            .iter()
            .filter(|d| d.kind.as_deref() != Some("dev"));
        for dependency in dependencies.map(|d| d.name.as_str()) {
            if dependency.starts_with("simulcast-") && !to.contains(dependency) {
                faults.push(format!(
                    "{name} depends on {dependency}; the design lets it depend on {to:?} only"
                ));
            }
            if name == "simulcast-protocol" && IMPURE.contains(&dependency) {
                faults.push(format!(
                    "{name} depends on {dependency}; it is pure: no socket, clock, file or thread"
                ));
            }
        }
    }
    faults
}

#[test]
fn every_arrow_is_in_the_design() {
    let manifest = workspace().join("Cargo.toml");
    let mut cargo = command(env!("CARGO"));
    cargo
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--manifest-path",
        ])
        .arg(manifest);
    let metadata: Metadata = serde_json::from_str(&read(&mut cargo).unwrap()).unwrap();
    assert_eq!(metadata.packages.len(), ALLOWED.len() + FREE.len());
    let faults = faults(&metadata);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn an_arrow_too_many_is_named() {
    let package = |name: &str, to: &[(&str, Option<&str>)]| Package {
        name: name.to_owned(),
        dependencies: to
            .iter()
            .map(|(name, kind)| Dependency {
                name: (*name).to_owned(),
                kind: kind.map(str::to_owned),
            })
            .collect(),
    };
    let metadata = Metadata {
        packages: vec![
            package(
                "simulcast-server",
                &[
                    ("simulcast-system", None),
                    ("simulcast-image", None),
                    ("tokio", None),
                ],
            ),
            package(
                "simulcast-client",
                &[
                    ("simulcast-server", Some("build")),
                    ("simulcast-testkit", Some("dev")),
                ],
            ),
            package(
                "simulcast-protocol",
                &[("tokio", None), ("tokio", Some("dev")), ("serde", None)],
            ),
            package("simulcast-testkit", &[("simulcast-server", None)]),
            package("simulcast-cloud", &[]),
        ],
    };
    let faults = faults(&metadata);
    assert_eq!(faults.len(), 4, "{faults:#?}");
    assert!(faults[0].starts_with("simulcast-server depends on simulcast-system; the design lets it"));
    assert!(faults[1].starts_with("simulcast-client depends on simulcast-server"));
    assert!(faults[2].starts_with("simulcast-protocol depends on tokio; it is pure"));
    assert!(faults[3].starts_with("simulcast-cloud is a part that"));
}
