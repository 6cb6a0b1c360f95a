//! The peers with their best settings: see `docs/benchmarks.md` for what was tried.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use simulcast_testkit::netns::{INTERFACE, Namespace};
use simulcast_testkit::wait;

use super::data::Data;
use super::lab::Lab;
use super::options::{Peer, Plan, Sink};
use super::trial::{Started, Trial};
use crate::measure::{Running, start};
use crate::sample::Values;

/// As much as Linux gives without a change of its settings: a receive buffer of 8 MiB, as the kernel counts.
const UDPCAST_BUFFER: &str = "4m";
/// The same for uftp.
const UFTP_BUFFER: &str = "4194304";
/// Bytes that uftpd keeps before it writes.
const UFTP_CACHE: &str = "20971520";
/// uftp's public group 230.4.4.1, as the kernel shows it.
const UFTP_GROUP: &str = "010404E6";
/// How long uftpd may take to join its group.
const UFTPD_LIMIT: Duration = Duration::from_secs(20);

/// What is needed to start a peer's processes for one case.
#[derive(Debug)]
pub(crate) struct Theirs<'a> {
    pub(crate) peer: Peer,
    pub(crate) plan: &'a Plan,
    pub(crate) lab: &'a Lab,
    pub(crate) data: &'a Data,
    pub(crate) sink: Sink,
    /// Where files are written.
    pub(crate) dir: PathBuf,
}

impl Peer {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udpcast => "udpcast",
            Self::Fec => "udpcast --fec",
            Self::Uftp => "uftp",
            Self::None => "nobody",
        }
    }
}

