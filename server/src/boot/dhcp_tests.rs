//! The texts, compared as they are; dnsmasq itself says whether it understands its own.

use super::super::node::{BootAction, sample};
use super::super::settings::{BootOptions, BootSettings};
use super::*;

fn settings(text: &str) -> BootSettings {
    toml::from_str::<BootOptions>(text).unwrap().check().unwrap()
}

fn full() -> BootSettings {
    settings(
        "mode = \"dhcp\"\ninterface = \"eth1\"\nnetwork = \"10.0.0.0/24\"\nrange = \"10.0.0.100-10.0.0.200\"\n\
         dns = [\"10.0.0.2\", \"10.0.0.3\"]\ndomain = \"cluster.example\"\n",
    )
}

const THERE: &[BootFile] = &[BootFile::Undionly, BootFile::Snponly];

fn service<'a>(settings: &'a BootSettings, there: &'a [BootFile]) -> Service<'a> {
    Service {
        dhcp: settings.dhcp.as_ref().unwrap(),
        server: "10.0.0.1:9440".parse().unwrap(),
        tftp: Ipv4Addr::new(10, 0, 0, 1),
        bios: settings.bios,
        uefi: settings.uefi,
        there,
    }
}

fn places(directory: &Path) -> [std::path::PathBuf; 5] {
    ["server.toml", "tftp", "dhcp-hosts", "leases", "dnsmasq.pid"].map(|name| directory.join(name))
}

fn child_text(settings: &BootSettings, there: &[BootFile], directory: &Path) -> String {
    let [from, tftp, hosts, leases, pid] = places(directory);
    let places = Places {
        from: &from,
        tftp: &tftp,
        hosts: &hosts,
        leases: &leases,
        pid: &pid,
    };
    child(&service(settings, there), &places)
}

#[test]
fn our_dnsmasq_gives_addresses_and_says_what_to_boot() {
    assert_eq!(
        child_text(&full(), THERE, Path::new("/s")),
        "# Written by si-server from /s/server.toml; changes here are lost.\n\
         port=0\n\
         interface=eth1\n\
         bind-interfaces\nexcept-interface=lo\nno-hosts\nno-resolv\nlog-dhcp\n\
         pid-file=/s/dnsmasq.pid\n\
         dhcp-leasefile=/s/leases\n\
         enable-tftp\ntftp-root=/s/tftp\n\
         dhcp-authoritative\nno-ping\n\
         dhcp-hostsfile=/s/dhcp-hosts\n\
         dhcp-range=10.0.0.100,10.0.0.200,255.255.255.0,43200\n\
         dhcp-option=option:router\n\
         dhcp-option=option:dns-server,10.0.0.2,10.0.0.3\n\
         domain=cluster.example\n\
         dhcp-match=set:ipxe,175\n\
         dhcp-match=set:bios,option:client-arch,0\n\
         dhcp-match=set:uefi,option:client-arch,7\n\
         dhcp-match=set:uefi,option:client-arch,9\n\
         dhcp-match=set:uefihttp,option:client-arch,16\n\
         dhcp-boot=tag:ipxe,http://10.0.0.1:9440/boot/ipxe\n\
         dhcp-boot=tag:bios,tag:!ipxe,undionly.kpxe,,10.0.0.1\n\
         dhcp-boot=tag:uefi,tag:!ipxe,snponly.efi,,10.0.0.1\n\
         dhcp-option-force=tag:uefihttp,tag:!ipxe,60,HTTPClient\n\
         dhcp-boot=tag:uefihttp,tag:!ipxe,http://10.0.0.1:9440/boot/files/snponly.efi\n"
    );
}

#[test]
fn as_a_proxy_it_only_says_what_to_boot() {
    let proxy =
        settings("mode = \"proxy\"\ninterface = \"eth1\"\nnetwork = \"10.0.0.0/24\"\nbios = \"pxelinux\"\n");
    let there = [BootFile::Lpxelinux, BootFile::Snponly];
    assert_eq!(
        child_text(&proxy, &there, Path::new("/s")),
        "# Written by si-server from /s/server.toml; changes here are lost.\n\
         port=0\n\
         interface=eth1\n\
         bind-interfaces\nexcept-interface=lo\nno-hosts\nno-resolv\nlog-dhcp\n\
         pid-file=/s/dnsmasq.pid\n\
         dhcp-leasefile=/s/leases\n\
         enable-tftp\ntftp-root=/s/tftp\n\
         dhcp-match=set:ipxe,175\n\
         dhcp-range=10.0.0.0,proxy,255.255.255.0\n\
         pxe-service=x86PC,\"Simulcast\",lpxelinux.0\n\
         pxe-service=tag:!ipxe,BC_EFI,\"Simulcast\",snponly.efi\n\
         pxe-service=tag:ipxe,BC_EFI,\"Simulcast\",http://10.0.0.1:9440/boot/ipxe\n\
         pxe-service=tag:!ipxe,X86-64_EFI,\"Simulcast\",snponly.efi\n\
         pxe-service=tag:ipxe,X86-64_EFI,\"Simulcast\",http://10.0.0.1:9440/boot/ipxe\n"
    );
}

