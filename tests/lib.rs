//! The laboratory: what the tests, the demonstration and the benchmarks stand on.
//!
//! Machines are network namespaces on a bridge ([`netns`]), golden clients are real file trees ([`golden`]) that run
//! a real sshd ([`sshd`]) in a private mount namespace ([`machine`]), programs are the built ones ([`programs`]).
//! Nothing here knows how an image or a packet looks: the product is judged from outside ([`compare`]), also on
//! trees that are hard to copy ([`edge`]).
//!
//! Everything of a run hangs on one [`run::Run`], and disappears when its process does, however that happens.
//! Errors are `anyhow`: whoever calls these functions is a test or a program, and prints the chain.

pub mod command;
pub mod compare;
pub mod edge;
pub mod golden;
pub mod kill;
pub mod machine;
pub mod netboot;
pub mod netns;
pub mod process;
pub mod programs;
pub mod run;
pub mod sshd;
pub mod tier;
pub mod vm;
pub mod wait;
