//! The transfer: transports on one side of the queue, workers that write on the other.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use simulcast_cli::{Amount, Console, Progress, Remark};
use simulcast_image::apply::{ApplyError, Worker, Writer};
use simulcast_image::chunk::ChunkHandle;
use simulcast_image::manifest::SignedManifest;
use simulcast_protocol::bittorrent::InfoHash;
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::multicast::{ChunkInfo, ChunkTable};
use simulcast_protocol::name::ImageRef;
use simulcast_transport::fetch::{Fetch, Notice, Order, Tally, Transport, Waits, conduct, mtu_towards};
use simulcast_transport::http::{Client, Retry};

use super::{Helping, ServerArgs, Transport as Choices};

/// Bytes of chunks that wait for workers: some twenty usual ones, so that short stalls of disk or network do not show.
const QUEUE_BYTES: usize = 32 << 20;

/// Threads that decrypt, decompress and write.
const WORKERS: usize = 2;

/// Connections for HTTP: while one waits for the server, others carry.
const CONNECTIONS: usize = 3;

/// What is to come, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The image server.
    pub client: &'a Client,
    /// How chunks may come.
    pub server: &'a ServerArgs,
    /// What the version was asked for as.
    pub image: &'a ImageRef,
    /// The version.
    pub signed: &'a SignedManifest,
    /// An offer that was asked for early.
    pub invitation: Option<&'a Invitation>,
    /// A directory with room for what is kept for peers when memory has none: where the version goes to.
    pub scratch: Option<&'a Path>,
    /// What goes on giving to others when everything has come; without it, nobody does.
    pub helping: Option<&'a Helping>,
}

/// What has chunks: a version, or an update pack.
#[derive(Debug)]
pub(super) struct Goods {
    /// Its identity: sessions are known by it.
    pub(super) id: ManifestId,
    /// Its chunks in order.
    pub(super) chunks: Vec<ChunkInfo>,
}

impl Goods {
    fn of(signed: &SignedManifest) -> Self {
        Self::new(
            signed.id,
            signed.manifest.chunks.iter().map(|chunk| &chunk.handle),
        )
    }

    pub(super) fn new<'a>(id: ManifestId, handles: impl Iterator<Item = &'a ChunkHandle>) -> Self {
        let info = |handle: &ChunkHandle| ChunkInfo {
            id: handle.id,
            len: handle.stored_len,
        };
        let chunks = handles.map(info).collect();
        Self { id, chunks }
    }
}

/// Takes chunks that were checked against their names, on several threads.
pub(super) trait Taker: Sync {
    /// What one thread needs.
    type Worker;

    /// A worker for one more thread.
    fn worker(&self) -> Result<Self::Worker, ApplyError>;

    /// Takes a chunk by its number.
    fn chunk(&self, worker: &mut Self::Worker, index: u32, stored: &mut [u8]) -> Result<(), ApplyError>;
}

impl Taker for Writer<'_> {
    type Worker = Worker;

    fn worker(&self) -> Result<Worker, ApplyError> {
        Self::worker(self)
    }

    fn chunk(&self, worker: &mut Worker, index: u32, stored: &mut [u8]) -> Result<(), ApplyError> {
        Self::chunk(self, worker, index, stored)
    }
}

/// How long an offer that was asked for early is good: the session closes when nobody joins for a minute.
const GOOD: Duration = Duration::from_secs(30);

/// An offer of a multicast session that was asked for before it was known what is missing: until sending begins, the
/// server waits for whom it invited, so that machines that are updated together need one transmission.
#[derive(Debug)]
pub struct Invitation {
    offer: SessionOffer,
    asked: Instant,
}

impl Invitation {
    /// Asks for an offer. `None` when the transport is not to be used or there is none: then it is asked for again.
    pub fn ask(client: &Client, args: &ServerArgs, signed: &SignedManifest) -> Option<Self> {
        Self::ask_for(client, args, &Goods::of(signed))
    }

    /// The same for whatever has chunks.
    pub(super) fn ask_for(client: &Client, args: &ServerArgs, goods: &Goods) -> Option<Self> {
        if !matches!(args.transport, Choices::Auto | Choices::Multicast) || goods.chunks.is_empty() {
            return None;
        }
        let mtu = mtu_towards(client.server(), args.interface.as_ref());
        match client.session(goods.id, mtu) {
            Ok(offer) => Some(Self {
                offer,
                asked: Instant::now(),
            }),
            Err(error) => {
                tracing::info!(%error, "no early offer of a multicast session");
                None
            }
        }
    }

    fn fresh(&self) -> Option<SessionOffer> {
        (self.asked.elapsed() < GOOD).then(|| self.offer.clone())
    }
}

/// What came, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Transferred {
    /// By multicast.
    pub multicast: Tally,
    /// From peers.
    pub bittorrent: Tally,
    /// By HTTP.
    pub http: Tally,
    /// What it waited for.
    pub waits: Waits,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why not everything was brought.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be fetched; it may be had otherwise.
    Fetch(anyhow::Error),
    /// It could not be written.
    Write(anyhow::Error),
}

impl Failure {
    fn into_error(self) -> anyhow::Error {
        match self {
            Self::Fetch(error) | Self::Write(error) => error,
        }
    }
}

/// Is told how a transfer goes, by several threads.
pub trait Watch: Sync {
    /// How far it is, after every chunk.
    fn amount(&self, amount: &Amount) {
        let _ = amount;
    }

