//! What the daemon knows about booting, and what it decides for each machine that asks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};
use simulcast_cli::Remark;
use simulcast_protocol::install::Mac;
use simulcast_transport::udp::route::route_to;
use tokio::sync::Notify;

use super::args::KernelArgs;
use super::node::{Asking, BootAction, BootNode, Nodes};
use super::package::{Package, PackageName};
use super::script;
use super::settings::{BootSettings, Dhcp, Strangers};

/// Booting, as all requests share it.
#[derive(Debug)]
pub(crate) struct Booting {
    state: PathBuf,
    settings: BootSettings,
    key: String,
    port: u16,
    nodes: Mutex<Arc<Nodes>>,
    changed: Notify,
}

/// Mini-kernels that were built, each read once however many machines boot it: for one answer, or one writing of all files.
#[derive(Debug)]
pub(crate) struct Packages<'a> {
    state: &'a Path,
    read: BTreeMap<PackageName, Option<Package>>,
}

/// What is decided for one machine; [`Booting::say`] puts it into the words of its boot loader.
#[derive(Debug)]
pub(crate) struct Decision {
    node: Option<BootNode>,
    mac: Option<Mac>,
    action: BootAction,
    package: Option<Package>,
}

impl Packages<'_> {
    /// The mini-kernel of this name, if it was built and can be read.
    pub(crate) fn get(&mut self, name: &PackageName) -> Option<Package> {
        if let Some(known) = self.read.get(name) {
            return known.clone();
        }
        let loaded = Package::load(self.state, name);
        if let Err(error) = &loaded {
            tracing::warn!(package = %name, error = format!("{error:#}"), "no mini-kernel; si-mkbootpackage builds it");
        }
        self.read.entry(name.clone()).or_insert(loaded.ok()).clone()
    }

    /// All that were asked for and are there.
    pub(crate) fn there(&self) -> impl Iterator<Item = &Package> {
        self.read.values().flatten()
    }
}

