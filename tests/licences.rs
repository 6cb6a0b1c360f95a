//! Every dependency comes under a licence that lets us give our programs away under ours.

use serde::Deserialize;
use simulcast_testkit::command::{command, read};
use simulcast_testkit::run::workspace;

/// Licences that ask for no more than their text and names being kept. An expression is fine when one of its
/// alternatives is made of these alone.
const FINE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    license: Option<String>,
}

/// Whether an SPDX expression leaves a way that is fine. `/` is the old way to write OR.
fn is_fine(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], " ").replace('/', " OR ");
    expression
        .split(" OR ")
        .any(|way| way.split(" AND ").all(|licence| FINE.contains(&licence.trim())))
}

#[test]
fn every_dependency_has_a_fine_licence() {
    let mut cargo = command("cargo");
    cargo
        .args(["metadata", "--format-version", "1"])
        .current_dir(workspace());
    let metadata: Metadata =
        serde_json::from_str(&read(&mut cargo).expect("cargo metadata")).expect("its JSON");
    let wrong: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(is_fine))
        .map(|package| format!("{}: {:?}", package.name, package.license))
        .collect();
    assert!(
        wrong.is_empty(),
        "dependencies under licences that we did not agree to:\n{}",
        wrong.join("\n")
    );
    assert!(metadata.packages.len() > 100);
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    assert!(is_fine("MIT OR GPL-3.0"));
    assert!(is_fine("MIT/Apache-2.0"));
    assert!(is_fine("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_fine("GPL-3.0"));
    assert!(!is_fine("MIT AND GPL-3.0"));
}
