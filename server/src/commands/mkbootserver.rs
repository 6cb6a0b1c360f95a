//! `si-mkbootserver`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::json;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_protocol::api::PORT;
use simulcast_protocol::install::NodeState;

use super::nodes;

use crate::boot::dhcp::{Service, dhcpd, kea, site};
use crate::boot::files::{self, BootFile};
use crate::boot::grub;
use crate::boot::node::Nodes;
use crate::boot::service::own_address;
use crate::boot::settings::BootSettings;
use crate::daemon::{Overrides, Settings};
use crate::inventory::boot_node;

/// Put the boot loaders in place that firmware gets from si-server, and check them
///
/// They are the distribution's own: iPXE, PXELINUX and GRUB, as far as they are installed. With --print it writes what the
/// site's own DHCP service needs instead, for sites where si-server runs none (mode = "off").
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the configuration for the site's own service
    #[arg(long, value_name = "SERVICE")]
    print: Option<Printed>,

    /// Take boot loaders from the system below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    from: std::path::PathBuf,

    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Printed {
    /// dnsmasq
    Dnsmasq,
    /// ISC dhcpd
    Dhcpd,
    /// Kea
    Kea,
}

/// Puts them in place, or prints.
///
/// # Errors
/// When the settings are wrong, a file that is wanted is not installed, or one cannot be written.
pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let options = console.options();
    let settings = Settings::load(&options.config, Overrides::default())?;
    let port = settings.listen.map_or(PORT, |listen| listen.port());
    if let Some(printed) = args.print {
        return print(printed, &settings.boot, port, console);
    }
    let address = own_address(&settings.boot)?;
    let directory = files::directory(&options.state);
    if !args.dry_run {
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut done = Vec::new();
    for file in BootFile::ALL {
        let outcome = put(file, &args, address, &directory)?;
        done.push((file, outcome));
    }
    show(&done, &directory, console)?;
    let wanted = [
        files::for_bios(settings.boot.bios),
        files::for_uefi(settings.boot.uefi),
    ];
    let missing: Vec<_> = done
        .iter()
        .filter(|(file, outcome)| wanted.contains(file) && *outcome == Outcome::Missing)
        .map(|(file, _)| file)
        .collect();
    if let Some(file) = missing.first() {
        return Err(anyhow!("{} is missing, and machines need it", file.name()))
            .hint(format!("install the package {}, and do it again", file.package()));
    }
    Ok(Exit::Done)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Written,
    Same,
    Missing,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Same => "in place",
            Self::Missing => "not installed",
        }
    }
}

fn put(file: BootFile, args: &Args, address: Option<Ipv4Addr>, directory: &Path) -> anyhow::Result<Outcome> {
    let bytes = match files::installed(file, &args.from)? {
        Some(bytes) => Some(bytes),
        // Whoever only looks has no directory to make an image in.
        None if args.dry_run => None,
        None => grub::image(file, address, directory)?,
    };
    let Some(bytes) = bytes else {
        return Ok(Outcome::Missing);
    };
    let path = directory.join(file.name());
    let changes = match args.dry_run {
        true => !files::holds(&path, &bytes),
        false => files::write(&path, &bytes)?,
    };
    Ok(if changes { Outcome::Written } else { Outcome::Same })
}

fn show(done: &[(BootFile, Outcome)], directory: &Path, console: &Console) -> anyhow::Result<()> {
    if console.json() {
        let files: Vec<_> = done
            .iter()
            .map(|(file, outcome)| json!({ "file": file.name(), "outcome": outcome.word(), "package": file.package() }))
            .collect();
        return console.print_json(&json!({ "directory": directory, "files": files }));
    }
    for (file, outcome) in done {
        let hint = match outcome {
            Outcome::Missing => format!(" (package {})", file.package()),
            Outcome::Written | Outcome::Same => String::new(),
        };
        console.line(format_args!(
            "{}: {}{hint}",
            directory.join(file.name()).display(),
            outcome.word()
        ))?;
    }
    Ok(())
}

fn print(printed: Printed, settings: &BootSettings, port: u16, console: &Console) -> anyhow::Result<Exit> {
    let Some(dhcp) = &settings.dhcp else {
        return Err(anyhow!("[boot] does not say which network machines boot in"))
            .exit(Exit::Usage)
            .hint("set mode = \"dhcp\" or \"proxy\", interface and network in server.toml while this is printed, then mode = \"off\"");
    };
    let address = own_address(settings)?.context("this machine has no address there")?;
    // What the site's service offers need not be in place yet.
    let service = Service {
        dhcp,
        server: SocketAddr::new(address.into(), port),
        tftp: address,
        bios: settings.bios,
        uefi: settings.uefi,
        there: &BootFile::ALL,
    };
    let inventory = nodes::inventory(console)?;
    // Which address is whose does not depend on what the node boots.
    let known = inventory.nodes().keys().filter_map(|name| {
        let effective = inventory.effective(name)?;
        boot_node(name, &effective, NodeState::Local)
    });
    let nodes = Nodes::new(known.collect());
    match printed {
        Printed::Dnsmasq => {
            console.data(|out| std::io::Write::write_all(out, site(&service, &nodes).as_bytes()))?
        }
        Printed::Dhcpd => {
            console.data(|out| std::io::Write::write_all(out, dhcpd(&service, &nodes).as_bytes()))?
        }
        Printed::Kea => console.print_json(&kea(&service, &nodes))?,
    }
    Ok(Exit::Done)
}
