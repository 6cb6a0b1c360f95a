//! Capture: a tree becomes the next version of an image.
//!
//! [`scan`](scan()) reads a tree once and hands parts and entries to a [`ScanSink`]. Here on the server that is
//! [`import_tree`]; on a golden client it is the agent, whose messages the server takes into the same
//! [`VersionBuilder`].

mod agent;
mod entry;
mod import;
mod intake;
mod memory;
mod message;
mod pack;
mod read;
mod scan;
mod version;

pub use agent::{AgentError, AgentOptions, serve_capture};
pub use entry::{ScannedContent, ScannedEntry, ScannedKind};
pub(crate) use import::abandon;
pub use import::{CaptureError, CaptureReport, Import, import_tree};
pub use intake::{CaptureRequest, Moved, receive_capture};
pub use message::CAPTURE_PROTOCOL;
pub use pack::{PackSink, Packed, Packer, with_packer};
pub use scan::{Attempt, ScanError, ScanReport, ScanScope, ScanSink, scan};
pub use version::{Arrived, HeldChunk, PackReport, VersionBuilder};

#[cfg(test)]
mod tests;
