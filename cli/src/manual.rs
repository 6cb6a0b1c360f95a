//! Manual pages, from the same words as `--help`.

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

/// Commands of administrators.
const SECTION: &str = "8";

/// Writes a page for a command, and for each command below it, into `directory`.
///
/// # Errors
/// When a page cannot be written.
pub(crate) fn write(command: &Command, directory: &Path) -> io::Result<()> {
    Man::new(command.clone())
        .section(SECTION)
        .manual("Simulcast")
        .generate_to(directory)?;
    let below = command.get_subcommands();
    below
        .filter(|below| below.get_name() != "help")
        .try_for_each(|below| write(below, directory))
}
