//! Tiers of tests that need more than a compiler: which features they need, and what happens where one is missing.
//!
//! A tier that cannot run says so on stderr, past the test runner's capture, and passes; with `REQUIRE_TIERS` set in
//! the environment (any value) the same is a failure. `scripts/test` sets it.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};

use crate::command::{command, run};
use crate::netns::Network;
use crate::run::Run;

/// What a machine must offer for a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Effective user id 0 with the right to make namespaces and device nodes.
    Root,
    /// Network namespaces, veth pairs and a bridge.
    Network,
    /// `nft` with `numgen` on a netdev ingress hook: packet loss.
    Loss,
    /// `tc` with the `tbf` queueing discipline: rates.
    Shaping,
    /// `debootstrap` and `apt-get`: real Debian trees.
    Debian,
    /// `ssh`, `sshd` and `ssh-keygen`.
    Ssh,
    /// `rsync`, which compares trees.
    Rsync,
    /// `aria2c` and `transmission-cli`: standard BitTorrent clients.
    Torrent,
    /// `qemu-system-x86_64` with its firmware and boot ROMs, `dnsmasq`, boot loaders, and what a mini-kernel is made of:
    /// `scripts/setup --netboot` installs them.
    Vm,
}

/// Whether a tier that needs `features` can run here. When it cannot, says why.
///
/// # Panics
/// When a feature is missing and `REQUIRE_TIERS` is set: then a skip is a failure.
pub fn ready(tier: &str, features: &[Feature]) -> bool {
    let missing: Vec<String> = features
        .iter()
        .filter_map(|&f| probe(f).err().map(|e| format!("{f:?}: {e:#}")))
        .collect();
    if missing.is_empty() {
        return true;
    }
    let message = format!("tier {tier} cannot run here; missing {}", missing.join("; "));
    assert!(std::env::var_os("REQUIRE_TIERS").is_none(), "{message}");
    // Not eprintln!, which the test runner captures and drops when the test passes.
    let told = writeln!(
        std::io::stderr(),
        "SKIPPED: {message} (scripts/setup installs what is needed)"
    );
    told.is_err() // stderr is closed: nobody could be told, so the tier runs and fails
}

/// Tries a feature for real.
///
/// # Errors
/// What is missing.
pub fn probe(feature: Feature) -> Result<()> {
    match feature {
        Feature::Root => {
            if !rustix::process::geteuid().is_root() {
                bail!("not root");
            }
            Ok(())
        }
        Feature::Network => with_namespace("probe-network", |_| Ok(())),
        Feature::Loss => with_namespace("probe-loss", |ns| ns.set_loss(0.5)),
        Feature::Shaping => with_namespace("probe-rate", |ns| {
            ns.set_uplink_rate(simulcast_protocol::units::Rate::from_bits_per_second(1_000_000))
        }),
        Feature::Debian => tools(&["debootstrap", "apt-get", "dpkg", "zstd"]),
        Feature::Ssh => tools(&["ssh", "ssh-keygen"]),
        Feature::Rsync => tools(&["rsync"]),
        Feature::Torrent => tools(&["aria2c", "transmission-cli"]),
        Feature::Vm => {
            tools(&[
                "qemu-system-x86_64",
                "dnsmasq",
                "busybox",
                "sfdisk",
                "modprobe",
                "grub-mkimage",
                "dhcpd",
                "kea-dhcp4",
            ])?;
            for file in ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/lib/ipxe/snponly.efi"] {
                if !std::path::Path::new(file).is_file() {
                    bail!("no {file}");
                }
            }
            Ok(())
        }
    }
}

fn with_namespace(label: &str, check: impl FnOnce(&crate::netns::Namespace) -> Result<()>) -> Result<()> {
    let run = Run::start(label)?;
    let network = Network::new(&run, crate::netns::Snooping::Off)?;
    check(&network.join("probe", 1)?)
}

fn tools(names: &[&str]) -> Result<()> {
    for name in names {
        run(command("sh").args(["-c", "command -v \"$0\"", name])).with_context(|| format!("no {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named() {
        assert!(tools(&["sh"]).is_ok());
        let error = tools(&["sh", "no-such-tool"]).unwrap_err();
        assert_eq!(error.to_string(), "no no-such-tool");
    }
}