    /// A transport begins or is left, and why.
    fn notice(&self, notice: &dyn Display);
}

impl Watch for Console {
    fn notice(&self, notice: &dyn Display) {
        self.say(notice);
    }
}

/// Fetches and writes the chunks of `image` for which `missing` says so.
///
/// # Errors
/// When something cannot be fetched or written; what came before is written.
pub fn transfer(
    delivery: &Delivery<'_>,
    writer: &Writer<'_>,
    missing: &[bool],
    console: &Console,
) -> Result<Transferred> {
    transfer_watched(delivery, writer, missing, console, console)
}

/// As [`transfer`], and tells `watch` how it goes.
///
/// # Errors
/// As [`transfer`].
pub fn transfer_watched(
    delivery: &Delivery<'_>,
    writer: &Writer<'_>,
    missing: &[bool],
    console: &Console,
    watch: &dyn Watch,
) -> Result<Transferred> {
    bring(
        delivery,
        Goods::of(delivery.signed),
        writer,
        missing,
        console,
        watch,
    )
    .map_err(Failure::into_error)
}

/// Fetches the chunks of `goods` for which `missing` says so, and has `taker` take them.
pub(super) fn bring<T: Taker>(
    delivery: &Delivery<'_>,
    goods: Goods,
    taker: &T,
    missing: &[bool],
    console: &Console,
    watch: &dyn Watch,
) -> Result<Transferred, Failure> {
    let Delivery {
        client,
        server,
        image,
        invitation,
        signed,
        scratch,
        helping,
    } = *delivery;
    if !missing.contains(&true) {
        return Ok(Transferred::default());
    }
    let begun = Instant::now();
    let notice = |notice: &Notice| watch.notice(notice);
    let fits =
        |info_hash: &InfoHash, signature: &[u8]| signed.key().fits_torrent(&signed.id, info_hash, signature);
    let client = client.with_retry(Retry::PATIENT);
    let standing = standing(&goods.chunks, missing);
    let lens: Vec<u32> = goods.chunks.iter().map(|chunk| chunk.len).collect();
    // Only versions have torrents.
    let torrent = server.may_use_peers() && goods.id == signed.id;
    let table = ChunkTable::new(goods.id, goods.chunks).context("cannot fetch this version");
    let table = table.map_err(Failure::Fetch)?;
    let order = Order {
        client: &client,
        table: Arc::new(table),
        choice: server.transport.into(),
        interface: server.interface.clone(),
        offer: invitation.and_then(Invitation::fresh),
        swarm: torrent.then(|| server.peers.order(signed, missing, scratch, &fits)),
        connections: CONNECTIONS,
        notice: &notice,
    };
    let fetch = Fetch::new(missing, QUEUE_BYTES);
    let progress = console.progress(&image.to_string());
    progress.set(standing);
    let (conducted, written) = thread::scope(|scope| {
        let failure = Mutex::new(None);
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| scope.spawn(|| work(&fetch, taker, &lens, &progress, watch)))
            .collect();
        let conducted = conduct(order, &fetch);
        for worker in workers {
            if let Err(error) = worker.join().expect("a worker does not panic") {
                failure.lock().expect("no holder panics").get_or_insert(error);
            }
        }
        (conducted, failure.into_inner().expect("no holder panics"))
    });
    // What the target refused stopped the transports, whose complaints would only hide it.
    if let Some(error) = written {
        let advised = Err(error).hint("when the target is in order, start again");
        return advised.map_err(Failure::Write);
    }
    let part = match conducted {
        Ok(part) => part,
        Err(error) => {
            let hint = error.hint();
            let advised = Err(error).context("not everything could be fetched").hint(hint);
            return advised.map_err(Failure::Fetch);
        }
    };
    if let (Some(helping), Some(part)) = (helping, part) {
        helping.begin(part);
    }
    progress.finish();
    Ok(Transferred {
        multicast: fetch.tally(Transport::Multicast),
        bittorrent: fetch.tally(Transport::Bittorrent),
        http: fetch.tally(Transport::Http),
        waits: fetch.waits(),
        elapsed: begun.elapsed(),
    })
}

/// Takes chunks and writes them until there are no more; what fails ends everything.
fn work<T: Taker>(
    fetch: &Fetch,
    taker: &T,
    lens: &[u32],
    progress: &Progress,
    watch: &dyn Watch,
) -> Result<(), ApplyError> {
    let write = || {
        let mut worker = taker.worker()?;
        while let Some(mut chunk) = fetch.next() {
            taker.chunk(&mut worker, chunk.index, &mut chunk.bytes)?;
            progress.update(|amount| {
                amount.chunks_done += 1;
                amount.bytes_done += u64::from(lens[chunk.index as usize]);
                watch.amount(amount);
            });
        }
        Ok(())
    };
    write().inspect_err(|_| fetch.stop())
}

/// How far a transfer is that begins with `missing`.
fn standing(chunks: &[ChunkInfo], missing: &[bool]) -> Amount {
    let mut amount = Amount {
        chunks_total: Some(chunks.len() as u64),
        bytes_total: Some(chunks.iter().map(|chunk| u64::from(chunk.len)).sum()),
        ..Amount::default()
    };
    for (chunk, _) in chunks.iter().zip(missing).filter(|(_, missing)| !**missing) {
        amount.chunks_done += 1;
        amount.bytes_done += u64::from(chunk.len);
    }
    amount
}
