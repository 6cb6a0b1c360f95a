//! Installs on loop devices: real partitions, file systems, boot loader, and real root. Everything but the network.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use simulcast_image::apply::Install;
use simulcast_image::capture::Import;
use simulcast_image::layout::{Content, DiskFacts, Firmware, Layout, Stage, refuse};
use simulcast_image::manifest::SignedManifest;
use simulcast_image::order::Order;
use simulcast_image::store::Store;
use simulcast_image::tar::import_tar;
use simulcast_protocol::install::cmdline::CommandLine;
use simulcast_system::command::{Run, Tool};
use simulcast_system::facts::read_disks;
use simulcast_system::partition;

use super::reporter::Reporter;
use super::{Failure, Job, boot_loader, facts, finish, job, receive, storage};

const LAYOUT: &str = r#"
[disk.system]
partition = [
    { name = "bios", kind = "bios-boot", size = "1MiB", when = "bios" },
    { name = "efi", kind = "efi", size = "64MiB", when = "uefi" },
    { name = "root", size = "rest", min = "200MiB" },
    { name = "data", size = "400MiB" },
    { name = "srv", size = "200MiB" },
    { name = "swap", kind = "swap", size = "32MiB" },
]

[[filesystem]]
on = "system.root"
kind = "ext4"
label = "root"
mount = "/"

[[filesystem]]
on = "system.data"
kind = "xfs"
mount = "/data"

[[filesystem]]
on = "system.srv"
kind = "btrfs"
subvolume = "@srv"
mount = "/srv"

[[filesystem]]
on = "system.efi"
kind = "vfat"
mount = "/boot/efi"

[[filesystem]]
on = "system.swap"
kind = "swap"
"#;

const OLD_ROOT: &str = "9b1c6e0a-1111-4222-8333-444455556666";

/// Whether this machine can run the test; it says so when it cannot.
fn ready() -> bool {
    let tools = [
        Tool::Sfdisk,
        Tool::Partx,
        Tool::Wipefs,
        Tool::Losetup,
        Tool::MkfsExt4,
        Tool::MkfsXfs,
        Tool::MkfsBtrfs,
        Tool::Btrfs,
        Tool::Mkswap,
        Tool::Blkid,
        Tool::Lsblk,
    ];
    let mut missing: Vec<String> = tools
        .iter()
        .filter(|tool| !tool.is_installed())
        .map(|tool| format!("{tool:?}"))
        .collect();
    missing.extend((!rustix::process::geteuid().is_root()).then(|| "root".to_owned()));
    missing.extend((!Path::new("/dev/loop-control").exists()).then(|| "loop devices".to_owned()));
    missing.extend((!Path::new("/usr/lib/grub/i386-pc/boot.img").exists()).then(|| "grub-pc-bin".to_owned()));
    if missing.is_empty() {
        return true;
    }
    let message = format!(
        "installs on loop devices cannot be tested here; missing {}",
        missing.join(", ")
    );
    assert!(std::env::var_os("REQUIRE_TIERS").is_none(), "{message}");
    writeln!(
        std::io::stderr(),
        "SKIPPED: {message} (scripts/setup installs what is needed)"
    )
    .unwrap();
    false
}

/// A file as a disk, for as long as this lives.
struct LoopDisk {
    path: PathBuf,
}

impl LoopDisk {
    fn new(file: &Path, bytes: u64) -> Self {
        fs::File::create(file).unwrap().set_len(bytes).unwrap();
        let made = Run::new(Tool::Losetup)
            .args(["--find", "--show"])
            .arg(file)
            .run()
            .unwrap();
        let path: PathBuf = String::from_utf8(made.stdout).unwrap().trim().into();
        // The kernel may still know partitions of a file that was this device before.
        Run::new(Tool::Partx)
            .arg("-d")
            .arg(&path)
            .accept(1)
            .run()
            .unwrap();
        Self { path }
    }

    fn facts(&self) -> DiskFacts {
        let devices = read_disks().unwrap();
        let device = devices
            .iter()
            .find(|device| Path::new(&device.path) == self.path)
            .unwrap();
        facts::disk_facts(device, &partition::number_of).unwrap()
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        for run in [
            Run::new(Tool::Partx).arg("-d").arg(&self.path).accept(1),
            Run::new(Tool::Losetup).arg("-d").arg(&self.path),
        ] {
            if let Err(error) = run.run() {
                eprintln!("{error}");
            }
        }
    }
}

