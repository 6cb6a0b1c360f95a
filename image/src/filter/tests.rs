//! Tests of [`super`]: reading of lists, decisions and who made them. What patterns match is tested against rsync.

use proptest::prelude::*;

use super::*;

fn list(text: &str) -> ExclusionList {
    ExclusionList::parse(text.as_bytes(), "test.exclude").unwrap()
}

fn excluded(text: &str, side: Side, path: &str, is_dir: bool) -> bool {
    list(text).decide(side, path.as_bytes(), is_dir).excluded
}

fn refused(text: &str) -> String {
    ExclusionList::parse(text.as_bytes(), "/etc/simulcast/exclude.d/x")
        .unwrap_err()
        .to_string()
}

#[test]
fn the_rule_that_decided_is_named() {
    let exclusions = Exclusions::new([
        Arc::new(ExclusionList::parse(b"+ /etc/hostname", "command line").unwrap()),
        Arc::new(list("# comment\n\n; comment\n*.log\r\n- /etc/host*\n")),
    ]);
    let by = |path: &str| {
        let decision = exclusions.decide(Side::Sender, path.as_bytes(), false);
        let by = decision
            .by
            .map(|by| (by.origin, by.line, String::from_utf8_lossy(by.text).into_owned()));
        (decision.excluded, by)
    };
    assert_eq!(
        by("etc/hostname"),
        (false, Some(("command line", 1, "+ /etc/hostname".into())))
    );
    assert_eq!(
        by("etc/hosts"),
        (true, Some(("test.exclude", 5, "- /etc/host*".into())))
    );
    assert_eq!(by("var/x.log"), (true, Some(("test.exclude", 4, "*.log".into()))));
    assert_eq!(by("etc/passwd"), (false, None));
    assert_eq!(by(""), (false, None));
}

#[test]
fn a_directory_above_decides_from_the_root() {
    let exclusions = Exclusions::new([Arc::new(list("+ /a/b/keep\n/a/b\n"))]);
    let decision = exclusions.decide_from_root(Side::Sender, b"a/b/keep", false);
    assert_eq!((decision.excluded, decision.by.unwrap().line), (true, 2));
    assert!(!exclusions.decide(Side::Sender, b"a/b/keep", false).excluded);
    assert!(!exclusions.decide_from_root(Side::Sender, b"a/c", false).excluded);
}

#[test]
fn sides() {
    use Side::{Receiver, Sender};
    for (rule, sender, receiver) in [
        ("x", true, true),
        ("- x", true, true),
        ("+ x\nx", false, false),
        ("H x", true, false),
        ("P x", false, true),
        ("S x\nx", false, true),
        ("R x\nx", true, false),
    ] {
        assert_eq!(excluded(rule, Sender, "x", false), sender, "{rule:?}");
        assert_eq!(excluded(rule, Receiver, "x", false), receiver, "{rule:?}");
    }
}

#[test]
fn names_that_look_like_rules_are_names_where_nothing_else_can_be_meant() {
    for (text, path) in [
        ("-x", "-x"),
        ("Pictures of me", "Pictures of me"),
        ("H_x", "H_x"),
        ("- - x", "- x"),
        ("- P x", "P x"),
        (" x", " x"),
        ("x ", "x "),
        ("merge", "merge"),
        ("- # x", "# x"),
        (r"a\b", r"a\b"),
        (r"a\\b", r"a\\b"),
        (r"a\*b", "a*b"),
    ] {
        assert!(excluded(text, Side::Sender, path, false), "{text:?}");
    }
    assert!(!excluded(r"a\b*", Side::Sender, r"a\b", false));
    assert!(excluded(r"a\b*", Side::Sender, "ab", false));
}

