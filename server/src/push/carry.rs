//! Carrying out a push, wave by wave, until all is done or too much has failed.

use anyhow::Result;
use simulcast_cli::Console;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::NodeName;
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::units::Bytes;

use super::{Outcome, Remote, waves};
use crate::remote::each;
use crate::state::State;
use crate::text::now;

/// Nodes that are updated at a time, each a process of ssh: what shares a multicast session should ask together.
const AT_ONCE: usize = 256;

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Every node had its turn.
    Through,
    /// More failed than may.
    Stopped,
}

/// What is carried out.
pub(crate) struct Order<'a> {
    /// The number of the push.
    pub(crate) push: u64,
    pub(crate) image: &'a ImageRef,
    /// The versions that the update pack is made for, if there is one.
    pub(crate) pack: Option<ManifestId>,
    /// Nodes that are updated before the others.
    pub(crate) canaries: u32,
    /// How many nodes per cent are of.
    pub(crate) total: usize,
}

/// Updates `nodes` in waves and notes what became of each.
///
/// # Errors
/// When the state cannot be written.
pub(crate) fn carry(
    remote: &Remote<'_>,
    state: &State,
    order: &Order<'_>,
    nodes: &[NodeName],
) -> Result<Carried> {
    let Order {
        push,
        image,
        pack,
        canaries,
        total,
    } = *order;
    let console = remote.console;
    let allowed = remote.ways.max_failures.of(total);
    let waves = waves(nodes, canaries, remote.ways.wave, total);
    let mut failed = 0;
    for (number, wave) in waves.iter().enumerate() {
        let canary = number == 0 && canaries > 0;
        if waves.len() > 1 {
            let what = if canary { "canaries" } else { "wave" };
            console.say(format_args!(
                "{what} {} of {}: {}",
                number + 1,
                waves.len(),
                fold(wave)
            ));
        }
        state.push_outcomes(push, wave.iter().map(|node| (node, &Outcome::Running)), now())?;
        let outcomes = each(wave, AT_ONCE, |node| {
            let outcome = remote.update(node, image, pack);
            tell(console, node, &outcome);
            outcome
        });
        state.push_outcomes(push, wave.iter().zip(&outcomes), now())?;
        let now_failed = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Outcome::Failed { .. }))
            .count();
        failed += now_failed;
        let last = number + 1 == waves.len();
        // A canary is there to be listened to.
        if !last && (failed > allowed || canary && now_failed > 0) {
            return Ok(Carried::Stopped);
        }
    }
    Ok(Carried::Through)
}

fn tell(console: &Console, node: &NodeName, outcome: &Outcome) {
    match outcome {
        Outcome::Done(updated) => console.say(format_args!(
            "{node}: done in {:.1} s; {} by multicast, {} by HTTP",
            updated.seconds,
            Bytes(updated.bytes_multicast),
            Bytes(updated.bytes_http + updated.bytes_delta)
        )),
        Outcome::Failed { error } => console.warn(format_args!("{node}: {error}")),
        Outcome::Pending | Outcome::Running | Outcome::Already | Outcome::Down { .. } => {}
    }
}

fn fold(nodes: &[NodeName]) -> String {
    simulcast_protocol::nodeset::fold(nodes.iter().map(NodeName::as_str))
}
