//! What every part of Simulcast agrees on: identifiers, names, units, limits, packet formats and the multicast
//! protocol itself.
//!
//! This crate is pure logic. It opens no socket, reads no clock, touches no file, starts no thread and knows no
//! async runtime; time and randomness are arguments. That is what lets the simulator run the same code as the lab.

#![forbid(unsafe_code)]

pub mod api;
pub mod bittorrent;
pub mod control;
pub mod exclusion;
pub mod id;
pub mod install;
pub mod limits;
pub mod multicast;
pub mod name;
pub mod nodeset;
pub mod units;
