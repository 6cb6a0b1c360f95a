//! A peer that says what a test wants: threads with plain sockets, in a machine of their own.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use simulcast_protocol::bittorrent::{Handshake, InfoHash, Message, PeerId};

/// How a peer misbehaves, after a good handshake and the claim to have everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// It answers each request with noise.
    Garbage,
    /// It never answers.
    Mute,
    /// It sends a byte a second.
    Trickle,
    /// It sends no message at all, but bytes.
    Noise,
}

/// Listens and misbehaves until `over`.
pub(super) fn misbehave(
    listener: &TcpListener,
    info_hash: InfoHash,
    pieces: u32,
    manner: Manner,
    over: &AtomicBool,
) {
    listener.set_nonblocking(true).unwrap();
    thread::scope(|scope| {
        while !over.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    scope.spawn(move || _ = converse(stream, info_hash, pieces, manner, over));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    });
}

fn converse(
    mut stream: TcpStream,
    info_hash: InfoHash,
    pieces: u32,
    manner: Manner,
    over: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let peer = PeerId(*b"-XX0000-misbehaving!");
    let mut said = Handshake { info_hash, peer }.encode().to_vec();
    match manner {
        Manner::Noise => said.extend([0xff; 4096]),
        _ => {
            let mut bits = vec![0xff; pieces.div_ceil(8) as usize];
            if !pieces.is_multiple_of(8) {
                *bits.last_mut().unwrap() = 0xff << (8 - pieces % 8);
            }
            Message::Bitfield(&bits).encode(&mut said);
            Message::Unchoke.encode(&mut said);
        }
    }
    stream.write_all(&said)?;
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    while !over.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(some) => heard.extend_from_slice(&buffer[..some]),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(error),
        }
        if manner == Manner::Trickle {
            stream.write_all(&[0])?;
            thread::sleep(Duration::from_secs(1));
        }
        while heard.len() > 68
            && let Ok(Some((message, took))) = Message::decode(&heard[68..])
        {
            if let (Message::Request(block), Manner::Garbage) = (message, manner) {
                let mut answer = Vec::new();
                Message::Piece(block.piece, block.begin, &vec![0xee; block.len as usize]).encode(&mut answer);
                stream.write_all(&answer)?;
            }
            heard.drain(68..68 + took);
        }
    }
    Ok(())
}
