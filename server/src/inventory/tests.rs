use std::fs;
use std::path::Path;

use super::load::InventoryError;
use super::*;

const GROUPS: &str = "\
# what holds for all
[group.all]
image = \"golden01\"
domain = \"example.org\"
variables = { SITE = \"here\", RACK = \"none\" }

[group.gpu]
priority = 5
layout = \"two-disks\"
console = \"ttyS1\"

[group.new]
priority = 9
image = \"golden01@3\"
console = \"ttyS0\"
";

const NODES: &str = "\
# rack one
[node.node01]   # the first
mac = \"52:54:00:00:00:01\"
address = \"10.0.0.11\"
groups = [\"new\", \"gpu\"] # both
variables.RACK = \"1\"

[node.node02]
mac = \"52-54-00-00-00-02\"
";

fn site() -> tempfile::TempDir {
    let config = tempfile::tempdir().unwrap();
    write(config.path(), "groups.d/site.toml", GROUPS);
    write(config.path(), "nodes.d/rack1.toml", NODES);
    config
}

fn write(config: &Path, name: &str, text: &str) {
    let path = config.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn read(config: &Path) -> Result<Inventory, InventoryError> {
    load(config, &BTreeMap::new())
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

#[test]
fn a_node_has_what_it_says_else_what_its_groups_say_by_priority() {
    let config = site();
    let inventory = read(config.path()).unwrap();
    let one = inventory.effective(&node("node01")).unwrap();
    assert_eq!(one.entry.image.unwrap().to_string(), "golden01@3");
    assert_eq!(one.entry.layout.unwrap().as_ref(), "two-disks");
    assert_eq!(one.entry.console.unwrap().as_ref(), "ttyS0");
    assert_eq!(one.entry.priority, None);
    let variables: Vec<_> = one
        .entry
        .variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(variables, ["RACK=1", "SITE=here"]);
    assert_eq!(one.origins["image"], Origin::Group("new".parse().unwrap()));
    assert_eq!(one.origins["variables.RACK"], Origin::Node(node("node01")));
    let groups: Vec<_> = one.groups.iter().map(GroupName::as_str).collect();
    assert_eq!(groups, ["all", "gpu", "new"]);
    let two = inventory.effective(&node("node02")).unwrap();
    assert_eq!(
        (two.entry.image.unwrap().to_string().as_str(), two.entry.layout),
        ("golden01", None)
    );
    assert!(inventory.effective(&node("node03")).is_none());
}

#[test]
fn nodes_are_found_by_card_and_group() {
    let config = site();
    let inventory = read(config.path()).unwrap();
    let macs = ["52:54:00:00:00:99", "52:54:00:00:00:02"].map(|mac| mac.parse().unwrap());
    assert_eq!(inventory.by_mac(macs), Some(&node("node02")));
    for (text, expected) in [
        ("@all", "node[01-02]"),
        ("@gpu", "node01"),
        ("@all!@gpu,x", "node02,x"),
    ] {
        assert_eq!(inventory.set(text).unwrap().to_string(), expected);
    }
    assert!(inventory.set("@other").is_err());
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    for (file, text, line, why) in [
        (
            "nodes.d/x.toml",
            "[node.a]\n\nimages = \"x\"\n",
            3,
            "unknown field `images`",
        ),
        ("nodes.d/x.toml", "[nodes.a]\n", 1, "unknown field `nodes`"),
        ("nodes.d/x.toml", "[node.A]\n", 1, "\"A\" is not a node's name"),
        (
            "nodes.d/x.toml",
            "\n[node.a]\nmac = \"52:54\"\n",
            3,
            "\"52:54\" is not the address of a network card",
        ),
        (
            "nodes.d/x.toml",
            "[node.a]\nimage = \"a b\"\n",
            2,
            "\"a b\" is no image",
        ),
        ("nodes.d/x.toml", "[node.a]\nwipe = \"yes\"\n", 2, "invalid type"),
        (
            "nodes.d/x.toml",
            "[node.a]\naddress = \"10.0.0.300\"\n",
            2,
            "is no address",
        ),
        (
            "nodes.d/x.toml",
            "[node.a]\nnetwork = \"wifi\"\n",
            2,
            "unknown variant `wifi`",
        ),
        (
            "nodes.d/x.toml",
            "[node.a]\nvariables.1 = \"1\"\n",
            2,
            "is no name of a variable",
        ),
        ("nodes.d/x.toml", "[node.a]\n[node.a]\n", 2, "duplicate key"),
        (
            "nodes.d/x.toml",
            "[node.a]\nlayout = \"../x\"\n",
            2,
            "is no name of a layout",
        ),
        (
            "nodes.d/x.toml",
            "\n\n[node.node02]\n",
            3,
            "node02 is already at ",
        ),
        (
            "nodes.d/x.toml",
            "\n[node.a]\nmac = \"52:54:00:00:00:02\"\n",
            2,
            "a has mac 52:54:00:00:00:02, which node02 at ",
        ),
        (
            "nodes.d/x.toml",
            "[node.a]\naddress = \"10.0.0.11/24\"\n",
            1,
            "a has address 10.0.0.11, which node01 at ",
        ),
        (
            "nodes.d/x.toml",
            "[node.a]\ngroups = [\"cpu\"]\n",
            1,
            "a is in group cpu, and there is no such group",
        ),
        (
            "nodes.d/x.toml",
            "[node.a]\npriority = 1\n",
            1,
            "priority is a group's",
        ),
        (
            "groups.d/x.toml",
            "[group.a]\nmac = \"52:54:00:00:00:09\"\n",
            1,
            "mac is a node's",
        ),
        ("groups.d/zz.toml", "[group.gpu]\n", 1, "group gpu is already at "),
        ("nodes.d/x.toml", "nonsense", 1, "key"),
    ] {
        let config = site();
        write(config.path(), file, text);
        let error = read(config.path()).unwrap_err().to_string();
        let place = format!("{}:{line}: ", config.path().join(file).display());
        assert!(
            error.starts_with(&place) && error.contains(why),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn files_of_others_are_not_looked_at() {
    let config = site();
    for name in [
        "nodes.d/.nodes.toml.1.tmp",
        "nodes.d/old.toml.bak",
        "nodes.d/.x.toml",
    ] {
        write(config.path(), name, "nonsense");
    }
    assert_eq!(read(config.path()).unwrap().nodes().len(), 2);
    assert_eq!(read(&config.path().join("nowhere")).unwrap().nodes().len(), 0);
}

fn changes(texts: &[&str]) -> Vec<Change> {
    texts.iter().map(|text| Change::set(text).unwrap()).collect()
}

#[test]
fn edits_keep_comments_and_order() {
    let config = site();
    let mut edit = Edit::begin(config.path()).unwrap();
    edit.change(
        &Subject::Node(node("node01")),
        &changes(&["groups=gpu", "image=other@2", "variables.RACK=2", "wipe=true"]),
    )
    .unwrap();
    edit.change(&Subject::Node(node("node02")), &[Change::unset("mac").unwrap()])
        .unwrap();
    edit.add(
        &Subject::Node(node("node03")),
        &changes(&["mac=52:54:00:00:00:03", "dns=10.0.0.1, 10.0.0.2"]),
    )
    .unwrap();
    let after = edit.write().unwrap();
    assert_eq!(after.nodes().len(), 3);
    let text = fs::read_to_string(config.path().join("nodes.d/rack1.toml")).unwrap();
    let expected = "\
# rack one
[node.node01]   # the first
mac = \"52:54:00:00:00:01\"
address = \"10.0.0.11\"
groups = [\"gpu\"] # both
variables.RACK = \"2\"
image = \"other@2\"
wipe = true

[node.node02]
";
    assert_eq!(text, expected);
    let new = fs::read_to_string(config.path().join("nodes.d/nodes.toml")).unwrap();
    assert_eq!(
        new,
        "[node.node03]\nmac = \"52:54:00:00:00:03\"\ndns = [\"10.0.0.1\", \"10.0.0.2\"]\n"
    );
    assert_eq!(
        fs::read_to_string(config.path().join("groups.d/site.toml")).unwrap(),
        GROUPS
    );
}

#[test]
fn an_edit_that_would_break_the_inventory_writes_nothing() {
    let config = site();
    let mut edit = Edit::begin(config.path()).unwrap();
    edit.add(&Subject::Node(node("node03")), &[]).unwrap();
    edit.change(
        &Subject::Node(node("node02")),
        &changes(&["mac=52:54:00:00:00:01"]),
    )
    .unwrap();
    let error = edit.write().unwrap_err().to_string();
    assert!(
        error.contains("node02 has mac 52:54:00:00:00:01, which node01 at"),
        "{error}"
    );
    assert_eq!(
        fs::read_to_string(config.path().join("nodes.d/rack1.toml")).unwrap(),
        NODES
    );
    assert!(!config.path().join("nodes.d/nodes.toml").exists());
    let mut edit = Edit::begin(config.path()).unwrap();
    edit.remove(&Subject::Group("gpu".parse().unwrap())).unwrap();
    let error = edit.check().unwrap_err().to_string();
    assert!(
        error.contains("node01 is in group gpu, and there is no such group"),
        "{error}"
    );
    let again = edit
        .add(&Subject::Node(node("node01")), &[])
        .unwrap_err()
        .to_string();
    assert!(again.starts_with("node node01 is already at "), "{again}");
}

#[test]
fn assignments_are_checked_one_by_one() {
    for (text, why) in [
        ("image", "\"image\" sets nothing"),
        ("images=x", "there is no key \"images\""),
        ("image.x=1", "there is no key \"image.x\""),
        ("mac=1", "mac: \"1\" is not the address of a network card"),
        ("wipe=maybe", "wipe: write true or false"),
        ("prefix=x", "prefix: write a whole number"),
        ("prefix=200", "prefix: \"200\" is no prefix"),
        ("variables=1", "variables: write variables.NAME=VALUE"),
        ("variables.1=1", "variables.1: \"1\" is no name of a variable"),
        ("groups=A", "groups: \"A\" is not a group's name"),
        ("comment=a\u{7}b", "cannot be printed"),
        ("machine_id=123", "is no machine-id"),
        ("domain=a..b", "is no domain"),
    ] {
        let error = Change::set(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    for text in [
        "comment=a \"quoted\" = text",
        "variables.A_1=",
        "dns=",
        "finish=kexec",
        "address=fd00::7/64",
    ] {
        Change::set(text).unwrap();
    }
}

#[test]
fn the_daemon_follows_the_files_and_keeps_the_last_good_ones() {
    let config = site();
    let watched = Watched::new(config.path());
    assert_eq!((watched.get().nodes().len(), watched.broken()), (2, None));
    let broken = NODES.replace("mac", "mag");
    write(config.path(), "nodes.d/rack1.toml", &broken);
    assert_eq!(watched.get().nodes().len(), 2);
    assert!(
        watched
            .broken()
            .unwrap()
            .contains("rack1.toml:3: unknown field `mag`")
    );
    write(
        config.path(),
        "nodes.d/rack1.toml",
        &format!("{NODES}[node.node03]\n"),
    );
    assert_eq!((watched.get().nodes().len(), watched.broken()), (3, None));
    fs::remove_file(config.path().join("nodes.d/rack1.toml")).unwrap();
    assert_eq!(watched.get().nodes().len(), 0);
}

#[test]
fn a_file_that_is_being_written_is_not_read_half() {
    let config = site();
    let watched = Watched::new(config.path());
    let path = config.path().join("nodes.d/rack1.toml");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..30 {
                // As an editor does that writes in place.
                let mut file = fs::File::create(&path).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(10));
                std::io::Write::write_all(&mut file, NODES.as_bytes()).unwrap();
                drop(file);
                if round % 10 == 9 {
                    std::thread::sleep(std::time::Duration::from_millis(120));
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            assert_eq!((watched.get().nodes().len(), watched.broken()), (2, None));
        }
    });
}
