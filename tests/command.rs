//! External programs: run, and when they fail an error that names the program, its status and what it said.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, anyhow};

/// A command for `program`, to be given its arguments and then to [`run`], [`read`] or [`crate::process::spawn`].
#[expect(
    clippy::disallowed_methods,
    reason = "the laboratory judges the product from outside, so it must not use the product's own runner"
)]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Runs `command` to its end with an empty stdin.
///
/// # Errors
/// When it cannot be started or does not exit with 0; the error holds the end of both its outputs.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", line(command)))?;
    checked(command, output)
}

/// Runs `command` and returns what it wrote to stdout, as text.
///
/// # Errors
/// As [`run`], and when stdout is not UTF-8.
pub fn read(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {}", line(command)))
}

/// Runs `command` with `input` as its stdin. The input must fit a pipe (64 KiB) or be read before much is written.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", line(command)))?;
    let mut stdin = child.stdin.take().context("stdin was piped")?;
    // A program that refuses early closes its stdin; then its exit status and stderr say why.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child
        .wait_with_output()
        .with_context(|| format!("wait for {}", line(command)))?;
    let output = checked(command, output)?;
    written.with_context(|| format!("write to {}", line(command)))?;
    Ok(output)
}

/// The command line as a person would type it, for messages.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|argument| match argument.to_string_lossy() {
                script if script.contains('\n') => "'(script)'".to_owned(),
                text if text.is_empty() || text.contains(' ') => format!("{text:?}"),
                text => text.into_owned(),
            }),
    );
    words.join(" ")
}

/// The last `count` lines of a text, for messages.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn checked(command: &Command, output: Output) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let mut said = String::new();
    for (name, bytes) in [("stderr", &output.stderr), ("stdout", &output.stdout)] {
        let text = String::from_utf8_lossy(bytes);
        if !text.trim().is_empty() {
            said.push_str(&format!("\n{name}: {}", tail(text.trim_end(), 20)));
        }
    }
    Err(anyhow!("{} failed ({}){said}", line(command), output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_program_its_status_and_its_words() {
        let error = run(command("sh").args(["-c", "echo data; echo talk >&2; exit 7"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh -c \"echo data; echo talk >&2; exit 7\" failed (exit status: 7)\nstderr: talk\nstdout: data"
        );
    }

    #[test]
    fn input_reaches_the_program() {
        let output = run_with_input(&mut command("cat"), "hello").unwrap();
        assert_eq!(output.stdout, b"hello");
    }

    #[test]
    fn tails_are_short() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("", 2), "");
    }
}
