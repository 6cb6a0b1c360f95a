use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

fn chunk(index: u32) -> Vec<u8> {
    vec![u8::try_from(index % 251).unwrap(); 100 + index as usize % 50]
}

/// Everything that workers get out, in order.
fn drain(fetch: &Fetch) -> Vec<u32> {
    std::iter::from_fn(|| fetch.next())
        .map(|arrived| {
            assert_eq!(*arrived.bytes, *chunk(arrived.index));
            arrived.index
        })
        .collect()
}

#[test]
fn transports_and_workers_together_bring_each_chunk_once() {
    let missing: Vec<_> = (0..2000).map(|index| index % 7 != 0).collect();
    let wanted: BTreeSet<u32> = (0..2000).filter(|index| index % 7 != 0).collect();
    let fetch = Fetch::new(&missing, 1000);
    fetch.missing().open(Scope::FromEnd);
    let got = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let inlet = fetch.inlet(Transport::Http);
                while let Some(claim) = fetch.missing().claim() {
                    // Every tenth try fails; then somebody else gets the chunk.
                    if claim.index() % 10 == 3 && thread::current().id() == claimer() {
                        continue;
                    }
                    inlet.deliver(claim.index(), chunk(claim.index())).unwrap();
                }
            });
        }
        scope.spawn(|| {
            let inlet = fetch.inlet(Transport::Multicast);
            for index in 0..2000 {
                if inlet.wanted(index) && inlet.deliver(index, chunk(index)).is_err() {
                    return;
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(|| got.lock().unwrap().extend(drain(&fetch)));
        }
    });
    let got = got.into_inner().unwrap();
    assert_eq!(got.len(), wanted.len());
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), wanted);
    let (http, multicast) = (fetch.tally(Transport::Http), fetch.tally(Transport::Multicast));
    assert_eq!(http.chunks + multicast.chunks, wanted.len() as u64);
    let bytes: usize = wanted.iter().map(|&index| chunk(index).len()).sum();
    assert_eq!(http.bytes + multicast.bytes, bytes as u64);
    assert!(fetch.missing().is_over() && fetch.missing().set().is_empty());
}

/// The first thread that asks; it gives a claim back now and then.
fn claimer() -> thread::ThreadId {
    static FIRST: std::sync::OnceLock<thread::ThreadId> = std::sync::OnceLock::new();
    *FIRST.get_or_init(|| thread::current().id())
}

#[test]
fn nothing_missing_ends_at_once() {
    let fetch = Fetch::new(&[false; 3], 1);
    assert!(fetch.next().is_none());
    assert!(fetch.missing().claim().is_none());
    assert_eq!(fetch.inlet(Transport::Http).deliver(1, chunk(1)), Ok(()));
    assert_eq!(fetch.tally(Transport::Http).duplicates, 1);
}

#[test]
fn scopes_choose_what_is_claimed() {
    let fetch = Fetch::new(&[true; 6], 1 << 20);
    let missing = fetch.missing();
    missing.open(Scope::All);
    let first = missing.claim().unwrap();
    assert_eq!(first.index(), 0);
    missing.open(Scope::FromEnd);
    assert_eq!(missing.claim().map(|claim| claim.index()), Some(5));
    drop(first);
    missing.open(Scope::All);
    assert_eq!(missing.claim().map(|claim| claim.index()), Some(0));
    assert!(
        !fetch.inlet(Transport::Multicast).wanted(6),
        "there is no chunk 6"
    );
}

