//! The Linux machine: external tools, mounts, disks, and what is known of them and of firmware.
//!
//! Running something needs root and a real machine; what reads its output is a pure function over text, tested on
//! text that was captured. Unknown here: images, networks, and what the facts are wanted for.

pub mod command;
pub mod facts;
pub mod grub;
pub mod machine;
pub mod mounts;
pub mod partition;
pub mod storage;