/// A small image with what an install looks at: a kernel, fstab, a menu, GRUB with its libraries.
fn image(state: &Path) -> (Store, SignedManifest) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_mtime(1_000_000);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    let menu = format!("linux /boot/vmlinuz-6.1.0-9 root=UUID={OLD_ROOT} ro quiet\n");
    put("boot/vmlinuz-6.1.0-9", 0o644, &[7; 3_000_000]);
    put("boot/grub/grub.cfg", 0o444, menu.as_bytes());
    put(
        "etc/fstab",
        0o644,
        format!("UUID={OLD_ROOT} / ext4 defaults 0 1\n").as_bytes(),
    );
    put("etc/hosts", 0o644, b"127.0.0.1 localhost\n127.0.1.1 golden01\n");
    put("etc/default/grub", 0o644, b"GRUB_CMDLINE_LINUX=\"\"\n");
    put("etc/ssh/ssh_host_ed25519_key", 0o600, b"golden's");
    put("usr/sbin/ifup", 0o755, b"");
    put("srv/www/index.html", 0o644, &[b'x'; 9_000_000]);
    put(
        "usr/bin/grub-mkimage",
        0o755,
        &fs::read("/usr/bin/grub-mkimage").unwrap(),
    );
    for entry in fs::read_dir("/usr/lib/grub/i386-pc").unwrap() {
        let path = entry.unwrap().path();
        put(
            path.to_str().unwrap().trim_start_matches('/'),
            0o644,
            &fs::read(&path).unwrap(),
        );
    }
    let libraries = Run::new(Tool::Own("/usr/bin/ldd".into()))
        .arg("/usr/bin/grub-mkimage")
        .run()
        .unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    for path in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        put(path.trim_start_matches('/'), 0o755, &fs::read(path).unwrap());
    }
    let store = Store::open(state).unwrap();
    let import = Import {
        image: "golden01".parse().unwrap(),
        source: [("host".to_owned(), "golden01".to_owned())].into(),
        created: 1,
        level: 1,
        threads: 1,
    };
    let tar = tar.into_inner().unwrap();
    let (version, _) = import_tar(&store, &tar[..], import, &|_, _| false, &|_| {}).unwrap();
    (store, version.signed)
}

fn order(signed: &SignedManifest, number: u64) -> Order {
    let mut order = crate::testing::order();
    order.layout = Layout::parse(LAYOUT).unwrap();
    order.manifest = signed.id;
    order.number = number;
    order.kernel_args = vec!["console=ttyS0".into()];
    order
}

fn ok(done: Result<(), Failure>) {
    if let Err(Failure::Passing(error) | Failure::Final(error)) = done {
        panic!("{error:#}");
    }
}

/// Writes the chunks of the store for which `take` says so.
fn fill(store: &Store, signed: &SignedManifest, target: &Path, take: impl Fn(usize) -> bool) -> Option<u64> {
    storage::set_marker(target).unwrap();
    let root = fs::File::open(target).unwrap().into();
    let install = Install::begin(&signed.manifest, root).unwrap();
    let found = install.bytes_found();
    let missing = install.writer().missing_chunks();
    let mut worker = install.writer().worker().unwrap();
    for (index, chunk) in signed
        .manifest
        .chunks
        .iter()
        .enumerate()
        .filter(|(index, _)| missing[*index] && take(*index))
    {
        let mut bytes = fs::read(store.chunks().path(&chunk.handle.id)).unwrap();
        install
            .writer()
            .chunk(&mut worker, u32::try_from(index).unwrap(), &mut bytes)
            .unwrap();
    }
    drop(worker);
    install.finish().ok().map(|_| found)
}

