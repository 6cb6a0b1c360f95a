//! How the order of a node comes to be. From top to bottom: which version, which disks, which network, what the node has
//! for itself, which files go with it; then it is signed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use simulcast_image::layout::{Derived, Layout, LayoutError, MachineError};
use simulcast_image::manifest::SigningKey;
use simulcast_image::order::{self, Identity, Network, Order, OrderError, SshHostKeys, Transport};
use simulcast_image::store::{Store, StoreError};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::NodeName;
use simulcast_protocol::install::cmdline::Addressing;
use simulcast_protocol::name::{ImageName, ImageRef, Version};

use crate::exclusions::{ListError, of_effective};
use crate::extras::{ExtraError, Extras};
use crate::inventory::{Effective, Entry, Finish, Kept, MachineId, NetworkKind, TransportKind};

/// The fact of a version's source under which the golden client's record is kept.
pub(crate) const MACHINE: &str = "machine";

/// Bytes of a layout's file.
const LAYOUT_BYTES: u64 = 256 << 10;

/// An order cannot be made: the operator has to do something about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    /// Nobody says what the node is to be installed with.
    #[error("nobody says which image {0} gets")]
    NoImage(NodeName),
    /// Nobody says which card is meant.
    #[error("nobody says which network card {0} has")]
    NoMac(NodeName),
    /// No layout is named, and the image has none recorded.
    #[error(
        "nobody says how the disks of {node} are divided, and {image} has no record of its golden client's"
    )]
    NoLayout { node: NodeName, image: ImageName },
    /// The record of the golden client's disks makes no layout.
    #[error("cannot divide the disks of {node} as those of the golden client of {image}")]
    Recorded {
        node: NodeName,
        image: ImageName,
        #[source]
        source: MachineError,
    },
    /// The layout's file cannot be read.
    #[error("cannot read the layout {}", .0.display())]
    ReadLayout(PathBuf, #[source] io::Error),
    /// The layout's file says something wrong.
    #[error("cannot use the layout {}", .0.display())]
    Layout(PathBuf, #[source] LayoutError),
    /// A static address is wanted, and something is missing.
    #[error("{0} has network = \"static\" without {1}")]
    Address(NodeName, &'static str),
    /// Overrides or scripts.
    #[error(transparent)]
    Extra(#[from] ExtraError),
    /// Exclusion lists.
    #[error(transparent)]
    List(#[from] ListError),
    /// The version.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The installer would refuse it.
    #[error("the order of {0} would be refused")]
    Order(NodeName, #[source] OrderError),
}

impl MakeError {
    /// What the operator can do.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoImage(node) => format!("si-node set {node} image=NAME, or set it for one of its groups"),
            Self::NoMac(node) => format!("si-node set {node} mac=52:54:00:12:34:56"),
            Self::NoLayout { node, .. } | Self::Recorded { node, .. } => {
                format!(
                    "write layouts.d/NAME.toml in the configuration directory, then si-node set {node} layout=NAME"
                )
            }
            Self::Address(node, what) => {
                format!("si-node set {node} {what}=…, or set it for one of its groups")
            }
            _ => String::new(),
        }
    }
}

/// A version that can be installed.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) image: ImageName,
    pub(crate) version: Version,
    pub(crate) manifest: ManifestId,
    /// What `si-prepareclient` recorded of the golden client's disks, as JSON.
    pub(crate) machine: Option<String>,
}

/// Where configuration, state and files are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) config: &'a Path,
    pub(crate) extras: &'a Extras,
}

/// The image that a node is to have.
///
/// # Errors
/// [`MakeError::NoImage`].
pub(crate) fn wanted<'a>(node: &NodeName, effective: &'a Effective) -> Result<&'a ImageRef, MakeError> {
    let image = effective.entry.image.as_ref();
    image
        .map(|image| &image.0)
        .ok_or_else(|| MakeError::NoImage(node.clone()))
}

/// The version that a reference means now.
///
/// # Errors
/// [`MakeError::Store`].
pub(crate) fn source(store: &Store, image: &ImageRef) -> Result<Source, MakeError> {
    let stored = store.load(image)?;
    Ok(Source {
        image: stored.image,
        version: stored.version,
        manifest: stored.signed.id,
        machine: stored.signed.manifest.info.source.get(MACHINE).cloned(),
    })
}

