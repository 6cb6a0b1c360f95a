//! The network of an installed system, in the form that it reads.

use std::fmt::Write as _;
use std::net::IpAddr;

use simulcast_image::order::Network;
use simulcast_protocol::install::cmdline::Addressing;

/// Who sets the network of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manager {
    /// NetworkManager.
    Keyfile,
    /// systemd-networkd.
    Networkd,
    /// ifupdown.
    Ifupdown,
}

/// A file to be written: its path below the root, its mode, its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NetFile {
    pub(crate) path: &'static str,
    pub(crate) mode: u32,
    pub(crate) text: String,
}

const HEAD: &str = "# Written when this node was installed.\n";

/// The file that gives the node its network. The card is told by its address, because its name differs between kernels.
pub(crate) fn files(manager: Manager, network: &Network) -> NetFile {
    match manager {
        Manager::Keyfile => NetFile {
            path: "etc/NetworkManager/system-connections/simulcast.nmconnection",
            mode: 0o600,
            text: network_manager(network),
        },
        Manager::Networkd => NetFile {
            path: "etc/systemd/network/10-simulcast.network",
            mode: 0o644,
            text: networkd(network),
        },
        Manager::Ifupdown => NetFile {
            path: "etc/network/interfaces",
            mode: 0o644,
            text: ifupdown(network),
        },
    }
}

fn network_manager(network: &Network) -> String {
    let mut text = format!(
        "{HEAD}[connection]\nid=simulcast\ntype=ethernet\nautoconnect=true\n\n[ethernet]\nmac-address={}\n\n",
        network.mac.to_string().to_uppercase()
    );
    let search = if network.domain.is_empty() {
        String::new()
    } else {
        format!("dns-search={};\n", network.domain)
    };
    match &network.address {
        Addressing::Dhcp => text += &format!("[ipv4]\nmethod=auto\n{search}\n[ipv6]\nmethod=auto\n"),
        Addressing::Static {
            address,
            gateway,
            dns,
        } => {
            let (mine, other) = if address.address().is_ipv4() {
                ("ipv4", "ipv6")
            } else {
                ("ipv6", "ipv4")
            };
            let gateway = gateway.map(|gateway| format!(",{gateway}")).unwrap_or_default();
            text += &format!("[{mine}]\nmethod=manual\naddress1={address}{gateway}\n{search}");
            let servers: String = of_family(dns, mine == "ipv4")
                .iter()
                .map(|server| format!("{server};"))
                .collect();
            if !servers.is_empty() {
                text += &format!("dns={servers}\n");
            }
            let other_method = if mine == "ipv4" { "auto" } else { "disabled" };
            text += &format!("\n[{other}]\nmethod={other_method}\n");
        }
    }
    text
}

fn of_family(dns: &[IpAddr], v4: bool) -> Vec<&IpAddr> {
    dns.iter().filter(|server| server.is_ipv4() == v4).collect()
}

fn networkd(network: &Network) -> String {
    let mut text = format!(
        "{HEAD}[Match]\nMACAddress={}\nType=ether\n\n[Network]\n",
        network.mac
    );
    match &network.address {
        Addressing::Dhcp => text += "DHCP=yes\n",
        Addressing::Static {
            address,
            gateway,
            dns,
        } => {
            text += &format!("Address={address}\n");
            if let Some(gateway) = gateway {
                text += &format!("Gateway={gateway}\n");
            }
            for server in dns {
                text += &format!("DNS={server}\n");
            }
        }
    }
    if !network.domain.is_empty() {
        text += &format!("Domains={}\n", network.domain);
    }
    if network.address == Addressing::Dhcp {
        // Otherwise a name is asked for by machine-id, which the DHCP service has never heard of.
        text += "\n[DHCPv4]\nClientIdentifier=mac\n";
    }
    text
}

