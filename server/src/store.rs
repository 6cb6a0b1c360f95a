//! Opening the store as commands do.

use std::path::Path;
use std::thread::available_parallelism;

use anyhow::anyhow;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::store::{Store, StoreError};

/// Opens the store, making it where there is none: for commands that put something into it.
pub(crate) fn open_or_make(console: &Console) -> anyhow::Result<Store> {
    let state = &console.options().state;
    let opened = Store::open(state);
    let exit = match &opened {
        Err(StoreError::Format { .. }) => Exit::Usage,
        _ => Exit::Failed,
    };
    let result = opened
        .map_err(|error| {
            anyhow::Error::new(error).context(format!("cannot open the store {}", state.display()))
        })
        .exit(exit);
    if result.is_err() && !rustix::process::geteuid().is_root() {
        return result
            .hint("the store belongs to root: run this as root, or choose another one with --state");
    }
    result
}

/// Opens the store: for commands that look at what is in it, or change that. They leave no new store behind.
pub(crate) fn open(console: &Console) -> anyhow::Result<Store> {
    let state = &console.options().state;
    if !is_there(state) {
        return Err(anyhow!("there is no store in {}", state.display())).hint(
            "si-import or si-getimage makes it with the first image; --state or SI_STATE says where it is",
        );
    }
    open_or_make(console)
}

/// Whether there is a store below `state`. One that we may not see is taken to be there, so that opening it says so.
pub(crate) fn is_there(state: &Path) -> bool {
    state.join("format").try_exists().unwrap_or(true)
}

/// How many threads work where nobody says: one for each processor.
pub(crate) fn threads(wanted: Option<usize>) -> usize {
    wanted.unwrap_or_else(|| available_parallelism().map_or(1, usize::from))
}

/// Checks `--threads`.
pub(crate) fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=256) => Ok(threads),
        _ => Err("use a number from 1 to 256".to_owned()),
    }
}
