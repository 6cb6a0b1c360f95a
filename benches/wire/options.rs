//! What the benchmark is asked to measure, and the cases that follow from it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use simulcast_protocol::units::Rate;

/// Options of the benchmark `wire`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of the benchmark wire")]
pub(crate) struct WireArguments {
    /// 128 MiB and one pair: a look, no figure to quote.
    #[arg(long)]
    quick: bool,
    /// Bytes that are sent, with a K, M or G of 1,024.
    #[arg(long, default_value = "1G", value_name = "BYTES")]
    size: Size,
    /// How many receivers.
    #[arg(long, value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u8).range(1..=16))]
    receivers: Vec<u8>,
    /// Per cent of the packets that each receiver loses, independently.
    #[arg(long, value_delimiter = ',', default_value = "0,1,5", value_name = "PERCENT")]
    loss: Vec<Loss>,
    /// How packets cross the sender's link.
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "whole,segmented,shaped"
    )]
    path: Vec<Path>,
    /// Where receivers put what comes.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "memory")]
    sink: Vec<Sink>,
    /// Against whom.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "udpcast,fec,uftp")]
    peers: Vec<Peer>,
    /// What is measured.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "matrix,late,slow")]
    scenario: Vec<Scenario>,
    /// The rate that our sender may not pass.
    #[arg(long, default_value = "40Gbit")]
    max_rate: Rate,
    /// Also print what our sender and receivers counted.
    #[arg(long)]
    verbose: bool,
}

/// A byte count as it is given on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let shift = match &text[split..] {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            _ => return Err("a number, with K, M or G behind it".to_owned()),
        };
        let number: u64 = text[..split]
            .parse()
            .map_err(|_| "a number of bytes is needed".to_owned())?;
        // Two chunks at least, so that there is something to interleave; at most what tmpfs holds nine times.
        let bytes = number
            .checked_shl(shift)
            .filter(|b| (4 << 20..=4 << 30).contains(b));
        bytes.map(Self).ok_or_else(|| "4M to 4G".to_owned())
    }
}

/// A probability of loss, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Loss(u32);

impl Loss {
    /// No loss.
    pub(crate) const NONE: Self = Self(0);

    /// Of 1,000,000 packets.
    pub(crate) fn per_million(self) -> u32 {
        self.0
    }

    /// From whole per cents.
    pub(crate) const fn per_cent(per_cent: u32) -> Self {
        Self(per_cent * 10_000)
    }
}

impl FromStr for Loss {
    type Err = String;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0 to 500,000"
    )]
    fn from_str(text: &str) -> Result<Self, String> {
        let per_cent: f64 = text.parse().map_err(|_| "a percentage is needed".to_owned())?;
        if (0.0..=50.0).contains(&per_cent) {
            Ok(Self((per_cent * 10_000.0).round() as u32))
        } else {
            Err("0 to 50".to_owned())
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} % loss", f64::from(self.0) / 10_000.0)
    }
}

/// How packets cross the sender's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Path {
    /// A send of 64 KiB stays one packet up to the receivers.
    Whole,
    /// The sender's device gets every packet for itself, as a network card without offload does.
    Segmented,
    /// As segmented, at the speed of a network: 1 Gbit/s for 1 and 2 receivers, 250 Mbit/s for more.
    Shaped,
}

/// Where receivers put what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sink {
    /// It is checked and dropped.
    Memory,
    /// It is written into one file on a tmpfs.
    File,
}

/// Whom we are measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// udp-sender and udp-receiver, large slices.
    Udpcast,
    /// The same with forward error correction.
    Fec,
    /// uftp and uftpd.
    Uftp,
    /// Nobody.
    None,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Receivers, loss, path and sink.
    Matrix,
    /// One receiver joins at half time.
    Late,
    /// One receiver is limited to a tenth of the rate.
    Slow,
}

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    /// How many receivers.
    pub(crate) receivers: u8,
    /// What each of them loses.
    pub(crate) loss: Loss,
    /// How packets cross the sender's link.
    pub(crate) path: Path,
    /// What the sender's link carries, when it is shaped.
    pub(crate) rate: Option<Rate>,
    /// Where receivers put what comes.
    pub(crate) sink: Sink,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path {
            Path::Whole => "whole packets".to_owned(),
            Path::Segmented => "segmented".to_owned(),
            Path::Shaped => format!("at {}/s", self.rate.unwrap_or(SLOWER)),
        };
        let sink = match self.sink {
            Sink::Memory => "memory",
            Sink::File => "files",
        };
        write!(
            f,
            "{path}, {}, {} receivers, to {sink}",
            self.loss, self.receivers
        )
    }
}

