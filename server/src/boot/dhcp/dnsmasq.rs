//! dnsmasq: the configuration of the one that we run, and what a site's own needs.

use std::fmt::Write;
use std::path::Path;

use super::super::node::Nodes;
use super::{Answer, Service, fixed, note};

/// Where the files of our dnsmasq are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// What its configuration comes from, for whoever reads it.
    pub(crate) from: &'a Path,
    /// Files that it sends by TFTP.
    pub(crate) tftp: &'a Path,
    /// Cards, names and addresses of nodes: [`hosts`].
    pub(crate) hosts: &'a Path,
    /// Leases that it gave.
    pub(crate) leases: &'a Path,
    /// Its process id.
    pub(crate) pid: &'a Path,
}

/// The whole configuration of the dnsmasq that we run. It gives no names: port 53 stays whose it is.
pub(crate) fn child(service: &Service<'_>, places: &Places<'_>) -> String {
    let mut text = format!("# {}\n", note(places.from));
    let dhcp = service.dhcp;
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    line("port=0".to_owned());
    line(format!("interface={}", dhcp.interface));
    line("bind-interfaces\nexcept-interface=lo\nno-hosts\nno-resolv\nlog-dhcp".to_owned());
    line(format!("pid-file={}", places.pid.display()));
    line(format!("dhcp-leasefile={}", places.leases.display()));
    line(format!("enable-tftp\ntftp-root={}", places.tftp.display()));
    if !dhcp.proxy {
        // Asking whether an address is free costs each machine three seconds, and the leases say it too.
        line("dhcp-authoritative\nno-ping".to_owned());
        line(format!("dhcp-hostsfile={}", places.hosts.display()));
        let (mask, lease) = (dhcp.network.mask(), dhcp.lease.0);
        match dhcp.range {
            Some(range) => line(format!(
                "dhcp-range={},{},{mask},{lease}",
                range.first, range.last
            )),
            None => line(format!(
                "dhcp-range={},static,{mask},{lease}",
                dhcp.network.base()
            )),
        }
        let list = |addresses: &[std::net::Ipv4Addr]| -> String {
            addresses.iter().map(|address| format!(",{address}")).collect()
        };
        // An option without a value is not sent: dnsmasq would name itself as the router.
        let router: Vec<_> = dhcp.router.into_iter().collect();
        line(format!("dhcp-option=option:router{}", list(&router)));
        line(format!("dhcp-option=option:dns-server{}", list(&dhcp.dns)));
        if !dhcp.ntp.is_empty() {
            line(format!("dhcp-option=option:ntp-server{}", list(&dhcp.ntp)));
        }
        if let Some(domain) = &dhcp.domain {
            line(format!("domain={domain}"));
        }
    }
    text.push_str(&booting(service));
    text
}

/// What a site's own dnsmasq needs in its configuration.
pub(crate) fn site(service: &Service<'_>, nodes: &Nodes) -> String {
    let mut text = String::from("# For the site's own dnsmasq, beside what it has.\n");
    text.push_str(&booting(service));
    for host in hosts(nodes).lines() {
        writeln!(text, "dhcp-host={host}").unwrap_or_default();
    }
    text
}

/// Cards, names and addresses of nodes, one a line, as `dhcp-hostsfile` has them.
pub(crate) fn hosts(nodes: &Nodes) -> String {
    fixed(nodes)
        .map(|(mac, address, name)| match address {
            Some(address) => format!("{mac},{address},{name}\n"),
            None => format!("{mac},{name}\n"),
        })
        .collect()
}

/// What is said about booting.
fn booting(service: &Service<'_>) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    let (dhcp, script) = (service.dhcp, service.script());
    line("dhcp-match=set:ipxe,175".to_owned());
    if dhcp.proxy {
        line(format!(
            "dhcp-range={},proxy,{}",
            dhcp.network.base(),
            dhcp.network.mask()
        ));
        for answer in service.answers().iter().filter(|answer| !answer.firmware.http) {
            for name in answer.firmware.services {
                let file = &answer.file;
                if answer.ipxe {
                    // A proxy must offer the script as a service too: dhcp-boot alone is not answered.
                    line(format!("pxe-service=tag:!ipxe,{name},\"Simulcast\",{file}"));
                    line(format!("pxe-service=tag:ipxe,{name},\"Simulcast\",{script}"));
                } else {
                    line(format!("pxe-service={name},\"Simulcast\",{file}"));
                }
            }
        }
        return text;
    }
    let answers = service.answers();
    for Answer { firmware, .. } in &answers {
        for number in firmware.numbers {
            line(format!(
                "dhcp-match=set:{},option:client-arch,{number}",
                firmware.name
            ));
        }
    }
    let others = answers.iter().filter(|answer| !answer.ipxe);
    let others: String = others
        .map(|answer| format!(",tag:!{}", answer.firmware.name))
        .collect();
    line(format!("dhcp-boot=tag:ipxe{others},{script}"));
    for Answer { firmware, file, ipxe } in &answers {
        let (name, tftp) = (firmware.name, service.tftp);
        let tags = if *ipxe {
            format!("tag:{name},tag:!ipxe")
        } else {
            format!("tag:{name}")
        };
        if firmware.http {
            line(format!("dhcp-option-force={tags},60,HTTPClient"));
            line(format!("dhcp-boot={tags},{file}"));
        } else {
            line(format!("dhcp-boot={tags},{file},,{tftp}"));
        }
    }
    text
}
