//! The commands, one file each: what it does, its arguments, `run`.

mod checkout;
mod chroot;
mod cpimage;
mod debootstrap;
mod diffimage;
mod doctor;
mod export;
mod fsck;
mod gc;
mod getimage;
mod group;
mod import;
mod install;
mod layout;
mod listing;
mod lsimage;
mod mkbootpackage;
mod mkbootserver;
mod mvimage;
mod node;
mod nodes;
mod pushupdate;
mod rmimage;
mod server;
mod token;
mod verify;

use simulcast_cli::{Console, Exit};

/// What `si` can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Getimage(getimage::Args),
    Import(import::Args),
    Lsimage(lsimage::Args),
    Layout(layout::Args),
    Diffimage(diffimage::Args),
    Checkout(checkout::Args),
    Chroot(chroot::Args),
    Export(export::Args),
    Cpimage(cpimage::Args),
    Mvimage(mvimage::Args),
    Rmimage(rmimage::Args),
    Fsck(fsck::Args),
    Gc(gc::Args),
    Node(node::Args),
    Group(group::Args),
    Install(install::Args),
    Pushupdate(Box<pushupdate::Args>),
    Token(token::Args),
    Doctor(doctor::Args),
    Mkbootserver(mkbootserver::Args),
    Mkbootpackage(mkbootpackage::Args),
    Verify(verify::Args),
    Server(server::Args),
}

impl Command {
    pub(crate) fn run(self, console: &Console) -> anyhow::Result<Exit> {
        match self {
            Self::Getimage(args) => args.run(console),
            Self::Import(args) => import::run(args, console),
            Self::Lsimage(args) => lsimage::run(args, console),
            Self::Layout(args) => layout::run(args, console),
            Self::Diffimage(args) => diffimage::run(args, console),
            Self::Checkout(args) => checkout::run(args, console),
            Self::Chroot(args) => chroot::run(args, console),
            Self::Export(args) => export::run(args, console),
            Self::Cpimage(args) => cpimage::run(args, console),
            Self::Mvimage(args) => mvimage::run(args, console),
            Self::Rmimage(args) => rmimage::run(args, console),
            Self::Fsck(args) => fsck::run(args, console),
            Self::Gc(args) => gc::run(args, console),
            Self::Node(args) => node::run(args, console),
            Self::Group(args) => group::run(args, console),
            Self::Install(args) => install::run(args, console),
            Self::Pushupdate(args) => pushupdate::run(*args, console),
            Self::Token(args) => token::run(args, console),
            Self::Doctor(args) => doctor::run(args, console),
            Self::Mkbootserver(args) => mkbootserver::run(args, console),
            Self::Mkbootpackage(args) => mkbootpackage::run(args, console),
            Self::Verify(args) => verify::run(args, console),
            Self::Server(args) => server::run(args, console),
        }
    }
}
