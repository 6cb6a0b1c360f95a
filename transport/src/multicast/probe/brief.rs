//! A short probe by a receiver that hears nothing of its session, so that its complaint says why.

use simulcast_protocol::multicast::probe::verdict::{Finding, Severity, judge};

use super::receive::Prober;
use crate::fetch::NamedInterface;
use crate::http::{Client, Retry};

/// Seconds of the probe: whether anything arrives shows at once.
const SECONDS: u32 = 2;

/// What keeps multicast from this machine, if a probe of two seconds can tell, and unless it is `cancelled` before.
pub fn why_not_reached(
    client: &Client,
    interface: Option<&NamedInterface>,
    cancelled: &dyn Fn() -> bool,
) -> Option<Finding> {
    let client = client.with_retry(Retry::BRIEF);
    let prober = Prober {
        client: &client,
        interface,
        seconds: SECONDS,
        driver: &|_| None,
        begun: &|_| {},
        cancelled,
    };
    match prober.run() {
        Ok(report) => {
            let mut findings = judge(&[report]).into_iter();
            findings.find(|finding| finding.severity == Severity::Error)
        }
        Err(error) => {
            // The complaint is the same without it.
            tracing::debug!(%error, "no probe of multicast");
            None
        }
    }
}
