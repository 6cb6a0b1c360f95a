//! What a DHCP service must say so that machines boot: for dnsmasq, which we run, and for a site's own dnsmasq, ISC dhcpd or
//! Kea.
//!
//! Which program a machine loads first goes by its firmware, which it tells in option 93 (RFC 4578). iPXE in a network card
//! tells that it is there (option 175), and gets its script at once; giving it another iPXE would go round in circles.

mod dhcpd;
mod dnsmasq;
mod kea;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::files::{self, BootFile};
use super::node::Nodes;
use super::script::base;
use super::settings::{Dhcp, Loader};

pub(crate) use dhcpd::dhcpd;
pub(crate) use dnsmasq::{Places, child, hosts, site};
pub(crate) use kea::kea;

/// Firmware, as option 93 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Firmware {
    /// What we call it.
    name: &'static str,
    /// Its numbers (IANA "Processor Architecture Types").
    numbers: &'static [u16],
    /// What dnsmasq calls it where it acts as proxy, one for each number.
    services: &'static [&'static str],
    /// Whether it loads by HTTP what it boots.
    http: bool,
}

/// What machines with one kind of firmware load.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    firmware: Firmware,
    /// The name of the file.
    file: String,
    /// Whether it is iPXE, which then asks again and gets its script. Where it is not, a card that has iPXE in its ROM loads
    /// it all the same: what the site has chosen holds for all machines.
    ipxe: bool,
}

const BIOS: Firmware = Firmware {
    name: "bios",
    numbers: &[0],
    services: &["x86PC"],
    http: false,
};

const UEFI: Firmware = Firmware {
    name: "uefi",
    numbers: &[7, 9],
    services: &["BC_EFI", "X86-64_EFI"],
    http: false,
};

const UEFI_HTTP: Firmware = Firmware {
    name: "uefihttp",
    numbers: &[16],
    services: &[],
    http: true,
};

const ARM64: Firmware = Firmware {
    name: "arm64",
    numbers: &[11],
    services: &["ARM64_EFI"],
    http: false,
};

const ARM64_HTTP: Firmware = Firmware {
    name: "arm64http",
    numbers: &[19],
    services: &[],
    http: true,
};

/// What a DHCP service says about booting.
#[derive(Debug, Clone)]
pub(crate) struct Service<'a> {
    /// Who and where; for a site's own service only what it needs to know of the network.
    pub(crate) dhcp: &'a Dhcp,
    /// How machines reach us.
    pub(crate) server: SocketAddr,
    /// Our address as a TFTP server.
    pub(crate) tftp: Ipv4Addr,
    /// What a BIOS loads.
    pub(crate) bios: Loader,
    /// What a UEFI loads.
    pub(crate) uefi: Loader,
    /// The files that are there: firmware without one is not answered.
    pub(crate) there: &'a [BootFile],
}

impl Service<'_> {
    /// The script that iPXE loads.
    fn script(&self) -> String {
        format!("{}/boot/ipxe", base(self.server))
    }

    /// What is answered, by firmware.
    fn answers(&self) -> Vec<Answer> {
        let all = [
            (BIOS, files::for_bios(self.bios)),
            (UEFI, files::for_uefi(self.uefi)),
            (UEFI_HTTP, files::for_uefi(self.uefi)),
            (ARM64, BootFile::IpxeArm64),
            (ARM64_HTTP, BootFile::IpxeArm64),
        ];
        let there = all.into_iter().filter(|(_, file)| self.there.contains(file));
        there
            .map(|(firmware, file)| Answer {
                firmware,
                file: if firmware.http {
                    format!("{}/boot/files/{}", base(self.server), file.name())
                } else {
                    file.name().to_owned()
                },
                ipxe: !matches!(
                    file,
                    BootFile::Lpxelinux | BootFile::GrubBios | BootFile::GrubUefi
                ),
            })
            .collect()
    }
}

/// Where a generated text came from, as a comment.
fn note(path: &Path) -> String {
    format!(
        "Written by si-server from {}; changes here are lost.",
        path.display()
    )
}

/// Nodes with a fixed address, or at least a name.
fn fixed(nodes: &Nodes) -> impl Iterator<Item = (String, Option<Ipv4Addr>, String)> {
    nodes
        .iter()
        .map(|node| (node.mac.to_string(), node.address, node.name.to_string()))
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
