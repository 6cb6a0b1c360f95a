//! One property or one fault at a time, small enough to be read.

use crate::net::{Cap, Loss};
use crate::scenario::{Image, Scenario, Spec};
use crate::world::run;
use crate::{ms, packets_per_source};

#[test]
fn without_loss_each_packet_is_sent_once_and_nobody_asks() {
    for receivers in [1, 10] {
        let scenario = Scenario::new(1, receivers, Spec::new(0));
        let (image, span) = (scenario.image.clone(), scenario.image.time(scenario.rate));
        let outcome = run(scenario);
        assert_eq!(outcome.sender.packets, image.packets(), "{:?}", outcome.sender);
        assert_eq!(
            (
                outcome.sender.parity,
                outcome.sender.repeated,
                outcome.sender.naks
            ),
            (0, 0, 0)
        );
        assert!(
            outcome.finish < span * 11 / 10 + ms(60),
            "{:?} for {span:?}",
            outcome.finish
        );
        assert!(
            outcome
                .receivers
                .iter()
                .all(|r| r.rejected + r.refused.total() == 0)
        );
    }
}

#[test]
fn bursts_are_spread_over_chunks() {
    let mut spec = Spec::new(0);
    spec.down.loss = Loss::Bursts {
        enter: 320,
        leave: 31_250,
    }; // 1 % in bursts of 32
    let mut scenario = Scenario::new(3, 10, spec);
    scenario.image = Image::new(3, 16, (0..32).map(|_| 16_000));
    let image = scenario.image.clone();
    let outcome = run(scenario);
    let ratio = packets_per_source(&outcome, &image);
    assert!(
        ratio < 1.08,
        "{ratio} packets per source packet: {:?}",
        outcome.sender
    );
}

#[test]
fn thirty_percent_loss_still_completes() {
    let scenario = Scenario::new(4, 5, Spec::new(300_000));
    let image = scenario.image.clone();
    let outcome = run(scenario);
    assert!(packets_per_source(&outcome, &image) < 3.0, "{:?}", outcome.sender);
}

#[test]
fn reordering_and_duplicates_cost_nothing_but_their_own_packets() {
    let mut spec = Spec::new(0);
    (spec.down.jitter, spec.down.duplicate) = (ms(2), 100_000);
    (spec.up.jitter, spec.up.duplicate) = (ms(2), 100_000);
    let scenario = Scenario::new(5, 8, spec);
    let image = scenario.image.clone();
    let outcome = run(scenario);
    assert!(
        packets_per_source(&outcome, &image) < 1.03,
        "{:?}",
        outcome.sender
    );
    assert!(
        outcome.sender.refused.replayed > 0,
        "duplicated reports are told from new ones"
    );
}

#[test]
fn flipped_bits_are_never_accepted_and_have_the_session_use_tags() {
    let mut spec = Spec::new(5_000);
    (spec.down.corrupt, spec.up.corrupt) = (3_000, 50_000);
    let outcome = run(Scenario::new(6, 6, spec));
    let caught: u64 = outcome.receivers.iter().map(|r| r.refused.tag).sum();
    assert!(outcome.rejected > 0 && caught > 0, "{outcome:?}");
    assert!(outcome.rejected < 20, "tags end it: {}", outcome.rejected);
    assert!(outcome.sender.refused.total() > 0);
}

#[test]
fn a_late_receiver_is_done_one_transmission_after_joining() {
    let mut scenario = Scenario::new(7, 4, Spec::new(10_000));
    let span = scenario.image.time(scenario.rate);
    scenario.receivers[3].join = span / 2;
    let image = scenario.image.clone();
    let outcome = run(scenario);
    let ratio = packets_per_source(&outcome, &image);
    assert!((1.4..1.7).contains(&ratio), "half the image again: {ratio}");
    let late = outcome.done[3].unwrap();
    assert!(
        late < span / 2 + span * 13 / 10 + ms(100),
        "{late:?} for {span:?}"
    );
    assert!(outcome.done[0].unwrap() < span * 13 / 10 + ms(100));
}

#[test]
fn a_receiver_that_crashed_gets_only_what_it_lacks() {
    let mut scenario = Scenario::new(8, 3, Spec::new(1_000));
    scenario.image = Image::new(8, 32, (0..128).map(|_| 4_096));
    let span = scenario.image.time(scenario.rate);
    scenario.receivers[1].crash = Some((span / 2, Some(span)));
    let image = scenario.image.clone();
    let outcome = run(scenario);
    let ratio = packets_per_source(&outcome, &image);
    assert!(ratio < 1.75, "{ratio} packets per source packet");
    assert!(outcome.done.iter().all(Option::is_some));
}

