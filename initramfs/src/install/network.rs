//! The card that booted, and its address.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use simulcast_protocol::install::cmdline::{Addressing, CommandLine};
use simulcast_system::command::{Run, Tool};

use super::reporter::Reporter;
use super::{Done, facts};
use crate::wish::RUN;

/// How long a card may take to see its switch: spanning tree keeps a port silent for 30 s.
const CARRIER: Duration = Duration::from_secs(45);

/// How long DHCP may take.
const DHCP: Duration = Duration::from_secs(90);

/// How long a driver may take until its card is there.
const CARD: Duration = Duration::from_secs(20);

/// What `udhcpc` runs when it has a lease, and when it has renewed it. Everything that came from the network is quoted.
const SCRIPT: &str = r#"#!/bin/sh
case "$1" in
bound | renew)
    busybox ip -o addr show dev "$interface" | grep -qF " $ip/" || {
        busybox ip addr flush dev "$interface"
        busybox ip addr add "$ip/${mask:-24}" dev "$interface"
    }
    for gateway in $router; do
        busybox ip route replace default via "$gateway" dev "$interface"
        break
    done
    : > /etc/resolv.conf
    [ -z "$domain" ] || printf 'search %s\n' "$domain" >> /etc/resolv.conf
    for server in $dns; do printf 'nameserver %s\n' "$server" >> /etc/resolv.conf; done
    ;;
esac
"#;

/// Finds the card and gives it its address.
pub(super) fn set_up(line: &CommandLine, reporter: &Reporter) -> Done {
    ip(&["link", "set", "lo", "up"])?;
    let card = card(line)?;
    ip(&["link", "set", &card, "up"])?;
    if !wait_for(CARRIER, || has_carrier(&card)) {
        return Err(anyhow!("{card} has no link: is the cable in?").into());
    }
    match &line.address {
        Addressing::Dhcp => dhcp(&card)?,
        Addressing::Static {
            address,
            gateway,
            dns,
        } => fixed(&card, &address.to_string(), gateway.as_ref(), dns)?,
    }
    reporter.say(&format!("{card} has {}", shown(&["dev", &card])?.join(", ")));
    Ok(())
}

/// The addresses at which others reach this machine, without the lengths of their networks.
pub(super) fn addresses() -> Result<Vec<String>> {
    let shown = shown(&["scope", "global"])?;
    let plain = |address: &String| address.split('/').next().unwrap_or_default().to_owned();
    Ok(shown.iter().map(plain).collect())
}

/// The addresses that `ip` shows, each with the length of its network.
fn shown(of: &[&str]) -> Result<Vec<String>> {
    let shown = Run::new(Tool::Busybox)
        .args(["ip", "-o", "addr", "show"])
        .args(of.iter().copied())
        .run()?;
    Ok(listed(&String::from_utf8_lossy(&shown.stdout)))
}

/// The addresses in what `ip -o addr show` prints: the word behind `inet` or `inet6` of each line.
fn listed(text: &str) -> Vec<String> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        words.find(|word| matches!(*word, "inet" | "inet6"))?;
        words.next().map(str::to_owned)
    };
    text.lines().filter_map(address).collect()
}

/// The name of the card that booted; where that is not known, the first one.
fn card(line: &CommandLine) -> Result<String> {
    let found = || {
        let cards = facts::cards();
        match line.boot {
            Some(boot) => cards
                .into_iter()
                .find(|(_, mac)| *mac == boot)
                .map(|(name, _)| name),
            None => cards.into_iter().next().map(|(name, _)| name),
        }
    };
    wait_for(CARD, || found().is_some());
    found().with_context(|| match line.boot {
        Some(boot) => {
            format!("the card {boot}, which this machine booted from, has no driver in the mini-kernel")
        }
        None => "no network card has a driver in the mini-kernel".to_owned(),
    })
}

fn has_carrier(card: &str) -> bool {
    let path = Path::new("/sys/class/net").join(card).join("carrier");
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

fn dhcp(card: &str) -> Result<()> {
    let script = Path::new(RUN).join("dhcp");
    fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    // It goes on in the background once it has a lease, and renews it.
    Run::new(Tool::Busybox)
        .args(["udhcpc", "-n", "-t", "20", "-T", "2", "-i", card, "-s"])
        .arg(&script)
        .timeout(DHCP)
        .run()
        .with_context(|| format!("no DHCP server answers on {card}"))?;
    Ok(())
}

fn fixed(card: &str, address: &str, gateway: Option<&IpAddr>, dns: &[IpAddr]) -> Result<()> {
    ip(&["addr", "flush", "dev", card])?;
    ip(&["addr", "add", address, "dev", card])?;
    if let Some(gateway) = gateway {
        ip(&[
            "route",
            "replace",
            "default",
            "via",
            &gateway.to_string(),
            "dev",
            card,
        ])?;
    }
    let servers: String = dns
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    fs::write("/etc/resolv.conf", servers).context("cannot write /etc/resolv.conf")
}

fn ip(args: &[&str]) -> Result<()> {
    Run::new(Tool::Busybox)
        .arg("ip")
        .args(args.iter().copied())
        .run()?;
    Ok(())
}

fn wait_for(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_what_busybox_prints() {
        let text = "2: eth0    inet 10.77.0.137/24 scope global eth0\\       valid_lft forever preferred_lft forever\n\
                    2: eth0    inet6 fd77::5054:ff:fe77:33/64 scope global dynamic flags 100 \\       valid_lft 1798sec\n";
        assert_eq!(listed(text), ["10.77.0.137/24", "fd77::5054:ff:fe77:33/64"]);
        assert!(listed("").is_empty());
    }
}
