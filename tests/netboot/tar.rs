//! What receiving is measured against: the same version as a compressed archive, fetched by HTTP and unpacked in the same
//! machine, on the same disk.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Course, INSTALL, Lab, all_reach};
use crate::command::{command, run};
use crate::programs::Programs;
use crate::run::Run;
use crate::vm::site::{SERVER, dhcp};
use crate::vm::{Bus, Machine, Turn};

/// Where the archive is served.
const PORT: u16 = 9441;

/// Longest that all of it may take.
const WHOLE: Duration = Duration::from_secs(900);

/// Runs in the installed system before it starts. The busybox is the one that reports the first start.
const SCRIPT: &str = r#"#!/bin/sh
set -e
mkdir /var/tmp/unpacked
read begun rest < /proc/uptime
/var/lib/simulcast/up/busybox wget -q -O - "http://SERVER/tree.tar.zst" |
    tar --xattrs --xattrs-include='*' --acls --numeric-owner --zstd -xpf - -C /var/tmp/unpacked
sync -f /var/tmp/unpacked
read ended rest < /proc/uptime
rm -r /var/tmp/unpacked
echo "unpacked from $begun to $ended"
"#;

/// Installs a machine, and has it unpack the archive too. Returns the seconds of both: receiving, unpacking.
///
/// # Errors
/// When anything fails, or receiving is slower.
pub fn receive_against_tar(programs: &Programs) -> Result<(f64, f64)> {
    let (_turn, of) = (Turn::take()?, Run::start("tar")?);
    let lab = Lab::new(&of, programs.clone(), &dhcp(""))?;
    let served = of.make_dir("served")?;
    let mut tar = command("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"]);
    run(tar
        .args(["--zstd", "-cf"])
        .arg(served.join("tree.tar.zst"))
        .arg("-C")
        .arg(lab.tree(1)?)
        .arg("."))?;
    let mut httpd = lab.site.server.command("busybox");
    httpd
        .args(["httpd", "-f", "-p", &format!("{SERVER}:{PORT}"), "-h"])
        .arg(&served);
    let _httpd = lab.site.server.spawn("httpd", &mut httpd)?;
    let scripts = lab.site.config.join("scripts/post-install.d");
    fs::create_dir_all(&scripts).context("make the directory of scripts")?;
    let text = SCRIPT.replace("SERVER", &format!("{SERVER}:{PORT}"));
    fs::write(scripts.join("50unpack"), text).context("write the script")?;

    let machines = [Machine::new(&of, &lab.site.network, "node01", 41)?.disk(Bus::Virtio, 3072)?];
    let _server = lab.site.start("server")?;
    let mut course = [Course::begin(&machines[0], INSTALL)?];
    all_reach(&mut course, "hello", WHOLE)?;
    lab.wait_unknown(&machines, WHOLE)?;
    lab.adopt(&machines[0], "plain", None, &[])?;
    all_reach(&mut course, "installed", WHOLE)?;
    let [mut course] = course;
    let unpacking = unpacked(&course.vm().console())?;
    let node = lab.node("node01")?;
    let receiving = node.step("receive").context("there was a step receive")?;
    course.cut_power();
    println!("receiving took {receiving:.1} s, unpacking tar --zstd from HTTP {unpacking:.1} s");
    ensure!(
        receiving <= unpacking,
        "receiving took {receiving:.1} s, longer than the {unpacking:.1} s of tar --zstd from HTTP"
    );
    Ok((receiving, unpacking))
}

/// The seconds that the script says.
fn unpacked(console: &str) -> Result<f64> {
    let line = console.lines().find(|line| line.contains("unpacked from "));
    let line = line.context("the script has said nothing")?;
    let numbers: Vec<f64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers[..] {
        [begun, ended] => Ok(ended - begun),
        _ => Err(anyhow::anyhow!("no two times in {line:?}")),
    }
}
