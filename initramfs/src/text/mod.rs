//! Files of the installed system that differ from node to node, as pure functions of text.

pub(crate) mod fstab;
pub(crate) mod grub;
pub(crate) mod hosts;
pub(crate) mod network;
pub(crate) mod time;
