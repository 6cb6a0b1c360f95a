//! The two ends of a session as processes of their own: si-bench, started again in a machine's network namespace.
//!
//! They are made of the library as it is. Offers travel through a file, what came of it through stdout, as JSON.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::multicast::{ChunkSet, ChunkTable};
use simulcast_protocol::units::Rate;
use simulcast_transport::chunk_bytes::ChunkBytes;
use simulcast_transport::multicast::{
    Cancel, ChunkSink, ReceiverConfig, SenderConfig, SenderSession, SinkError, receive,
};
use simulcast_transport::udp::Interface;

use super::data::{Chunks, offsets, read_table};

/// Group and port of every session: each has a bridge of its own.
const GROUP: &str = "239.255.77.1:7700";

/// How si-bench is told to be one end of a session.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Part {
    /// Send a file.
    #[command(hide = true)]
    WireSend(Send),
    /// Receive it.
    #[command(hide = true)]
    WireReceive(Receive),
}

/// The sender's end.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Send {
    #[arg(long)]
    data: PathBuf,
    #[arg(long)]
    table: PathBuf,
    /// An address of this machine.
    #[arg(long)]
    address: std::net::IpAddr,
    /// Receivers that are waited for.
    #[arg(long)]
    receivers: u32,
    /// Offers that are made: more than are waited for when some come late.
    #[arg(long)]
    offers: u32,
    /// Where offers are put.
    #[arg(long)]
    to: PathBuf,
    #[arg(long)]
    rate: Rate,
}

/// The receiver's end.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Receive {
    #[arg(long)]
    table: PathBuf,
    /// An address of this machine.
    #[arg(long)]
    address: std::net::IpAddr,
    /// The file of offers.
    #[arg(long)]
    offers: PathBuf,
    /// Which of them, from 0.
    #[arg(long)]
    number: usize,
    /// The file that is written; without it, what comes is dropped when it was checked.
    #[arg(long)]
    target: Option<PathBuf>,
}

/// What a receiver tells at its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Chunks that are still missing.
    pub(crate) missing: u32,
    /// Packets that the socket dropped.
    pub(crate) drops: u64,
    /// How it ended.
    pub(crate) end: String,
    /// Its counters, for people.
    pub(crate) counters: String,
}

/// What a sender tells at its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Data packets.
    pub(crate) packets: u64,
    /// Parity and repeated symbols among them.
    pub(crate) repair: u64,
    /// Whether segmentation offload was in use at the end.
    pub(crate) offload: bool,
    /// The last rate, in bits per second.
    pub(crate) rate: u64,
    /// Receivers that lacked something at the end.
    pub(crate) lacking: usize,
    /// Its counters, for people.
    pub(crate) counters: String,
}

impl Part {
    /// Runs this end to the end of the session.
    pub(crate) fn run(&self) -> Result<()> {
        let told = match self {
            Self::WireSend(send) => serde_json::to_string(&send.run()?),
            Self::WireReceive(receive) => serde_json::to_string(&receive.run()?),
        };
        println!("{}", told.context("write the result as JSON")?);
        Ok(())
    }
}

impl Send {
    fn run(&self) -> Result<Sent> {
        let table = Arc::new(read_table(&self.table)?);
        let chunks = Arc::new(Chunks::open(&self.data, Arc::clone(&table))?);
        let group: SocketAddr = GROUP.parse().context("the group's address")?;
        let interface = Interface::Address(self.address);
        let mut config = SenderConfig::new(interface, group, (self.address, 0).into(), table);
        config.rate = self.rate;
        config.min_receivers = self.receivers;
        // Whoever was invited is waited for; one who is to come late only for a moment.
        config.max_wait = Duration::from_secs(if self.offers > self.receivers { 1 } else { 60 });
        // All who will come are known: nobody else is waited for, at either end of the session.
        (config.gather, config.linger) = (Duration::ZERO, Duration::ZERO);
        let session = SenderSession::start(config, chunks)?;
        let offers: Vec<SessionOffer> = (0..self.offers).map(|_| session.offer()).collect();
        let text = serde_json::to_string(&offers).context("write offers as JSON")?;
        let new = self.to.with_extension("new");
        fs::write(&new, text).context("write the offers")?;
        fs::rename(&new, &self.to).context("write the offers")?;
        let summary = session.join()?;
        let stats = &summary.progress.stats;
        Ok(Sent {
            packets: stats.packets,
            repair: stats.parity + stats.repeated,
            offload: summary.progress.offload,
            rate: summary.progress.rate.map_or(0, Rate::bits_per_second),
            lacking: summary.receivers.iter().filter(|peer| peer.missing > 0).count(),
            counters: format!("{:?}, {stats:?}", summary.reason),
        })
    }
}

impl Receive {
    fn run(&self) -> Result<Received> {
        let table = Arc::new(read_table(&self.table)?);
        let text = fs::read_to_string(&self.offers).context("read the offers")?;
        let offers: Vec<SessionOffer> = serde_json::from_str(&text).context("understand the offers")?;
        let offer = offers
            .get(self.number)
            .context("there is no offer for this receiver")?;
        let target = self
            .target
            .as_ref()
            .map(|path| File::create(path).with_context(|| format!("create {}", path.display())));
        let taken = Taken::new(&table, target.transpose()?);
        let config = ReceiverConfig::new(Interface::Address(self.address), offer);
        let missing = ChunkSet::full(table.count());
        let summary = receive(&config, table, missing, &taken, &Cancel::default())?;
        Ok(Received {
            missing: summary.missing.count(),
            drops: summary.drops,
            end: format!("{:?}", summary.end),
            counters: format!("{:?}", summary.stats),
        })
    }
}

/// Chunks that came; they are written to a file, or dropped.
#[derive(Debug)]
struct Taken {
    wanted: Vec<AtomicBool>,
    offsets: Vec<u64>,
    target: Option<File>,
}

impl Taken {
    fn new(table: &ChunkTable, target: Option<File>) -> Self {
        Self {
            wanted: table.chunks().iter().map(|_| AtomicBool::new(true)).collect(),
            offsets: offsets(table),
            target,
        }
    }
}

impl ChunkSink for Taken {
    fn wanted(&self, index: u32) -> bool {
        let at = usize::try_from(index).ok().and_then(|at| self.wanted.get(at));
        at.is_some_and(|wanted| wanted.load(Ordering::Acquire))
    }

    fn deliver(&self, index: u32, bytes: ChunkBytes) -> Result<(), SinkError> {
        let failed = |source: io::Error| SinkError {
            index,
            source: Box::new(source),
        };
        let unknown = || failed(io::ErrorKind::NotFound.into());
        let at = usize::try_from(index).map_err(|_| unknown())?;
        let (wanted, &offset) = self
            .wanted
            .get(at)
            .zip(self.offsets.get(at))
            .ok_or_else(unknown)?;
        if let Some(file) = &self.target {
            file.write_all_at(&bytes, offset).map_err(failed)?;
        }
        wanted.store(false, Ordering::Release);
        Ok(())
    }

    fn fill(&self) -> u8 {
        0
    }
}
