//! The run loops of probes: a thread of the image server that sends numbered packets, and what a machine does to count them.
//! What they mean is [`simulcast_protocol::multicast::probe`]'s.

mod brief;
mod machine;
mod receive;
mod send;

pub use brief::why_not_reached;
pub use machine::{parse_ethtool, shows_trouble};
pub use receive::{ProbeError, Prober};
pub use send::{ProbeConfig, ProbeSender};
