//! The transfer: transports on one side of the queue, workers that write on the other.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use simulcast_cli::{Amount, Console, Progress, Remark};
use simulcast_image::apply::{ApplyError, Writer};
use simulcast_image::manifest::{Manifest, SignedManifest};
use simulcast_protocol::bittorrent::InfoHash;
use simulcast_protocol::control::SessionOffer;
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
        if !matches!(args.transport, Choices::Auto | Choices::Multicast) || signed.manifest.chunks.is_empty()
        {
            return None;
        }
        let mtu = mtu_towards(client.server(), args.interface.as_ref());
        match client.session(signed.id, mtu) {
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

/// Is told how far a transfer is, after every chunk and by several threads.
pub type Seen<'a> = &'a (dyn Fn(&Amount) + Sync);

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
    transfer_seen(delivery, writer, missing, console, &|_| {})
}

/// As [`transfer`], and tells `seen` how far it is.
///
/// # Errors
/// As [`transfer`].
pub fn transfer_seen(
    delivery: &Delivery<'_>,
    writer: &Writer<'_>,
    missing: &[bool],
    console: &Console,
    seen: Seen<'_>,
) -> Result<Transferred> {
    let Delivery {
        client,
        server,
        image,
        signed,
        invitation,
        scratch,
        helping,
    } = *delivery;
    if !missing.contains(&true) {
        return Ok(Transferred::default());
    }
    let begun = Instant::now();
    let notice = |notice: &Notice| console.say(notice);
    let fits =
        |info_hash: &InfoHash, signature: &[u8]| signed.key().fits_torrent(&signed.id, info_hash, signature);
    let client = client.with_retry(Retry::PATIENT);
    let order = Order {
        client: &client,
        table: Arc::new(table(signed).context("cannot fetch this version")?),
        choice: server.transport.into(),
        interface: server.interface.clone(),
        offer: invitation.and_then(Invitation::fresh),
        swarm: server
            .may_use_peers()
            .then(|| server.peers.order(signed, missing, scratch, &fits)),
        connections: CONNECTIONS,
        notice: &notice,
    };
    let fetch = Fetch::new(missing, QUEUE_BYTES);
    let progress = console.progress(&image.to_string());
    progress.set(standing(&signed.manifest, missing));
    let (conducted, written) = thread::scope(|scope| {
        let failure = Mutex::new(None);
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| scope.spawn(|| work(&fetch, writer, &signed.manifest, &progress, seen)))
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
        return Err(error).hint("when the target is in order, start again");
    }
    let part = match conducted {
        Ok(part) => part,
        Err(error) => {
            let hint = error.hint();
            return Err(error).context("not everything could be fetched").hint(hint);
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
fn work(
    fetch: &Fetch,
    writer: &Writer<'_>,
    manifest: &Manifest,
    progress: &Progress,
    seen: Seen<'_>,
) -> Result<(), ApplyError> {
    let write = || {
        let mut worker = writer.worker()?;
        while let Some(mut chunk) = fetch.next() {
            writer.chunk(&mut worker, chunk.index, &mut chunk.bytes)?;
            let handle = &manifest.chunks[chunk.index as usize].handle;
            progress.update(|amount| {
                amount.chunks_done += 1;
                amount.bytes_done += u64::from(handle.stored_len);
                seen(amount);
            });
        }
        Ok(())
    };
    write().inspect_err(|_| fetch.stop())
}

/// The chunks as transports see them.
fn table(signed: &SignedManifest) -> Result<ChunkTable, simulcast_protocol::multicast::TableError> {
    let chunks = signed.manifest.chunks.iter().map(|chunk| ChunkInfo {
        id: chunk.handle.id,
        len: chunk.handle.stored_len,
    });
    ChunkTable::new(signed.id, chunks.collect())
}

/// How far an install is that begins with `missing`.
fn standing(manifest: &Manifest, missing: &[bool]) -> Amount {
    let mut amount = Amount {
        chunks_total: Some(missing.len() as u64),
        bytes_total: Some(manifest.stored_bytes()),
        ..Amount::default()
    };
    for (chunk, _) in manifest
        .chunks
        .iter()
        .zip(missing)
        .filter(|(_, missing)| !**missing)
    {
        amount.chunks_done += 1;
        amount.bytes_done += u64::from(chunk.handle.stored_len);
    }
    amount
}
