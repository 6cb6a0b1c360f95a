//! The steps of an install, and which of them a machine needs: pure, so that they can be printed before anything is done.

use std::fmt;
use std::time::Duration;

use simulcast_image::layout::Plan;
use simulcast_image::order::Order;

/// One thing to do. Their order here is that in which they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    Modules,
    Network,
    Hello,
    Order,
    Disks,
    PreInstall,
    Erase,
    Partition,
    Raid,
    Lvm,
    Format,
    Assemble,
    Mount,
    Receive,
    Verify,
    Fstab,
    Identity,
    NetworkFiles,
    Overrides,
    PostInstall,
    Initramfs,
    BootLoader,
    Unmount,
}

/// What a step is called and may take.
struct Rule {
    name: &'static str,
    /// What it does, for people.
    text: &'static str,
    /// Seconds until it counts as hung; a step that is tried again has as long each time.
    timeout: u64,
    /// Tries in all.
    tries: u32,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// A machine that nobody has adopted waits as long as it takes.
const FOR_EVER: u64 = 1000 * 24 * HOUR;

/// Every step, in the order in which they are done.
const RULES: [(Step, Rule); 23] = [
    (
        Step::Modules,
        rule("modules", "load drivers for what the machine has", 3 * MINUTE, 1),
    ),
    (
        Step::Network,
        rule(
            "network",
            "find the card that booted and get an address",
            5 * MINUTE,
            5,
        ),
    ),
    (
        Step::Hello,
        rule(
            "hello",
            "say hello to the image server, and wait until the machine is adopted",
            FOR_EVER,
            1,
        ),
    ),
    (
        Step::Order,
        rule(
            "order",
            "fetch the signed order and the manifest, and check both",
            30 * MINUTE,
            5,
        ),
    ),
    (
        Step::Disks,
        rule(
            "disks",
            "choose the disks, and refuse those with foreign data",
            5 * MINUTE,
            2,
        ),
    ),
    (
        Step::PreInstall,
        rule("pre-install", "run pre-install scripts", HOUR, 1),
    ),
    (
        Step::Erase,
        rule(
            "erase",
            "make the disks plainly unbootable and empty",
            10 * MINUTE,
            2,
        ),
    ),
    (
        Step::Partition,
        rule("partition", "write the partition tables", 10 * MINUTE, 3),
    ),
    (Step::Raid, rule("raid", "make the arrays", 10 * MINUTE, 1)),
    (Step::Lvm, rule("lvm", "make the volume groups", 10 * MINUTE, 1)),
    (
        Step::Format,
        rule("format", "make file systems and swap", 30 * MINUTE, 2),
    ),
    (
        Step::Assemble,
        rule(
            "assemble",
            "open the arrays and volume groups of the interrupted install",
            5 * MINUTE,
            2,
        ),
    ),
    (
        Step::Mount,
        rule("mount", "mount the file systems", 5 * MINUTE, 2),
    ),
    (
        Step::Receive,
        rule(
            "receive",
            "receive the version, and go on with what is there",
            24 * HOUR,
            20,
        ),
    ),
    (
        Step::Verify,
        rule(
            "verify",
            "read back what was written and compare it with the manifest",
            12 * HOUR,
            1,
        ),
    ),
    (
        Step::Fstab,
        rule("fstab", "write fstab and mdadm.conf", MINUTE, 1),
    ),
    (
        Step::Identity,
        rule("identity", "host name, machine-id, ssh host keys", 15 * MINUTE, 1),
    ),
    (
        Step::NetworkFiles,
        rule("network-files", "write the network configuration", MINUTE, 1),
    ),
    (
        Step::Overrides,
        rule("overrides", "lay the overrides over the image", HOUR, 3),
    ),
    (
        Step::PostInstall,
        rule(
            "post-install",
            "run post-install scripts in the installed system",
            2 * HOUR,
            1,
        ),
    ),
    (
        Step::Initramfs,
        rule(
            "initramfs",
            "make the initramfs of the installed system anew",
            30 * MINUTE,
            1,
        ),
    ),
    (
        Step::BootLoader,
        rule("boot-loader", "put the boot loader in place", 15 * MINUTE, 1),
    ),
    (
        Step::Unmount,
        rule(
            "unmount",
            "sync, unmount, and mark the disks as installed",
            30 * MINUTE,
            3,
        ),
    ),
];

const fn rule(name: &'static str, text: &'static str, timeout: u64, tries: u32) -> Rule {
    Rule {
        name,
        text,
        timeout,
        tries,
    }
}

impl Step {
    fn rule(self) -> &'static Rule {
        let found = RULES.iter().find(|(step, _)| *step == self);
        &found.expect("every step has its rule").1
    }

