//! What a token opens: an operator's what their role and scope allow, a node's what an installing node needs.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use simulcast_protocol::api::{ROOT, Token};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::NodeName;
use simulcast_protocol::name::ImageName;
use simulcast_protocol::nodeset::NodeSet;

use super::super::Daemon;
use super::super::answer::Refusal;
use super::super::versions::blocking;
use crate::inventory::Inventory;
use crate::state::{Bearer, OperatorRecord, Role, TokenHash};
use crate::text::now;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Caller {
    /// An operator.
    Operator(Arc<Operator>),
    /// A node that is being installed.
    Node(Arc<Bearer>),
}

/// An operator who asks: what they may do, and what they see of the site. `None` is everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Operator {
    role: Role,
    nodes: Option<NodeSet>,
    images: Option<Vec<ImageName>>,
}

/// The role that each route asks of an operator; `*` stands for one name. Manifests and all that holds keys of content ask
/// for more than a look. What is not here is for admins.
const ROUTES: &[(Method, &str, Role)] = &[
    (Method::GET, "key", Role::View),
    (Method::GET, "status", Role::View),
    (Method::GET, "metrics", Role::View),
    (Method::GET, "targets", Role::View),
    (Method::GET, "images", Role::View),
    (Method::GET, "images/*", Role::View),
    (Method::GET, "nodes", Role::View),
    (Method::GET, "nodes/*", Role::View),
    (Method::GET, "exclusions/*", Role::View),
    (Method::GET, "scripts/update", Role::Operate),
    (Method::GET, "images/*/*/manifest", Role::Operate),
    (Method::GET, "images/*/*/torrent", Role::Operate),
    (Method::GET, "manifests/*/pieces", Role::Operate),
    (Method::POST, "manifests/*/files/*/delta", Role::Operate),
    (Method::GET, "chunks/*", Role::Operate),
    (Method::GET, "packs/*/*", Role::Operate),
    (Method::POST, "sessions", Role::Operate),
    (Method::POST, "swarm", Role::Operate),
    (Method::POST, "probes", Role::Operate),
    (Method::POST, "probes/*/counts", Role::Operate),
];

impl Daemon {
    /// Who shows a token; `None` when it is nobody's.
    pub(in super::super) async fn caller(self: &Arc<Self>, header: &[u8]) -> Result<Option<Caller>, Refusal> {
        if self.token.authorizes(header) {
            return Ok(Some(Caller::Operator(Arc::new(Operator::local()))));
        }
        let token = header
            .strip_prefix(b"Bearer ")
            .and_then(|text| std::str::from_utf8(text).ok());
        let Some(token) = token.and_then(|text| text.parse::<Token>().ok()) else {
            return Ok(None);
        };
        let daemon = Arc::clone(self);
        blocking(move || {
            let (state, hash, now) = (&daemon.install.state, TokenHash::of(&token), now());
            let inventory = &daemon.install.inventory;
            if let Some(record) = state.operator(hash, now)? {
                let operator = Operator::new(record, &inventory.get());
                return Ok(Some(Caller::Operator(Arc::new(operator))));
            }
            let bearer = state.bearer(hash, now)?;
            // A node that was taken out of the files by hand has no rights any more. While they are broken, who knows.
            let there = |bearer: &Bearer| {
                inventory.get().node(&bearer.node).is_some() || inventory.broken().is_some()
            };
            Ok(bearer.filter(there).map(|bearer| Caller::Node(Arc::new(bearer))))
        })
        .await
    }

    /// Whether a caller may have the version, or the update pack, with an identity.
    pub(in super::super) async fn opens(
        self: &Arc<Self>,
        caller: &Caller,
        manifest: &ManifestId,
    ) -> Result<bool, Refusal> {
        match caller {
            Caller::Node(bearer) => Ok(bearer
                .order
                .as_ref()
                .is_some_and(|order| order.manifest == *manifest)),
            Caller::Operator(operator) if operator.images.is_none() => Ok(true),
            Caller::Operator(_) => {
                let served = self.version_by_id(*manifest).await?;
                Ok(served.is_some_and(|served| caller.sees_image(&served.image)))
            }
        }
    }
}

impl Operator {
    /// Whoever has the token of the state directory.
    fn local() -> Self {
        Self {
            role: Role::Admin,
            nodes: None,
            images: None,
        }
    }

    /// A set that means nothing any more, as when its group is gone, shows no node.
    fn new(record: OperatorRecord, inventory: &Inventory) -> Self {
        let nodes = record.nodes.map(|text| inventory.set(&text).unwrap_or_default());
        Self {
            role: record.role,
            nodes,
            images: record.images,
        }
    }

