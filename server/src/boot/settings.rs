//! The section `[boot]` of `server.toml`: whether we answer machines that boot over the network, and with what.

mod network;

use std::net::Ipv4Addr;

use anyhow::{Result, anyhow};
use serde::Deserialize;
use simulcast_cli::{Exit, Remark};

pub(crate) use network::{AddressRange, Domain, Lease, Network};

use super::args::KernelArgs;
use super::package::PackageName;

/// Who gives addresses to machines that boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// The site's own service does everything; `si-mkbootserver --print` says what it needs.
    #[default]
    Off,
    /// We give addresses, and say what to boot.
    Dhcp,
    /// Another service gives addresses; we say what to boot.
    Proxy,
}

/// The program that firmware loads first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Loader {
    /// iPXE: everything but itself comes by HTTP.
    #[default]
    Ipxe,
    /// PXELINUX, on a BIOS: for machines on which iPXE does not work.
    Pxelinux,
    /// GRUB: the same, and for UEFI too.
    Grub,
}

/// What machines boot that are no nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Strangers {
    /// The mini-kernel, which says what they are, so that an operator can adopt them.
    #[default]
    Discover,
    /// Their local disk: for networks with machines that are none of ours.
    Local,
}

/// The section as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BootOptions {
    mode: Mode,
    interface: Option<String>,
    network: Option<Network>,
    range: Option<AddressRange>,
    address: Option<Ipv4Addr>,
    router: Option<Ipv4Addr>,
    dns: Vec<Ipv4Addr>,
    ntp: Vec<Ipv4Addr>,
    domain: Option<Domain>,
    lease: Lease,
    bios: Loader,
    uefi: Loader,
    unknown: Strangers,
    package: PackageName,
    kernel_args: KernelArgs,
}

/// How machines are booted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BootSettings {
    /// What dnsmasq does, if it is started.
    pub(crate) dhcp: Option<Dhcp>,
    /// Our address for machines that boot, if it is set.
    pub(crate) address: Option<Ipv4Addr>,
    /// What a BIOS loads.
    pub(crate) bios: Loader,
    /// What a UEFI loads.
    pub(crate) uefi: Loader,
    /// What unknown machines boot.
    pub(crate) unknown: Strangers,
    /// The mini-kernel.
    pub(crate) package: PackageName,
    /// Further words of the kernel command line.
    pub(crate) kernel_args: KernelArgs,
}

/// What dnsmasq does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dhcp {
    /// Whether another service gives the addresses.
    pub(crate) proxy: bool,
    /// Where machines are.
    pub(crate) interface: String,
    /// Their network.
    pub(crate) network: Network,
    /// Addresses for machines that have none of their own; none: only nodes get one.
    pub(crate) range: Option<AddressRange>,
    /// What machines are told.
    pub(crate) router: Option<Ipv4Addr>,
    /// Servers of names.
    pub(crate) dns: Vec<Ipv4Addr>,
    /// Servers of time.
    pub(crate) ntp: Vec<Ipv4Addr>,
    /// The domain of their names.
    pub(crate) domain: Option<Domain>,
    /// How long an address is theirs.
    pub(crate) lease: Lease,
}

impl BootOptions {
    /// The settings, when they fit each other.
    ///
    /// # Errors
    /// What is missing or does not fit: [`Exit::Usage`].
    pub(crate) fn check(self) -> Result<BootSettings> {
        let dhcp = self.dhcp().exit(Exit::Usage)?;
        if self.uefi == Loader::Pxelinux {
            return Err(anyhow!("[boot] uefi: PXELINUX is for a BIOS"))
                .exit(Exit::Usage)
                .hint("use ipxe or grub");
        }
        Ok(BootSettings {
            dhcp,
            address: self.address,
            bios: self.bios,
            uefi: self.uefi,
            unknown: self.unknown,
            package: self.package,
            kernel_args: self.kernel_args,
        })
    }