#[test]
fn what_is_not_supported_is_refused_with_file_and_line() {
    assert_eq!(
        refused("ok\n!\n"),
        "/etc/simulcast/exclude.d/x:2: \"!\" (forget all rules before) is not supported in !"
    );
    for (text, part) in [
        (". /etc/more", "merge files"),
        (": .rsync-filter", "merge files"),
        (".,n x", "merge files"),
        ("merge /etc/more", "long rule names"),
        ("dir-merge,n .f", "long rule names"),
        ("exclude foo", "long rule names"),
        ("-! x", "modifiers"),
        ("-s x", "modifiers"),
        ("-,s x", "modifiers"),
        ("+p x", "modifiers"),
        ("P/ x", "modifiers"),
        ("-", "no pattern"),
        ("- ", "no pattern"),
        ("P", "no pattern"),
        ("/", "the root itself"),
        ("- //", "the root itself"),
        ("a[b", "has no \"]\""),
        ("a[[:foo:]]", "no such class"),
        ("*\\", "nothing to escape"),
        ("a\0b", "NUL"),
    ] {
        let message = refused(text);
        assert!(message.contains(part), "{text:?}: {message}");
        assert!(message.starts_with("/etc/simulcast/exclude.d/x:1: "), "{message}");
    }
    assert!(refused(&"x".repeat(9000)).contains("8,192 bytes"));
    assert!(refused(&"x\n".repeat(10_001)).contains("10,000 rules"));
    assert!(list(&"x\n".repeat(10_000)).len() == 10_000);
    // What could steer a terminal does not reach it.
    assert!(!refused("-! \x1b[31m").contains('\x1b'));
}

#[test]
fn the_shipped_list_keeps_identity_and_empties_logs() {
    let shipped = ExclusionList::default_list();
    assert!(!shipped.is_empty());
    for path in [
        "proc/1",
        "dev/null",
        "run/user",
        "tmp/x",
        "etc/machine-id",
        "etc/hostname",
        "etc/fstab",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_rsa_key.pub",
        "var/log/syslog",
        "var/log/apt/history.log",
        "var/log/journal/0123",
        "var/lib/dhcp/dhclient.eth0.leases",
        "etc/udev/rules.d/70-persistent-net.rules",
        "var/lib/systemd/random-seed",
        "var/lib/dbus/machine-id",
    ] {
        for side in [Side::Sender, Side::Receiver] {
            assert!(shipped.decide(side, path.as_bytes(), false).excluded, "{path}");
        }
    }
    for path in [
        "lost+found",
        "home/lost+found",
        "var/lib/simulcast",
        "etc/simulcast",
    ] {
        assert!(
            shipped.decide(Side::Sender, path.as_bytes(), true).excluded,
            "{path}"
        );
    }
    for path in [
        "proc",
        "dev",
        "run",
        "tmp",
        "var/log",
        "var/log/apt",
        "var/log/journal",
        "var/lib/dhcp",
        "etc/ssh",
    ] {
        assert!(
            !shipped.decide(Side::Sender, path.as_bytes(), true).excluded,
            "{path}"
        );
    }
    for path in [
        "etc/ssh/sshd_config",
        "etc/passwd",
        "home/x/tmp/y",
        "srv/proc/z",
        "usr/bin/log",
        "etc/hosts",
    ] {
        assert!(
            !shipped.decide(Side::Sender, path.as_bytes(), false).excluded,
            "{path}"
        );
    }
}

#[test]
fn updates_leave_the_boot_loader_to_the_machine() {
    let list = ExclusionList::update_list();
    let excluded = |path: &str| list.decide(Side::Receiver, path.as_bytes(), false).excluded;
    assert_eq!(
        [
            "boot/grub/grub.cfg",
            "boot/efi/EFI",
            "boot/vmlinuz-6.1",
            "boot/grub",
            "srv/boot/grub/x"
        ]
        .map(excluded),
        [true, true, false, false, false]
    );
}

#[test]
fn every_group_of_the_shipped_list_says_why() {
    for group in DEFAULT_LIST.split("\n\n").chain(UPDATE_LIST.split("\n\n")) {
        assert!(group.starts_with('#'), "a group without a reason: {group}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        text in proptest::collection::vec(any::<u8>(), 0..200),
        path in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        if let Ok(list) = ExclusionList::parse(&text, "x") {
            list.decide(Side::Sender, &path, true);
            list.decide(Side::Receiver, &path, false);
        }
    }
}
