//! What a link does to packets: loss, rate, offload, up and down; and what went over it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use simulcast_protocol::units::Rate;

use super::{INTERFACE, Namespace};
use crate::command::{command, read, run, run_with_input};
use crate::wait;

/// How long the kernel may take to bring a port up.
const PORT_LIMIT: Duration = Duration::from_secs(10);

/// Loss is given to `nft` in parts of this many.
const LOSS_PARTS: u32 = 1_000_000;

/// How large packets cross the machine's own link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// A 64 KiB send stays one packet up to the receivers, as between virtual machines of one server. The fastest, but
    /// counters miss the headers, and loss takes 44 packets at once.
    Whole,
    /// The sender's device gets every packet for itself, as a network card without offload does. Counters show what
    /// a real wire would carry, and loss is per packet.
    Segmented,
}

/// What went over a machine's interface since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes sent, with Ethernet headers.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes received, with Ethernet headers.
    pub received_bytes: u64,
    /// Packets received; those that [`Namespace::set_loss`] drops are among them.
    pub received_packets: u64,
}

impl Counters {
    /// What went over it since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes.saturating_sub(earlier.sent_bytes),
            sent_packets: self.sent_packets.saturating_sub(earlier.sent_packets),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
            received_packets: self.received_packets.saturating_sub(earlier.received_packets),
        }
    }
}

impl Namespace {
    /// Drops each packet that arrives with the probability `per_cent`/100, independently; 0 ends it.
    ///
    /// # Errors
    /// When `per_cent` is not within 0 to 100, or `nft` refuses.
    pub fn set_loss(&self, per_cent: f64) -> Result<()> {
        ensure!(
            (0.0..=100.0).contains(&per_cent),
            "{per_cent} is not a percentage"
        );
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 0 to LOSS_PARTS"
        )]
        let parts = (per_cent / 100.0 * f64::from(LOSS_PARTS)).round() as u32;
        // Adding first makes the deletion succeed when there was none.
        let mut rules = String::from("add table netdev lab\ndelete table netdev lab\n");
        if parts > 0 {
            rules.push_str(&format!(
                "table netdev lab {{\nchain loss {{\n\
                 type filter hook ingress device \"{INTERFACE}\" priority 0; policy accept;\n\
                 numgen random mod {LOSS_PARTS} < {parts} counter drop\n}}\n}}\n"
            ));
        }
        run_with_input(self.command("nft").args(["-f", "-"]), &rules)
            .with_context(|| format!("set the loss at {}", self.name))?;
        Ok(())
    }

    /// Limits what the machine sends. The queue is deep, so a socket is held back as by a network card.
    ///
    /// # Errors
    /// When `tc` refuses.
    pub fn set_uplink_rate(&self, rate: Rate) -> Result<()> {
        let set = shape(&self.netns, INTERFACE, rate);
        set.with_context(|| format!("limit what {} sends", self.name))
    }

    /// Limits what the bridge sends to the machine, as a slow switch port does: what the queue cannot hold is lost.
    ///
    /// # Errors
    /// When `tc` refuses.
    pub fn set_downlink_rate(&self, rate: Rate) -> Result<()> {
        let set = shape(&self.switch, &self.name, rate);
        set.with_context(|| format!("limit what reaches {}", self.name))
    }

    /// Sets the longest packets in bytes: those that the machine sends, and those that its port of the bridge passes on to
    /// it. Longer ones that others send to it are dropped by the bridge.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn set_mtu(&self, machine: u32, port: u32) -> Result<()> {
        for (netns, interface, mtu) in [
            (&self.netns, INTERFACE, machine),
            (&self.switch, &*self.name, port),
        ] {
            let set = ["link", "set", "dev", interface, "mtu", &mtu.to_string()];
            run(command("ip").args(["-n", netns]).args(set))
                .with_context(|| format!("set the MTU of {}", self.name))?;
        }
        Ok(())
    }

    /// Chooses how the machine's large sends cross its link; [`Offload::Whole`] to begin with.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn set_offload(&self, offload: Offload) -> Result<()> {
        let segments = match offload {
            Offload::Whole => "65535",
            Offload::Segmented => "1",
        };
        let set = run(command("ip").args([
            "-n",
            &self.netns,
            "link",
            "set",
            "dev",
            INTERFACE,
            "gso_max_segs",
            segments,
        ]));
        set.with_context(|| format!("set the offload of {}", self.name))?;
        Ok(())
    }

    /// Has the machine's device put received packets together again (GRO), as drivers of network cards do unless told
    /// otherwise. A virtual link does so only when its other end has no TCP segmentation: it takes that for a sign that
    /// what comes may never be a large packet cut up needlessly.
    ///
    /// # Errors
    /// When `ethtool` refuses.
    pub fn set_coalescing(&self) -> Result<()> {
        let port = [
            "ip",
            "netns",
            "exec",
            &self.switch,
            "ethtool",
            "-K",
            &self.name,
            "tso",
            "off",
        ];
        run(command(port[0]).args(&port[1..]))
            .and_then(|_| run(self.command("ethtool").args(["-K", INTERFACE, "gro", "on"])))
            .with_context(|| format!("have {} put packets together", self.name))?;
        Ok(())
    }

    /// Takes the cable out or puts it in: the port of the bridge goes down or up, and forwards again on return.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn set_connected(&self, connected: bool) -> Result<()> {
        let state = if connected { "up" } else { "down" };
        run(command("ip").args(["-n", &self.switch, "link", "set", "dev", &self.name, state]))
            .with_context(|| format!("set the port of {} {state}", self.name))?;
        if connected {
            wait_for_port(&self.switch, &self.name, &self.netns, INTERFACE)
        } else {
            Ok(())
        }
    }

    /// IPv6 packets that the machine had to send in fragments so far, because they were longer than the MTU.
    ///
    /// # Errors
    /// When its counters cannot be read.
    pub fn ipv6_fragments(&self) -> Result<u64> {
        let text = read(self.command("cat").arg("/proc/net/snmp6"))?;
        let mut words = text
            .split_whitespace()
            .skip_while(|&word| word != "Ip6FragOKs")
            .skip(1);
        let count = words.next().and_then(|word| word.parse().ok());
        count.with_context(|| format!("no count of fragments at {}", self.name))
    }

    /// What went over the machine's interface so far.
    ///
    /// # Errors
    /// When `ip` refuses or its answer cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let json =
            read(command("ip").args(["-n", &self.netns, "-s", "-j", "link", "show", "dev", INTERFACE]))?;
        parse_counters(&json).with_context(|| format!("read the counters of {}", self.name))
    }
}

