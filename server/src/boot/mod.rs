//! Booting nodes over the network: what their firmware and boot loaders are given, and who gives it.
//!
//! A machine's firmware asks by DHCP what to load; dnsmasq, our child, answers ([`dhcp`], [`supervise`]), or the site's own
//! service as we tell it to. What it loads first is a boot loader ([`files`]); this asks by HTTP, or TFTP ([`publish`]), what to
//! do, and is told by what is decided for the machine at that moment ([`service`], [`script`]): the mini-kernel
//! ([`package`]), or its local disk.
//!
//! Unknown here: why a node should boot what it boots. Whoever keeps the inventory says so with
//! [`service::Booting::set_nodes`].

pub(crate) mod args;
pub(crate) mod dhcp;
pub(crate) mod files;
pub(crate) mod grub;
pub(crate) mod kernel;
pub(crate) mod node;
pub(crate) mod package;
mod passable;
pub(crate) mod publish;
pub(crate) mod script;
pub(crate) mod service;
pub(crate) mod settings;
pub(crate) mod supervise;
