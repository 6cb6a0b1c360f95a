//! The word of the installed system that it has started.
//!
//! A service of systemd says it once, then takes itself away with everything that it needed; nothing of it stays on the
//! node. It brings its own busybox, because an image need not have a program that speaks HTTP. An image without systemd does
//! not report; the node's state then stays "installed".

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use simulcast_protocol::install::{Event, Events, What};

use super::Job;
use super::extras::write_below;
use super::facts::below;

/// Everything that is left in the installed system, and removed by the service itself.
const DIRECTORY: &str = "var/lib/simulcast/up";
const UNIT: &str = "etc/systemd/system/simulcast-up.service";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/simulcast-up.service";

const SERVICE: &str = "\
[Unit]
Description=Report the first start after an install
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/var/lib/simulcast/up/busybox sh /var/lib/simulcast/up/report
TimeoutStartSec=15min

[Install]
WantedBy=multi-user.target
";

/// Number of the event: larger than any of the install itself.
const NUMBER: u32 = u32::MAX;

/// Leaves the service in the installed system.
pub(super) fn leave(job: &Job) -> Result<()> {
    let target = &job.target;
    let busybox = ["/usr/bin/busybox", "/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).is_file());
    let (Some(busybox), true) = (busybox, below(target, "usr/lib/systemd")?.is_dir()) else {
        job.reporter
            .say("identity: the image has no systemd; the node will not report its first start");
        return Ok(());
    };
    let order = job.known_order()?;
    let events = Events {
        order: order.number,
        events: vec![Event {
            number: NUMBER,
            at: 0,
            step: "up".into(),
            what: What::Up,
            detail: String::new(),
        }],
    };
    let body = serde_json::to_string(&events).context("an event becomes JSON")?;
    let server = job
        .line
        .server
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let token = job.token.as_ref().context("there is no token")?.reveal();
    write_below(
        target,
        &format!("{DIRECTORY}/report"),
        0o600,
        &script(&server, &token, &body),
    )?;
    let program = below(target, &format!("{DIRECTORY}/busybox"))?;
    fs::copy(busybox, &program).with_context(|| format!("cannot write {}", program.display()))?;
    write_below(target, UNIT, 0o644, SERVICE)?;
    let link = below(target, WANTED)?;
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    if fs::symlink_metadata(&link).is_err() {
        std::os::unix::fs::symlink("/etc/systemd/system/simulcast-up.service", &link)
            .with_context(|| format!("cannot make {}", link.display()))?;
    }
    Ok(())
}

/// Says it for up to ten minutes, and removes itself whether it was heard or not: the token is of no use any more then.
/// Server, token and body have no quotes: two are typed so, the third is ours.
fn script(server: &str, token: &str, body: &str) -> String {
    format!(
        r#"b=/var/lib/simulcast/up/busybox
n=0
until $b wget -q -O /dev/null --header 'Authorization: Bearer {token}' --header 'Content-Type: application/json' \
    --post-data '{body}' '{server}/v1/install/events'; do
    n=$((n + 1))
    [ $n -lt 120 ] || break
    $b sleep 5
done
$b rm -f /{WANTED} /{UNIT}
exec $b rm -rf /{DIRECTORY}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_one_that_a_shell_reads() {
        let text = script(
            "http://10.0.0.1:9440",
            &"0f".repeat(32),
            r#"{"order":7,"events":[]}"#,
        );
        let run = simulcast_system::command::Run::new(simulcast_system::command::Tool::Own("/bin/sh".into()));
        run.args(["-n"]).input(text.clone()).run().unwrap();
        assert!(
            text.contains(
                "--post-data '{\"order\":7,\"events\":[]}' 'http://10.0.0.1:9440/v1/install/events'"
            )
        );
    }
}
