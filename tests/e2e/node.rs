//! A node: a machine on a network that receives into a directory of its own.

use std::path::PathBuf;

use simulcast_testkit::command;
use simulcast_testkit::netns::{Namespace, Network};
use simulcast_testkit::process::Process;

use crate::site::{Site, aim};

pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    pub(crate) target: PathBuf,
}

impl Node {
    /// A machine that receives below the site's directory.
    pub(crate) fn new(site: &Site, namespace: Namespace) -> Self {
        Self {
            target: site.run.dir().join(namespace.name()),
            namespace,
        }
    }

    /// A new machine `nodeNUMBER` on a network.
    pub(crate) fn join(site: &Site, network: &Network<'_>, number: u8) -> Self {
        let name = format!("node{number:02}");
        Self::new(site, network.join(&name, number).unwrap())
    }

    /// Starts a receiver of image `gold`.
    pub(crate) fn receive(&self, site: &Site, address: &str, transport: &str) -> Process {
        let mut command = site.settled(self.namespace.command(site.program("si-installer")));
        aim(&mut command, address, "gold", &self.target, transport);
        self.namespace.spawn("installer", &mut command).unwrap()
    }

    /// Drops what comes to multicast groups, as a switch does that prunes them.
    pub(crate) fn refuse_multicast(&self) {
        self.refuse("ip daddr 224.0.0.0/4");
    }

    /// Alters bytes of so many per cent of the UDP packets that come in, behind their checksum.
    pub(crate) fn alter(&self, per_cent: f64) {
        let rules = format!(
            "table netdev si {{ chain alter {{ type filter hook ingress device eth0 priority 0; policy accept; \
             ip protocol udp udp length > 1000 numgen random mod 10000 < {} @th,800,8 set 90; }}; }}",
            (per_cent * 100.0).round()
        );
        command::run(self.namespace.command("nft").arg(rules)).unwrap();
    }

    /// Drops incoming packets that match a rule of `nft`.
    pub(crate) fn refuse(&self, matching: &str) {
        let rules = format!(
            "table inet si {{ chain input {{ type filter hook input priority 0; policy accept; {matching} drop; }}; }}"
        );
        command::run(self.namespace.command("nft").arg(rules)).unwrap();
    }
}
