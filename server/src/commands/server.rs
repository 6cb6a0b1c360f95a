//! `si-server`: the daemon.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use simulcast_cli::{Console, Exit};
use simulcast_protocol::units::Rate;

use simulcast_transport::fetch::NamedInterface;

use crate::daemon::{self, Overrides, Settings};

/// Give images to nodes, by HTTP and by multicast, until SIGTERM
///
/// Settings come from server.toml in the configuration directory; what is given here wins. Every request needs the
/// token in keys/token of the state directory, which is made at the first start. There is no TLS yet: token and
/// manifests travel in the clear, so use it on a network that you trust.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and TCP port to listen on [default: 0.0.0.0:9440]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,

    /// Rate on the wire that a multicast session never passes [default: 1Gbit]
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,

    /// Interface for multicast, by name or address [default: the one that the request came in on]
    #[arg(long, value_name = "NAME|ADDR")]
    interface: Option<NamedInterface>,

    /// Multicast group of the first session; others take the following ones [default: one that the store's key
    /// chooses in 239.255.64.0/18]
    #[arg(long, value_name = "ADDR")]
    group: Option<Ipv4Addr>,

    /// Routers that multicast packets may pass, plus one [default: 1]
    #[arg(long, value_name = "N")]
    ttl: Option<u8>,
}

/// Runs the daemon.
///
/// # Errors
/// When the settings are wrong, the store cannot be opened, or the address cannot be listened on.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    let command_line = Overrides {
        listen: args.listen,
        rate: args.rate,
        interface: args.interface,
        group: args.group,
        ttl: args.ttl,
    };
    let options = console.options();
    let settings = Settings::load(&options.config, command_line)?;
    daemon::run(&options.state, settings, console)
}
