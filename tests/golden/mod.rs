//! Golden clients as file trees: a real Debian ([`debian`]), a small one for quick tests ([`small`]), and what an
//! administrator does to them between two versions ([`change`]).

pub mod change;
pub mod debian;
pub mod noise;
pub mod small;
