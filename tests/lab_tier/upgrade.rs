//! A running Debian machine is brought to the golden client's next packages by its own `si-updateclient`: its sshd and a
//! logged-in shell survive, and it can go back.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use simulcast_testkit::command::{command, run};
use simulcast_testkit::compare;
use simulcast_testkit::golden::change;
use simulcast_testkit::golden::debian::Debian;
use simulcast_testkit::netns::{Namespace, Network, Snooping};
use simulcast_testkit::process::Process;
use simulcast_testkit::programs::Programs;
use simulcast_testkit::run::Run;
use simulcast_testkit::sshd::{self, Operator};
use simulcast_testkit::tier::{Feature, ready};

const NEEDS: &[Feature] = &[
    Feature::Root,
    Feature::Network,
    Feature::Debian,
    Feature::Ssh,
    Feature::Rsync,
];

const LIMIT: Duration = Duration::from_secs(300);

/// What the laboratory changes in a node besides, and what the node makes of it.
const CHANGED: &[&str] = &[
    "/root/.ssh",
    "/root/",
    "/boot/initrd.img-*",
    "/boot/grub/grub.cfg",
];

/// Stand-ins for what makes an initramfs and a menu: they write down what they were asked, and what stood in /boot then.
const TOOLS: [(&str, &str); 2] = [
    (
        "usr/sbin/update-initramfs",
        "#!/bin/sh\necho \"$0 $*: $(echo /boot/vmlinuz-*)\" >>/var/log/made\nif [ \"$1\" = -c ]; then touch /boot/initrd.img-$3; fi\n",
    ),
    (
        "usr/sbin/grub-mkconfig",
        "#!/bin/sh\necho /boot/vmlinuz-* >\"$2\"\n",
    ),
];

/// Gives a tree a kernel and its boot loader's menu.
fn make_bootable(tree: &Path, kernel: u32) {
    for (path, text) in TOOLS {
        fs::write(tree.join(path), text).unwrap();
        run(command("chmod").arg("755").arg(tree.join(path))).unwrap();
    }
    fs::create_dir_all(tree.join("boot/grub")).unwrap();
    fs::write(tree.join(format!("boot/vmlinuz-{kernel}")), "kernel").unwrap();
    fs::write(
        tree.join(format!("boot/initrd.img-{kernel}")),
        "of the golden client",
    )
    .unwrap();
    fs::write(tree.join("boot/grub/grub.cfg"), "of the golden client").unwrap();
}

/// The golden client before and after its change, and a node that is as it was before.
fn make_trees(old: &Path, new: &Path, node: &Path) {
    let debian = Debian::prepare().unwrap();
    debian.unpack(old).unwrap();
    let client = Programs::new(None).path("si-client").unwrap();
    fs::copy(client, old.join("usr/local/sbin/si-client")).unwrap();
    run(command("cp").arg("-a").arg(old).arg(new)).unwrap();
    make_bootable(old, 1);
    run(command("cp").arg("-a").arg(old).arg(node)).unwrap();
    make_bootable(new, 2);
    fs::remove_file(new.join("boot/initrd.img-2")).unwrap();
    println!("{:?}", change::packages(new, &debian).unwrap());
}

/// A shell that somebody is logged in with.
struct Login {
    child: Child,
    to: ChildStdin,
    from: BufReader<std::process::ChildStdout>,
}

impl Login {
    fn new(mut ssh: Command) -> Self {
        let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self {
            child,
            to,
            from: BufReader::new(from),
        }
    }

    /// Types a line and reads one.
    fn says(&mut self, line: &str) -> String {
        writeln!(self.to, "{line}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        // It may have ended with its machine.
        self.child.kill().unwrap_or_default();
        self.child.wait().ok();
    }
}

struct Lab {
    server: Namespace,
    operator: Operator,
}

impl Lab {
    fn ssh(&self, arguments: &[&str]) -> Command {
        let mut ssh = self.server.command("ssh");
        ssh.arg("-F")
            .arg(self.operator.config())
            .arg("node01")
            .args(arguments);
        ssh
    }

