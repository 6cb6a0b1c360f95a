//! Tests of [`super`], with a shell as the program: it stands for any.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use super::*;

fn shell(script: &str) -> Run {
    Run::new(Tool::Own("/bin/sh".into())).args(["-c", script])
}

#[test]
fn output_and_input_of_any_size_pass() {
    let output = shell("printf data; printf talk >&2").run().unwrap();
    let expected = Output {
        stdout: b"data".to_vec(),
        stderr: b"talk".to_vec(),
        code: 0,
    };
    assert_eq!(output, expected);
    // More than any pipe holds, both ways at once.
    let input: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    assert!(shell("cat").input(input.clone()).run().unwrap().stdout == input);
    // A program that does not want its input.
    assert_eq!(shell("exit 0").input(input).run().unwrap().code, 0);
}

#[test]
fn a_failure_names_line_status_and_last_words() {
    let script = "seq 1 30; echo 'it\x1b[31m went wrong' >&2; exit 3";
    let error = shell(script).run().unwrap_err().to_string();
    assert!(error.starts_with("/bin/sh -c '"), "{error}");
    assert!(
        error.contains(": exit status: 3\nstderr: it\\u{1b}[31m went wrong\nstdout: 21\n"),
        "{error}"
    );
    assert!(error.ends_with("        30"), "{error}");
    assert!(!error.contains('\x1b'));
    let killed = shell("kill -9 $$").run().unwrap_err().to_string();
    assert!(killed.contains("signal: 9"), "{killed}");
    assert_eq!(shell("exit 2").accept(2).run().unwrap().code, 2);
    assert!(shell("exit 2").run().is_err());
}

#[test]
fn a_missing_program_says_what_to_install() {
    let run = Run::new(Tool::Own("/nonexistent/si-agent".into())).arg("a b");
    assert_eq!(
        run.run().unwrap_err().to_string(),
        "/nonexistent/si-agent 'a b': the program is not installed"
    );
    let error = CommandError::Missing {
        line: "lsblk".into(),
        package: Tool::Lsblk.package(),
    };
    assert_eq!(
        error.to_string(),
        "lsblk: the program is not installed; install the package util-linux"
    );
    assert!(Tool::Own("/bin/sh".into()).is_installed());
    assert!(!Tool::Own("/nonexistent/x".into()).is_installed());
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Run::new(Tool::Own(file)).run().unwrap_err();
    assert!(matches!(error, CommandError::Start { .. }), "{error:?}");
}

#[test]
fn time_is_bounded_for_all_that_it_started() {
    let scratch = tempfile::tempdir().unwrap();
    let pid_file = scratch.path().join("pid");
    // The child ignores the request to end, and so does its own child.
    let script = format!(
        "trap '' TERM; (trap '' TERM; sleep 1000) & echo $! > {}; echo begun; wait",
        pid_file.display()
    );
    let started = Instant::now();
    let error = shell(&script)
        .timeout(Duration::from_millis(300))
        .run()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("not done after 0.3 s, and ended\nstdout: begun"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_gone(fs::read_to_string(&pid_file).unwrap().trim());
}

/// Waits until no such process runs; a killed one may still be seen as a zombie of whoever adopted it.
fn assert_gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if matches!(state, None | Some('Z' | 'X')) {
            return;
        }
        assert!(Instant::now() < deadline, "{pid} still runs: {stat}");
        std::thread::yield_now();
    }
}

#[test]
fn output_is_bounded() {
    let started = Instant::now();
    let error = shell("yes").output_bytes(100_000).run().unwrap_err();
    assert!(
        matches!(error, CommandError::TooMuchOutput { bytes: 100_000, .. }),
        "{error:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(
        shell("printf 12345").output_bytes(5).run().unwrap().stdout,
        b"12345"
    );
}

#[test]
fn a_daemon_that_keeps_the_outputs_does_not_keep_us() {
    let started = Instant::now();
    let output = shell("sleep 1000 & echo $!").run().unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    let pid = String::from_utf8(output.stdout).unwrap();
    let daemon = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn locale_path_and_environment() {
    let output = shell("echo $LC_ALL $EXTRA; echo $PATH")
        .env("EXTRA", "x y")
        .run()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("C x y\n"), "{text}");
    assert!(text.contains("/usr/sbin"), "{text}");
}

#[test]
fn a_running_program_is_talked_to_and_ended_when_dropped() {
    // It says more beside than a pipe holds before it answers.
    let script = "seq 1 50000 >&2; while read line; do echo got $line; done; echo done >&2; exit 4";
    let mut running = shell(script).spawn().unwrap();
    let (mut to, mut from) = running.take_pipes().unwrap();
    assert!(running.take_pipes().is_none());
    to.write_all(b"one\n").unwrap();
    let mut answer = [0; 8];
    from.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"got one\n");
    drop(to);
    let error = running.finish().unwrap_err();
    assert!(
        error.to_string().contains("        50000\n        done"),
        "{error}"
    );
    let mut running = shell("echo $$; exec sleep 1000").spawn().unwrap();
    let (_to, mut from) = running.take_pipes().unwrap();
    let mut pid = Vec::new();
    while !pid.ends_with(b"\n") {
        let mut byte = [0];
        from.read_exact(&mut byte).unwrap();
        pid.push(byte[0]);
    }
    drop(running);
    assert_gone(String::from_utf8(pid).unwrap().trim());
}