#[test]
fn what_multicast_is_about_to_bring_is_left_to_it_for_a_while() {
    let fetch = Fetch::new(&[true; 100], 1 << 20);
    let missing = fetch.missing();
    missing.open(Scope::All);
    fetch.inlet(Transport::Multicast).deliver(0, chunk(0)).unwrap();
    assert_eq!(missing.claim().map(|claim| claim.index()), Some(32));
    for index in 32..100 {
        fetch.inlet(Transport::Http).deliver(index, chunk(index)).unwrap();
    }
    // Only chunks are left that it should bring; it does not.
    let begun = std::time::Instant::now();
    assert_eq!(missing.claim().map(|claim| claim.index()), Some(1));
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_full_queue_holds_transports_and_stopping_frees_everybody() {
    let fetch = Fetch::new(&[true; 9], 250);
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let inlet = fetch.inlet(Transport::Multicast);
            let result = (0..9).find_map(|index| inlet.deliver(index, chunk(index)).err());
            assert!(
                stopped.load(Ordering::SeqCst),
                "it waited until everything stopped"
            );
            result
        });
        // Two chunks fit, a third does not.
        while fetch.tally(Transport::Multicast).chunks < 3 {
            thread::yield_now();
        }
        assert!(fetch.fill() > 200);
        assert!(!fetch.missing().wait_over(Duration::from_millis(20)));
        stopped.store(true, Ordering::SeqCst);
        fetch.stop();
        assert_eq!(producer.join().unwrap(), Some(Stopped));
    });
    assert!(fetch.missing().wait_over(Duration::ZERO));
    assert!(fetch.next().is_none() && fetch.missing().claim().is_none());
    assert_eq!(fetch.inlet(Transport::Http).deliver(8, chunk(8)), Err(Stopped));
    assert!(fetch.waits().for_workers > Duration::ZERO);
}

#[test]
fn a_chunk_that_cannot_be_had_is_named_and_does_not_cost_the_others() {
    let fetch = Fetch::new(&[true; 3], 1 << 20);
    fetch.missing().open(Scope::All);
    let server = || "http://server".parse::<crate::http::ServerUrl>().unwrap();
    let damaged = || HttpError::WrongToken(server());
    for _ in 0..2 {
        let claim = fetch.missing().claim().unwrap();
        fetch.failed(claim, damaged()).unwrap();
    }
    let inlet = fetch.inlet(Transport::Multicast);
    inlet.deliver(2, chunk(2)).unwrap();
    assert!(fetch.missing().is_over());
    // It comes after all, by another way.
    inlet.deliver(0, chunk(0)).unwrap();
    fetch.no_more();
    assert_eq!(drain(&fetch), [2, 0]);
    let failures = fetch.take_failures();
    assert_eq!(failures.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
    assert_eq!(fetch.missing().set().iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn too_many_failures_end_it() {
    let fetch = Fetch::new(&[true; 100], 1 << 20);
    fetch.missing().open(Scope::All);
    let server: crate::http::ServerUrl = "http://server".parse().unwrap();
    let failed = (0..100).position(|_| {
        let claim = fetch.missing().claim().unwrap();
        fetch
            .failed(claim, HttpError::WrongToken(server.clone()))
            .is_err()
    });
    assert_eq!(failed, Some(FAILURES));
}

#[test]
fn what_multicast_gives_up_is_claimed_first_whatever_the_scope() {
    let fetch = Fetch::new(&[true; 50], 1 << 20);
    let (missing, multicast) = (fetch.missing(), fetch.inlet(Transport::Multicast));
    multicast.deliver(3, chunk(3)).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            missing
                .wait_for_work(false)
                .then(|| missing.claim().unwrap().index())
        });
        // What has come is not wanted, and what there is not is nothing.
        [3, 50, 7].into_iter().for_each(|index| multicast.gave_up(index));
        assert_eq!(waiting.join().unwrap(), Some(7));
    });
    assert!(!missing.is_open());
    // The claim was dropped, so it is there again; near the front of multicast or not.
    let claim = missing.claim().unwrap();
    assert_eq!(claim.index(), 7);
    multicast.gave_up(7);
    missing.open(Scope::FromEnd);
    assert!(missing.wait_for_work(true));
    assert_eq!(missing.claim().map(|claim| claim.index()), Some(49));
    fetch.inlet(Transport::Http).deliver(7, chunk(7)).unwrap();
    drop(claim);
    assert_eq!(missing.left(), 48);
    fetch.stop();
    assert!(!missing.wait_for_work(false));
}
