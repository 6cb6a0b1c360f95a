//! The boot service without a machine: what it answers, and that dnsmasq runs as long as the server does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use simulcast_testkit::process::Process;
use simulcast_testkit::run::Run;
use simulcast_testkit::vm::site::{LIMIT, SERVER, Site, dhcp};
use simulcast_testkit::vm::{Flavour, package};
use simulcast_testkit::{command, wait};

use crate::site::{can_run, site};

/// The process that runs as our dnsmasq.
fn dnsmasq(site: &Site<'_>) -> Option<i32> {
    let text = fs::read_to_string(site.state.join("boot/dnsmasq.pid")).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    line.contains("dnsmasq").then_some(pid)
}

fn wait_for_dnsmasq(site: &Site<'_>, other_than: Option<i32>) -> i32 {
    wait::until("dnsmasq", LIMIT, || {
        Ok(dnsmasq(site).filter(|pid| Some(*pid) != other_than))
    })
    .unwrap()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn is_gone(pid: i32) {
    let gone = || Ok((!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    wait::until("the end of dnsmasq", LIMIT, gone).unwrap();
}

fn says(server: &mut Process, text: &str) {
    server
        .wait_until(text, LIMIT, |server| {
            Ok(server.stderr().contains(text).then_some(()))
        })
        .unwrap();
}

#[test]
fn dnsmasq_runs_as_long_as_the_server_and_no_longer() {
    if !can_run() {
        return;
    }
    let run = Run::start("boot-service").unwrap();
    let site = site(&run, &dhcp(""));
    let mut server = site.start("server").unwrap();
    let first = wait_for_dnsmasq(&site, None);
    says(&mut server, "DHCP, IP range 10.77.0.100 -- 10.77.0.200");
    kill(first);
    says(&mut server, "dnsmasq has ended (signal: 9 (SIGKILL))");
    let second = wait_for_dnsmasq(&site, Some(first));
    // A server that is killed leaves it; the next one ends it, as both cannot listen on one port.
    server.kill();
    let mut server = site.start("server-again").unwrap();
    is_gone(second);
    let third = wait_for_dnsmasq(&site, Some(second));
    server.stop(Duration::from_secs(20)).unwrap();
    is_gone(third);
}

#[test]
fn what_cannot_work_is_said_at_the_start() {
    if !can_run() {
        return;
    }
    let run = Run::start("boot-wrong").unwrap();
    let site = site(&run, &dhcp(""));
    let refused = |settings: &str| {
        site.configure(settings).unwrap();
        let mut command = site.command("si-server").unwrap();
        let mut server = site.server.spawn("refused", &mut command).unwrap();
        let status = server.wait(LIMIT).unwrap();
        (status.code(), server.stderr())
    };
    let (code, said) = refused(&dhcp("address = \"10.77.9.1\"\n"));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("address: 10.77.9.1 is not within the network 10.77.0.0/24"),
        "{said}"
    );
    let mode = |mode| fs::set_permissions(&site.state, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    let (code, said) = refused(&dhcp(""));
    assert_eq!(code, Some(2), "{said}");
    let state = site.state.display();
    assert!(
        said.contains(&format!(
            "cannot pass through {state} (mode 700)\nhint: chmod o+x {state}"
        )),
        "{said}"
    );
    mode(0o755);
    fs::remove_file(site.state.join("boot/tftp/undionly.kpxe")).unwrap();
    let (code, said) = refused(&dhcp(""));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("the boot file undionly.kpxe is not in place\nhint: run si-mkbootserver once"),
        "{said}"
    );
}

#[test]
fn boot_loaders_get_what_they_ask_for_without_a_token() {
    if !can_run() {
        return;
    }
    let run = Run::start("boot-http").unwrap();
    let site = site(&run, &dhcp("")).with_package().unwrap();
    let _server = site.start("server").unwrap();
    let (status, first) = site.get("/boot/ipxe", &[]).unwrap();
    assert_eq!(status, 200);
    assert!(
        first.contains(&format!(
            "chain --replace http://{SERVER}:9440/boot/ipxe?mac=${{netX/mac:hexhyp}}"
        )),
        "{first}"
    );
    let (status, script) = site.get("/boot/ipxe?mac=52-54-00-77-00-0b&uuid=x", &[]).unwrap();
    assert_eq!(status, 200);
    let kernel = script
        .split_whitespace()
        .find(|word| word.ends_with("/vmlinuz"))
        .unwrap();
    let path = kernel.strip_prefix(&format!("http://{SERVER}:9440")).unwrap();
    let length = fs::metadata(site.state.join("boot/default/vmlinuz"))
        .unwrap()
        .len();
    let head = site.get(path, &["--head"]).unwrap().1;
    assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
    assert!(head.contains("accept-ranges: bytes\r\n"), "{head}");
    let part = site.get(path, &["-r", "514-517"]).unwrap();
    assert_eq!(part, (206, "HdrS".to_owned()), "the mark of a kernel's header");
    assert_eq!(site.get(path, &["-r", "999999999-"]).unwrap().0, 416);
    let tftp = |path: &str| {
        let read = site
            .server
            .command("curl")
            .args(["-s", "-S", "--max-time", "20"])
            .arg(format!("tftp://{SERVER}/{path}"))
            .output()
            .unwrap();
        (read.status.success(), read.stdout)
    };
    let (ok, initrd) = tftp(&path.replace("/boot/", "").replace("vmlinuz", "initrd.img"));
    assert!(ok && initrd == fs::read(site.state.join("boot/default/initrd.img")).unwrap());
    let (_, text) = tftp("pxelinux.cfg/default");
    assert_eq!(
        String::from_utf8(text).unwrap(),
        site.get("/boot/pxelinux.cfg/default", &[]).unwrap().1
    );
    // The first digits of an address in this network stand for everybody who is not known.
    assert!(!tftp("pxelinux.cfg/0A4D0064").0 && !tftp("pxelinux.cfg/0A4D006").0);
    assert_eq!(tftp("pxelinux.cfg/0A4D00"), tftp("pxelinux.cfg/default"));
    let (_, text) = tftp("grub/grub.cfg");
    assert_eq!(
        String::from_utf8(text).unwrap(),
        site.get("/boot/grub/grub.cfg", &[]).unwrap().1
    );
    for (path, status) in [
        ("/boot/ipxe?mac=;chain", 400),
        ("/boot/packages/default/0000000000000000/vmlinuz", 404),
        ("/boot/packages/..%2f..%2fkeys/x/token", 404),
        ("/boot/files/..%2fleases", 404),
        ("/boot/files/dnsmasq.conf", 404),
        ("/boot/pxelinux.cfg/0A", 200),
        ("/boot/pxelinux.cfg/0G", 404),
        ("/boot/grub/grub.cfg-01-52", 404),
        ("/boot", 401),
        ("/v1/key", 401),
    ] {
        assert_eq!(site.get(path, &[]).unwrap().0, status, "{path}");
    }
    assert!(!tftp("../leases").0 && !tftp("../../keys/token").0);
}

/// What the program itself thinks of a configuration.
fn is_understood(site: &Site<'_>, program: &str, args: &[&str], text: &str) -> bool {
    let path = site.state.join(format!("{program}.conf"));
    fs::write(&path, text).unwrap();
    let judged = command::command(program).args(args).arg(&path).output().unwrap();
    eprintln!("{program}: {}", String::from_utf8_lossy(&judged.stderr));
    judged.status.success()
}

#[test]
fn services_of_the_site_understand_what_is_printed_for_them() {
    if !can_run() {
        return;
    }
    let run = Run::start("boot-print").unwrap();
    let site = site(&run, "");
    let card = "52:54:00:77:00:0b";
    let fixed = ["add", "node01", "--mac", card, "address=10.77.0.11"];
    site.operate("si-node", &fixed).unwrap();
    let floating = ["add", "node02", "--mac", "52:54:00:77:00:0c"];
    site.operate("si-node", &floating).unwrap();
    for loaders in ["", "bios = \"pxelinux\"\nuefi = \"grub\"\n"] {
        site.configure(&dhcp(loaders)).unwrap();
        let print = |program: &str| site.operate("si-mkbootserver", &["--print", program]).unwrap();
        let texts = ["dnsmasq", "dhcpd", "kea"].map(print);
        assert!(
            texts
                .iter()
                .all(|text| text.contains(card) && text.contains("10.77.0.11"))
        );
        let [dnsmasq, dhcpd, kea] = texts;
        let subnet = "subnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.100 10.77.0.200; }\n";
        let judges: [(&str, &[&str], String); 3] = [
            ("dnsmasq", &["--test", "-C"], dnsmasq),
            ("dhcpd", &["-4", "-t", "-cf"], dhcpd + subnet),
            ("kea-dhcp4", &["-t"], kea),
        ];
        for (program, args, text) in judges {
            assert!(is_understood(&site, program, args, &text), "{program}:\n{text}");
            // It does look at what it is given.
            let wrong = text.replace(card, "52:54:00:77:00:xx");
            assert!(
                !is_understood(&site, program, args, &wrong),
                "{program}:\n{wrong}"
            );
        }
    }
}

#[test]
fn a_kernel_makes_the_same_mini_kernel_wherever_it_comes_from() {
    if !can_run() {
        return;
    }
    let run = Run::start("boot-package").unwrap();
    let site = site(&run, &dhcp(""));
    let (deb, tree) = (package(Flavour::Cloud).unwrap(), run.dir().join("tree"));
    command::run(command::command("dpkg-deb").arg("-x").arg(&deb).arg(&tree)).unwrap();
    command::run(
        site.command("si-import")
            .unwrap()
            .arg("golden")
            .arg("--tree")
            .arg(&tree),
    )
    .unwrap();
    let build = |name: &str, from: &str, place: &Path| {
        let mut build = site.command("si-mkbootpackage").unwrap();
        build
            .arg(name)
            .arg(from)
            .arg(place)
            .args(["--level", "3", "--json"]);
        let text = command::read(&mut build).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let packages = [
        build("deb", "--from", &deb),
        build("tree", "--from", &tree),
        build("image", "--from-image", Path::new("golden")),
    ];
    for package in &packages[1..] {
        assert_eq!(package["initrd"], packages[0]["initrd"]);
        assert_eq!(package["vmlinuz"], packages[0]["vmlinuz"]);
        assert_eq!(package["id"], packages[0]["id"]);
    }
    let left: Vec<_> = fs::read_dir(site.state.join("boot"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().starts_with('.')),
        "{left:?}"
    );
    // The classes that everybody gets must leave room for firmware: the target is at most 60 MB.
    let bytes = |file: &str| packages[0][file]["bytes"].as_u64().unwrap();
    let together = bytes("vmlinuz") + bytes("initrd");
    assert!(together < 60_000_000, "{together}");
}
