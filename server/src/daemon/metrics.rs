//! What Prometheus asks: numbers of the server and its nodes, in its text format 0.0.4, and where the nodes themselves can be
//! asked (its HTTP service discovery).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use simulcast_protocol::api::Status;
use simulcast_protocol::install::NodeState;

use super::Daemon;
use super::answer::Refusal;
use super::install::scope::Caller;
use super::routes::{Answer, Ours, status_for};
use super::versions::blocking;
use crate::view;

/// The port of Prometheus' own exporter of a machine.
const NODE_EXPORTER: u16 = 9100;

/// `GET /v1/metrics`: of what the caller sees.
pub(super) async fn metrics(State(daemon): Ours, caller: Caller) -> Answer<impl IntoResponse> {
    let status = status_for(&daemon, &caller);
    let states = blocking(move || states(&daemon, &caller)).await?;
    let kind = [("content-type", "text/plain; version=0.0.4")];
    Ok((kind, text(&status, &states)))
}

/// How many nodes are in each state.
fn states(daemon: &Arc<Daemon>, caller: &Caller) -> Answer<BTreeMap<&'static str, u64>> {
    let mut states: BTreeMap<_, _> = NodeState::ALL.map(|state| (state.as_str(), 0)).into();
    let rows = view::rows(&daemon.install.inventory.get(), &daemon.install.state)?;
    for row in rows.iter().filter(|row| caller.sees_node(&row.name)) {
        *states.entry(row.record.state.as_str()).or_default() += 1;
    }
    Ok(states)
}

/// Which port of the nodes is asked.
#[derive(Debug, Deserialize)]
pub(super) struct Port {
    port: Option<u16>,
}

/// One entry of `GET /v1/targets`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Target {
    targets: [String; 1],
    labels: BTreeMap<&'static str, String>,
}

/// `GET /v1/targets`: the nodes by name, for `http_sd_configs`.
pub(super) async fn targets(
    State(daemon): Ours,
    caller: Caller,
    asked: Result<Query<Port>, QueryRejection>,
) -> Answer<Json<Vec<Target>>> {
    let Query(asked) = asked.map_err(|error| Refusal::nonsense(error.body_text()))?;
    let port = asked.port.unwrap_or(NODE_EXPORTER);
    blocking(move || {
        let rows = view::rows(&daemon.install.inventory.get(), &daemon.install.state)?;
        let target = |row: view::NodeRow| {
            let groups: Vec<String> = row.groups.iter().map(ToString::to_string).collect();
            Target {
                targets: [format!("{}:{port}", row.name)],
                labels: BTreeMap::from([
                    ("__meta_simulcast_groups", format!(",{},", groups.join(","))),
                    ("__meta_simulcast_image", row.image.unwrap_or_default()),
                    ("__meta_simulcast_state", row.record.state.to_string()),
                ]),
            }
        };
        let seen = rows.into_iter().filter(|row| caller.sees_node(&row.name));
        Ok(Json(seen.map(target).collect()))
    })
    .await
}

/// A metric: its name without `simulcast_`, its type, what it is, and its samples with their labels.
struct Metric<'a>(&'a str, &'a str, &'a str, Vec<(Vec<(&'a str, String)>, u64)>);

fn text(status: &Status, states: &BTreeMap<&'static str, u64>) -> String {
    let alone = |value| vec![(Vec::new(), value)];
    let running: u64 = status.sessions.iter().map(|session| session.bytes).sum();
    let seeded: u64 = status.swarms.iter().map(|swarm| swarm.bytes).sum();
    let sessions = |value: fn(&simulcast_protocol::api::SessionStatus) -> u64| {
        let labels = |session: &simulcast_protocol::api::SessionStatus| {
            vec![
                ("session", session.session.to_string()),
                ("image", session.image.clone()),
                ("interface", session.interface.clone()),
            ]
        };
        let sample = |session| (labels(session), value(session));
        status.sessions.iter().map(sample).collect()
    };
    let by_state = states
        .iter()
        .map(|(state, count)| (vec![("state", (*state).to_owned())], *count));
    let metrics = [
        Metric(
            "info",
            "gauge",
            "Always 1; the server's version.",
            vec![(vec![("version", status.software.clone())], 1)],
        ),
        Metric(
            "uptime_seconds",
            "gauge",
            "Seconds since the server started.",
            alone(status.uptime_seconds),
        ),
        Metric("nodes", "gauge", "Nodes in each state.", by_state.collect()),
        Metric(
            "requests_total",
            "counter",
            "Requests answered.",
            alone(status.requests),
        ),
        Metric(
            "http_chunks_total",
            "counter",
            "Chunks sent whole by HTTP.",
            alone(status.http_chunks),
        ),
        Metric(
            "http_bytes_total",
            "counter",
            "Bytes of chunks sent by HTTP.",
            alone(status.http_bytes),
        ),
        Metric(
            "multicast_bytes_total",
            "counter",
            "UDP payload bytes sent by multicast.",
            alone(status.multicast_bytes_ended + running),
        ),
        Metric(
            "sessions_ended_total",
            "counter",
            "Multicast sessions that ended.",
            alone(status.sessions_ended),
        ),
        Metric(
            "swarm_bytes_total",
            "counter",
            "Bytes of blocks sent to peers.",
            alone(status.swarm_bytes_ended + seeded),
        ),
        Metric(
            "session_rate_bits",
            "gauge",
            "Bits per second on the wire at present.",
            sessions(|s| s.rate),
        ),
        Metric(
            "session_receivers",
            "gauge",
            "Receivers that were ever heard.",
            sessions(|s| s.receivers),
        ),
        Metric(
            "session_done",
            "gauge",
            "Receivers that need nothing more.",
            sessions(|s| s.done),
        ),
        Metric(
            "session_packets_total",
            "counter",
            "Data packets sent.",
            sessions(|s| s.packets),
        ),
        Metric(
            "session_repair_packets_total",
            "counter",
            "Of them, those that repaired loss.",
            sessions(|s| s.repair),
        ),
    ];
    let mut out = String::new();
    metrics.iter().for_each(|metric| metric.write(&mut out));
    out
}

impl Metric<'_> {
    fn write(&self, out: &mut String) {
        let Self(name, kind, help, samples) = self;
        let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a string takes all");
        line(format_args!("# HELP simulcast_{name} {help}"));
        line(format_args!("# TYPE simulcast_{name} {kind}"));
        for (labels, value) in samples {
            let pairs: Vec<String> = labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let labels = if pairs.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", pairs.join(","))
            };
            line(format_args!("simulcast_{name}{labels} {value}"));
        }
    }
}

/// The value of a label: backslash, quote and line feed have a backslash before them.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_a_line() {
        let mut out = String::new();
        let labels = vec![("image", "a\"b\\c\nd".to_owned()), ("x", String::new())];
        Metric("m", "gauge", "Of a test.", vec![(labels, 7)]).write(&mut out);
        assert_eq!(
            out,
            "# HELP simulcast_m Of a test.\n# TYPE simulcast_m gauge\n\
             simulcast_m{image=\"a\\\"b\\\\c\\nd\",x=\"\"} 7\n"
        );
    }
}