/// Makes the order of a node.
///
/// # Errors
/// [`MakeError`].
pub(crate) fn make(
    number: u64,
    node: &NodeName,
    effective: &Effective,
    source: &Source,
    place: Place<'_>,
) -> Result<Order, MakeError> {
    let entry = &effective.entry;
    let scripts = place.config.join("scripts");
    Ok(Order {
        number,
        node: node.clone(),
        image: source.image.clone(),
        version: source.version,
        manifest: source.manifest,
        layout: layout(node, entry, source, place.config)?,
        wipe: entry.wipe.unwrap_or(false),
        network: network(node, entry)?,
        identity: identity(entry),
        exclusions: of_effective(place.config, node, effective, &source.image)?,
        overrides: overrides(node, effective, source, place)?,
        pre_install: place.extras.scripts(&scripts.join("pre-install.d"))?,
        post_install: place.extras.scripts(&scripts.join("post-install.d"))?,
        transport: match entry.transport {
            None | Some(TransportKind::Auto) => Transport::Auto,
            Some(TransportKind::Multicast) => Transport::Multicast,
            Some(TransportKind::Bittorrent) => Transport::Bittorrent,
            Some(TransportKind::Http) => Transport::Http,
        },
        relay: entry.relay.unwrap_or(false),
        finish: match entry.finish {
            None | Some(Finish::Reboot) => order::Finish::Reboot,
            Some(Finish::Kexec) => order::Finish::Kexec,
            Some(Finish::Poweroff) => order::Finish::Poweroff,
            Some(Finish::Shell) => order::Finish::Shell,
        },
        rescue_keys: entry
            .rescue_keys
            .iter()
            .flatten()
            .map(|key| key.to_string())
            .collect(),
        variables: entry
            .variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        kernel_args: effective.kernel_args().collect(),
    })
}

/// Signs an order.
///
/// # Errors
/// [`MakeError::Order`].
pub(crate) fn sign(order: &Order, key: &SigningKey) -> Result<Vec<u8>, MakeError> {
    order
        .sign(key)
        .map_err(|error| MakeError::Order(order.node.clone(), error))
}

/// The layout of the golden client, with notes of what it could not keep; `None` when nothing was recorded.
pub(crate) fn recorded(source: &Source) -> Option<Result<Derived, MachineError>> {
    source.machine.as_deref().map(Layout::from_machine)
}

/// The names of all files that an order needs.
pub(crate) fn files(order: &Order) -> Vec<String> {
    let extras = [&order.overrides, &order.pre_install, &order.post_install];
    let mut files: Vec<_> = extras
        .into_iter()
        .flatten()
        .map(|extra| extra.hash.to_string())
        .collect();
    files.sort();
    files.dedup();
    files
}

/// What is made on the disks: the layout that is named, else that of the golden client.
fn layout(node: &NodeName, entry: &Entry, source: &Source, config: &Path) -> Result<Layout, MakeError> {
    let Some(name) = &entry.layout else {
        return match recorded(source) {
            None => Err(MakeError::NoLayout {
                node: node.clone(),
                image: source.image.clone(),
            }),
            Some(Ok(derived)) => Ok(derived.layout),
            Some(Err(error)) => Err(MakeError::Recorded {
                node: node.clone(),
                image: source.image.clone(),
                source: error,
            }),
        };
    };
    let path = config.join("layouts.d").join(format!("{name}.toml"));
    let read = || {
        if fs::metadata(&path)?.len() > LAYOUT_BYTES {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "it is too long for a layout",
            ));
        }
        fs::read_to_string(&path)
    };
    let text = read().map_err(|error| MakeError::ReadLayout(path.clone(), error))?;
    Layout::parse(&text).map_err(|error| MakeError::Layout(path, error))
}

/// The network of the installed system.
fn network(node: &NodeName, entry: &Entry) -> Result<Network, MakeError> {
    let missing = |what| MakeError::Address(node.clone(), what);
    let address = match entry.network {
        None | Some(NetworkKind::Dhcp) => Addressing::Dhcp,
        Some(NetworkKind::Static) => {
            let address = entry.address.ok_or_else(|| missing("address"))?;
            let prefix = address
                .prefix
                .or(entry.prefix.map(|prefix| prefix.0))
                .ok_or_else(|| missing("prefix"))?;
            let text = format!("{}/{prefix}", address.ip);
            Addressing::Static {
                address: text
                    .parse()
                    .map_err(|_| missing("a prefix that fits its address"))?,
                gateway: entry.gateway,
                dns: entry.dns.clone().unwrap_or_default(),
            }
        }
    };
    Ok(Network {
        hostname: node.clone(),
        domain: entry.domain.as_ref().map(ToString::to_string).unwrap_or_default(),
        address,
        mac: entry.mac.ok_or_else(|| MakeError::NoMac(node.clone()))?,
    })
}

