//! What an install learns before it touches anything: who the machine is, what it is to do, which disks it has.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use simulcast_image::layout::plan::Purpose;
use simulcast_image::layout::{DiskFacts, Mark, Plan, Stage, refuse};
use simulcast_image::manifest::{SignedManifest, VerifyingKey};
use simulcast_image::order::Order;
use simulcast_protocol::install::{Hello, Welcome};
use simulcast_protocol::name::ImageRef;
use simulcast_system::storage;
use simulcast_transport::http::{self, Client, HttpError, Retry, ServerUrl};

use super::describe::describe;
use super::{Done, Failure, Job, demands, facts};
use crate::text::time;

/// The longest pause between two hellos of a machine that nobody has adopted.
const AGAIN: u32 = 300;

/// A clock that differs by less is left alone.
const CLOCK_SECONDS: i64 = 2;

impl Job {
    pub(super) fn known_order(&self) -> Result<&Order> {
        self.order.as_ref().context("no order is known yet")
    }

    pub(super) fn plan(&self) -> Result<&Plan> {
        self.plan.as_ref().context("no plan was made yet")
    }

    pub(super) fn manifest(&self) -> Result<&SignedManifest> {
        self.signed.as_ref().context("no manifest is known yet")
    }

    pub(super) fn client(&self) -> Result<&Client> {
        self.client
            .as_ref()
            .context("the server does not know this machine yet")
    }

    pub(super) fn server(&self) -> Result<ServerUrl, Failure> {
        let missing = || Failure::Final(anyhow!("there is no si.server on the kernel command line"));
        let text = self.line.server.as_ref().ok_or_else(missing)?;
        text.as_str()
            .parse()
            .map_err(|error| Failure::Final(anyhow::Error::new(error)))
    }

    pub(super) fn key(&self) -> Result<VerifyingKey, Failure> {
        let missing = || {
            anyhow!("there is no si.key on the kernel command line: without it nobody's orders are obeyed")
        };
        let text = self
            .line
            .key
            .as_ref()
            .ok_or_else(missing)
            .map_err(Failure::Final)?;
        text.as_str()
            .parse()
            .map_err(|error| Failure::Final(anyhow::Error::new(error)))
    }

    /// Says hello until an operator has adopted the machine.
    pub(super) fn greet(&mut self) -> Done {
        let server = self.server()?;
        let hello = facts::hello(self.line.boot).map_err(Failure::Final)?;
        let mut waiting = false;
        loop {
            match self.say_hello(&server, &hello, Retry::PATIENT) {
                Ok(None) => break,
                Ok(Some(again)) => {
                    if !waiting {
                        self.reporter.say(&format!(
                            "this machine ({}) is unknown: on the image server, si-node list --unknown shows it, and si-node adopt makes it a node",
                            hello.boot
                        ));
                    }
                    waiting = true;
                    thread::sleep(again);
                }
                Err(error) => {
                    self.reporter
                        .say(&format!("hello: {:#}; trying again", anyhow::Error::new(error)));
                    thread::sleep(Duration::from_secs(5));
                }
            }
        }
        self.hello = Some(hello);
        Ok(())
    }

    /// Says hello; how long to wait until it is worth saying again, when the machine is no node.
    fn say_hello(
        &mut self,
        server: &ServerUrl,
        hello: &Hello,
        retry: Retry,
    ) -> Result<Option<Duration>, HttpError> {
        let greeted = http::hello(server, hello, retry)?;
        if let Some(date) = &greeted.date {
            set_clock(date);
        }
        match greeted.welcome {
            Welcome::Unknown { again } => Ok(Some(Duration::from_secs(again.clamp(1, AGAIN).into()))),
            Welcome::Node { name, token, action } => {
                self.reporter.say(&format!("this is {name}: {action:?}"));
                self.client = Some(Client::new(server.clone(), token.clone(), Retry::PATIENT));
                self.token = Some(token);
                self.action = Some(action);
                Ok(None)
            }
        }
    }

    /// Whose ssh keys open this machine in rescue, as its order says. The server is asked for some seconds: whoever stands at
    /// the console should not have to wait for one that is away.
    pub(super) fn rescue_keys(&mut self) -> Result<Vec<String>> {
        let told = |failure| match failure {
            Failure::Passing(error) | Failure::Final(error) => error,
        };
        if self.client.is_none() {
            let server = self.server().map_err(told)?;
            let hello = facts::hello(self.line.boot)?;
            if self.say_hello(&server, &hello, Retry::BRIEF)?.is_some() {
                return Err(anyhow!("the server does not know this machine"));
            }
        }
        self.open_order().map_err(told)?;
        Ok(self.known_order()?.rescue_keys.clone())
    }

    /// Fetches the order and checks it with the key of the command line.
    fn open_order(&mut self) -> Done {
        let key = self.key()?;
        let bytes = self.client()?.order()?;
        let order = Order::open(&bytes, &key).map_err(|error| Failure::Final(error.into()))?;
        self.reporter.connect(self.client()?.clone(), order.number);
        self.reporter.let_in(&order.rescue_keys);
        self.order = Some(order);
        Ok(())
    }

