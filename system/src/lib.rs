//! The Linux machine: external tools, mounts, and what is known of disks and firmware.
//!
//! Running something needs root and a real machine; what reads its output is a pure function over text, tested on
//! text that was captured. Unknown here: images, networks, and what the facts are wanted for.

pub mod command;
pub mod facts;
pub mod machine;
pub mod mounts;