/// What the node has for itself.
fn identity(entry: &Entry) -> Identity {
    Identity {
        machine_id: match &entry.machine_id {
            None | Some(MachineId::New) => order::MachineId::New,
            Some(MachineId::Keep) => order::MachineId::Keep,
            Some(MachineId::Value(id)) => order::MachineId::Value(id.clone()),
        },
        ssh_host_keys: match entry.ssh_host_keys {
            None | Some(Kept::New) => SshHostKeys::New,
            Some(Kept::Keep) => SshHostKeys::Keep,
        },
    }
}

/// What is laid over the image, the last winning: for the image, for each group by priority, for the node.
fn overrides(
    node: &NodeName,
    effective: &Effective,
    source: &Source,
    place: Place<'_>,
) -> Result<Vec<order::Extra>, MakeError> {
    let groups = effective.groups.iter().map(|group| format!("group/{group}"));
    let names = [format!("image/{}", source.image)]
        .into_iter()
        .chain(groups)
        .chain([format!("node/{node}")]);
    let mut overrides = Vec::new();
    for name in names {
        let tree = place.config.join("overrides").join(&name);
        overrides.extend(place.extras.overrides(&name, &tree)?);
    }
    Ok(overrides)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inventory::load;

    const RECORD: &str = r#"{"firmware": "bios", "kernel": "6.1", "os": {},
        "fstab": "/dev/sda1 / ext4 defaults 0 1\n",
        "disks": [{"name": "sda", "path": "/dev/sda", "kind": "disk", "bytes": 10737418240, "table": "gpt", "children": [
            {"name": "sda1", "path": "/dev/sda1", "kind": "part", "bytes": 10000000000, "start": 2048, "fs_type": "ext4",
             "uuid": "0b0a0908-0000-4000-8000-000000000001", "mount_points": ["/"]}]}]}"#;

    fn source(machine: Option<&str>) -> Source {
        Source {
            image: "golden".parse().unwrap(),
            version: Version::FIRST,
            manifest: ManifestId::of(b"x"),
            machine: machine.map(str::to_owned),
        }
    }

    /// The order of the one node that `text` says something of.
    fn made(text: &str, source: &Source) -> Result<Order, MakeError> {
        let site = tempfile::tempdir().unwrap();
        fs::create_dir(site.path().join("nodes.d")).unwrap();
        fs::write(site.path().join("nodes.d/x.toml"), format!("[node.n1]\n{text}")).unwrap();
        let inventory = load(site.path(), &BTreeMap::new()).unwrap();
        let (node, extras) = ("n1".parse().unwrap(), Extras::new(site.path()));
        let place = Place {
            config: site.path(),
            extras: &extras,
        };
        make(7, &node, &inventory.effective(&node).unwrap(), source, place)
    }

    const CARD: &str = "mac = \"52:54:00:00:00:01\"\n";

    #[test]
    fn disks_are_the_golden_clients_unless_a_layout_is_named() {
        let order = made(CARD, &source(Some(RECORD))).unwrap();
        assert_eq!(order.layout.root().unwrap().mount.as_deref(), Some("/"));
        order.check().unwrap();
        assert!(!order.relay);
        let relaying = made(&format!("{CARD}relay = true\n"), &source(Some(RECORD)));
        assert!(relaying.unwrap().relay);
        let error = made(CARD, &source(None)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "nobody says how the disks of n1 are divided, and golden has no record of its golden client's"
        );
        assert!(error.hint().contains("layouts.d/NAME.toml"));
        assert!(matches!(
            made(CARD, &source(Some("{"))),
            Err(MakeError::Recorded { .. })
        ));
        let named = made(&format!("{CARD}layout = \"none\"\n"), &source(Some(RECORD)));
        assert!(
            matches!(named, Err(MakeError::ReadLayout(path, _)) if path.ends_with("layouts.d/none.toml"))
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let recorded = source(Some(RECORD));
        assert!(matches!(made("", &recorded), Err(MakeError::NoMac(_))));
        for (text, missing) in [
            ("network = \"static\"\n", "address"),
            ("network = \"static\"\naddress = \"10.0.0.1\"\n", "prefix"),
            (
                "network = \"static\"\naddress = \"10.0.0.1\"\nprefix = 64\n",
                "a prefix that fits its address",
            ),
        ] {
            let error = made(&format!("{CARD}{text}"), &recorded).unwrap_err().to_string();
            assert_eq!(error, format!("n1 has network = \"static\" without {missing}"));
        }
        let order = made(
            &format!("{CARD}network = \"static\"\naddress = \"fd00::7\"\nprefix = 64\n"),
            &recorded,
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(order.network.address).unwrap()["static"]["address"],
            "fd00::7/64"
        );
    }
}
