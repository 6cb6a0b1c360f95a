//! `si-server`: the daemon.

use std::net::SocketAddr;

use anyhow::Result;
use simulcast_cli::{Console, Exit};

use crate::daemon::{self, MulticastOptions, Overrides, Settings};

/// Give images to nodes, by HTTP and by multicast, until SIGTERM
///
/// Settings come from server.toml in the configuration directory; what is given here wins. Every request needs the
/// token in keys/token of the state directory, which is made at the first start. There is no TLS yet: token and
/// manifests travel in the clear, so use it on a network that you trust.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and TCP port to listen on [default: port 9440 of all addresses]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,

    #[command(flatten)]
    multicast: MulticastOptions,
}

/// Runs the daemon.
///
/// # Errors
/// When the settings are wrong, the store cannot be opened, or the address cannot be listened on.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    let command_line = Overrides {
        listen: args.listen,
        multicast: args.multicast,
        ..Overrides::default()
    };
    let options = console.options();
    let settings = Settings::load(&options.config, command_line)?;
    daemon::run(&options.state, &options.config, settings, console)
}
