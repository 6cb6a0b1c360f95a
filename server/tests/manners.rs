//! How every command answers.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Run, Site, program};

#[test]
fn the_name_chooses_the_command() {
    let site = Site::with_golden();
    let names = site.ok(&["--list-commands"]).stdout;
    for name in [
        "si-import",
        "si-lsimage",
        "si-diffimage",
        "si-checkout",
        "si-export",
        "si-cpimage",
        "si-mvimage",
        "si-rmimage",
        "si-fsck",
        "si-gc",
    ] {
        assert!(names.lines().any(|line| line == name), "{name} in {names}");
    }
    let link = site.path("si-lsimage");
    symlink(env!("CARGO_BIN_EXE_si"), &link).unwrap();
    let mut command = program(&link);
    site.surroundings(&mut command);
    let run = Run::of(command);
    assert_eq!(
        (run.code(), &run.stdout),
        (Some(0), &site.ok(&["lsimage"]).stdout)
    );
    assert!(run.stdout.contains("golden@1"));
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    let site = Site::new();
    for (arguments, text) in [
        (&["nonsense"][..], "unrecognized subcommand 'nonsense'"),
        (&["import", "golden"], "--tree <DIR>|--tar <FILE>"),
        (
            &["import", "golden", "--tree", "/", "--tar", "-"],
            "cannot be used with",
        ),
        (
            &["import", "no/name", "--tree", "/"],
            "\"no/name\" is not an image name",
        ),
        (
            &["checkout", "golden@0", "/tmp"],
            "\"0\" is not a version: use a whole number from 1, as in golden01@3",
        ),
        (&["checkout", "golden"], "<DIR>"),
        (
            &["import", "golden", "--tree", "/", "--level", "20"],
            "20 is not in 1..=19",
        ),
        (&["fsck", "--threads", "0"], "use a number from 1 to 256"),
    ] {
        let run = site.run(arguments);
        assert_eq!(run.code(), Some(2), "{run:#?}");
        assert!(run.stderr.contains(text), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "");
    }
    assert!(!site.state().exists());
}

#[test]
fn help_is_data_and_fits_a_terminal() {
    let site = Site::new();
    let names = site.ok(&["--list-commands"]).stdout;
    for name in names.lines() {
        let command = name.strip_prefix("si-").unwrap();
        let help = site.ok(&[command, "--help"]);
        assert_eq!(help.stderr, "");
        assert!(
            help.stdout.contains("--state <DIR>") && help.stdout.contains("SI_STATE"),
            "{command}"
        );
        let fits = help.stdout.lines().all(|line| line.chars().count() <= 100);
        assert!(fits, "{command}:\n{}", help.stdout);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let site = Site::with_golden();
    for number in 0..2000 {
        std::fs::write(site.path("tree").join(format!("file{number}")), b"").unwrap();
    }
    site.import("golden");
    let mut command = site.command(&["lsimage", "golden@2"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"drwxr-xr-x");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
}

#[test]
fn where_there_is_no_store_none_is_made() {
    let site = Site::new();
    let hint = "si-import or si-getimage makes it with the first image; --state or SI_STATE says where it is";
    let error = format!("error: there is no store in {{}}/state\nhint: {hint}");
    for arguments in [
        &["checkout", "golden", "{}/out"][..],
        &["diffimage", "a", "b"],
        &["fsck"],
        &["gc"],
        &["rmimage", "golden", "--yes"],
        &["lsimage", "golden"],
    ] {
        site.fails(arguments, 1, &error);
    }
    let list = site.ok(&["lsimage"]);
    assert_eq!(list.stdout, "");
    assert!(list.stderr.contains("there are no images in"), "{}", list.stderr);
    assert_eq!(site.json(&["lsimage"]), serde_json::json!([]));
    assert!(!site.state().exists());
    // A typing error in the name of a tree or an archive makes none either.
    for option in ["--tree", "--tar"] {
        let run = site.run(&["import", "golden", option, "{}/nowhere"]);
        assert_eq!(run.code(), Some(1));
        assert!(
            run.stderr
                .starts_with("error: cannot import golden: cannot open "),
            "{}",
            run.stderr
        );
        assert!(run.stderr.contains("No such file or directory"), "{}", run.stderr);
    }
    assert!(!site.state().exists());
}

#[test]
fn options_replace_the_environment() {
    let site = Site::with_golden();
    let elsewhere = site.path("elsewhere");
    let list = site.ok(&["lsimage", "--state", "{}/elsewhere"]);
    assert_eq!(list.stdout, "");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("format"), "something else\n").unwrap();
    site.fails(
        &["--state", "{}/elsewhere", "fsck"],
        2,
        "error: cannot open the store {}/elsewhere: {}/elsewhere/format says \"something else\\n\": this is no store \
         that this program knows; choose another --state directory",
    );
}

#[test]
fn systemd_is_told_when_the_server_listens() {
    let site = Site::with_golden();
    let path = site.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut command = site.command(&["server", "--listen", "127.0.0.1:0"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut said = [0; 64];
    let received = socket.recv(&mut said);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(&said[..received.unwrap()], b"READY=1\n");
}
