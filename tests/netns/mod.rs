//! Machines as network namespaces on a bridge, all in namespaces: nothing appears in the machine's own network.
//!
//! ```text
//!   namespace switch:   bridge br0 ── node01 ┄┄ veth ┄┄ eth0 in namespace node01 (10.77.0.11/24, fd77::b/64)
//!                                  └─ server ┄┄ veth ┄┄ eth0 in namespace server (10.77.0.1/24,  fd77::1/64)
//! ```
//!
//! Every run has its own switch, so that runs use the same addresses side by side. The MTU is 1500. Loss, rates and
//! offload are methods of [`Namespace`]; names, and the removal of everything, are [`Run`]'s. Further networks, further
//! interfaces of a machine are for tests of machines between several networks.

mod link;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use self::link::{Counters, Offload};
use crate::command::{command, run, run_with_input};
use crate::process::{self, Process};
use crate::run::Run;

/// The interface of every machine.
pub const INTERFACE: &str = "eth0";

/// What the bridge does with multicast. Both deliver at once (the laboratory's tests measure it); the
/// querier is needed because a snooping bridge that once heard one, and then no more, forgets the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snooping {
    /// Multicast goes to every port, as on a switch without snooping.
    Off,
    /// After a second of flooding, multicast goes to the ports that asked for it alone, and the bridge asks them
    /// regularly. What a good LAN does.
    WithQuerier,
}

/// A bridge in a namespace of its own.
#[derive(Debug)]
pub struct Network<'run> {
    run: &'run Run,
    switch: String,
    /// The second byte of its IPv4 addresses.
    number: u8,
}

impl<'run> Network<'run> {
    /// Makes the bridge.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses; see [`crate::tier::probe`].
    pub fn new(run: &'run Run, snooping: Snooping) -> Result<Self> {
        Self::numbered(run, 77, snooping)
    }

    /// Makes a bridge for machines with the addresses `10.NUMBER.0.0/24` and `fdNUMBER::/64`, for a run that has several.
    ///
    /// # Errors
    /// When the number is taken, or the kernel or `ip` refuses.
    pub fn numbered(run: &'run Run, number: u8, snooping: Snooping) -> Result<Self> {
        let switch = run.namespace(&format!("switch{number}"));
        let (snoop, querier) = match snooping {
            Snooping::Off => (0, 0),
            Snooping::WithQuerier => (1, 1),
        };
        add_namespace(&switch)?;
        // Without a forwarding delay the ports carry traffic at once. A bridge floods until its first query could
        // have been answered; a response interval of 1 s instead of 10, set before it becomes the querier, makes it
        // snoop that much earlier. It asks by IGMPv3 and MLDv2: version 2's reports are flooded as well meanwhile,
        // and a member that hears another's report keeps silent, so that the bridge never learns of it.
        let bridge = format!(
            "link add name br0 type bridge forward_delay 0 mcast_snooping {snoop} mcast_igmp_version 3 \
             mcast_mld_version 2 mcast_query_response_interval 100\n\
             link set dev br0 type bridge mcast_querier {querier}\n\
             link set dev br0 up\n"
        );
        ip_batch(&switch, &bridge).context("make the bridge")?;
        Ok(Self { run, switch, number })
    }

    /// The namespace that the bridge is in.
    pub fn switch(&self) -> &str {
        &self.switch
    }

    /// Makes a machine with the name `name` (at most 15 bytes) and the address `10.77.0.NUMBER`, joined to the bridge.
    ///
    /// # Errors
    /// When the name or number is taken, or the kernel refuses.
    pub fn join(&self, name: &str, number: u8) -> Result<Namespace> {
        let namespace = self.machine(name, format!("10.{}.0.{number}", self.number))?;
        self.plug(&namespace, INTERFACE, number)?;
        // All its traffic goes out by the one interface, as on a machine with a default route.
        let route = format!("route add default dev {INTERFACE}\n");
        ip_batch(&namespace.netns, &route).with_context(|| format!("give {name} a route"))?;
        Ok(namespace)
    }

    /// Gives a machine a further interface, with the address `10.NETWORK.0.NUMBER`, on this network.
    ///
    /// # Errors
    /// As [`Network::join`].
    pub fn plug(&self, machine: &Namespace, interface: &str, number: u8) -> Result<()> {
        let (name, netns) = (&machine.name, &machine.netns);
        self.wire(name, netns, interface)?;
        let inside = format!(
            "link set dev lo up\n{}",
            addresses(interface, self.number, number)
        );
        ip_batch(netns, &inside).with_context(|| format!("give {name} its address"))?;
        link::wait_for_port(&self.switch, name, netns, interface)
    }

