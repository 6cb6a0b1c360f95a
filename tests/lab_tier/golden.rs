//! Golden trees: complete, repeatable, and changed as said.

use simulcast_testkit::command::{command, run};
use simulcast_testkit::compare::differences;
use simulcast_testkit::golden::{change, small};
use simulcast_testkit::run::Run;
use simulcast_testkit::tier::{Feature, ready};

const BIG_BYTES: u64 = 4 << 20;

#[test]
fn a_copy_is_identical_and_a_change_is_seen_in_full() {
    if !ready("golden", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let of = Run::start("small").unwrap();
    let (tree, copy) = (of.dir().join("tree"), of.dir().join("copy"));
    small::make(&tree, BIG_BYTES).unwrap();
    run(command("cp").arg("-a").arg(&tree).arg(&copy)).unwrap();
    assert_eq!(differences(&tree, &copy, &[]).unwrap(), Vec::<String>::new());
    change::files(&tree).unwrap();
    let found = differences(&tree, &copy, &["/lib"]).unwrap();
    let expected = [
        "*deleting   etc/service-013.conf",
        ">fc.t...... big.bin",
        ">fcst...... service.log",
        ".d..t...... etc/",
        ".f...p..... etc/service-001.conf",
        ".f....og... etc/service-002.conf",
        ">fc.t...... etc/service-007.conf",
        ">f+++++++++ etc/service-100.conf",
        ">fc.t...... kinds/one-byte",
    ];
    assert_eq!(found, expected);
    let renamed = differences(&tree.join("lib"), &copy.join("lib"), &[]).unwrap();
    assert!(renamed.contains(&"cd+++++++++ nine/".to_owned()), "{renamed:?}");
    assert!(renamed.contains(&"*deleting   09/".to_owned()), "{renamed:?}");
}

#[test]
fn differences_that_rsync_calls_small_are_found() {
    if !ready("golden", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let of = Run::start("judge").unwrap();
    let (tree, copy) = (of.dir().join("tree"), of.dir().join("copy"));
    small::make(&tree, 0).unwrap();
    let spoil: [(&str, &str, &str); 6] = [
        (
            "a nanosecond",
            "metadata/precise",
            "touch -d @1500000000.000000002 metadata/precise",
        ),
        (
            "an ACL",
            "metadata/mode-0644",
            "setfacl -m u:77:r metadata/mode-0644",
        ),
        (
            "a capability",
            "metadata/attributed",
            "setfattr -x security.capability metadata/attributed",
        ),
        (
            "a hard link",
            "kinds/linked-3 => kinds/linked",
            "cp -p --remove-destination kinds/linked kinds/linked-3",
        ),
        (
            "a symlink's owner",
            "kinds/dangling -> ../no/such/file",
            "chown -h 1:1 kinds/dangling",
        ),
        (
            "one byte with the same time and size",
            "kinds/one-byte",
            "touch -r kinds/one-byte ../t && printf 2 >kinds/one-byte && touch -r ../t kinds/one-byte",
        ),
    ];
    for (what, path, script) in spoil {
        run(command("cp").arg("-a").arg(&tree).arg(&copy)).unwrap();
        assert_eq!(differences(&tree, &copy, &[]).unwrap(), Vec::<String>::new());
        run(command("sh").args(["-ec", script]).current_dir(&copy)).unwrap();
        let found = differences(&tree, &copy, &[]).unwrap();
        assert!(found.iter().any(|l| l.ends_with(path)), "{what}: {found:?}");
        std::fs::remove_dir_all(&copy).unwrap();
    }
}