    /// Its name, as in events, `si.break` and logs.
    pub(crate) fn name(self) -> &'static str {
        self.rule().name
    }

    /// Whether a step has this name.
    pub(crate) fn is_name(name: &str) -> bool {
        RULES.iter().any(|(_, rule)| rule.name == name)
    }

    /// The names of all steps.
    pub(crate) fn names() -> Vec<&'static str> {
        RULES.iter().map(|(_, rule)| rule.name).collect()
    }

    /// What it does, in words.
    pub(crate) fn text(self) -> &'static str {
        self.rule().text
    }

    /// How long it may take.
    pub(crate) fn timeout(self) -> Duration {
        Duration::from_secs(self.rule().timeout)
    }

    /// How often it is tried.
    pub(crate) fn tries(self) -> u32 {
        self.rule().tries
    }

    /// The pause before try number `tried + 1`: 1 s, 2 s, 4 s, up to 30 s.
    pub(crate) fn pause(tried: u32) -> Duration {
        Duration::from_secs(1u64.checked_shl(tried.saturating_sub(1)).unwrap_or(30).min(30))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What every machine does until it knows its order.
pub(crate) const FIRST: [Step; 3] = [Step::Modules, Step::Network, Step::Hello];

/// What a machine does that has been told to install, until it knows its disks.
pub(crate) const BEFORE_DISKS: [Step; 2] = [Step::Order, Step::Disks];

/// What an install does once the disks are known. `resumes` says that they hold an interrupted install of this very order.
pub(crate) fn install(order: &Order, plan: &Plan, resumes: bool) -> Vec<Step> {
    let stacked = !plan.arrays.is_empty() || !plan.groups.is_empty();
    let all = [
        (Step::PreInstall, !order.pre_install.is_empty()),
        (Step::Erase, !resumes),
        (Step::Partition, !resumes),
        (Step::Raid, !resumes && !plan.arrays.is_empty()),
        (Step::Lvm, !resumes && !plan.groups.is_empty()),
        (Step::Format, !resumes),
        (Step::Assemble, resumes && stacked),
        (Step::Mount, true),
        (Step::Receive, true),
        (Step::Verify, true),
        (Step::Fstab, true),
        (Step::Identity, true),
        (Step::NetworkFiles, true),
        (Step::Overrides, !order.overrides.is_empty()),
        (Step::PostInstall, !order.post_install.is_empty()),
        (Step::Initramfs, true),
        (
            Step::BootLoader,
            plan.loader != simulcast_image::layout::Loader::None,
        ),
        (Step::Unmount, true),
    ];
    all.into_iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(step, _)| step)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{order, raid_plan};

    #[test]
    fn a_resumed_install_makes_nothing_anew() {
        let names = |resumes| {
            install(&order(), &raid_plan(), resumes)
                .iter()
                .map(|step| step.name())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            names(false),
            "erase partition raid lvm format mount receive verify fstab identity network-files initramfs boot-loader unmount"
        );
        assert_eq!(
            names(true),
            "assemble mount receive verify fstab identity network-files initramfs boot-loader unmount"
        );
    }

    #[test]
    fn steps_come_in_one_order_and_the_boot_loader_last() {
        let steps = install(&order(), &raid_plan(), false);
        assert!(steps.is_sorted());
        assert_eq!(steps[steps.len() - 2..], [Step::BootLoader, Step::Unmount]);
        assert!(RULES.is_sorted_by_key(|(step, _)| *step));
        assert!(
            RULES.len() == Step::Unmount as usize + 1,
            "every step has its rule"
        );
        assert!(FIRST[2] < BEFORE_DISKS[0] && BEFORE_DISKS[1] < steps[0]);
        let pauses: Vec<u64> = (1..8).map(|tried| Step::pause(tried).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(Step::pause(200).as_secs(), 30);
        assert!(Step::is_name("boot-loader") && !Step::is_name("bootloader"));
    }
}