    /// Makes a machine on this bridge whose address is of another network, `10.NETWORK.0.NUMBER`.
    ///
    /// # Errors
    /// As [`Network::join`].
    pub fn join_stranger(&self, name: &str, network: u8, number: u8) -> Result<Namespace> {
        let namespace = self.machine(name, format!("10.{network}.0.{number}"))?;
        self.wire(name, &namespace.netns, INTERFACE)?;
        let inside = format!("link set dev lo up\n{}", addresses(INTERFACE, network, number));
        ip_batch(&namespace.netns, &inside).with_context(|| format!("give {name} its address"))?;
        link::wait_for_port(&self.switch, name, &namespace.netns, INTERFACE)?;
        Ok(namespace)
    }

    /// Gives a machine a second interface `name` over the wire of its first, with the address `10.NETWORK.0.NUMBER`. It
    /// is a macvlan, which stands for a VLAN as well: kernels for virtual machines often lack those.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses.
    pub fn stack(&self, machine: &Namespace, name: &str, network: u8, number: u8) -> Result<()> {
        let inside = format!(
            "link add link {INTERFACE} name {name} type macvlan mode bridge\n{}",
            addresses(name, network, number)
        );
        ip_batch(&machine.netns, &inside).with_context(|| format!("give {} a second interface", machine.name))
    }

    /// A namespace without an interface.
    fn machine(&self, name: &str, address: String) -> Result<Namespace> {
        let netns = self.run.namespace(name);
        add_namespace(&netns)?;
        Ok(Namespace {
            name: name.to_owned(),
            netns,
            switch: self.switch.clone(),
            address,
            logs: self.run.make_dir("logs")?,
        })
    }

    /// Joins an interface of a namespace to the bridge.
    fn wire(&self, name: &str, netns: &str, interface: &str) -> Result<()> {
        let port = format!(
            "link add name {name} mtu 1500 type veth peer name {interface} mtu 1500 netns {netns}\n\
             link set dev {name} master br0 up\n"
        );
        ip_batch(&self.switch, &port).with_context(|| format!("join {name} to the bridge"))
    }
}

/// What gives an interface its addresses and brings it up.
fn addresses(interface: &str, network: u8, number: u8) -> String {
    format!(
        "address add 10.{network}.0.{number}/24 broadcast + dev {interface}\n\
         address add fd{network}::{number:x}/64 dev {interface} nodad\n\
         link set dev {interface} up\n"
    )
}

/// A machine's network namespace and its link to the bridge. It lasts as long as its [`Run`].
#[derive(Debug)]
pub struct Namespace {
    name: String,
    netns: String,
    switch: String,
    address: String,
    logs: PathBuf,
}

impl Namespace {
    /// The machine's name, as in `node01`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its IPv6 address.
    pub fn address_v6(&self) -> String {
        let mut parts = self.address.split('.').skip(1).step_by(2);
        let (network, number) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let number: u8 = number.parse().unwrap_or_default();
        format!("fd{network}::{number:x}")
    }

    /// Takes all IPv4 addresses and routes from the machine's interface.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn forget_ipv4(&self) -> Result<()> {
        for what in ["address", "route"] {
            run(command("ip").args(["-n", &self.netns, "-4", what, "flush", "dev", INTERFACE]))
                .with_context(|| format!("take IPv4 from {}", self.name))?;
        }
        Ok(())
    }

    /// A command that runs `program` inside. The program replaces the helper that enters the namespace, so the
    /// process id is the program's own. It also gets a mount namespace of its own, with a matching /sys.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut inside = command("ip");
        inside.args(["netns", "exec", &self.netns]).arg(program);
        inside
    }

    /// Starts a command made by [`Namespace::command`] under the name `MACHINE-NAME`, which its logs have too.
    ///
    /// # Errors
    /// As [`process::spawn`].
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process> {
        process::spawn(&format!("{}-{name}", self.name), command, &self.logs)
    }

    /// Calls `work` on a thread inside the namespace: sockets that it makes belong to the machine.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.netns);
        let link = File::open(&path).with_context(|| format!("open namespace {path}"))?;
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("enter namespace {path}"))?;
                Ok(work())
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn add_namespace(netns: &str) -> Result<()> {
    run(command("ip").args(["netns", "add", netns])).with_context(|| format!("make namespace {netns}"))?;
    Ok(())
}

/// Runs `ip` commands, one a line, in a namespace.
fn ip_batch(netns: &str, lines: &str) -> Result<()> {
    run_with_input(command("ip").args(["-n", netns, "-batch", "-"]), lines)
        .map_err(|e| anyhow!("{e:#}\n{lines}"))?;
    Ok(())
}
