//! Sockets and clocks that drive the protocol: what comes from the network goes into the state machines of
//! `simulcast-protocol`, and what they want goes out.
//!
//! This crate sees chunks, never files: where a chunk is read from and where it goes to are traits that its callers
//! implement. The data plane runs on threads of its own, without an async runtime.

pub mod bittorrent;
pub mod chunk_bytes;
pub mod fetch;
pub mod http;
pub mod multicast;
pub mod udp;
