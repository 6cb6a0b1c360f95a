//! `si-lab netboot`: bare machines, as QEMU emulates them, become nodes.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use simulcast_testkit::netboot::{kinds, runs, tar};
use simulcast_testkit::programs::Programs;
use simulcast_testkit::tier::{Feature, probe};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the built programs are [default: where scripts/build puts them].
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Only this run.
    #[arg(long)]
    only: Option<Only>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// A BIOS, a UEFI and a machine with mirrored disks, from one session.
    Three,
    /// A machine beside a foreign DHCP server, interrupted twice, then installed with other versions.
    Again,
    /// A machine that is refused, then gets volumes of a group and goes on by kexec; a UEFI with systemd-boot.
    Kinds,
    /// How long receiving takes, and how long unpacking an archive from HTTP in the same machine.
    Tar,
}

/// Makes the runs, one after the other; each prints a table of seconds.
///
/// # Errors
/// When something is missing here, or anything is not as it must be.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    for feature in [
        Feature::Root,
        Feature::Network,
        Feature::Debian,
        Feature::Rsync,
        Feature::Vm,
    ] {
        probe(feature)?;
    }
    let programs = Programs::new(arguments.programs.as_deref());
    let begun = Instant::now();
    let wanted = |run: Only| arguments.only.is_none_or(|only| only == run);
    if wanted(Only::Three) {
        eprintln!("==> three machines with empty disks");
        runs::three_at_once(&programs)?;
    }
    if wanted(Only::Again) {
        eprintln!("==> an interrupted install, a newer version, the older one again");
        runs::interrupted_and_installed_again(&programs)?;
    }
    if wanted(Only::Kinds) {
        eprintln!("==> other kinds of storage, boot loader and ending, and a refusal");
        kinds::of_other_kinds(&programs)?;
    }
    if wanted(Only::Tar) {
        eprintln!("==> receiving, and unpacking an archive");
        tar::receive_against_tar(&programs)?;
    }
    println!("all was as it must be, in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}
