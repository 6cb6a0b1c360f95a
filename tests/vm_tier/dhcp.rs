//! A site's own DHCP services with what is printed for them: each is started, and asked as firmware of each kind asks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};
use simulcast_testkit::command;
use simulcast_testkit::netns::Namespace;
use simulcast_testkit::process::Process;
use simulcast_testkit::run::Run;
use simulcast_testkit::vm::site::{LIMIT, Site, dhcp};

use crate::site::{can_run, site};

/// What a machine says in options 93 and 60, whether it is iPXE (options 77 and 175), and the file that it must be told of.
const ASKED: [(&str, &str, bool, &str); 8] = [
    ("0000", "PXEClient", false, "undionly.kpxe"),
    ("0007", "PXEClient", false, "snponly.efi"),
    ("0009", "PXEClient", false, "snponly.efi"),
    ("000b", "PXEClient", false, "snponly-arm64.efi"),
    (
        "0010",
        "HTTPClient",
        false,
        "http://10.77.0.1:9440/boot/files/snponly.efi",
    ),
    (
        "0013",
        "HTTPClient",
        false,
        "http://10.77.0.1:9440/boot/files/snponly-arm64.efi",
    ),
    ("0000", "PXEClient", true, "http://10.77.0.1:9440/boot/ipxe"),
    ("0007", "PXEClient", true, "http://10.77.0.1:9440/boot/ipxe"),
];

/// What udhcpc runs when it has an answer.
const SCRIPT: &str = r#"#!/bin/sh
[ "$1" = bound ] || exit 0
printf '%s\n' "file=${boot_file:-$bootfile}" "ip=$ip" "next=$siaddr" "class=$vendor"
"#;

/// The address that the client has as a node.
const ADDRESS: &str = "10.77.0.33";

/// What the service answers, name by name, as udhcpc tells it.
fn answer(client: &Namespace, script: &str, asked: (&str, &str, bool, &str)) -> String {
    let (architecture, class, ipxe, _) = asked;
    let mut udhcpc = client.command("busybox");
    udhcpc.args([
        "udhcpc", "-f", "-n", "-q", "-t", "10", "-T", "1", "-i", "eth0", "-s", script,
    ]);
    udhcpc.args(["-V", class, "-O", "60", "-O", "66", "-O", "67"]);
    udhcpc.args(["-x", &format!("0x5d:{architecture}")]);
    if ipxe {
        // "iPXE", and encapsulated options of which there is one.
        udhcpc.args(["-x", "0x4d:69505845", "-x", "0xaf:010101"]);
    }
    command::read(&mut udhcpc).unwrap()
}

/// Asks a service that runs as machines do, and checks what it says.
fn judge(site: &Site<'_>, client: &Namespace, service: &str, script: &str) {
    for asked in ASKED {
        let (architecture, class, ipxe, file) = asked;
        let said = answer(client, script, asked);
        let value = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().to_owned()
        };
        let what = format!("{service}, architecture {architecture} of {class}, iPXE {ipxe}:\n{said}");
        assert_eq!(value("file="), file, "{what}");
        assert_eq!(value("ip="), ADDRESS, "{what}");
        if !file.contains("://") {
            assert_eq!(value("next="), site.server.address(), "{what}");
        }
        if class == "HTTPClient" {
            assert_eq!(value("class="), class, "{what}");
        }
    }
}

/// Starts a service, and waits until it says that it listens.
fn start(site: &Site<'_>, name: &str, command: &mut Command, ready: &str) -> Process {
    let mut process = site.server.spawn(name, command).unwrap();
    let says = |process: &Process| process.stdout() + &process.stderr();
    process
        .wait_until(ready, LIMIT, |process| {
            Ok(says(process).contains(ready).then_some(()))
        })
        .unwrap();
    process
}

#[test]
fn services_of_the_site_tell_each_kind_of_firmware_what_to_load() {
    if !can_run() {
        return;
    }
    let run = Run::start("boot-answers").unwrap();
    let site = site(&run, &dhcp(""));
    let client = site.network.join("client", 20).unwrap();
    let card = command::read(client.command("cat").arg("/sys/class/net/eth0/address")).unwrap();
    let node = [
        "add",
        "node01",
        "--mac",
        card.trim(),
        &format!("address={ADDRESS}"),
    ];
    site.operate("si-node", &node).unwrap();
    let script = run.dir().join("answered");
    fs::write(&script, SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    let print = |program: &str| site.operate("si-mkbootserver", &["--print", program]).unwrap();
    let write = |name: &str, text: &str| {
        let path = run.dir().join(name);
        fs::write(&path, text).unwrap();
        path
    };

    let own = "port=0\nbind-interfaces\ninterface=eth0\nno-ping\ndhcp-range=10.77.0.100,10.77.0.200,1h\n";
    let leases = format!("dhcp-leasefile={}\n", run.dir().join("dnsmasq-leases").display());
    let configuration = write("dnsmasq.conf", &(print("dnsmasq") + own + &leases));
    let mut dnsmasq = site.server.command("dnsmasq");
    dnsmasq.args(["--keep-in-foreground", "--log-facility=-"]);
    dnsmasq.arg(format!("--conf-file={}", configuration.display()));
    let mut service = start(&site, "dnsmasq", &mut dnsmasq, "DHCP, IP range");
    judge(&site, &client, "dnsmasq", script);
    service.kill();

    let subnet =
        "authoritative;\nsubnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.100 10.77.0.200; }\n";
    let (configuration, leases) = (
        write("dhcpd.conf", &(print("dhcpd") + subnet)),
        write("dhcpd-leases", ""),
    );
    let mut dhcpd = site.server.command("dhcpd");
    dhcpd
        .args(["-4", "-f", "-d", "--no-pid", "-cf"])
        .arg(configuration);
    dhcpd.arg("-lf").arg(leases).arg("eth0");
    let mut service = start(&site, "dhcpd", &mut dhcpd, "Server starting service.");
    judge(&site, &client, "dhcpd", script);
    service.kill();

    let mut kea: Value = serde_json::from_str(&print("kea")).unwrap();
    let ours = &mut kea["Dhcp4"];
    ours["interfaces-config"] = json!({ "interfaces": ["eth0"] });
    ours["lease-database"] = json!({ "type": "memfile", "persist": false });
    ours["subnet4"][0]["pools"] = json!([{ "pool": "10.77.0.100 - 10.77.0.200" }]);
    let mut program = site.server.command("kea-dhcp4");
    program
        .env("KEA_LOCKFILE_DIR", run.dir())
        .env("KEA_PIDFILE_DIR", run.dir())
        .env("KEA_LOGGER_DESTINATION", "stdout")
        .arg("-c")
        .arg(write("kea.json", &kea.to_string()));
    let mut service = start(&site, "kea", &mut program, "DHCP4_STARTED");
    judge(&site, &client, "kea", script);
    service.kill();
}
