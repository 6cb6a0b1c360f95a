//! PID 1 of the mini-kernel: a parent that mounts, starts the installer, and reaps; it does no work itself, because when PID
//! 1 ends, the kernel panics.
//!
//! There is no `unsafe` here after all: mounting, waiting and restarting are safe calls of rustix. Absent: any decision
//! about the install. What is to follow, the installer leaves as a word in a file; if it dies without one, the machine
//! waits in rescue.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};

use crate::shell::with_console;
use crate::wish::Wish;

/// Directories that are mounted, each with its kind and options.
const MOUNTS: [(&str, &str, &str); 6] = [
    ("/proc", "proc", ""),
    ("/sys", "sysfs", ""),
    ("/dev", "devtmpfs", "mode=755"),
    ("/run", "tmpfs", "mode=755"),
    ("/dev/pts", "devpts", "gid=5,mode=620"),
    ("/sys/firmware/efi/efivars", "efivarfs", ""),
];

/// Pause before a shell that ended is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// Time for the last words to reach a slow serial line.
const LAST: Duration = Duration::from_secs(2);

/// Runs as PID 1, and never returns.
pub(crate) fn main() -> ! {
    for (point, kind, options) in MOUNTS {
        set_up(point, kind, options);
    }
    let wish = match start_installer() {
        Ok(child) => {
            reap_until(&child);
            Wish::read()
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            Wish::Rescue
        }
    };
    rustix::fs::sync();
    thread::sleep(LAST);
    match wish {
        Wish::Reboot => end(RebootCommand::Restart),
        Wish::Poweroff => end(RebootCommand::PowerOff),
        Wish::Kexec => end(RebootCommand::Kexec),
        Wish::Rescue => {}
    }
    rescue()
}

fn set_up(point: &str, kind: &str, options: &str) {
    let options = std::ffi::CString::new(options).unwrap_or_default();
    let made = fs::create_dir_all(point);
    match mount(kind, point, kind, MountFlags::empty(), Some(options.as_c_str())) {
        // It is mounted already, or this kernel and machine have no such thing.
        Ok(()) | Err(Errno::BUSY | Errno::NODEV | Errno::NOENT) => {}
        Err(errno) => eprintln!("cannot mount {point}: {errno} ({made:?})"),
    }
}

fn start_installer() -> Result<Child> {
    let mut child = with_console("/proc/self/exe");
    child
        .arg("run")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TERM", "linux")
        .env("HOME", "/root");
    if let Ok(line) = fs::read_to_string("/proc/cmdline")
        && line.split_ascii_whitespace().any(|word| word == "si.debug")
    {
        child.arg("-vv");
    }
    child.spawn().context("cannot start the installer")
}

/// Waits for every process that ends, until the child has.
fn reap_until(child: &Child) {
    let wanted = Pid::from_child(child);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if pid == wanted => return,
            Ok(_) | Err(Errno::INTR) => {}
            // There is no child left at all.
            Err(_) => return,
        }
    }
}

fn end(how: RebootCommand) {
    if let Err(errno) = reboot(how) {
        eprintln!("the machine cannot be restarted in this way ({errno})");
    }
    // Kexec without a kernel that was loaded fails; the firmware's way remains.
    if let Err(errno) = reboot(RebootCommand::Restart) {
        eprintln!("nor at all ({errno})");
    }
}

/// Shells on all consoles, for ever.
fn rescue() -> ! {
    let mut shells: Vec<(String, Option<Child>)> = consoles().into_iter().map(|tty| (tty, None)).collect();
    loop {
        for (tty, shell) in &mut shells {
            if shell.is_none() {
                // Without a password: whoever stands at the console could start anything else too.
                let started = with_console("/bin/busybox")
                    .args(["getty", "-n", "-l", "/bin/sh", "-L", "0", tty.as_str(), "vt100"])
                    .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                    .spawn();
                *shell = started
                    .map_err(|error| eprintln!("no shell on {tty}: {error}"))
                    .ok();
            }
        }
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) => {
                for (_, shell) in &mut shells {
                    if shell.as_ref().is_some_and(|child| Pid::from_child(child) == pid) {
                        *shell = None;
                    }
                }
                thread::sleep(AGAIN);
            }
            _ => thread::sleep(AGAIN * 5),
        }
    }
}

/// The terminals that the kernel talks to, and those that `si.console` names.
fn consoles() -> Vec<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let named = simulcast_protocol::install::cmdline::CommandLine::parse(&line)
        .map(|line| line.consoles)
        .unwrap_or_default();
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    // The kernel's tty0 is whichever screen is shown; a shell needs one of its own.
    let active = active
        .split_ascii_whitespace()
        .map(|tty| if tty == "tty0" { "tty1" } else { tty }.to_owned());
    let named = named
        .into_iter()
        .map(|word| word.as_str().split(',').next().unwrap_or_default().to_owned());
    let mut all: Vec<String> = active
        .chain(named)
        .filter(|tty| Path::new("/dev").join(tty).exists())
        .collect();
    all.sort();
    all.dedup();
    all
}
