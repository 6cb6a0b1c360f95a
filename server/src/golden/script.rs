//! What the golden client's shell does around its agent: hooks, a snapshot, a gentle priority.
//!
//! The shell waits for the agent and clears up behind it, so that this happens too when the connection breaks in the middle.

use super::{NO_AGENT, PLACE};

/// A hook before the capture failed.
pub(super) const HOOK_FAILED: i32 = 66;

/// The snapshot cannot be made.
pub(super) const NO_SNAPSHOT: i32 = 67;

/// Where the snapshot lies in the file system that it is of.
pub(crate) const SNAPSHOT: &str = ".simulcast-snapshot";

/// How the agent is run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// The image, for hooks.
    pub(crate) image: String,
    /// How much other processes come first, 0 to 19.
    pub(crate) nice: u8,
    /// The directory of which a btrfs snapshot is captured instead.
    pub(crate) snapshot_of: Option<String>,
}

impl Surroundings {
    /// The script that runs `agent`, which finds out by itself which program that is.
    pub(super) fn script(&self, agent: AgentPlace) -> String {
        let mut script = match agent {
            AgentPlace::Installed => format!(
                "if command -v si-agent >/dev/null 2>&1; then a=si-agent; \
                 elif [ -x {PLACE}/si-client ]; then a='{PLACE}/si-client agent'; else exit {NO_AGENT}; fi\n"
            ),
            AgentPlace::Copied => format!("a='{PLACE}/si-client agent'\n"),
        };
        script.push_str(&format!("export SI_IMAGE={}\n", quoted(&self.image)));
        script.push_str(HOOKS);
        script.push_str(&format!(
            "before pre-capture || {{ after post-capture; exit {HOOK_FAILED}; }}\n"
        ));
        if let Some(directory) = &self.snapshot_of {
            script.push_str(&format!("d={}\n{TAKE}", quoted(directory)));
            script.push_str(&format!(
                "before freeze && take; c=$?; after thaw; \
                 [ $c = 0 ] || {{ after post-capture; exit {NO_SNAPSHOT}; }}\n"
            ));
        }
        script.push_str(&format!("nice -n {} $a; c=$?\n", self.nice));
        if self.snapshot_of.is_some() {
            script.push_str("btrfs subvolume delete \"$s\" >/dev/null 2>&1 </dev/null\n");
        }
        script.push_str("SI_RESULT=$c; export SI_RESULT; after post-capture; exit $c");
        script
    }
}

/// Which agent is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AgentPlace {
    /// That of the machine, or else the one that we copied.
    Installed,
    /// The one that we copied.
    Copied,
}

/// Scripts of the golden client. What they say goes to us before the capture; after it nobody may be there to take it.
const HOOKS: &str = r#"
before() {
    for h in /etc/simulcast/scripts/"$1".d/*; do
        if [ -f "$h" ] && [ -x "$h" ]; then
            "$h" </dev/null >&2 || { echo "$h ended with exit code $?" >&2; return 1; }
        fi
    done
}
after() {
    for h in /etc/simulcast/scripts/"$1".d/*; do
        if [ -f "$h" ] && [ -x "$h" ]; then "$h" </dev/null >/dev/null 2>&1; fi
    done
}
trap '' HUP PIPE
"#;

/// Takes the snapshot. What is mounted in the directory, or is a subvolume of its own, would be missing in it.
const TAKE: &str = r#"
s="${d%/}/.simulcast-snapshot"
take() {
    [ ! -e "$s" ] || btrfs subvolume delete "$s" >/dev/null 2>&1 </dev/null
    inner=$(while read -r _ at kind _; do
        case $at in "${d%/}"/?*) case $kind in ext*|xfs|btrfs|vfat|f2fs) echo "$at";; esac;; esac
    done </proc/self/mounts)
    [ -z "$inner" ] || { echo "no snapshot of $d holds what is mounted in it:" $inner >&2; return 1; }
    inner=$(btrfs subvolume list -o "$d" 2>/dev/null </dev/null)
    [ -z "$inner" ] || { echo "no snapshot of $d holds the subvolumes in it: $inner" >&2; return 1; }
    btrfs subvolume snapshot -r "$d" "$s" >&2 </dev/null
}
"#;

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