fn ifupdown(network: &Network) -> String {
    let mut text =
        format!("{HEAD}source-directory /etc/network/interfaces.d\n\nauto lo\niface lo inet loopback\n\n");
    let written = match &network.address {
        Addressing::Dhcp => write!(text, "auto mac/{}=lan\niface lan inet dhcp\n", network.mac),
        Addressing::Static {
            address,
            gateway,
            dns,
        } => {
            let family = if address.address().is_ipv4() {
                "inet"
            } else {
                "inet6"
            };
            let gateway = gateway
                .map(|gateway| format!("    gateway {gateway}\n"))
                .unwrap_or_default();
            let servers: Vec<String> = dns.iter().map(IpAddr::to_string).collect();
            let servers = if servers.is_empty() {
                String::new()
            } else {
                format!("    dns-nameservers {}\n", servers.join(" "))
            };
            write!(
                text,
                "auto mac/{}=lan\niface lan {family} static\n    address {address}\n{gateway}{servers}",
                network.mac
            )
        }
    };
    written.expect("a text can be written to");
    text
}

/// /etc/resolv.conf for those who have no resolver of their own; none where DHCP tells it.
pub(crate) fn resolv_conf(network: &Network) -> Option<String> {
    let Addressing::Static { dns, .. } = &network.address else {
        return None;
    };
    if dns.is_empty() {
        return None;
    }
    let mut text = HEAD.to_owned();
    if !network.domain.is_empty() {
        text += &format!("search {}\n", network.domain);
    }
    dns.iter()
        .for_each(|server| text += &format!("nameserver {server}\n"));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network {
            hostname: "node01".parse().unwrap(),
            domain: "lab.example".into(),
            address: address.parse().unwrap(),
            mac: "52:54:00:12:34:ab".parse().unwrap(),
        }
    }

    #[test]
    fn dhcp_in_each_form() {
        let text = |manager| files(manager, &network("dhcp")).text;
        assert_eq!(
            text(Manager::Networkd),
            "# Written when this node was installed.\n[Match]\nMACAddress=52:54:00:12:34:ab\nType=ether\n\n\
             [Network]\nDHCP=yes\nDomains=lab.example\n\n[DHCPv4]\nClientIdentifier=mac\n"
        );
        assert!(text(Manager::Ifupdown).ends_with("auto mac/52:54:00:12:34:ab=lan\niface lan inet dhcp\n"));
        assert!(text(Manager::Keyfile).ends_with(
            "mac-address=52:54:00:12:34:AB\n\n[ipv4]\nmethod=auto\ndns-search=lab.example;\n\n[ipv6]\nmethod=auto\n"
        ));
        assert_eq!(resolv_conf(&network("dhcp")), None);
    }

    #[test]
    fn a_fixed_address_in_each_form() {
        let network = network("10.0.0.5/24,10.0.0.1,10.0.0.2,9.9.9.9");
        let text = |manager| files(manager, &network).text;
        assert!(text(Manager::Networkd).ends_with(
            "[Network]\nAddress=10.0.0.5/24\nGateway=10.0.0.1\nDNS=10.0.0.2\nDNS=9.9.9.9\nDomains=lab.example\n"
        ));
        assert!(text(Manager::Ifupdown).ends_with(
            "iface lan inet static\n    address 10.0.0.5/24\n    gateway 10.0.0.1\n    dns-nameservers 10.0.0.2 9.9.9.9\n"
        ));
        assert!(text(Manager::Keyfile).ends_with(
            "[ipv4]\nmethod=manual\naddress1=10.0.0.5/24,10.0.0.1\ndns-search=lab.example;\ndns=10.0.0.2;9.9.9.9;\n\n[ipv6]\nmethod=auto\n"
        ));
        assert_eq!(
            resolv_conf(&network).unwrap(),
            "# Written when this node was installed.\nsearch lab.example\nnameserver 10.0.0.2\nnameserver 9.9.9.9\n"
        );
    }
}
