//! What an image is: manifest, chunks, store, capture, apply, delta, update packs, exclusion lists.
//!
//! Files and bytes only: this crate knows no network and no device.

#![forbid(unsafe_code)]

pub mod apply;
pub mod capture;
pub mod chunk;
pub mod delta;
pub mod diff;
pub mod filter;
pub mod fs;
pub mod layout;
pub mod manifest;
pub mod order;
pub mod pack;
pub mod store;
pub mod tar;
#[cfg(test)]
mod testing;
pub mod update;
pub mod verify;

/// An error with its causes as one line, for reports that travel or are kept.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
