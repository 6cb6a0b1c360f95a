//! The Debian packages, in a clean Debian: installed, used, upgraded, removed and purged by dpkg itself.

#![expect(clippy::unwrap_used, reason = "everything here is a test")]

use std::fs;
use std::path::{Path, PathBuf};

use simulcast_testkit::command::{command, read, run};
use simulcast_testkit::golden::debian::Debian;
use simulcast_testkit::run::{Run, workspace};
use simulcast_testkit::tier::{Feature, ready};

/// Commands that server and node both have.
const CHOSEN: [&str; 2] = ["si-doctor", "si-verify"];

/// A Debian tree in which commands are run.
struct Clean {
    tree: PathBuf,
}

impl Clean {
    fn new(of: &Run) -> Self {
        let tree = of.dir().join("clean");
        Debian::prepare().unwrap().unpack(&tree).unwrap();
        Self { tree }
    }

    /// What a script prints that this system's shell runs, with nothing of this machine's but its kernel.
    fn run(&self, script: &str) -> String {
        // The shell stays the first process: si-installer takes itself for a machine's if it is the first.
        let mounted = "mount --rbind /sys \"$0/sys\" && mount -t proc proc \"$0/proc\" || exit
            chroot \"$0\" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive bash -euc \"$1\" 2>&1
            exit $?";
        let mut command = command("unshare");
        command.args([
            "--mount",
            "--pid",
            "--net",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            mounted,
        ]);
        read(command.arg(&self.tree).arg(script)).unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.tree.join(path.trim_start_matches('/'))
    }

    fn has(&self, path: &str) -> bool {
        // Links point into the tree, not into this machine.
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

/// Makes all packages in this version, inside the tree.
fn pack(clean: &Clean, version: &str) {
    let out = clean.path(&format!("packages/{version}"));
    let script = workspace().join("scripts/package");
    run(command(script).args(["--version", version, "--out"]).arg(out)).unwrap();
}

#[test]
fn packages_are_installed_used_upgraded_removed_and_purged() {
    if !ready("packages", &[Feature::Root, Feature::Debian]) {
        return;
    }
    let of = Run::start("packages").unwrap();
    let clean = Clean::new(&of);
    pack(&clean, "1.0.0");
    clean.run("dpkg -i /packages/1.0.0/simulcast-server_*.deb /packages/1.0.0/simulcast-client_*.deb");
    used(&clean);
    upgraded(&clean);
    removed_and_purged(&clean);
}

fn used(clean: &Clean) {
    assert_eq!(
        clean.run("si-lsimage --version; si-updateclient --version; readlink -f /usr/bin/si-doctor /usr/bin/si-verify"),
        format!(
            "si-lsimage {version}\nsi-updateclient {version}\n/usr/bin/si\n/usr/bin/si\n",
            version = env!("CARGO_PKG_VERSION")
        )
    );
    clean.run("dpkg --verify simulcast-server simulcast-client");
    let page = clean.run("zcat /usr/share/man/man8/si-getimage.8.gz");
    assert!(
        page.contains("si\\-getimage") && page.contains("SYNOPSIS"),
        "{page}"
    );
    // Every command of both packages has its page and its completion.
    let names = clean.run("si --list-commands; si-client --list-commands");
    for name in names.lines().filter(|name| !CHOSEN.contains(name)) {
        assert!(clean.has(&format!("/usr/share/man/man8/{name}.8.gz")), "{name}");
        assert!(
            clean.has(&format!("/usr/share/bash-completion/completions/{name}")),
            "{name}"
        );
    }
    clean.run("systemd-analyze verify --man=no si-server.service");
    clean.run("systemd-analyze security --offline=true --threshold=40 si-server.service");
    let enabled = clean.path("/etc/systemd/system/multi-user.target.wants/si-server.service");
    assert!(fs::symlink_metadata(enabled).is_ok());
    // The shell knows the nodes of this moment.
    clean.run("si-node add 'node[01-02],other' && si-import tiny --tree /usr/share/doc/simulcast-server");
    let complete = |line: &str| {
        clean.run(&format!(
            "set +e; source /usr/share/bash-completion/completions/{name}\n\
             COMP_WORDS=({line} '') COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) COMP_TYPE=9\n\
             $(complete -p {name} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {name} '' ''\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            name = line.split(' ').next().unwrap()
        ))
    };
    let nodes = complete("si-install");
    assert!(nodes.starts_with("node01\nnode02\nother\n"), "{nodes}");
    assert!(complete("si-rmimage").starts_with("tiny\n"));
    assert!(complete("si lsimage").starts_with("tiny\n"));
}

fn upgraded(clean: &Clean) {
    let settings = clean.path("/etc/simulcast/server.toml");
    let mine = clean.text("/etc/simulcast/server.toml") + "# mine\n";
    fs::write(&settings, &mine).unwrap();
    pack(clean, "1.0.1");
    clean.run("dpkg -i /packages/1.0.1/simulcast-server_*.deb /packages/1.0.1/simulcast-client_*.deb");
    assert_eq!(
        clean.run("dpkg-query -W -f '${Package} ${Version} ${Status}\\n' simulcast-client simulcast-server"),
        "simulcast-client 1.0.1 install ok installed\nsimulcast-server 1.0.1 install ok installed\n"
    );
    assert_eq!(clean.text("/etc/simulcast/server.toml"), mine);
    assert!(clean.run("si-lsimage tiny").contains("tiny"));
    // The same source gives the same package.
    let before = fs::read(deb(clean, "1.0.1", "simulcast-client")).unwrap();
    pack(clean, "1.0.1");
    assert!(before == fs::read(deb(clean, "1.0.1", "simulcast-client")).unwrap());
}

fn removed_and_purged(clean: &Clean) {
    clean.run("dpkg --remove simulcast-server");
    assert!(!clean.has("/usr/bin/si") && clean.has("/etc/simulcast/server.toml"));
    assert_eq!(
        clean.run("readlink -f /usr/bin/si-doctor"),
        "/usr/bin/si-client\n"
    );
    let said = clean.run("dpkg --purge simulcast-server");
    assert!(said.contains("images stay in /var/lib/simulcast"), "{said}");
    assert!(!clean.has("/etc/simulcast/server.toml"));
    assert!(clean.has("/etc/simulcast/nodes.d/nodes.toml") || clean.has("/etc/simulcast/nodes.d"));
    assert!(clean.has("/var/lib/simulcast/images/tiny"));
    clean.run("dpkg --purge simulcast-client");
    assert!(!clean.has("/usr/bin/si-client") && !clean.has("/usr/bin/si-doctor"));
    // What the installer's package asks for is there where a mini-kernel can be built, as this machine can.
    let depends = read(
        command("dpkg-deb")
            .arg("--field")
            .arg(deb(clean, "1.0.1", "simulcast-boot"))
            .arg("Depends"),
    )
    .unwrap();
    for package in depends.trim().split(", ") {
        run(command("dpkg-query").args(["-W", package])).unwrap();
    }
    clean.run("dpkg --force-depends -i /packages/1.0.1/simulcast-boot_*.deb");
    assert!(clean.run("si-installer --help").contains("si-installer"));
    clean.run("dpkg --purge simulcast-boot");
    assert_eq!(clean.run("find /usr -name '*si-installer*'"), "");
}

fn deb(clean: &Clean, version: &str, package: &str) -> PathBuf {
    let directory = clean.path(&format!("packages/{version}"));
    let found = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let named = |path: &Path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(&format!("{package}_"))
    };
    found.into_iter().find(|path| named(path)).unwrap()
}
