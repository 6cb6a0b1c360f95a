//! A whole package from a small kernel and this machine's programs, unpacked and looked at by other programs.

use std::process::{Command, Stdio};

use super::*;
use crate::modules::forge;

/// Runs a program that judges our work, and returns what it says.
#[expect(
    clippy::disallowed_methods,
    reason = "other programs are the judges of what was written"
)]
fn judge(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}, which scripts/setup installs: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().ok();
    assert!(output.status.success(), "{program}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A system with a kernel, and the tools that are required as files that are no ELF files.
fn system() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let modules = forge::directory(
        &[
            (
                "kernel/drivers/net/virtio_net.ko",
                &[
                    "depends=net_failover",
                    "alias=virtio:d00000001v*",
                    "firmware=x/y.bin",
                    "firmware=../evil",
                ],
            ),
            ("kernel/drivers/net/net_failover.ko", &["depends="]),
            ("kernel/sound/snd.ko", &["depends="]),
        ],
        "kernel/fs/ext4/ext4.ko\n",
        "",
    );
    let root = directory.path();
    for path in ["boot", "usr/lib/modules", "usr/sbin", "usr/bin", "fw/x"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    fs::rename(modules.path(), root.join("usr/lib/modules/6.1-test")).unwrap();
    fs::write(root.join("boot/vmlinuz-6.1-test"), "kernel").unwrap();
    fs::write(root.join("fw/x/y.bin"), "firmware").unwrap();
    for wanted in PROGRAMS.iter().filter(|wanted| wanted.required) {
        let content: &[u8] = if wanted.place == BUSYBOX {
            b"\0[\0[[\0sh\0blkid\0\0"
        } else {
            b"#!/bin/sh\n"
        };
        fs::write(root.join("usr/sbin").join(wanted.name), content).unwrap();
    }
    directory
}

fn recipe(root: &Path) -> Recipe {
    Recipe {
        kernel: Kernel::find(&Root::new(root), None).unwrap(),
        installer: root.join("usr/sbin/blkid"),
        programs: Root::new(root),
        include: Vec::new(),
        classes: Class::DEFAULT.to_vec(),
        modules: Vec::new(),
        firmware: Some(root.join("fw")),
        level: 3,
    }
}

#[test]
fn two_builds_are_equal_and_hold_what_was_asked_for() {
    let directory = system();
    let built = build(&recipe(directory.path())).unwrap();
    let again = build(&recipe(directory.path())).unwrap();
    assert!(built.initrd == again.initrd && built.record == again.record);
    let record = &built.record;
    assert_eq!(
        record.modules,
        [
            "kernel/drivers/net/net_failover.ko",
            "kernel/drivers/net/virtio_net.ko"
        ]
    );
    assert_eq!(
        (record.firmware.as_slice(), record.firmware_missing.as_slice()),
        (&["x/y.bin".to_owned()][..], &["../evil".to_owned()][..])
    );
    assert!(record.programs_missing.contains(&"lvm (package lvm2)".to_owned()));
    assert_eq!(record.id().len(), 16);
    let listed = judge("sh", &["-c", "zstd -dc | cpio -tv"], &built.initrd);
    for part in [
        "init -> usr/bin/si-installer",
        "usr/bin/sh -> busybox",
        "usr/sbin/modprobe -> kmod",
        "usr/lib/modules/6.1-test/modules.dep.bin",
        "usr/lib/firmware/x/y.bin",
        "dev/console",
        "lib -> usr/lib",
    ] {
        assert!(listed.contains(part), "{part} is not in\n{listed}");
    }
    assert!(
        !listed.contains("usr/bin/blkid"),
        "an applet hides a program:\n{listed}"
    );
}

#[test]
fn modprobe_finds_modules_by_name_and_by_alias() {
    let directory = system();
    let recipe = recipe(directory.path());
    let modules = Modules::read(&recipe.kernel.modules).unwrap();
    let names = modules
        .closure(&recipe.classes, &[], &recipe.kernel.modules)
        .unwrap();
    for (name, bytes) in modules.tables(&names) {
        fs::write(recipe.kernel.modules.join(name), bytes).unwrap();
    }
    let root = directory.path().to_str().unwrap();
    std::os::unix::fs::symlink("usr/lib", directory.path().join("lib")).unwrap();
    let show = |name: &str| {
        judge(
            "modprobe",
            &["-d", root, "-S", "6.1-test", "--show-depends", name],
            b"",
        )
    };
    for name in ["virtio_net", "virtio:d00000001v00001AF4", "virtio-net"] {
        let said = show(name);
        let loaded: Vec<_> = said
            .split_whitespace()
            .filter_map(|word| word.rsplit_once('/'))
            .map(|(_, file)| file)
            .collect();
        assert_eq!(loaded, ["net_failover.ko", "virtio_net.ko"], "{name}");
    }
    assert_eq!(show("ext4"), "builtin ext4\n");
}

#[test]
fn a_package_is_replaced_as_a_whole() {
    let directory = system();
    let place = directory.path().join("state/boot/default");
    let mut recipe = recipe(directory.path());
    let first = build(&recipe).unwrap();
    first.write(&place).unwrap();
    recipe.classes = vec![Class::All];
    let second = build(&recipe).unwrap();
    second.write(&place).unwrap();
    let read = |name| fs::read(place.join(name)).unwrap();
    assert!(read(INITRD) == second.initrd && read(KERNEL) == second.kernel);
    let record: Record = serde_json::from_slice(&read(crate::record::FILE)).unwrap();
    assert_eq!(record, second.record);
    assert_ne!(record.id(), first.record.id());
    assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn what_is_missing_is_named() {
    let directory = system();
    fs::remove_file(directory.path().join("usr/sbin/sfdisk")).unwrap();
    let error = build(&recipe(directory.path())).unwrap_err().to_string();
    assert_eq!(
        error,
        "programs that a mini-kernel needs are not installed: sfdisk (package fdisk)"
    );
    fs::write(
        directory.path().join("boot/config-6.1-test"),
        "CONFIG_BLK_DEV_INITRD=y\n# CONFIG_RD_ZSTD is not set\n",
    )
    .unwrap();
    let error = build(&recipe(directory.path())).unwrap_err().to_string();
    assert!(
        error.ends_with("it was built without CONFIG_RD_ZSTD=y"),
        "{error}"
    );
}

#[test]
fn a_kernel_for_another_processor_is_refused() {
    let directory = system();
    let root = directory.path();
    // A real program of this machine, and modules that say that they are for 64-bit ARM (EM_AARCH64 at byte 18).
    fs::copy("/proc/self/exe", root.join("usr/sbin/blkid")).unwrap();
    let foreign = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    for name in ["virtio_net", "net_failover"] {
        let path = root.join(format!("usr/lib/modules/6.1-test/kernel/drivers/net/{name}.ko"));
        let mut module = fs::read(&path).unwrap();
        module[18] = foreign;
        fs::write(&path, module).unwrap();
    }
    let mut recipe = recipe(root);
    recipe.classes = vec![Class::Network];
    let error = build(&recipe).unwrap_err().to_string();
    let names = |number: u8| if number == 183 { "aarch64" } else { "x86_64" };
    let (here, there) = (names(if foreign == 183 { 62 } else { 183 }), names(foreign));
    assert!(
        error.ends_with(&format!("is for {here}, the kernel for {there}")),
        "{error}"
    );
}
