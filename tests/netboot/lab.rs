//! An image server with a golden client that machines can become.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command::{command, run};
use crate::golden::bootable;
use crate::golden::debian::Debian;
use crate::programs::Programs;
use crate::run::Run;
use crate::sshd::{self, Operator};
use crate::vm::Machine;
use crate::vm::site::{LIMIT, Site, cached};
use crate::wait;

/// The layouts that nodes can have: one disk, two that mirror each other, volumes of a group on a disk with an MBR, and one disk
/// that systemd-boot starts.
const LAYOUTS: [(&str, &str); 4] = [
    (
        "plain",
        r#"[disk.system]
partition = [
    { name = "bios", kind = "bios-boot", size = "1MiB", when = "bios" },
    { name = "efi", kind = "efi", size = "64MiB", when = "uefi" },
    { name = "root", size = "rest" },
]

[[filesystem]]
on = "system.efi"
kind = "vfat"
mount = "/boot/efi"

[[filesystem]]
on = "system.root"
kind = "ext4"
mount = "/"
"#,
    ),
    (
        "mirror",
        r#"[disk.first]
choose = { order = 0 }
partition = [
    { name = "bios", kind = "bios-boot", size = "1MiB" },
    { name = "root", kind = "raid", size = "rest" },
]

[disk.second]
choose = { order = 1 }
partition = [
    { name = "bios", kind = "bios-boot", size = "1MiB" },
    { name = "root", kind = "raid", size = "rest" },
]

[raid.root]
level = 1
members = ["first.root", "second.root"]

[[filesystem]]
on = "root"
kind = "ext4"
mount = "/"
"#,
    ),
    (
        "volumes",
        r#"[disk.system]
table = "mbr"
partition = [
    { name = "boot", size = "192MiB" },
    { name = "lvm", kind = "lvm", size = "rest" },
]

[group.vg0]
members = ["system.lvm"]
volume = [{ name = "root", size = "rest" }, { name = "var", size = "512MiB" }]

[[filesystem]]
on = "system.boot"
kind = "ext4"
mount = "/boot"

[[filesystem]]
on = "vg0.root"
kind = "xfs"
mount = "/"

[[filesystem]]
on = "vg0.var"
kind = "ext4"
mount = "/var"
"#,
    ),
    (
        "entries",
        r#"[boot]
loader = "systemd-boot"

[disk.system]
partition = [
    { name = "efi", kind = "efi", size = "96MiB" },
    { name = "root", size = "rest" },
]

[[filesystem]]
on = "system.efi"
kind = "vfat"
mount = "/boot/efi"

[[filesystem]]
on = "system.root"
kind = "ext4"
mount = "/"
"#,
    ),
];

/// The golden client's image.
const IMAGE: &str = "golden01";

/// The laboratory.
#[derive(Debug)]
pub struct Lab<'run> {
    /// The server's machine.
    pub site: Site<'run>,
    run: &'run Run,
}

/// A node, as `si-node show` tells it.
#[derive(Debug)]
pub struct Node(pub Value);

impl<'run> Lab<'run> {
    /// Makes it: the golden client is `golden01@1`; the server is not started.
    ///
    /// # Errors
    /// When anything of it cannot be made.
    pub fn new(run: &'run Run, programs: Programs, settings: &str) -> Result<Self> {
        programs.require(&["si-import", "si-getimage", "si-node", "si-install", "si-checkout"])?;
        let version = first_version(&programs)?;
        let site = Site::new(run, programs, settings)?.with_package()?;
        for part in fs::read_dir(&version).with_context(|| format!("list {}", version.display()))? {
            let part = part.with_context(|| format!("list {}", version.display()))?;
            crate::command::run(command("cp").arg("-a").arg(part.path()).arg(&site.state))?;
        }
        let layouts = site.config.join("layouts.d");
        fs::create_dir_all(&layouts).context("make the directory of layouts")?;
        for (name, text) in LAYOUTS {
            fs::write(layouts.join(format!("{name}.toml")), text).context("write a layout")?;
        }
        Ok(Self { site, run })
    }

    /// The tree of a version, checked out.
    ///
    /// # Errors
    /// When it cannot be checked out.
    pub fn tree(&self, version: u32) -> Result<PathBuf> {
        let (name, tree) = (
            format!("{IMAGE}@{version}"),
            self.run.dir().join(format!("tree{version}")),
        );
        if !tree.exists() {
            let path = tree.to_str().context("a path of a run is UTF-8")?;
            self.site.operate("si-checkout", &[&name, path])?;
        }
        Ok(tree)
    }

    /// Bytes of the chunks of a version.
    ///
    /// # Errors
    /// When the server does not know it.
    pub fn stored_bytes(&self, version: u32) -> Result<u64> {
        let listed = self.site.operate("si-lsimage", &["--json", IMAGE])?;
        let listed: Value = serde_json::from_str(&listed).context("read the list of versions")?;
        let of = |row: &Value| row["stored_bytes"].as_u64().filter(|_| row["version"] == version);
        let rows = listed.as_array().into_iter().flatten();
        rows.into_iter()
            .find_map(of)
            .with_context(|| format!("{IMAGE} has no version {version} in {listed}"))
    }

