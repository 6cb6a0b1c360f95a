//! Capture: a tree becomes the next version of an image.
//!
//! [`scan`](scan()) reads a tree once and hands parts and entries to a [`ScanSink`]. Here on the server that is
//! [`import_tree`]; on a golden client it is the agent, whose messages the server takes into the same
//! [`VersionBuilder`].

mod entry;
mod import;
mod pack;
mod scan;
mod version;

pub use entry::{ScannedContent, ScannedEntry, ScannedKind};
pub use import::{CaptureError, CaptureReport, Import, import_tree};
pub use pack::{PackSink, Packed, Packer, with_packer};
pub use scan::{ScanError, ScanReport, ScanScope, ScanSink, scan};
pub use version::{Arrived, HeldChunk, PackReport, VersionBuilder};