#[test]
fn a_tree_is_installed_interrupted_and_finished_on_a_real_disk() {
    if !ready() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let disk = LoopDisk::new(&scratch.path().join("disk"), 1 << 30);
    let (store, signed) = image(&scratch.path().join("state"));
    let target = scratch.path().join("target");
    let reporter = Arc::new(Reporter::default());
    let order = order(&signed, 7);
    let begin = |facts: DiskFacts| {
        let mut job = Job::new(CommandLine::default(), Arc::clone(&reporter), target.clone());
        job.firmware = Firmware::Bios;
        job.plan = Some(job::plan(&order, std::slice::from_ref(&facts), Firmware::Bios).unwrap());
        job.resumes = job::resumes(&order, job.plan().unwrap(), std::slice::from_ref(&facts));
        job.disks = vec![facts];
        job.order = Some(order.clone());
        job.signed = Some(signed.clone());
        job
    };

    // A fresh disk: everything is made, half of the version comes, then the power goes.
    assert_eq!(disk.facts().content, Content::default());
    let job = begin(disk.facts());
    assert!(!job.resumes);
    let plan = job.plan().unwrap();
    refuse(plan, &job.disks, &order.node, false).unwrap();
    ok(storage::erase(plan));
    ok(storage::partition(plan, &order));
    ok(storage::format(plan, &order));
    ok(storage::mount(plan, &signed, &target));
    assert_eq!(fill(&store, &signed, &target, |index| index % 2 == 0), None);
    storage::unmount_below(&target);

    // What was made is what was planned.
    let found = disk.facts();
    let mark = found.content.mark.as_ref().unwrap();
    assert_eq!(
        (mark.stage, mark.order, mark.holds(&found.content)),
        (Stage::Formatted, 7, true)
    );
    let signatures: Vec<_> = found
        .content
        .partitions
        .iter()
        .map(|p| p.signature.as_deref())
        .collect();
    assert_eq!(
        signatures,
        [None, Some("ext4"), Some("xfs"), Some("btrfs"), Some("swap")]
    );
    let names: Vec<_> = found
        .content
        .partitions
        .iter()
        .map(|p| p.label.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["bios", "root", "data", "srv", "swap"]);

    // The same order goes on; another one does not, and neither does another node erase it.
    let mut job = begin(found.clone());
    assert!(job.resumes);
    assert!(refuse(job.plan().unwrap(), &job.disks, &"node02".parse().unwrap(), false).is_err());
    ok(storage::assemble(job.plan().unwrap()));
    ok(storage::mount(job.plan().unwrap(), &signed, &target));
    let there = fill(&store, &signed, &target, |_| true).expect("all chunks are there now");
    assert!(there > 1_000_000, "only {there} bytes were still there");
    storage::mount_rest(job.plan().unwrap(), &signed, &target).unwrap();
    ok(receive::verify(&mut job));
    fs::write(target.join("etc/hosts"), "altered").unwrap();
    let Err(Failure::Final(error)) = receive::verify(&mut job) else {
        panic!("it did not see the difference")
    };
    assert!(
        error.to_string().contains("/etc/hosts has another content"),
        "{error}"
    );
    finish_and_check(&mut job, &disk);
}

/// The second half: what makes it a node, the boot loader, the end; and what the disk looks like from outside.
fn finish_and_check(job: &mut Job, disk: &LoopDisk) {
    let target = job.target.clone();
    let order = job.order.clone().unwrap();
    fs::write(
        target.join("etc/hosts"),
        "127.0.0.1 localhost\n127.0.1.1 golden01\n",
    )
    .unwrap();
    ok(finish::fstab(job));
    job.token = Some(simulcast_protocol::api::Token::from_bytes([7; 32]));
    ok(finish::identity(job));
    ok(finish::network(job));
    ok(finish::initramfs(job));
    ok(boot_loader::install(job));
    let uuid = job.plan().unwrap().root().unwrap().uuid.clone();
    ok(storage::unmount(job.plan().unwrap(), &order, &target));
    assert_eq!(disk.facts().content.mark.unwrap().stage, Stage::Installed);

    let first = partition::read_at(&disk.path, 512, 0).unwrap();
    assert_eq!(&first[510..], [0x55, 0xaa]);
    assert_eq!(first[0x5c..0x64], 2048u64.to_le_bytes());
    let core = partition::read_at(&disk.path, 1024, 1 << 20).unwrap();
    assert_eq!(core[500..508], 2049u64.to_le_bytes());
    ok(storage::mount(
        job.plan().unwrap(),
        job.signed.as_ref().unwrap(),
        &target,
    ));
    let read = |path: &str| fs::read_to_string(target.join(path)).unwrap();
    assert_eq!(
        read("boot/grub/grub.cfg"),
        format!("linux /boot/vmlinuz-6.1.0-9 root=UUID={uuid} ro quiet console=ttyS0\n")
    );
    assert_eq!(read("etc/hostname"), "node01\n");
    assert_eq!(read("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 node01\n");
    assert!(read("etc/fstab").contains(&format!("UUID={uuid} / ext4 errors=remount-ro 0 1\n")));
    assert!(read("etc/fstab").contains(" /srv btrfs defaults,subvol=@srv 0 0\n"));
    assert!(read("etc/network/interfaces").contains("auto mac/52:54:00:12:34:56=lan\n"));
    assert_eq!(read("etc/machine-id").trim().len(), 32);
    assert!(!target.join("etc/ssh/ssh_host_ed25519_key").exists());
    assert_eq!(
        fs::metadata(target.join("srv/www/index.html")).unwrap().len(),
        9_000_000
    );
    storage::unmount_below(&target);
}