impl Theirs<'_> {
    /// One transmission to all machines of the case.
    pub(crate) fn measure(&self) -> Result<Values> {
        let trial = Trial::run(self.lab, self.plan.limit(), || match self.peer {
            Peer::Udpcast => self.udpcast(&["--max-slice-size", "1024"]),
            Peer::Fec => self.udpcast(&["--fec", "8x8/128"]),
            Peer::Uftp => self.uftp(),
            Peer::None => bail!("nobody cannot be measured"),
        })?;
        let mut done = Vec::new();
        for (number, receiver) in trial.receivers().iter().enumerate() {
            let whole = self.check(number, receiver);
            if let Err(error) = &whole {
                eprintln!("    {} {number}: not complete: {error:#}", self.peer.name());
            }
            let at = match self.peer {
                Peer::Uftp => self.uftp_end(number),
                _ => trial.ends[number].map(|end| end.at),
            };
            done.push(at.filter(|_| whole.is_ok()));
            crate::stage::remove(&self.target(number))?;
        }
        trial.values(self.data.bytes, &done)
    }

    fn udpcast(&self, settings: &[&str]) -> Result<Started> {
        let logs = self.lab.logs()?;
        let mut receivers = Vec::new();
        for (number, machine) in self.lab.receivers.iter().enumerate() {
            let mut command = machine.command("udp-receiver");
            // The default is to wait half a second at the end for others, and to sync the file.
            command.args([
                "--nokbd",
                "--nosync",
                "--exit-wait",
                "1",
                "--interface",
                INTERFACE,
            ]);
            command.args(["--rcvbuf", UDPCAST_BUFFER, "--file"]);
            match self.sink {
                Sink::Memory => command.arg("/dev/null"),
                Sink::File => command.arg(self.target(number)),
            };
            receivers.push(start(machine.name(), &mut command, &logs)?);
        }
        let mut command = self.lab.sender.command("udp-sender");
        command.args([
            "--nokbd",
            "--no-progress",
            "--full-duplex",
            "--interface",
            INTERFACE,
        ]);
        command
            .args(["--min-receivers", &receivers.len().to_string()])
            .args(settings);
        let sender = start("sender", command.arg("--file").arg(&self.data.file), &logs)?;
        Ok(Started {
            sender,
            receivers,
            daemons: false,
        })
    }

    /// uftpd is a daemon that is ended when the sender has ended; a script that it runs for each file that is complete
    /// notes the time.
    fn uftp(&self) -> Result<Started> {
        let logs = self.lab.logs()?;
        let mut receivers = Vec::new();
        for (number, machine) in self.lab.receivers.iter().enumerate() {
            let (dir, script) = (self.target(number), self.dir.join(format!("theirs.{number}.sh")));
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
            crate::stage::remove(&self.note(number))?;
            let text = format!("#!/bin/sh\n: > {}\n", self.note(number).display());
            fs::write(&script, text).with_context(|| format!("write {}", script.display()))?;
            fs::set_permissions(&script, Permissions::from_mode(0o755)).context("make it a program")?;
            let mut command = machine.command("uftpd");
            // Without -q it looks the sender's name up, and waits for a name server that there is not.
            command.args(["-d", "-q", "-I", INTERFACE, "-B", UFTP_BUFFER, "-c", UFTP_CACHE]);
            command.arg("-D").arg(&dir).arg("-s").arg(&script);
            receivers.push(start(machine.name(), &mut command, &logs)?);
        }
        for machine in &self.lab.receivers {
            wait::until("uftpd to join its group", UFTPD_LIMIT, || {
                let groups = machine.enter(|| fs::read_to_string("/proc/thread-self/net/igmp"))?;
                let joined = groups.context("read the groups")?.contains(UFTP_GROUP);
                Ok(joined.then_some(()))
            })?;
        }
        let mut command = self.lab.sender.command("uftp");
        command.args(["-I", INTERFACE, "-R", "-1", "-B", UFTP_BUFFER, "-b", "1440"]);
        command.args(["-r", "0.05:0.005:5"]);
        let ids: Vec<String> = self.lab.receivers.iter().map(uftp_id).collect::<Result<_>>()?;
        command.args(["-H", &ids.join(",")]);
        let sender = start("sender", command.arg(&self.data.file), &logs)?;
        Ok(Started {
            sender,
            receivers,
            daemons: true,
        })
    }

    /// Whether a receiver has what was sent, whatever it says of itself.
    fn check(&self, number: usize, receiver: &Running) -> Result<()> {
        match (self.peer, self.sink) {
            (Peer::Uftp, _) => {
                let name = self.data.file.file_name().context("a file's name")?;
                self.data.require_copy(&self.target(number).join(name))
            }
            (_, Sink::File) => self.data.require_copy(&self.target(number)),
            (_, Sink::Memory) => {
                let said = receiver.stderr();
                let told = told_bytes(&said).context("it told no count")?;
                if told == self.data.bytes && said.contains("Transfer complete") {
                    Ok(())
                } else {
                    let last = said.lines().last().unwrap_or_default();
                    bail!("{told} bytes of {}; {last}", self.data.bytes)
                }
            }
        }
    }

    fn uftp_end(&self, number: usize) -> Option<Instant> {
        let noted = fs::metadata(self.note(number))
            .and_then(|note| note.modified())
            .ok()?;
        Instant::now().checked_sub(SystemTime::now().duration_since(noted).ok()?)
    }

    fn target(&self, number: usize) -> PathBuf {
        self.dir.join(format!("theirs.{number}"))
    }

    fn note(&self, number: usize) -> PathBuf {
        self.dir.join(format!("theirs.{number}.done"))
    }
}

/// What uftp calls a receiver: its address as a number.
fn uftp_id(machine: &Namespace) -> Result<String> {
    let address: Ipv4Addr = machine.address().parse().context("a machine's address")?;
    Ok(format!("0x{:08X}", address.to_bits()))
}

/// The last count of bytes that udp-receiver told, with spaces between the thousands; from a gigabyte on in units of 1,024.
fn told_bytes(said: &str) -> Option<u64> {
    let last = said.rsplit("bytes=").next()?;
    let end = last.find(|c: char| !c.is_ascii_digit() && c != ' ');
    let (count, unit) = last.split_at(end.unwrap_or(last.len()));
    let number: u64 = count.replace(' ', "").parse().ok()?;
    match unit.chars().next() {
        Some('K') => number.checked_mul(1 << 10),
        Some('M') => number.checked_mul(1 << 20),
        Some(_) | None => Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_count_is_what_came() {
        let said = "Listening to multicast on 234.77.0.1\nbytes=      23 296  (8471.27 Mbps)\r\
                    bytes=134 217 728  (1543.28 Mbps)\r\nTransfer complete.\u{7}\n";
        assert_eq!(told_bytes(said), Some(134_217_728));
        assert_eq!(told_bytes("bytes=1 048 576K (2391.10 Mbps)\r"), Some(1 << 30));
        assert_eq!(told_bytes("Connected as #0"), None);
    }
}