#[test]
fn what_the_site_has_chosen_holds_for_cards_with_ipxe_too() {
    let mut settings = full();
    (settings.bios, settings.uefi) = (Loader::Pxelinux, Loader::Grub);
    let there = [BootFile::Lpxelinux, BootFile::GrubUefi, BootFile::IpxeArm64];
    let text = child_text(&settings, &there, Path::new("/s"));
    let (_, boots) = text
        .split_once("dhcp-match=set:arm64http,option:client-arch,19\n")
        .unwrap();
    assert_eq!(
        boots,
        "dhcp-boot=tag:ipxe,tag:!bios,tag:!uefi,tag:!uefihttp,http://10.0.0.1:9440/boot/ipxe\n\
         dhcp-boot=tag:bios,lpxelinux.0,,10.0.0.1\n\
         dhcp-boot=tag:uefi,grubx64.efi,,10.0.0.1\n\
         dhcp-option-force=tag:uefihttp,60,HTTPClient\n\
         dhcp-boot=tag:uefihttp,http://10.0.0.1:9440/boot/files/grubx64.efi\n\
         dhcp-boot=tag:arm64,tag:!ipxe,snponly-arm64.efi,,10.0.0.1\n\
         dhcp-option-force=tag:arm64http,tag:!ipxe,60,HTTPClient\n\
         dhcp-boot=tag:arm64http,tag:!ipxe,http://10.0.0.1:9440/boot/files/snponly-arm64.efi\n"
    );
    let service = service(&settings, &there);
    let text = dhcpd(&service, &Nodes::default());
    let (grub, ipxe) = (
        text.find("grubx64.efi").unwrap(),
        text.find("/boot/ipxe").unwrap(),
    );
    assert!(
        grub < ipxe && ipxe < text.find("snponly-arm64.efi").unwrap(),
        "{text}"
    );
    let kea = kea(&service, &Nodes::default());
    let test = kea["Dhcp4"]["client-classes"][0]["test"].as_str().unwrap();
    assert!(
        test.starts_with("option[77].hex == 'iPXE' and not (option[93].hex == 0x0000) and not ("),
        "{test}"
    );
}

fn nodes() -> Nodes {
    let mut bare = sample("node02", 12, BootAction::Local);
    bare.address = None;
    Nodes::new(vec![sample("node01", 11, BootAction::Install), bare])
}

#[test]
fn nodes_have_their_names_and_addresses() {
    assert_eq!(
        hosts(&nodes()),
        "52:54:00:00:00:0b,10.0.0.11,node01\n52:54:00:00:00:0c,node02\n"
    );
}

#[test]
fn a_sites_own_services_are_told_the_same() {
    let settings = full();
    let service = service(&settings, THERE);
    let text = site(&service, &nodes());
    assert!(
        text.ends_with("dhcp-host=52:54:00:00:00:0b,10.0.0.11,node01\ndhcp-host=52:54:00:00:00:0c,node02\n")
    );
    assert!(
        text.contains("\ndhcp-boot=tag:ipxe,http://10.0.0.1:9440/boot/ipxe\n")
            && !text.contains("dhcp-range")
    );
    assert_eq!(
        dhcpd(&service, &nodes()),
        "# For the site's own ISC dhcpd, beside its subnets.\n\
         option architecture-type code 93 = unsigned integer 16;\n\
         class \"simulcast\" {\n\
         \x20 match if substring(option vendor-class-identifier, 0, 9) = \"PXEClient\"\n\
         \x20       or substring(option vendor-class-identifier, 0, 10) = \"HTTPClient\";\n\
         \x20 if exists user-class and option user-class = \"iPXE\" {\n\
         \x20   filename \"http://10.0.0.1:9440/boot/ipxe\";\n\
         \x20 } elsif option architecture-type = 00:00 {\n\
         \x20   next-server 10.0.0.1;\n\
         \x20   filename \"undionly.kpxe\";\n\
         \x20 } elsif option architecture-type = 00:07 or option architecture-type = 00:09 {\n\
         \x20   next-server 10.0.0.1;\n\
         \x20   filename \"snponly.efi\";\n\
         \x20 } elsif option architecture-type = 00:10 {\n\
         \x20   option vendor-class-identifier \"HTTPClient\";\n\
         \x20   filename \"http://10.0.0.1:9440/boot/files/snponly.efi\";\n\
         \x20 }\n\
         }\n\
         host node01 { hardware ethernet 52:54:00:00:00:0b; fixed-address 10.0.0.11; option host-name \"node01\"; }\n\
         host node02 { hardware ethernet 52:54:00:00:00:0c; option host-name \"node02\"; }\n"
    );
    let kea = kea(&service, &nodes());
    assert_eq!(kea["Dhcp4"]["subnet4"][0]["subnet"], "10.0.0.0/24");
    assert_eq!(
        kea["Dhcp4"]["client-classes"][0]["boot-file-name"],
        "http://10.0.0.1:9440/boot/ipxe"
    );
    assert_eq!(
        kea["Dhcp4"]["client-classes"][2]["test"],
        "(option[93].hex == 0x0007 or option[93].hex == 0x0009) and not (option[77].hex == 'iPXE')"
    );
    assert_eq!(
        kea["Dhcp4"]["subnet4"][0]["reservations"][0],
        serde_json::json!({ "hw-address": "52:54:00:00:00:0b", "hostname": "node01", "ip-address": "10.0.0.11" })
    );
}