    /// What an administrator changes in the golden client becomes `golden01@2`: captured from its sshd, as a machine of its own.
    ///
    /// # Errors
    /// When it cannot be captured.
    pub fn change_golden(&self) -> Result<()> {
        let golden = self.run.dir().join("golden");
        run(command("cp").arg("-a").arg(self.tree(1)?).arg(&golden))?;
        for (path, text) in [
            ("etc/issue", "Version 2 of the golden client \\l\n"),
            ("usr/local/etc/added", "by the administrator\n"),
        ] {
            let path = golden.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&golden)).context("make a directory")?;
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        let machine = self.site.network.join(IMAGE, 9)?;
        let operator = Operator::new(self.run)?;
        let mut sshd = sshd::start(&machine, &golden, &operator)?;
        let mut capture = self.site.command("si-getimage")?;
        crate::command::run(capture.arg(IMAGE).env("SI_SSH", operator.ssh()))?;
        sshd.kill();
        Ok(())
    }

    /// Waits until the server lists all of `machines` as unknown.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_unknown(&self, machines: &[Machine], limit: Duration) -> Result<()> {
        wait::until("machines to be listed as unknown", limit, || {
            let listed = self.site.operate("si-node", &["list", "--unknown", "--json"])?;
            let listed: Value = serde_json::from_str(&listed).context("read the unknown machines")?;
            let macs: Vec<&str> = listed
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|machine| machine["mac"].as_str())
                .collect();
            Ok(machines
                .iter()
                .all(|machine| macs.contains(&machine.mac()))
                .then_some(()))
        })
    }

    /// Makes a machine that waits a node with `more` settings, which is installed at once. Its address ends in `number`, if there
    /// is one.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn adopt(&self, machine: &Machine, layout: &str, number: Option<u8>, more: &[&str]) -> Result<()> {
        let mut args = vec!["adopt", machine.mac(), machine.name(), "--image", IMAGE];
        args.extend(["--layout", layout, "--set", "console=ttyS0"]);
        more.iter().for_each(|setting| args.extend(["--set", *setting]));
        let address = number.map(|number| format!("address=10.77.0.{number}"));
        if let Some(address) = &address {
            args.extend(["--set", address]);
        }
        self.site.operate("si-node", &args)?;
        Ok(())
    }

    /// Waits until a node has reported that so many per cent have arrived; how many bytes that are.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_received(&self, name: &str, per_cent: u64) -> Result<u64> {
        wait::until(&format!("{per_cent} % to have arrived"), LIMIT, || {
            let node = self.node(name)?;
            let order = &node.0["order"];
            let count = |key: &str| order[key].as_u64().unwrap_or(0);
            let (done, total) = (count("done_bytes"), count("total_bytes"));
            let receives = order["step"] == "receive";
            Ok((receives && total > 0 && done * 100 >= total * per_cent).then_some(done))
        })
    }

    /// Bytes of the mini-kernel's files.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub fn package_bytes(&self) -> Result<u64> {
        let size = |name: &str| {
            let path = self.site.state.join("boot/default").join(name);
            fs::metadata(&path)
                .map(|found| found.len())
                .with_context(|| format!("look at {}", path.display()))
        };
        Ok(size("vmlinuz")? + size("initrd.img")?)
    }

    /// What the server knows of a node.
    ///
    /// # Errors
    /// When the server does not know it.
    pub fn node(&self, name: &str) -> Result<Node> {
        let shown = self.site.operate("si-node", &["show", name, "--json"])?;
        let nodes: Vec<Value> = serde_json::from_str(&shown).context("read what si-node shows")?;
        let node = nodes.into_iter().next();
        node.map(Node).with_context(|| format!("si-node shows no {name}"))
    }

    /// Waits until a node has reported its first start.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_up(&self, name: &str, limit: Duration) -> Result<Node> {
        wait::until(&format!("{name} to report its start"), limit, || {
            let node = self.node(name)?;
            Ok((!node.0["order"]["up"].is_null()).then_some(node))
        })
    }
}

impl Node {
    /// Its state, as in `installed`.
    pub fn state(&self) -> &str {
        self.0["state"].as_str().unwrap_or_default()
    }

    /// The version of its last order, as in `golden01@1`.
    pub fn version(&self) -> String {
        let order = &self.0["order"];
        format!("{}@{}", order["image"].as_str().unwrap_or("?"), order["version"])
    }

    /// The number of its last order.
    pub fn order(&self) -> u64 {
        self.0["order"]["number"].as_u64().unwrap_or_default()
    }

    /// Seconds that a step of its last order took; `None` when it was not done.
    pub fn step(&self, name: &str) -> Option<f64> {
        let steps = self.0["steps"].as_array()?;
        let step = steps.iter().find(|step| step["step"] == name)?;
        let took = step["ended"].as_u64()?.checked_sub(step["began"].as_u64()?)?;
        Some(Duration::from_millis(took).as_secs_f64())
    }

    /// Seconds from the start of its kernel to the beginning of a step.
    pub fn began(&self, name: &str) -> Option<f64> {
        let steps = self.0["steps"].as_array()?;
        let step = steps.iter().find(|step| step["step"] == name)?;
        Some(Duration::from_millis(step["began"].as_u64()?).as_secs_f64())
    }
}

/// A state directory in which the golden client is `golden01@1`, made once for these programs.
fn first_version(programs: &Programs) -> Result<PathBuf> {
    let debian = Debian::of(&bootable::RECIPE)?;
    let import = programs.path("si-import")?;
    let place = cached("golden01", &[&import], &debian.name())?;
    if place.exists() {
        return Ok(place);
    }
    let work = Run::start("golden01")?;
    let tree = work.dir().join("tree");
    debian.unpack(&tree)?;
    let state = work.dir().join("state");
    let no_configuration = Path::new("/dev/null");
    run(command(&import)
        .arg("--state")
        .arg(&state)
        .arg("--config")
        .arg(no_configuration)
        .args([IMAGE, "--tree"])
        .arg(&tree))?;
    fs::rename(&state, &place).with_context(|| format!("put {} in place", place.display()))?;
    Ok(place)
}