/// The kernel brings ports up in its own time; what is sent until then is lost, and with a group membership report
/// among it, a bridge that snoops would not know the member until it asks again.
pub(super) fn wait_for_port(switch: &str, port: &str, netns: &str, interface: &str) -> Result<()> {
    let show = |netns: &str, interface: &str| {
        read(command("ip").args(["-n", netns, "-d", "-j", "link", "show", "dev", interface]))
    };
    wait::until(&format!("the port of {port} to forward"), PORT_LIMIT, || {
        let forwards = show(switch, port)?.contains("\"state\":\"forwarding\"");
        let up = show(netns, interface)?.contains("\"operstate\":\"UP\"");
        Ok((forwards && up).then_some(()))
    })
}

fn shape(netns: &str, interface: &str, rate: Rate) -> Result<()> {
    let bits = rate.bits_per_second();
    // A burst below one 64 KiB packet would never let such a packet pass; 2 ms of the rate keeps fast links busy.
    let burst = (bits / 8 / 500).max(128 << 10);
    let queue = (bits / 8 / 5).max(512 << 10);
    let qdisc = ["qdisc", "replace", "dev", interface, "root", "tbf"];
    run(command("tc").args(["-n", netns]).args(qdisc).args([
        "rate",
        &format!("{bits}bit"),
        "burst",
        &burst.to_string(),
        "limit",
        &queue.to_string(),
    ]))?;
    Ok(())
}

fn parse_counters(json: &str) -> Result<Counters> {
    #[derive(Deserialize)]
    struct Link {
        stats64: Stats,
    }
    #[derive(Deserialize)]
    struct Stats {
        rx: Direction,
        tx: Direction,
    }
    #[derive(Deserialize)]
    struct Direction {
        bytes: u64,
        packets: u64,
    }
    let links: [Link; 1] = serde_json::from_str(json)?;
    let [
        Link {
            stats64: Stats { rx, tx },
        },
    ] = links;
    Ok(Counters {
        sent_bytes: tx.bytes,
        sent_packets: tx.packets,
        received_bytes: rx.bytes,
        received_packets: rx.packets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_real_answer() {
        let json = r#"[{"ifindex":2,"ifname":"eth0","flags":["BROADCAST"],"mtu":1500,"stats64":
            {"rx":{"bytes":1006,"packets":9,"errors":0,"dropped":0,"over_errors":0,"multicast":0},
             "tx":{"bytes":2012,"packets":18,"errors":0,"dropped":0,"carrier_errors":0,"collisions":0}}}]"#;
        let counters = parse_counters(json).unwrap();
        let expected = Counters {
            sent_bytes: 2012,
            sent_packets: 18,
            received_bytes: 1006,
            received_packets: 9,
        };
        assert_eq!(counters, expected);
        assert_eq!(counters.since(expected), Counters::default());
        assert!(parse_counters("[]").is_err());
    }
}