/// Receivers up to which two processors fill the faster line.
const FEW: u8 = 2;

/// The line for few receivers.
const FASTER: Rate = Rate::from_bits_per_second(1_000_000_000);

/// The line for many, at which two processors are not the limit.
pub(crate) const SLOWER: Rate = Rate::from_bits_per_second(250_000_000);

/// The slowest transmission that is waited for, in bytes a second.
const SLOWEST: u64 = 5_000_000;

/// What is to be measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Bytes that are sent.
    pub(crate) bytes: u64,
    /// Interleaved pairs.
    pub(crate) pairs: usize,
    /// The cases of the matrix.
    pub(crate) cases: Vec<Case>,
    /// Against whom.
    pub(crate) peers: Vec<Peer>,
    /// Which parts.
    pub(crate) scenarios: Vec<Scenario>,
    /// The rate that our sender may not pass.
    pub(crate) max_rate: Rate,
    /// Whether our counters are printed.
    pub(crate) verbose: bool,
}

impl WireArguments {
    /// The cases; `pairs` is what was asked for on the command line.
    pub(crate) fn plan(&self, pairs: usize) -> Plan {
        let mut cases = Vec::new();
        for &path in &self.path {
            for &sink in &self.sink {
                for &loss in self.loss.iter().filter(|&&loss| has(path, loss)) {
                    cases.extend(self.at(path, sink, loss));
                }
            }
        }
        let peers = self.peers.iter().copied().filter(|&peer| peer != Peer::None);
        Plan {
            bytes: if self.quick {
                self.size.0.min(128 << 20)
            } else {
                self.size.0
            },
            pairs: if self.quick { 1 } else { pairs },
            cases,
            peers: peers.collect(),
            scenarios: self.scenario.clone(),
            max_rate: self.max_rate,
            verbose: self.verbose,
        }
    }

    fn at(&self, path: Path, sink: Sink, loss: Loss) -> Vec<Case> {
        let case = |receivers, rate| Case {
            receivers,
            loss,
            path,
            rate,
            sink,
        };
        if path != Path::Shaped {
            return self.receivers.iter().map(|&n| case(n, None)).collect();
        }
        let mut cases = Vec::new();
        if self.receivers.iter().any(|&n| n > FEW) {
            // What many take is compared with what one takes.
            cases.push(case(1, Some(SLOWER)));
        }
        let rate = |n| if n <= FEW { FASTER } else { SLOWER };
        cases.extend(self.receivers.iter().map(|&n| case(n, Some(rate(n)))));
        cases
    }
}

impl Plan {
    /// How long one transmission may take.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(60 + self.bytes / SLOWEST)
    }
}

/// Whether a path is measured with a loss: large packets would be lost whole, and no target speaks of the others.
fn has(path: Path, loss: Loss) -> bool {
    match path {
        Path::Whole => loss == Loss::NONE,
        Path::Segmented => true,
        Path::Shaped => loss == Loss::NONE || loss == Loss::per_cent(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        wire: WireArguments,
    }

    fn plan(line: &str) -> Plan {
        Line::parse_from(std::iter::once("test").chain(line.split_whitespace()))
            .wire
            .plan(5)
    }

    #[test]
    fn cases_are_those_that_targets_speak_of() {
        let shown = |line| plan(line).cases.iter().map(Case::to_string).collect::<Vec<_>>();
        assert_eq!(
            shown("--receivers 8 --loss 0,0.1,1 --path whole,shaped"),
            [
                "whole packets, 0 % loss, 8 receivers, to memory",
                "at 250Mbit/s, 0 % loss, 1 receivers, to memory",
                "at 250Mbit/s, 0 % loss, 8 receivers, to memory",
                "at 250Mbit/s, 1 % loss, 1 receivers, to memory",
                "at 250Mbit/s, 1 % loss, 8 receivers, to memory",
            ]
        );
        assert_eq!(
            shown("--receivers 2 --loss 0.1 --path segmented --sink memory,file"),
            [
                "segmented, 0.1 % loss, 2 receivers, to memory",
                "segmented, 0.1 % loss, 2 receivers, to files",
            ]
        );
    }

    #[test]
    fn quick_is_small_and_nobody_is_nobody() {
        let quick = plan("--quick --peers none");
        assert_eq!((quick.bytes, quick.pairs, quick.peers.len()), (128 << 20, 1, 0));
        assert_eq!(plan("--size 256M").bytes, 256 << 20);
        for wrong in ["--size 1T", "--size 1", "--loss 51", "--receivers 0", "--loss x"] {
            let line = std::iter::once("test").chain(wrong.split_whitespace());
            assert!(Line::try_parse_from(line).is_err(), "{wrong}");
        }
    }
}