    fn dhcp(&self) -> Result<Option<Dhcp>> {
        if self.mode == Mode::Off {
            return Ok(None);
        }
        let missing = |name, example| anyhow!("[boot] {name} is missing: set it as in {name} = {example}");
        let interface = self
            .interface
            .clone()
            .ok_or_else(|| missing("interface", "\"eth1\""))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if interface.is_empty() || interface.len() > 15 || !interface.chars().all(plain) {
            return Err(anyhow!("[boot] interface: {interface:?} is no network interface"));
        }
        let network = self
            .network
            .ok_or_else(|| missing("network", "\"10.0.0.0/24\""))?;
        let (range, proxy) = (self.range, self.mode == Mode::Proxy);
        if proxy && range.is_some() {
            return Err(anyhow!(
                "[boot] range: with mode = \"proxy\" another service gives addresses"
            ));
        }
        let inside = range.is_none_or(|range| network.has(range.first) && network.has(range.last));
        if !inside {
            return Err(anyhow!("[boot] range is not within the network {network}"));
        }
        for (name, address) in [("address", self.address), ("router", self.router)] {
            if let Some(address) = address.filter(|&address| !network.has(address)) {
                return Err(anyhow!(
                    "[boot] {name}: {address} is not within the network {network}"
                ));
            }
        }
        Ok(Some(Dhcp {
            proxy,
            interface,
            network,
            range,
            router: self.router,
            dns: self.dns.clone(),
            ntp: self.ntp.clone(),
            domain: self.domain.clone(),
            lease: self.lease,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<BootSettings, String> {
        let options: BootOptions = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        options.check().map_err(|error| error.to_string())
    }

    const WHOLE: &str = "mode = \"dhcp\"\ninterface = \"eth1\"\nnetwork = \"10.0.0.0/24\"\nrange = \"10.0.0.100-10.0.0.200\"\n";

    #[test]
    fn nothing_is_started_unless_it_is_asked_for() {
        let settings = check("").unwrap();
        assert_eq!(
            (settings.dhcp, settings.package.to_string().as_str()),
            (None, "default")
        );
    }

    #[test]
    fn a_whole_section_is_taken() {
        let text = format!(
            "{WHOLE}address = \"10.0.0.1\"\nrouter = \"10.0.0.254\"\ndns = [\"10.0.0.1\"]\ndomain = \"cluster.example\"\n\
             lease = \"2h\"\nbios = \"pxelinux\"\nuefi = \"grub\"\nunknown = \"local\"\npackage = \"cloud\"\n\
             kernel_args = \"console=ttyS0\"\n"
        );
        let settings = check(&text).unwrap();
        let dhcp = settings.dhcp.unwrap();
        assert_eq!(dhcp.network.to_string(), "10.0.0.0/24");
        assert_eq!(dhcp.range.unwrap().last, Ipv4Addr::new(10, 0, 0, 200));
        assert_eq!(
            (settings.bios, settings.uefi, settings.unknown),
            (Loader::Pxelinux, Loader::Grub, Strangers::Local)
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (text, part) in [
            (
                "mode = \"dhcp\"\n".to_owned(),
                "interface is missing: set it as in interface = \"eth1\"",
            ),
            (
                "mode = \"proxy\"\ninterface = \"eth1\"\n".to_owned(),
                "network is missing",
            ),
            (WHOLE.replace("eth1", "eth 1"), "is no network interface"),
            (WHOLE.replace("dhcp", "proxy"), "another service gives addresses"),
            (
                WHOLE.replace("10.0.0.200", "10.0.1.200"),
                "range is not within the network 10.0.0.0/24",
            ),
            (
                format!("{WHOLE}router = \"10.1.0.1\"\n"),
                "router: 10.1.0.1 is not within",
            ),
            ("uefi = \"pxelinux\"\n".to_owned(), "PXELINUX is for a BIOS"),
            ("modes = 1\n".to_owned(), "unknown field `modes`"),
            (
                "kernel_args = \"a;b\"\n".to_owned(),
                "cannot stand on a kernel command line",
            ),
            ("package = \"../x\"\n".to_owned(), "is no name of a mini-kernel"),
        ] {
            let error = check(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
