//! How a session is opened: its group, its ports, its settings.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::http::StatusCode;
use simulcast_protocol::multicast::ChunkTable;
use simulcast_transport::multicast::{
    ChunkSource, SendError, SenderConfig, SenderHandle, SenderSession, symbol_for,
};

use super::super::answer::{Refusal, chain};
use super::super::settings::Start;
use super::Sessions;
use super::access::Access;

/// Bytes of chunks that a session holds: what it sends in turn, and what it reads ahead.
const MEMORY: u64 = 48 << 20;

/// Ports that are tried: other programs may have some.
const TRIES: usize = 256;

impl Sessions {
    /// Opens a session on a group and a port that none of `taken` has.
    pub(super) fn open(
        &self,
        access: &Access,
        mtu: u32,
        taken: &[SocketAddr],
        table: &Arc<ChunkTable>,
        source: Arc<dyn ChunkSource>,
    ) -> Result<SenderHandle, Refusal> {
        let range = if access.is_ipv6() {
            self.settings.groups_v6
        } else {
            self.settings.groups
        };
        let groups: Vec<IpAddr> = taken.iter().map(SocketAddr::ip).collect();
        let group = range.pick(&groups, rand::random()).ok_or_else(|| {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("all multicast groups of {range} are in use"),
                "wait until a session has ended, use --transport http, or give si-server more with --groups",
            )
        })?;
        let ports = self.settings.ports;
        let used_up = || Refusal::trouble(format!("too few of the UDP ports {ports} are free for a session"));
        let symbol = symbol_for(mtu, access.is_ipv6())
            .ok_or_else(|| Refusal::trouble(format!("packets of {mtu} bytes are too short for a session")))?;
        let free = |port: &u16| taken.iter().all(|taken| taken.port() != *port);
        let port = ports.for_groups(rand::random()).find(free);
        let group = (group, port.ok_or_else(used_up)?).into();
        for port in ports.for_reports(rand::random()).filter(free).take(TRIES) {
            let config = SenderConfig {
                symbol,
                ..self.config(access, group, port, table)
            };
            match SenderSession::start(config, Arc::clone(&source)) {
                Ok(handle) => return Ok(handle),
                Err(SendError::Socket(error)) if error.source.kind() == ErrorKind::AddrInUse => {}
                Err(error) => {
                    let text = chain(&error);
                    tracing::error!(error = %text, "cannot send by multicast");
                    return Err(Refusal::trouble(text));
                }
            }
        }
        Err(used_up())
    }

    fn config(&self, access: &Access, group: SocketAddr, port: u16, table: &Arc<ChunkTable>) -> SenderConfig {
        // Reports are heard on all addresses: nodes of one interface may know different ones.
        let any: IpAddr = if access.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let control = (any, port).into();
        let usual = SenderConfig::new(access.interface(), group, control, Arc::clone(table));
        let (min_receivers, gather, max_wait) = match self.settings.start {
            Start::First => (usual.min_receivers, usual.gather, usual.max_wait),
            Start::After(wait) => (usual.min_receivers, wait, wait),
            Start::Number(number, wait) => (number, usual.gather, wait),
        };
        SenderConfig {
            rate: access.wire.limit(&self.settings),
            rate_min: self.settings.min_rate,
            ttl: self.settings.ttl.into(),
            dscp: self.settings.dscp.0,
            // An installer on this machine is a receiver like any other.
            loopback: true,
            min_receivers,
            // Who asks for a number or a time has said for whom to wait.
            wait_for_invited: self.settings.start == Start::First,
            gather,
            max_wait,
            memory: MEMORY,
            ..usual
        }
    }
}
