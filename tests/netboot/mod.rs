//! Bare machines become nodes: what the demonstration of it and its tests share.
//!
//! A [`Lab`] is an image server that has a bootable golden client as `golden01@1`, a mini-kernel, and layouts. A [`Course`] is
//! a machine on its way from being switched on to its login prompt, with the time of each [`Mark`] on its console.
//! [`judge`] compares its disk with the version from outside, when it is off.

mod course;
pub mod judge;
pub mod kinds;
mod lab;
mod places;
pub mod runs;
pub mod tar;
mod times;

pub use self::course::{Course, INSTALL, LOCAL, Mark, REFUSED, RESCUE, STOPPED, all_reach};
pub use self::lab::{Lab, Node};
pub use self::times::{Times, table};
