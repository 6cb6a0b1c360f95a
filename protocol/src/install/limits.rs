//! Bounds of what machines say and get while they are installed, each with its reason.

/// Bytes of a hello: 64 disks and as many cards take less.
pub const HELLO_BYTES: usize = 32 << 10;

/// Network cards of one machine that are looked at.
pub const MACS: usize = 128;

/// Disks of one machine that are remembered.
pub const DISKS: usize = 256;

/// Bytes of one word that a machine says of itself: DMI has strings of 64.
pub const WORD_BYTES: usize = 128;

/// Machines that no operator has adopted and that are remembered; the one that was heard longest ago is forgotten first.
pub const UNKNOWN: usize = 4096;

/// Bytes of one report of events: some hundred, each with a sentence.
pub const EVENTS_BYTES: usize = 256 << 10;

/// Events of one report.
pub const EVENTS: usize = 512;

/// Events that are kept of one order, progress not counted: an install has thirty steps.
pub const KEPT_EVENTS: u32 = 2000;

/// Bytes of a step's name.
pub const STEP_BYTES: usize = 48;

/// Bytes of the detail of an event: an error with its causes.
pub const DETAIL_BYTES: usize = 4 << 10;

/// Bytes of one piece of a log.
pub const LOG_PIECE_BYTES: usize = 256 << 10;

/// Bytes of log that are kept of one order: what comes later is left out.
pub const LOG_BYTES: u64 = 4 << 20;

/// Orders of one node that are remembered with their events and logs.
pub const ORDERS_OF_A_NODE: u32 = 20;

/// Scripts of one kind.
pub const SCRIPTS: usize = 64;

/// Bytes of one script.
pub const SCRIPT_BYTES: u64 = 1 << 20;

/// Bytes of the overrides of one image, group or node, as a tar archive: they are small files that differ, not images.
pub const OVERRIDE_BYTES: u64 = 1 << 30;

/// Files of the overrides of one image, group or node.
pub const OVERRIDE_ENTRIES: usize = 100_000;

/// Seconds after which a machine that no operator has adopted asks again.
pub const AGAIN_SECONDS: u32 = 5;
