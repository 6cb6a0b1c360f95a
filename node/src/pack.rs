//! Update packs as a node fetches them: the list first, then those of its chunks that the node needs.
//!
//! A pack only ever spares bytes. Whatever is wrong with it, the chunks of the version itself do as well.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use simulcast_cli::Console;
use simulcast_image::apply::{ApplyError, Writer};
use simulcast_image::fs;
use simulcast_image::manifest::{Manifest, SignedManifest};
use simulcast_image::pack::{Receiver, Recipe, SignedPack};
use simulcast_protocol::id::ManifestId;
use simulcast_transport::http::Client;

use super::transfer::{Failure, Goods, Taker, bring};
use super::{Delivery, Invitation, ServerArgs, Transferred};

/// How long a node waits for a pack that is being made. Longer than the server takes for a usual image; after it the chunks
/// of the version come instead.
const PATIENCE: Duration = Duration::from_secs(90);

/// Time between two questions whether it is made. The server answers late by itself.
const PAUSE: Duration = Duration::from_millis(200);

/// A pack that the server offers for what is installed.
#[derive(Debug)]
pub struct OfferedPack<'i> {
    signed: SignedPack,
    installed: &'i Manifest,
}

impl<'i> OfferedPack<'i> {
    /// Asks the server for the pack that leads from the version that is installed, or from a set of versions that it is one of, to
    /// `to`. `None`, with a word to the log, when there is none that can be used.
    pub fn ask(
        client: &Client,
        server: &ServerArgs,
        installed: &'i (ManifestId, Manifest),
        from: Option<ManifestId>,
        to: &SignedManifest,
        console: &Console,
    ) -> Option<Self> {
        let (version, installed) = (installed.0, &installed.1);
        if version == to.id || !server.may_use_packs() {
            return None;
        }
        let open = || -> Result<Option<SignedPack>> {
            let Some(bytes) = wait(client, from.unwrap_or(version), to.id)? else {
                return Ok(None);
            };
            let signed = SignedPack::open(bytes, &server.key(client, console)?, &to.id, &to.manifest)?;
            Ok(Some(signed).filter(|signed| signed.pack.from.contains(&version)))
        };
        match open() {
            Ok(signed) => signed.map(|signed| Self { signed, installed }),
            Err(error) => {
                tracing::info!(error = %format!("{error:#}"), "no update pack; chunks of the version do as well");
                None
            }
        }
    }

    /// Bytes of its list.
    pub fn list_bytes(&self) -> u64 {
        self.signed.bytes().len() as u64
    }

    /// Asks for an early offer of its multicast session.
    pub fn invitation(
        &self,
        client: &Client,
        server: &ServerArgs,
        to: &SignedManifest,
    ) -> Option<Invitation> {
        Invitation::ask_for(client, server, &self.goods(&to.manifest))
    }

    /// Fetches what is needed of the pack for the tree below `root` and writes what it makes, unless the chunks of the version that
    /// it spares are smaller. What it does not bring stays wanted.
    ///
    /// # Errors
    /// When the tree cannot be read or written. That chunks of the pack cannot be had is no error.
    pub fn transfer(
        &self,
        delivery: &Delivery<'_>,
        root: &Path,
        writer: &Writer<'_>,
        console: &Console,
    ) -> Result<Transferred> {
        let to = &delivery.signed.manifest;
        let root = fs::open_root(root)?;
        let receiver = Receiver::new(&self.signed.pack, to, self.installed, root, writer)?;
        let missing = writer.missing_chunks();
        let by_chunks: u64 = to
            .chunks
            .iter()
            .zip(&missing)
            .filter(|(_, missing)| **missing)
            .map(|(chunk, _)| u64::from(chunk.handle.stored_len))
            .sum();
        if receiver.bytes() == 0 || receiver.bytes() >= by_chunks {
            return Ok(Transferred::default());
        }
        let brought = bring(
            delivery,
            self.goods(to),
            &receiver,
            receiver.needed(),
            console,
            console,
        );
        if receiver.failed() > 0 {
            let records = receiver.failed();
            tracing::info!(
                records,
                "files changed while they were updated; their chunks are fetched"
            );
        }
        match brought {
            Ok(transferred) => Ok(transferred),
            Err(Failure::Write(error)) => Err(error),
            Err(Failure::Fetch(error)) => {
                tracing::info!(error = %format!("{error:#}"), "the rest comes in chunks of the version");
                Ok(Transferred::default())
            }
        }
    }

    fn goods(&self, to: &Manifest) -> Goods {
        Goods::new(self.signed.id, self.signed.pack.handles(to))
    }
}

impl Taker for Receiver<'_, '_> {
    type Worker = Recipe;

    fn worker(&self) -> Result<Recipe, ApplyError> {
        Self::worker(self)
    }

    fn chunk(&self, worker: &mut Recipe, index: u32, stored: &mut [u8]) -> Result<(), ApplyError> {
        Self::chunk(self, worker, index, stored)
    }
}

/// Asks until the pack is made.
fn wait(client: &Client, from: ManifestId, to: ManifestId) -> Result<Option<Vec<u8>>> {
    let begun = Instant::now();
    loop {
        match client.pack(from, to)? {
            Some(bytes) => return Ok(Some(bytes)),
            None if begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
            None => {
                tracing::info!("the server is still making the update pack; not waiting for it any longer");
                return Ok(None);
            }
        }
    }
}
