//! Manners that the three programs share, so that every command answers, fails and is interrupted alike.
//!
//! - stdout is data, stderr is talk; a reader that closes its end of the pipe is no error.
//! - An error is printed once, at the top, by [`main`]: `error: what on which thing: why`, then `hint: what to do`.
//! - Exit codes are those of [`Exit`].
//! - `si-lsimage X` is `si lsimage X`: the name that a program is called by chooses the command.
//!
//! This crate knows no image, no network and no command; it depends on none of our crates but the protocol's units.
//!
//! ```no_run
//! use simulcast_cli::{Console, Exit, Options, Program};
//!
//! /// The operator's commands.
//! #[derive(clap::Parser)]
//! struct Si {
//!     #[command(flatten)]
//!     options: Options,
//! }
//!
//! impl Program for Si {
//!     fn options(&self) -> &Options {
//!         &self.options
//!     }
//!
//!     fn run(self, console: &Console) -> anyhow::Result<Exit> {
//!         console.line(format_args!("state is in {}", console.options().state.display()))?;
//!         Ok(Exit::Done)
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     simulcast_cli::main::<Si>()
//! }
//! ```

#![forbid(unsafe_code)]

mod console;
mod counting;
mod failure;
pub mod interrupt;
mod options;
mod program;
mod progress;
mod table;

pub use console::Console;
pub use counting::Counting;
pub use failure::{Exit, Remark};
pub use options::Options;
pub use program::{Program, main};
pub use progress::{Amount, Progress};
pub use table::{Align, Table};