    /// Runs a script on the node; its output, whatever its exit code is.
    fn said(&self, script: &str) -> String {
        let output = self.ssh(&[script]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

/// Only what the machine itself does may differ, and the times of directories that it did it in.
fn assert_is(tree: &Path, node: &Path) {
    let mut found = compare::differences(tree, node, &[compare::NOT_CAPTURED, CHANGED].concat()).unwrap();
    found.retain(|line| !line.starts_with(".d..t......"));
    assert!(found.is_empty(), "{found:#?}");
}

fn json(said: &str) -> Value {
    let line = said.lines().rev().find(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("no JSON in: {said}"))).unwrap()
}

/// The server of both versions in the namespace, and its token.
fn serve(run_of: &Run, server: &Namespace, trees: &[&Path]) -> (Process, String) {
    let programs = Programs::new(None);
    let (state, config) = (run_of.dir().join("state"), run_of.dir().join("config"));
    for tree in trees {
        let mut import = command(programs.path("si-import").unwrap());
        import
            .arg("--state")
            .arg(&state)
            .arg("golden01")
            .arg("--tree")
            .arg(tree);
        run(&mut import).unwrap();
    }
    let mut daemon = server.command(programs.path("si-server").unwrap());
    daemon.arg("--state").arg(&state).arg("--config").arg(&config);
    let mut daemon = server
        .spawn("si-server", daemon.args(["--listen", "0.0.0.0:9440"]))
        .unwrap();
    let ready = |process: &Process| Ok(process.stdout().contains("ready on ").then_some(()));
    daemon.wait_until("the server", LIMIT, ready).unwrap();
    let token = fs::read_to_string(state.join("keys/token")).unwrap();
    (daemon, token.trim().to_owned())
}

#[test]
fn a_running_machine_is_upgraded_and_goes_back_under_its_users() {
    if !ready("debian", NEEDS) {
        return;
    }
    let run_of = Run::start("upgrade").unwrap();
    let [old, new, node] = ["old", "new", "node01"].map(|name| run_of.dir().join(name));
    make_trees(&old, &new, &node);
    let network = Network::new(&run_of, Snooping::Off).unwrap();
    let server = network.join("server", 1).unwrap();
    let machine = network.join("node01", 11).unwrap();
    let operator = Operator::new(&run_of).unwrap();
    let mut sshd = sshd::start(&machine, &node, &operator).unwrap();
    let (_daemon, token) = serve(&run_of, &server, &[&old, &new]);
    let lab = Lab { server, operator };
    let mut login = Login::new(lab.ssh(&["sh"]));
    assert_eq!(login.says("x=kept; echo $x $(id -u)"), "kept 0");
    let shell = login.says("echo $$");

    let base = format!(
        "SI_TOKEN={token} SI_SERVER=http://10.77.0.1:9440 si-client updateclient --transport http --exclude /root/.ssh/ --json"
    );
    let plan = json(&lab.said(&format!("{base} --image golden01@2 --dry-run")));
    let services: Vec<_> = plan["services"].as_array().unwrap().iter().collect();
    println!(
        "services: {services:?}, {} paths",
        plan["paths"].as_array().unwrap().len()
    );
    let done = json(&lab.said(&format!("{base} --image golden01@2")));
    assert_eq!(done["event"], "done", "{done}");
    println!("written {}, deleted {}", done["written"], done["deleted"]);
    assert!(done["written"].as_u64().unwrap() > 100);
    // The shell and its connection are those from before; new logins and new programs work.
    assert_eq!(login.says("echo $x $$"), format!("kept {shell}"));
    assert_eq!(
        login.says("nano --version >/dev/null && python3 -c 'print(6*7)'"),
        "42"
    );
    assert_eq!(
        lab.said("perl -e 'print 6*7'; git --version >/dev/null || echo broken"),
        "42"
    );
    // Its own tools made what it boots with, first while the old kernel was there; then that went.
    let made = lab.said("cat /var/log/made");
    let both = "/boot/vmlinuz-1 /boot/vmlinuz-2\n";
    assert!(
        made.contains(&format!("-u -k all: {both}")) && made.contains(&format!("-c -k 2: {both}")),
        "{made}"
    );
    assert_eq!(
        lab.said("cat /boot/grub/grub.cfg; ls /boot"),
        "/boot/vmlinuz-2\ngrub\ninitrd.img-2\nvmlinuz-2\n"
    );
    assert_is(&new, &node);
    let verified = json(&lab.said("si-client verify --checksum --exclude /root/.ssh/ --json"));
    println!(
        "{} of {} paths drifted: {}",
        verified["drifted"], verified["checked"], verified["paths"]
    );
    assert_eq!(
        (&verified["image"], &verified["drifted"]),
        (&"golden01@2".into(), &0.into())
    );
    // Once more: nothing is written or deleted, and what the machine made for itself stays. Times of directories may be put
    // right; that is not what is to be undone below.
    let again = json(&lab.said(&format!("{base} --keep 0 --image golden01@2")));
    assert_eq!(
        (&again["written"], &again["deleted"]),
        (&0.into(), &0.into()),
        "{again}"
    );

    let back = json(&lab.said("si-client updateclient --rollback --json"));
    assert_eq!(back["event"], "rolled_back", "{back}");
    assert_eq!(
        login.says("echo $x $$; bc --version >/dev/null && echo bc"),
        format!("kept {shell}")
    );
    assert_eq!(
        lab.said("cat /boot/grub/grub.cfg /boot/initrd.img-1"),
        "/boot/vmlinuz-1\nof the golden client"
    );
    assert_is(&old, &node);
    assert_eq!(lab.said("echo '6*7' | bc"), "42\n");
    sshd.kill();
}