    /// Fetches the order and the manifest of its version, and checks both with the key of the command line.
    pub(super) fn fetch_order(&mut self) -> Done {
        self.open_order()?;
        let (key, client, order) = (self.key()?, self.client()?, self.known_order()?);
        let image = ImageRef {
            name: order.image.clone(),
            version: Some(order.version),
        };
        self.reporter
            .say(&format!("order {}: {} becomes {image}", order.number, order.node));
        let fetched = client.manifest(&image)?;
        let signed =
            SignedManifest::open(fetched.bytes, &key).map_err(|error| Failure::Final(error.into()))?;
        if signed.id != order.manifest {
            let (is, should) = (signed.id.short(), order.manifest.short());
            return Err(Failure::Final(anyhow!(
                "the server gives manifest {is} for {image}, and the order says {should}"
            )));
        }
        self.signed = Some(signed);
        Ok(())
    }

    /// Chooses the disks, works out the plan, and refuses what must not be erased.
    pub(super) fn choose_disks(&mut self) -> Done {
        // An array that the kernel has started would hide what its members are.
        storage::stop_all()?;
        let disks = facts::disks()?;
        let order = self.known_order()?;
        let plan = plan(order, &disks, self.firmware).map_err(Failure::Final)?;
        self.reporter.say(&describe(&plan));
        let manifest = &self.manifest()?.manifest;
        let lacking = demands::lacking(&plan, &|path| manifest.find(path.as_bytes()).is_some());
        if !lacking.is_empty() {
            let text = format!("{}; capture it again, and install again", lacking.join("; "));
            return Err(Failure::Final(anyhow!(text)));
        }
        let resumes = resumes(order, &plan, &disks);
        if !resumes {
            let wipe = order.wipe || order.layout.wipe;
            let refused = refuse(&plan, &disks, &order.node, wipe).map_err(|error| {
                anyhow::Error::new(error).context(
                    "nothing was changed; if it may be erased, set wipe for this node (si-node set NODE wipe=true) and install again",
                )
            });
            refused.map_err(Failure::Final)?;
        } else {
            self.reporter
                .say("the disks hold this very install, interrupted: going on with it");
        }
        self.resumes = resumes;
        self.plan = Some(plan);
        self.disks = disks;
        Ok(())
    }
}

/// What the order's layout means on these disks.
pub(crate) fn plan(
    order: &Order,
    disks: &[DiskFacts],
    firmware: simulcast_image::layout::Firmware,
) -> Result<Plan> {
    let purpose = Purpose {
        node: &order.node,
        order: order.number,
        manifest: order.manifest,
        firmware,
    };
    Plan::new(&order.layout, disks, &purpose).context("the layout cannot be had on this machine")
}

/// Whether all disks of the plan hold file systems that this very order made.
pub(crate) fn resumes(order: &Order, plan: &Plan, disks: &[DiskFacts]) -> bool {
    let digest = plan.digest();
    plan.disks.iter().all(|planned| {
        let content = disks
            .iter()
            .find(|disk| disk.path == planned.path)
            .map(|disk| &disk.content);
        content.is_some_and(|content| {
            content.mark.as_ref().is_some_and(|mark| {
                mark.stage == Stage::Formatted
                    && mark.order == order.number
                    && mark.manifest == order.manifest
                    && mark.node == order.node
                    && mark.plan == digest
                    && mark.holds(content)
            })
        })
    })
}

/// The mark of one disk of a plan.
pub(super) fn mark(order: &Order, plan: &Plan, disk: usize, stage: Stage) -> Mark {
    let planned = &plan.disks[disk];
    Mark {
        node: order.node.clone(),
        disk: planned.label.clone(),
        order: order.number,
        manifest: order.manifest,
        plan: plan.digest(),
        // blkid says the identity of an MBR without 0x.
        table_id: planned.table_id.trim_start_matches("0x").to_owned(),
        partitions: planned
            .partitions
            .iter()
            .map(|partition| (partition.start, partition.bytes))
            .collect(),
        stage,
    }
}

fn set_clock(date: &str) {
    let Some(seconds) = time::seconds(date) else {
        return;
    };
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    if now.abs_diff(seconds) <= CLOCK_SECONDS.unsigned_abs() {
        return;
    }
    let wanted = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    if let Err(error) = clock_settime(ClockId::Realtime, wanted) {
        tracing::warn!(%error, "the clock is wrong and cannot be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use simulcast_image::layout::{Content, Extent, Firmware};

    #[test]
    fn only_this_very_order_goes_on() {
        let order = testing::order();
        let mut disks = testing::disks();
        let made = plan(&order, &disks, Firmware::Bios).unwrap();
        assert!(!resumes(&order, &made, &disks));
        for (index, disk) in disks.iter_mut().enumerate() {
            let mark = mark(&order, &made, index, Stage::Formatted);
            let partitions = mark
                .partitions
                .iter()
                .zip(1..)
                .map(|(&(start, bytes), number)| Extent {
                    number,
                    start,
                    bytes,
                    label: None,
                    kind: None,
                    id: None,
                    signature: None,
                });
            disk.content = Content {
                table: Some("gpt".into()),
                table_id: Some(mark.table_id.clone()),
                partitions: partitions.collect(),
                signature: None,
                mark: Some(mark),
            };
        }
        // The plan is the same although the disks are not empty any more.
        let again = plan(&order, &disks, Firmware::Bios).unwrap();
        assert!(resumes(&order, &again, &disks));
        assert!(refuse(&again, &disks, &order.node, false).is_ok());
        let mut other = order.clone();
        other.number += 1;
        assert!(!resumes(
            &other,
            &plan(&other, &disks, Firmware::Bios).unwrap(),
            &disks
        ));
        disks[1].content.mark.as_mut().unwrap().stage = Stage::Partitioned;
        assert!(!resumes(&order, &again, &disks));
        disks[1].content.mark = None;
        assert!(!resumes(&order, &again, &disks));
    }
}
