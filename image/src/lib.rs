//! What an image is: manifest, chunks, store, capture, apply, delta, exclusion lists.
//!
//! Files and bytes only: this crate knows no network and no device.

#![forbid(unsafe_code)]

pub mod apply;
pub mod capture;
pub mod chunk;
pub mod filter;
pub mod fs;
pub mod manifest;
pub mod store;
