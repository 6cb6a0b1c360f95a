//! Booting nodes over the network: what their firmware and boot loaders are given, and who gives it.

pub(crate) mod kernel;
pub(crate) mod package;
