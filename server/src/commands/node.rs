//! `si-node`.

mod add;
mod adopt;
mod list;
mod log;
mod mark;
mod remove;
mod set;
mod show;

use anyhow::Result;
use simulcast_cli::{Console, Exit};

/// Nodes: what is said of them, and what became of them
///
/// Nodes stand in nodes.d/*.toml of the configuration directory, which may be changed by hand as well. NODES is a set as in
/// node[01-16], @group, node[1-9]!node3 or a,b.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Add(add::Args),
    Set(set::SetArgs),
    Unset(set::UnsetArgs),
    Show(show::Args),
    List(list::Args),
    Adopt(adopt::Args),
    Mark(mark::Args),
    Remove(remove::Args),
    Log(log::Args),
}

/// Does what `si-node` is asked for.
///
/// # Errors
/// When it cannot be done.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    match args.what {
        What::Add(args) => add::run(&args, console),
        What::Set(args) => set::set(&args, console),
        What::Unset(args) => set::unset(&args, console),
        What::Show(args) => show::run(&args, console),
        What::List(args) => list::run(&args, console),
        What::Adopt(args) => adopt::run(&args, console),
        What::Mark(args) => mark::run(&args, console),
        What::Remove(args) => remove::run(&args, console),
        What::Log(args) => log::run(&args, console),
    }
}
