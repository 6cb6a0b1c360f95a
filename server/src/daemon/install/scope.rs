//! What a token opens. An operator's opens everything; a node's what an installing node needs.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use simulcast_protocol::api::{ROOT, Token};
use simulcast_protocol::id::ManifestId;

use super::super::Daemon;
use super::super::answer::Refusal;
use super::super::versions::blocking;
use crate::state::{Bearer, TokenHash};
use crate::text::now;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Caller {
    /// With the token of the state directory.
    Operator,
    /// A node that is being installed.
    Node(Arc<Bearer>),
}

impl Daemon {
    /// Who shows a token; `None` when it is nobody's.
    pub(in super::super) async fn caller(self: &Arc<Self>, header: &[u8]) -> Result<Option<Caller>, Refusal> {
        if self.token.authorizes(header) {
            return Ok(Some(Caller::Operator));
        }
        let token = header
            .strip_prefix(b"Bearer ")
            .and_then(|text| std::str::from_utf8(text).ok());
        let Some(token) = token.and_then(|text| text.parse::<Token>().ok()) else {
            return Ok(None);
        };
        let daemon = Arc::clone(self);
        blocking(move || {
            let bearer = daemon.install.state.bearer(TokenHash::of(&token), now())?;
            // A node that was taken out of the files by hand has no rights any more. While they are broken, who knows.
            let inventory = &daemon.install.inventory;
            let there = |bearer: &Bearer| {
                inventory.get().node(&bearer.node).is_some() || inventory.broken().is_some()
            };
            Ok(bearer.filter(there).map(|bearer| Caller::Node(Arc::new(bearer))))
        })
        .await
    }
}

impl Caller {
    /// Whether it may ask for this path at all. What the body of a request says is looked at by who reads it.
    pub(in super::super) fn may(&self, method: &Method, path: &str) -> bool {
        let Self::Node(bearer) = self else { return true };
        let Some(path) = path.strip_prefix(ROOT).and_then(|path| path.strip_prefix('/')) else {
            return false;
        };
        let parts: Vec<&str> = path.split('/').collect();
        let reports = matches!((method, &*parts), (&Method::POST, ["install", "events" | "log"]));
        if bearer.ended {
            return reports;
        }
        match (method, &*parts) {
            (&Method::GET, ["key"] | ["install", "order"] | ["install", "files", _] | ["chunks", _]) => true,
            (&Method::GET, ["images", image, version, "manifest"]) => bearer
                .order
                .as_ref()
                .is_some_and(|order| order.image.as_str() == *image && order.version.to_string() == *version),
            (&Method::GET, ["manifests", _, "pieces"]) => true,
            (&Method::POST, ["sessions"] | ["swarm"] | ["probes"] | ["probes", _, "counts"]) => true,
            _ => reports,
        }
    }

    /// Whether it may have a version.
    pub(in super::super) fn may_have(&self, manifest: &ManifestId) -> bool {
        match self {
            Self::Operator => true,
            Self::Node(bearer) => bearer
                .order
                .as_ref()
                .is_some_and(|order| order.manifest == *manifest),
        }
    }

    /// The node that asks: only nodes have orders.
    pub(super) fn node(&self) -> Result<&Arc<Bearer>, Refusal> {
        match self {
            Self::Node(bearer) => Ok(bearer),
            Self::Operator => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "this is for nodes that are being installed",
                "GET /v1/nodes/NAME tells of a node",
            )),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Refusal::trouble("a request was not looked at for its token"))
    }
}

/// The refusal of what a node's token does not open.
pub(in super::super) fn foreign() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "the token of a node does not open this",
        "it opens the node's own order, files and version, until its install has ended",
    )
}

#[cfg(test)]
mod tests {
    use simulcast_protocol::name::Version;

    use super::*;
    use crate::state::Ordered;

    fn caller(order: bool, ended: bool) -> Caller {
        let order = order.then(|| Ordered {
            number: 7,
            attempt: 1,
            image: "golden01".parse().unwrap(),
            version: Version::new(3).unwrap(),
            manifest: ManifestId::of(b"x"),
            files: Vec::new(),
        });
        Caller::Node(Arc::new(Bearer {
            hash: TokenHash::of(&Token::from_bytes([1; 32])),
            node: "n1".parse().unwrap(),
            order,
            ended,
        }))
    }

    #[test]
    fn a_node_may_what_installing_needs() {
        for (method, path, without, with, ended) in [
            (Method::GET, "/v1/install/order", true, true, false),
            (Method::GET, "/v1/install/files/x", true, true, false),
            (Method::POST, "/v1/install/events", true, true, true),
            (Method::POST, "/v1/install/log", true, true, true),
            (Method::GET, "/v1/key", true, true, false),
            (Method::GET, "/v1/chunks/x", true, true, false),
            (Method::POST, "/v1/sessions", true, true, false),
            (Method::POST, "/v1/swarm", true, true, false),
            (Method::GET, "/v1/manifests/x/pieces", true, true, false),
            (Method::GET, "/v1/images/golden01/3/torrent", false, false, false),
            (Method::POST, "/v1/probes/1/counts", true, true, false),
            (Method::GET, "/v1/images/golden01/3/manifest", false, true, false),
            (Method::GET, "/v1/images/golden01/2/manifest", false, false, false),
            (
                Method::GET,
                "/v1/images/golden01/latest/manifest",
                false,
                false,
                false,
            ),
            (Method::GET, "/v1/images/other/3/manifest", false, false, false),
            (Method::GET, "/v1/images", false, false, false),
            (Method::GET, "/v1/images/golden01", false, false, false),
            (Method::GET, "/v1/nodes", false, false, false),
            (Method::GET, "/v1/nodes/n1", false, false, false),
            (Method::GET, "/v1/status", false, false, false),
            (Method::POST, "/v1/install/order", false, false, false),
            (Method::POST, "/v1/manifests/x/files/1/delta", false, false, false),
            (Method::GET, "/v1/install/files/../order", false, false, false),
            (Method::GET, "/", false, false, false),
            (Method::GET, "/v1x/key", false, false, false),
        ] {
            let may =
                [caller(false, false), caller(true, false), caller(true, true)].map(|c| c.may(&method, path));
            assert_eq!(may, [without, with, ended], "{method} {path}");
            assert!(Caller::Operator.may(&method, path));
        }
        assert!(caller(true, false).may_have(&ManifestId::of(b"x")));
        assert!(!caller(true, false).may_have(&ManifestId::of(b"y")));
        assert!(!caller(false, false).may_have(&ManifestId::of(b"x")));
    }
}
