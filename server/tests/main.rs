//! The operator's commands as an operator uses them: the real program, real files, what it prints and how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checkout;
mod daemon;
mod debootstrap;
mod faults;
mod harness;
mod images;
mod installing;
mod layout;
mod manners;
mod nodes;
mod tar;
mod tokens;
