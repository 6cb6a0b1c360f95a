//! Sockets and clocks that drive the protocol. Sees chunks, never files.

pub mod fetch;
pub mod http;