    fn may(&self, method: &Method, parts: &[&str]) -> bool {
        let route = ROUTES.iter().find(|(of, route, _)| {
            let names: Vec<&str> = route.split('/').collect();
            let same = |(name, part): (&&str, &&str)| *name == "*" || name == part;
            of == method && names.len() == parts.len() && names.iter().zip(parts).all(same)
        });
        let role = route.map_or(Role::Admin, |(_, _, role)| *role);
        let image = match parts {
            ["images" | "exclusions", name, ..] => Some(name),
            _ => None,
        };
        let sees = |name: &&str| name.parse().is_ok_and(|name| self.sees_image(&name));
        self.role >= role && (self.images.is_none() || image.is_none_or(sees))
    }

    fn sees_image(&self, image: &ImageName) -> bool {
        self.images.as_ref().is_none_or(|images| images.contains(image))
    }
}

impl Caller {
    /// Whether it may ask for this path at all. What the body of a request says is looked at by who reads it.
    pub(in super::super) fn may(&self, method: &Method, path: &str) -> bool {
        let path = path.strip_prefix(ROOT).and_then(|path| path.strip_prefix('/'));
        let parts: Vec<&str> = path.into_iter().flat_map(|path| path.split('/')).collect();
        let bearer = match self {
            Self::Operator(operator) => return operator.may(method, &parts),
            Self::Node(bearer) => bearer,
        };
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

    /// Whether it sees a node: an operator those of their scope, a node itself.
    pub(in super::super) fn sees_node(&self, node: &NodeName) -> bool {
        match self {
            Self::Operator(operator) => operator.nodes.as_ref().is_none_or(|nodes| nodes.contains(node)),
            Self::Node(bearer) => bearer.node == *node,
        }
    }

    /// Whether it sees machines that nobody has adopted, and so are in nobody's scope.
    pub(in super::super) fn sees_unknown(&self) -> bool {
        matches!(self, Self::Operator(operator) if operator.nodes.is_none())
    }

    /// Whether it sees an image: an operator those of their scope, a node that of its order.
    pub(in super::super) fn sees_image(&self, image: &ImageName) -> bool {
        match self {
            Self::Operator(operator) => operator.sees_image(image),
            Self::Node(bearer) => bearer.order.as_ref().is_some_and(|order| order.image == *image),
        }
    }

    /// The node that asks: only nodes have orders.
    pub(super) fn node(&self) -> Result<&Arc<Bearer>, Refusal> {
        match self {
            Self::Node(bearer) => Ok(bearer),
            Self::Operator(_) => Err(Refusal::new(
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
        "this token does not open this",
        "a node's opens its own order, files and version until its install has ended; an operator's what si-token list says",
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
        }
    }

    fn operator(role: Role, nodes: Option<&[&str]>, images: Option<&[&str]>) -> Caller {
        Caller::Operator(Arc::new(Operator {
            role,
            nodes: nodes.map(|names| names.iter().map(|name| name.parse().unwrap()).collect()),
            images: images.map(|names| names.iter().map(|name| name.parse().unwrap()).collect()),
        }))
    }

    #[test]
    fn an_operator_may_what_the_role_says() {
        for (method, path, least) in [
            (Method::GET, "/v1/status", Role::View),
            (Method::GET, "/v1/nodes/n1", Role::View),
            (Method::GET, "/v1/images/golden01", Role::View),
            (Method::GET, "/v1/images/golden01/3/manifest", Role::Operate),
            (Method::GET, "/v1/images/golden01/3/torrent", Role::Operate),
            (Method::GET, "/v1/packs/x/y", Role::Operate),
            (Method::POST, "/v1/sessions", Role::Operate),
            (Method::POST, "/v1/status", Role::Admin),
            (Method::GET, "/v1/nodes/n1/more", Role::Admin),
            (Method::GET, "/v1/%6eodes", Role::Admin),
            (Method::DELETE, "/v1/images/golden01", Role::Admin),
        ] {
            for role in [Role::View, Role::Operate, Role::Admin] {
                let may = operator(role, None, None).may(&method, path);
                assert_eq!(may, role >= least, "{role:?} {method} {path}");
            }
        }
    }

    #[test]
    fn a_scope_hides_images_and_nodes_from_every_role() {
        for role in [Role::View, Role::Operate, Role::Admin] {
            let scoped = operator(role, Some(&["n1"]), Some(&["mine"]));
            assert!(scoped.may(&Method::GET, "/v1/images/mine"));
            for path in [
                "/v1/images/other",
                "/v1/exclusions/other",
                "/v1/images/%6dine",
                "/v1/images/..",
            ] {
                assert!(!scoped.may(&Method::GET, path), "{role:?} {path}");
            }
            assert!(scoped.sees_node(&"n1".parse().unwrap()) && !scoped.sees_node(&"n2".parse().unwrap()));
            assert!(!scoped.sees_unknown());
        }
    }
}
