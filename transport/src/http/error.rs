//! Why the server did not give what it was asked for.

use simulcast_protocol::id::ChunkId;

use super::ServerUrl;

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server cannot be reached.
    #[error("cannot reach the image server {server}")]
    Unreachable {
        /// Which server.
        server: ServerUrl,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The connection broke while the answer came.
    #[error("the connection to {server} broke while it sent {what}")]
    Broken {
        /// Which server.
        server: ServerUrl,
        /// What it sent.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server does not take the token.
    #[error("the image server {0} does not accept the token")]
    WrongToken(ServerUrl),
    /// The server says that there is no such thing, or that it will not do it.
    #[error("the image server says: {error}")]
    Refused {
        /// What it says.
        error: String,
        /// What it advises; may be empty.
        hint: String,
    },
    /// The server has trouble of its own.
    #[error("the image server {server} failed to give {what} (status {status}): {error}")]
    Trouble {
        /// Which server.
        server: ServerUrl,
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// What it says; may be empty.
        error: String,
    },
    /// What answers is no image server, or one of another version.
    #[error("{server} answers the request for {what} as no image server does: {found}")]
    Strange {
        /// Which server.
        server: ServerUrl,
        /// What was asked for.
        what: String,
        /// What came.
        found: String,
    },
    /// A chunk's bytes are not those that its name promises.
    #[error("the image server {0} sends wrong bytes for chunk {1}: its hash does not match")]
    Damaged(ServerUrl, ChunkId),
}

impl HttpError {
    pub(super) fn request(server: &ServerUrl, error: ureq::Error) -> Self {
        Self::Unreachable {
            server: server.clone(),
            source: Box::new(error),
        }
    }

    pub(super) fn broken(server: &ServerUrl, what: &str, source: std::io::Error) -> Self {
        Self::Broken {
            server: server.clone(),
            what: what.to_owned(),
            source,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Trouble { .. } | Self::Damaged(..) => true,
            Self::WrongToken(_) | Self::Refused { .. } | Self::Strange { .. } => false,
        }
    }

    /// What to do about it; empty when nothing helps.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreachable { server, .. } => format!(
                "check that si-server runs, that its address is {server} and that no firewall is between"
            ),
            Self::Broken { .. } => "start again: only what is missing is fetched".to_owned(),
            Self::WrongToken(_) => "take the token from keys/token in the server's state directory, \
                                    and give it with --token-file or SI_TOKEN"
                .to_owned(),
            Self::Refused { hint, .. } => hint.clone(),
            Self::Trouble { .. } => "the server's own log says more".to_owned(),
            Self::Strange { .. } => "check the address and the port of the image server".to_owned(),
            Self::Damaged(..) => {
                "run si-fsck on the image server: it names damaged chunks and the versions that need them"
                    .to_owned()
            }
        }
    }
}
