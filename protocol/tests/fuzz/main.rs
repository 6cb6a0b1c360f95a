//! Replays what the fuzzer found worth keeping (`protocol/fuzz`) through the same functions.

#[path = "targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use targets::Target;

/// Files and bytes that the corpus may have: what a clone of the repository should not feel.
const FILES: usize = 300;
const BYTES: u64 = 500_000;

fn corpus(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.sort();
    files
}

#[test]
fn the_corpus_holds() {
    for (_, name) in Target::ALL {
        let files = corpus(name);
        assert!(!files.is_empty(), "{name} has a corpus");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            catch_unwind(AssertUnwindSafe(|| Target::run(name, &bytes))).unwrap_or_else(|panic| {
                eprintln!("{} makes {name} panic", file.display());
                resume_unwind(panic)
            });
        }
    }
}

#[test]
fn the_corpus_stays_small() {
    let files: Vec<PathBuf> = Target::ALL.iter().flat_map(|(_, name)| corpus(name)).collect();
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(
        files.len() <= FILES && bytes <= BYTES,
        "{} files, {bytes} bytes",
        files.len()
    );
}