impl Booting {
    /// Booting with the store below `state`, for a server that signs with `key` and listens on `port`.
    pub(crate) fn new(state: &Path, settings: BootSettings, key: String, port: u16) -> Self {
        Self {
            state: state.to_owned(),
            settings,
            key,
            port,
            nodes: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Says what all nodes should boot from now on. Whoever keeps the inventory calls this whenever a node or its state
    /// changes; calling it with what is known already costs nothing.
    pub(crate) fn set_nodes(&self, nodes: Vec<BootNode>) {
        let nodes = Nodes::new(nodes);
        let mut held = self.nodes.lock().expect("no holder panics");
        if **held != nodes {
            *held = Arc::new(nodes);
            drop(held);
            self.changed.notify_one();
        }
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> Arc<Nodes> {
        Arc::clone(&self.nodes.lock().expect("no holder panics"))
    }

    /// Waits for the next change of nodes.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The state directory.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// How machines are booted.
    pub(crate) fn settings(&self) -> &BootSettings {
        &self.settings
    }

    /// The TCP port that machines reach us on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The mini-kernels as they are now.
    pub(crate) fn packages(&self) -> Packages<'_> {
        Packages {
            state: &self.state,
            read: BTreeMap::new(),
        }
    }

    /// What the machine that asks should boot. Of several ways in which it says who it is, the first that is known counts;
    /// its card is told to the installer in any case.
    pub(crate) fn decide(&self, asking: &[Asking], packages: &mut Packages<'_>) -> Decision {
        let nodes = self.nodes();
        let node = asking.iter().find_map(|who| nodes.find(who)).cloned();
        let card = asking.iter().find_map(|who| match who {
            Asking::Card(mac) => Some(*mac),
            Asking::Machine(_) | Asking::Address(_) | Asking::Prefix(_) | Asking::Anybody => None,
        });
        let stranger = match self.settings.unknown {
            Strangers::Discover => BootAction::Install,
            Strangers::Local => BootAction::Local,
        };
        let action = node.as_ref().map_or(stranger, |node| node.action);
        let wanted = node.as_ref().and_then(|node| node.package.as_ref());
        let package = match action {
            BootAction::Local => None,
            BootAction::Install | BootAction::Rescue => {
                packages.get(wanted.unwrap_or(&self.settings.package))
            }
        };
        Decision {
            mac: card.or(node.as_ref().map(|node| node.mac)),
            node,
            action,
            package,
        }
    }

    /// Puts a decision into the words of a boot loader that reaches us at `server`.
    pub(crate) fn say(
        &self,
        decision: &Decision,
        server: SocketAddr,
        words: fn(&script::Boot<'_>) -> String,
    ) -> String {
        let none = KernelArgs::default();
        words(&script::Boot {
            name: decision.node.as_ref().map(|node| &node.name),
            mac: decision.mac,
            action: decision.action,
            package: decision.package.as_ref(),
            server,
            key: &self.key,
            args: [
                &self.settings.kernel_args,
                decision.node.as_ref().map_or(&none, |node| &node.args),
            ],
        })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.node, self.mac) {
            (Some(node), _) => write!(f, "{}", node.name)?,
            (None, Some(mac)) => write!(f, "unknown machine {mac}")?,
            (None, None) => f.write_str("unknown machine")?,
        }
        f.write_str(match (self.action, &self.package) {
            (BootAction::Local, _) => " boots its local disk",
            (BootAction::Install, Some(_)) => " boots the mini-kernel",
            (BootAction::Rescue, Some(_)) => " boots the mini-kernel for rescue",
            (_, None) => " should boot the mini-kernel, and there is none",
        })
    }
}

/// Our address among the machines that boot: as it is set, or the one that they reach us at.
///
/// # Errors
/// When it is not set and the kernel does not know a way to them.
pub(crate) fn own_address(settings: &BootSettings) -> Result<Option<Ipv4Addr>> {
    match (settings.address, &settings.dhcp) {
        (Some(address), _) => Ok(Some(address)),
        (None, Some(dhcp)) => found_address(dhcp).map(Some),
        (None, None) => Ok(None),
    }
}

fn found_address(dhcp: &Dhcp) -> Result<Ipv4Addr> {
    let hint = "set [boot] address to this machine's address in that network";
    let peer = SocketAddr::new(dhcp.network.first().into(), 9);
    let route = route_to(peer)
        .with_context(|| format!("there is no way to the network {}", dhcp.network))
        .hint(hint)?;
    match route.local {
        IpAddr::V4(local) if dhcp.network.has(local) => Ok(local),
        _ => Err(anyhow!(
            "this machine has no address in the network {}",
            dhcp.network
        ))
        .hint(hint),
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::sample;
    use super::super::settings::BootOptions;
    use super::*;

    fn booting(state: &Path, text: &str) -> Booting {
        let settings = toml::from_str::<BootOptions>(text).unwrap().check().unwrap();
        Booting::new(state, settings, "k".repeat(64), 9440)
    }

    #[test]
    fn nodes_boot_what_they_should_and_strangers_what_the_site_wants() {
        let directory = tempfile::tempdir().unwrap();
        let booting = booting(directory.path(), "");
        let mut install = sample("node01", 11, BootAction::Install);
        install.args = "nomodeset".parse().unwrap();
        booting.set_nodes(vec![install, sample("node02", 12, BootAction::Local)]);
        let ask = |who: &[&str]| {
            let asking: Vec<Asking> = who.iter().map(|text| text.parse().unwrap()).collect();
            let decision = booting.decide(&asking, &mut booting.packages());
            let name = decision.node.as_ref().map(|node| node.name.to_string());
            (name, decision.mac.map(Mac::dashed), decision.action)
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            ask(&["01-52-54-00-00-00-0b"]),
            (text("node01"), text("52-54-00-00-00-0b"), BootAction::Install)
        );
        // A second card of a machine that its firmware's identifier names.
        assert_eq!(
            ask(&["01-52-54-00-00-00-99", "0000abcd-0000-0000-0000-00000000000c"]),
            (text("node02"), text("52-54-00-00-00-99"), BootAction::Local)
        );
        assert_eq!(ask(&["default"]), (None, None, BootAction::Install));
        let local = self::booting(directory.path(), "unknown = \"local\"\n");
        let decision = local.decide(&[Asking::Anybody], &mut local.packages());
        assert_eq!(decision.action, BootAction::Local);
    }

    #[test]
    fn a_machine_without_a_way_to_the_others_says_so() {
        let settings = toml::from_str::<BootOptions>(
            "mode = \"dhcp\"\ninterface = \"eth1\"\nnetwork = \"127.1.0.0/16\"\n",
        )
        .unwrap()
        .check()
        .unwrap();
        // Every address of the loopback network is one of ours.
        assert_eq!(own_address(&settings).unwrap(), Some(Ipv4Addr::new(127, 1, 0, 1)));
        let off = toml::from_str::<BootOptions>("").unwrap().check().unwrap();
        assert_eq!(own_address(&off).unwrap(), None);
    }
}
