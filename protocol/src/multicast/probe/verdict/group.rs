//! What several machines show together.

use std::collections::BTreeSet;

use super::super::report::Report;
use super::{Kind, Sign};

/// Machines from which on equal loss is no accident.
const MACHINES: usize = 3;

/// Lost packets of a machine from which on it can be told whether others lost the same ones.
const LOST: usize = 8;

/// Turns signs of single machines into those of the group where that is what they are.
pub(super) fn compare(signs: &mut [(&Report, Vec<Sign>)]) {
    lost_together(signs);
    lost_alike(signs);
    slow_among_others(signs);
}

/// Loss of single machines by multicast.
fn lossy(sign: &Sign) -> bool {
    matches!(sign.kind, Kind::MulticastLost | Kind::Lost)
}

/// Loss of the same packets happened before the ways to the machines part.
fn lost_together(signs: &mut [(&Report, Vec<Sign>)]) {
    let lost = |report: &Report| -> BTreeSet<u32> { report.counts.multicast.lost.iter().copied().collect() };
    let sets: Vec<BTreeSet<u32>> = signs
        .iter()
        .filter(|(_, signs)| signs.iter().any(lossy))
        .map(|(report, _)| lost(report))
        .filter(|set| set.len() >= LOST)
        .collect();
    let mut sets = sets.into_iter();
    let Some(first) = sets.next() else { return };
    let mut count = 1;
    let common = sets.fold(first, |common, set| {
        count += 1;
        common.intersection(&set).copied().collect()
    });
    if count < 2 || common.len() < LOST {
        return;
    }
    for (report, signs) in signs {
        let own = lost(report);
        let shared = own.intersection(&common).count();
        if own.len() >= LOST && shared * 5 >= own.len() * 4 {
            signs
                .iter_mut()
                .filter(|sign| lossy(sign))
                .for_each(|sign| sign.kind = Kind::LostTogether);
        }
    }
}

/// Everybody loses about as much, but not the same packets.
fn lost_alike(signs: &mut [(&Report, Vec<Sign>)]) {
    let single = |signs: &[Sign]| {
        signs
            .iter()
            .find(|sign| sign.kind == Kind::MulticastLost)
            .map(|s| s.measure)
    };
    let losses: Vec<u64> = signs.iter().filter_map(|(_, signs)| single(signs)).collect();
    let (Some(&least), Some(&most)) = (losses.iter().min(), losses.iter().max()) else {
        return;
    };
    // A third more or less is what chance does to a short probe.
    if losses.len() < MACHINES || losses.len() < signs.len() || most > least + least / 2 {
        return;
    }
    for sign in signs.iter_mut().flat_map(|(_, signs)| signs) {
        if sign.kind == Kind::MulticastLost {
            sign.kind = Kind::LostAlike;
        }
    }
}

/// Links that have less than half the speed of the usual one, which is that of the median machine.
fn slow_among_others(signs: &mut [(&Report, Vec<Sign>)]) {
    let speed = |report: &Report| report.counts.machine.speed;
    let mut speeds: Vec<u32> = signs.iter().filter_map(|(report, _)| speed(report)).collect();
    speeds.sort_unstable();
    let Some(&usual) = speeds.get(speeds.len() / 2).filter(|_| speeds.len() >= 2) else {
        return;
    };
    for (report, signs) in signs {
        let Some(own) = speed(report) else { continue };
        let known = signs.iter().any(|sign| sign.kind == Kind::SlowLink);
        if !known && u64::from(own) * 2 <= u64::from(usual) {
            signs.push(Sign {
                kind: Kind::SlowLink,
                detail: report.counts.machine.interface.chars().take(15).collect(),
                measure: own.into(),
            });
        }
    }
}
