//! What goes out: what swarms have to say, and blocks as far as connections and the rate take them.

use std::io;
use std::time::{Duration, Instant};

use simulcast_protocol::bittorrent::{PeerKey, Role, Swarm};

use super::connection::{Connection, Stage};
use super::driver::{Driver, Part};
use super::spool::fits;

/// Time of sending for which a rate lets bytes add up.
pub(super) const BURST: Duration = Duration::from_millis(50);

/// Times that connections are filled and emptied before it is looked for what has come.
const ROUNDS: u32 = 16;

impl Driver {
    /// Sends what there is to say, and blocks as far as connections and the rate take them.
    pub(super) fn send(&mut self, now: Instant) {
        self.earn(now);
        for (&key, connection) in &mut self.connections {
            let Stage::Peer(info_hash) = connection.stage else {
                continue;
            };
            let part = self.parts.get_mut(&info_hash);
            if let Some(said) = part.and_then(|part| part.swarm.outbox(now, key)) {
                connection.append(said);
            }
        }
        let mut broken = Vec::new();
        for _ in 0..ROUNDS {
            // What a connection has taken at once makes room for more, of which nobody else would tell.
            self.more = self.queue_blocks(now, &mut broken);
            self.flush(now, &mut broken);
            if !self.more {
                break;
            }
        }
        broken.into_iter().for_each(|key| self.end(key));
    }

    /// Queues blocks where there is room; whether there were any.
    fn queue_blocks(&mut self, now: Instant, broken: &mut Vec<PeerKey>) -> bool {
        let mut queued = false;
        for part in self.parts.values_mut() {
            while self.credit > 0 {
                let room = |key: PeerKey| self.connections.get(&key).is_some_and(Connection::has_room);
                let Some((key, block)) = part.swarm.next_upload(now, room) else {
                    break;
                };
                let Some(connection) = self.connections.get_mut(&key) else {
                    break;
                };
                if connection
                    .piece
                    .as_ref()
                    .is_none_or(|(piece, _)| *piece != block.piece)
                {
                    match read(part, block.piece) {
                        Ok(bytes) => connection.piece = Some((block.piece, bytes)),
                        Err(error) => {
                            tracing::warn!(%error, piece = block.piece, "cannot read a piece that a peer asks for");
                            broken.push(key);
                            break;
                        }
                    }
                }
                let piece = connection.piece.take();
                queued = true;
                connection.queue(&Swarm::header(block));
                if let Some((_, bytes)) = &piece {
                    queue_block(connection, bytes, block.begin, block.len);
                }
                connection.piece = piece;
                self.credit = self.credit.saturating_sub(i64::from(block.len));
            }
        }
        queued
    }

    /// Sends what connections take.
    fn flush(&mut self, now: Instant, broken: &mut Vec<PeerKey>) {
        for (&key, connection) in &mut self.connections {
            match (connection.flush(), connection.stage) {
                (Ok(true), Stage::Peer(info_hash)) => {
                    if let Some(part) = self.parts.get_mut(&info_hash) {
                        part.swarm.flushed(now, key);
                    }
                }
                (Ok(_), _) => {}
                (Err(_), Stage::Calling(_)) => {}
                (Err(_), _) => broken.push(key),
            }
        }
    }

    /// What the rate allows by now.
    fn earn(&mut self, now: Instant) {
        let Some(rate) = self.config.rate else {
            self.credit = i64::MAX;
            return;
        };
        let bytes = |time: Duration| {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let bytes = rate.bits_per_second().min(1 << 40) / 8 * micros.min(1_000_000) / 1_000_000;
            i64::try_from(bytes).unwrap_or(i64::MAX)
        };
        let earned = bytes(now.saturating_duration_since(self.credited));
        if earned > 0 {
            self.credit = (self.credit + earned).min(bytes(BURST).max(1));
            self.credited = now;
        }
    }
}

/// A piece as it is sent; of a seed, only one whose hash is right: a damaged store is not its peers' to find out.
fn read(part: &mut Part, piece: u32) -> io::Result<Vec<u8>> {
    let bytes = part.holder.read(piece)?;
    if part.torrent.role == Role::Seed && !fits(part.torrent.hashes.get(piece), &bytes) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is damaged: run si-fsck",
        ));
    }
    Ok(bytes)
}

/// Queues a block: what is behind the end of the piece is padding.
fn queue_block(connection: &mut Connection, piece: &[u8], begin: u32, len: u32) {
    let (begin, len) = (
        usize::try_from(begin).unwrap_or(usize::MAX),
        usize::try_from(len).unwrap_or(0),
    );
    let end = begin.saturating_add(len).min(piece.len());
    let bytes = piece.get(begin..end).unwrap_or_default();
    connection.queue(bytes);
    let mut padding = len.saturating_sub(bytes.len());
    while padding > 0 {
        let some = padding.min(ZEROS.len());
        connection.queue(&ZEROS[..some]);
        padding -= some;
    }
}

const ZEROS: [u8; 4096] = [0; 4096];
