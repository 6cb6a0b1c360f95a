//! What a machine does with an image server, whatever it does with the bytes: find token and key, fetch and check a
//! manifest, bring the chunks that are missing by whatever transport.
//!
//! The installer and `si-updateclient` share it. It knows manifests and transports, and no target: chunks go to a
//! [`Writer`](simulcast_image::apply::Writer).

#![forbid(unsafe_code)]

mod contact;
mod pack;
mod peers;
mod record;
mod transfer;

use std::path::PathBuf;

use simulcast_image::manifest::VerifyingKey;
use simulcast_image::order::{self, Order};
use simulcast_protocol::api::Token;
use simulcast_transport::fetch::{Choice, NamedInterface};
use simulcast_transport::http::ServerUrl;

pub use pack::OfferedPack;
pub use peers::{Helping, PeerArgs};
pub use record::Record;
pub use transfer::{Delivery, Invitation, Transferred, Watch, transfer, transfer_watched};

/// Which server, how to be let in, and how chunks come: options of every command that asks an image server.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// The image server, as in http://server:9440
    #[arg(long, env = "SI_SERVER", value_name = "URL")]
    server: Option<ServerUrl>,

    /// How chunks come: multicast as far as it goes, peers and HTTP for the rest, or one of them alone
    #[arg(long, value_name = "TRANSPORT", default_value = "auto")]
    transport: Transport,

    /// Fetch chunks of the version, and no update pack
    #[arg(long)]
    no_pack: bool,

    /// Interface for multicast, by name or address [default: the one that leads to the server]
    #[arg(long, value_name = "NAME|ADDR")]
    interface: Option<NamedInterface>,

    /// File with the server's token [default: SI_TOKEN, or keys/token in the state directory]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[arg(long, env = "SI_TOKEN", hide = true, hide_env_values = true)]
    token: Option<Token>,

    /// The key that signs the server's manifests [default: keys/signing.pub in the state directory, or the one that
    /// the server offers]
    #[arg(long, env = "SI_SERVER_KEY", value_name = "KEY")]
    server_key: Option<VerifyingKey>,

    #[command(flatten)]
    peers: PeerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Transport {
    Auto,
    Multicast,
    Bittorrent,
    Http,
}

impl ServerArgs {
    /// As the installer is told by its order rather than by a command line.
    pub fn of_order(server: ServerUrl, token: Token, key: VerifyingKey, order: &Order) -> Self {
        Self {
            server: Some(server),
            transport: match order.transport {
                order::Transport::Auto => Transport::Auto,
                order::Transport::Multicast => Transport::Multicast,
                order::Transport::Bittorrent => Transport::Bittorrent,
                order::Transport::Http => Transport::Http,
            },
            no_pack: true,
            interface: None,
            token_file: None,
            token: Some(token),
            server_key: Some(key),
            peers: PeerArgs::relaying(order.relay),
        }
    }

    /// Whether anything but the manifest may come by HTTP.
    pub fn may_use_http(&self) -> bool {
        matches!(self.transport, Transport::Auto | Transport::Http)
    }

    /// Whether chunks may come from peers.
    fn may_use_peers(&self) -> bool {
        matches!(self.transport, Transport::Auto | Transport::Bittorrent)
    }

    /// Whether update packs are fetched: their lists come by HTTP like manifests.
    fn may_use_packs(&self) -> bool {
        !self.no_pack && self.transport != Transport::Bittorrent
    }

    /// The interface that was named for multicast.
    pub fn interface(&self) -> Option<&NamedInterface> {
        self.interface.as_ref()
    }
}

impl From<Transport> for Choice {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Auto => Self::Auto,
            Transport::Multicast => Self::Multicast,
            Transport::Bittorrent => Self::Bittorrent,
            Transport::Http => Self::Http,
        }
    }
}
