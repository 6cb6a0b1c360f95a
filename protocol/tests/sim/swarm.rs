//! Random mixtures of all faults, a world for each seed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use simulcast_protocol::units::Rate;

use crate::env;
use crate::liar::Lie;
use crate::net::{Cap, Link, Loss, Switch};
use crate::scenario::{Image, Scenario, Spec};
use crate::world::run;

/// Kinds of misfortune that may meet a receiver.
const FAULTS: usize = 11;

#[test]
fn the_same_seed_is_the_same_run() {
    let outcomes = [0; 2].map(|_| format!("{:?}", run(Scenario::swarm(5))));
    assert_eq!(outcomes[0], outcomes[1]);
}

#[test]
fn swarm() {
    let seeds: Vec<u64> = match (env("SIM_SEED"), env("SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (0..count.unwrap_or(100)).collect(),
    };
    for seed in seeds {
        catch_unwind(AssertUnwindSafe(|| run(Scenario::swarm(seed)))).unwrap_or_else(|panic| {
            eprintln!(
                "\nrun again: SIM_SEED={seed} cargo test -p simulcast-protocol --test sim swarm::swarm"
            );
            resume_unwind(panic)
        });
    }
}

impl Scenario {
    /// A random mixture of sizes and faults, some of them switched off.
    fn swarm(seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let receivers = if rng.random_bool(0.04) {
            rng.random_range(12..60)
        } else {
            rng.random_range(1..12)
        };
        let mut scenario = Self::new(seed, receivers, Spec::new(0));
        let (most, symbol) = (rng.random_range(1..20_000), rng.random_range(8..64) * 2);
        let count = rng.random_range(1..48);
        scenario.image = Image::new(seed, symbol, (0..count).map(|_| rng.random_range(1..=most)));
        scenario = scenario.at_rate(Rate::from_bits_per_second(
            rng.random_range(2_000_000..200_000_000),
        ));
        scenario.segments = rng.random_range(1..=44);
        scenario.sender_memory = rng.random_range(0..2 << 20);
        scenario.load_time = Duration::from_micros(rng.random_range(0..5_000));
        let span = scenario.image.time(scenario.rate);
        if rng.random_bool(0.2) {
            scenario.sender_restart = Some(moment(span, &mut rng));
        }
        if rng.random_bool(0.2) {
            scenario.unreadable = vec![rng.random_range(0..count)];
        }
        if rng.random_bool(0.2) {
            scenario.attack = 1_000;
        }
        if rng.random_bool(0.1) {
            let mut liar = Spec::new(0);
            liar.lies = Some([Lie::Deficits, Lie::Everything, Lie::Flapping][rng.random_range(0..3)]);
            scenario.receivers.push(liar);
        }
        if rng.random_bool(0.5) {
            scenario = scenario.in_a_tree(&mut rng);
        }
        let faults: [bool; FAULTS] = std::array::from_fn(|_| rng.random_bool(0.4));
        for spec in &mut scenario.receivers {
            spec.misfortune(&faults, span, scenario.rate, &mut rng);
        }
        // What 30 % loss, a tenth of the rate or a slow disk may take, with the silence bounds after a crash.
        scenario.limit = span * 100 + Duration::from_secs(90);
        scenario
    }

    /// Two levels of switches, some of which lose, delay or squeeze what passes them.
    fn in_a_tree(self, rng: &mut Xoshiro256PlusPlus) -> Self {
        let (count, rate) = (rng.random_range(1..4), self.rate.bits_per_second());
        let mut scenario = self.on_switches(count, |_| Switch::below(0));
        for switch in &mut scenario.switches[1..] {
            if rng.random_bool(0.5) {
                switch.down = Link::lossy(rng.random_range(0..100_000));
                switch.up = Link::lossy(rng.random_range(0..100_000));
            }
            if rng.random_bool(0.2) {
                (switch.down.delay, switch.up.delay) = (Duration::from_millis(2), Duration::from_millis(20));
            }
            if rng.random_bool(0.2) {
                switch.down.cap =
                    Cap::shared(rate / rng.random_range(1..4), rng.random_range(20_000..200_000));
            }
        }
        scenario
    }
}

impl Spec {
    fn misfortune(
        &mut self,
        faults: &[bool; FAULTS],
        span: Duration,
        rate: Rate,
        rng: &mut Xoshiro256PlusPlus,
    ) {
        let hit = |fault: usize, rng: &mut Xoshiro256PlusPlus| faults[fault] && rng.random_bool(0.5);
        if hit(0, rng) {
            self.down.loss = Loss::Independent(rng.random_range(0..300_000));
            self.up.loss = Loss::Independent(rng.random_range(0..300_000));
        }
        if hit(1, rng) {
            self.down.loss = Loss::Bursts {
                enter: rng.random_range(0..10_000),
                leave: rng.random_range(20_000..500_000),
            };
        }
        if hit(2, rng) {
            self.down.jitter = Duration::from_micros(rng.random_range(0..20_000));
            self.up.jitter = self.down.jitter;
        }
        if hit(3, rng) {
            self.down.duplicate = rng.random_range(0..200_000);
            self.up.duplicate = self.down.duplicate;
        }
        if hit(4, rng) {
            self.down.corrupt = rng.random_range(0..2_000);
            self.up.corrupt = rng.random_range(0..100_000);
        }
        if hit(5, rng) {
            self.join = moment(span, rng);
        }
        if hit(6, rng) {
            let back = rng.random_bool(0.6).then(|| moment(span, rng));
            self.crash = Some((moment(span, rng), back));
        }
        if hit(7, rng) {
            self.sink_time = Duration::from_micros(rng.random_range(0..20_000));
            self.memory = rng.random_range(20_000..400_000);
        }
        if hit(8, rng) {
            let from = moment(span, rng);
            self.down.down = vec![(from, from + Duration::from_millis(rng.random_range(1..1500)))];
            self.up.down = self.down.down.clone();
        }
        if hit(9, rng) {
            let from = moment(span, rng);
            self.freeze = Some((from, from + Duration::from_millis(rng.random_range(1..3000))));
            self.socket = rng.random_range(10_000..1_000_000);
        }
        if hit(10, rng) {
            let cap = |share: u64, queue| Cap::shared(rate.bits_per_second() / share, queue);
            self.down.cap = cap(rng.random_range(1..12), rng.random_range(20_000..200_000));
            self.up.cap = cap(rng.random_range(1..100), 10_000);
            self.up.delay = Duration::from_millis(rng.random_range(0..100));
        }
        if faults[0] || faults[10] {
            // Less memory than twice the window is allowed, but nothing is promised then on a bad link.
            self.memory = self.memory.max(34 * 20_000);
        }
    }
}

fn moment(span: Duration, rng: &mut Xoshiro256PlusPlus) -> Duration {
    span * rng.random_range(0..1500) / 1000
}