#[test]
fn the_dead_hold_back_nobody() {
    let alone = run(Scenario::new(9, 4, Spec::new(10_000)));
    let mut scenario = Scenario::new(9, 6, Spec::new(10_000));
    scenario.receivers[4].crash = Some((ms(80), None));
    scenario.receivers[5].crash = Some((ms(120), None));
    let outcome = run(scenario);
    assert_eq!(outcome.silent, 2);
    assert!(
        outcome.finish < alone.finish + ms(60),
        "{:?}, {:?} without the dead",
        outcome.finish,
        alone.finish
    );
    assert!(
        outcome.ended < outcome.finish + ms(5_000),
        "the session ends after the silence bound"
    );
}

#[test]
fn a_link_that_is_down_for_a_second_delays_itself_alone() {
    let mut scenario = Scenario::new(10, 4, Spec::new(0));
    let down = vec![(ms(50), ms(1_050))];
    (scenario.receivers[2].down.down, scenario.receivers[2].up.down) = (down.clone(), down);
    let outcome = run(scenario);
    let others = [0, 1, 3].map(|index| outcome.done[index].unwrap());
    assert!(others.iter().all(|done| *done < ms(600)), "{others:?}");
    assert!(outcome.done[2].unwrap() < ms(2_500), "{:?}", outcome.done[2]);
}

#[test]
fn a_restarted_sender_goes_on_with_what_is_lacking() {
    let mut scenario = Scenario::new(11, 5, Spec::new(10_000));
    scenario.image = Image::new(11, 32, (0..128).map(|_| 4_096));
    let span = scenario.image.time(scenario.rate);
    scenario.sender_restart = Some(span / 2);
    let image = scenario.image.clone();
    let outcome = run(scenario);
    // The statistics are those of the second session, which must bring about half.
    let ratio = packets_per_source(&outcome, &image);
    assert!(
        (0.3..0.75).contains(&ratio),
        "{ratio} packets per source packet after the restart"
    );
    assert!(
        outcome.sender.refused.foreign + outcome.sender.refused.tag > 0
            || outcome.done.iter().all(Option::is_some)
    );
}

#[test]
fn slow_disks_slow_the_session_down_instead_of_breaking_it() {
    let mut scenario = Scenario::new(12, 3, Spec::new(0));
    scenario.image = Image::new(12, 32, (0..200).map(|_| 4_096));
    for spec in &mut scenario.receivers {
        (spec.sink_time, spec.memory) = (ms(15), 400_000); // less than half the rate, 100 chunks of memory
    }
    let image = scenario.image.clone();
    let outcome = run(scenario);
    assert!(
        outcome.finish < ms(4_200),
        "{:?}: the disks need 3 s",
        outcome.finish
    );
    let ratio = packets_per_source(&outcome, &image);
    assert!(
        ratio < 1.05,
        "{ratio} packets per source packet: {:?}",
        outcome.sender
    );
}

#[test]
fn a_port_at_a_tenth_of_the_rate_still_completes() {
    let mut scenario = Scenario::new(13, 2, Spec::new(0));
    scenario.receivers[1].down.cap = Cap::shared(2_000_000, 20_000);
    let span = scenario.image.time(scenario.rate);
    let outcome = run(scenario);
    assert!(
        outcome.done[0].unwrap() < span * 2,
        "{:?} for {span:?}",
        outcome.done
    );
    assert!(
        outcome.done[1].unwrap() < span * 60,
        "{:?} for {span:?}",
        outcome.done
    );
}

#[test]
fn a_chunk_that_cannot_be_read_is_given_up_by_all() {
    let mut scenario = Scenario::new(14, 3, Spec::new(10_000));
    scenario.unreadable = vec![0, 7, 31];
    let outcome = run(scenario);
    assert_eq!((outcome.fetched, outcome.sender.unreadable), (9, 3));
}

#[test]
fn what_is_there_already_is_not_sent() {
    let mut scenario = Scenario::new(15, 2, Spec::new(0));
    let have: Vec<u32> = (0..32).filter(|index| index % 3 != 0).collect();
    scenario
        .receivers
        .iter_mut()
        .for_each(|spec| spec.have = have.clone());
    let geometry = scenario.image.geometry.clone();
    let lacking: u64 = (0..32)
        .filter(|index| index % 3 == 0)
        .map(|index| u64::from(geometry.source_symbols(index)))
        .sum();
    let outcome = run(scenario);
    assert_eq!(outcome.sender.packets, lacking);
}

#[test]
fn who_knows_no_key_can_spoil_chunks_but_not_the_session() {
    let mut scenario = Scenario::new(16, 4, Spec::new(1_000));
    scenario.attack = 1_000;
    let outcome = run(scenario);
    let refused = outcome.sender.refused;
    assert!(
        refused.tag > 0 && refused.replayed > 0 && refused.kind > 0 && refused.short > 0,
        "{refused:?}"
    );
    assert!(
        outcome
            .receivers
            .iter()
            .all(|r| r.refused.total() > 0 && r.refused.tag > 0),
        "{outcome:?}"
    );
    assert!(outcome.rejected > 0, "forged symbols are found out by the hash");
}
