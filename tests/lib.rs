//! What the tests of all crates share: trees that are hard to copy, and ways to see whether a copy is exact.

pub mod edge;
