//! Golden clients as file trees: a real Debian ([`debian`]), one that starts on bare machines ([`bootable`]), a small one
//! for quick tests ([`small`]), and what an administrator does to them between two versions ([`change`]).

pub mod bootable;
pub mod change;
pub mod debian;
pub mod noise;
pub mod small;
