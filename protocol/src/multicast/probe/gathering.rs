//! Counts what comes of a probe on one machine.

use super::offer::ProbeOffer;
use super::report::{Flow, Tally};
use super::schedule::{BURST, BURST_PACKETS, EACH, ROUNDS_PER_SECOND, Window};
use crate::multicast::packet::{Path, Probe};

/// Lost packets that are named: enough to tell whether two machines lost the same ones.
const NAMED: usize = 256;

/// Counts packets. It holds twenty bytes for each round, 720 kB for the longest probe.
#[derive(Debug)]
pub struct Gathering {
    offer: ProbeOffer,
    multicast: Seen,
    unicast: Seen,
    wrong: u64,
    over: bool,
}

/// Which packets came by one way: a bitmap for each round.
#[derive(Debug)]
struct Seen {
    paced: Vec<u16>,
    bursts: Vec<u64>,
}

impl Gathering {
    /// Begins to count for an offer that was taken up.
    pub fn new(offer: ProbeOffer) -> Self {
        let rounds = usize::try_from(offer.window.rounds).unwrap_or(0);
        let seen = || Seen {
            paced: vec![0; rounds],
            bursts: vec![0; rounds],
        };
        Self {
            multicast: seen(),
            unicast: seen(),
            wrong: 0,
            over: false,
            offer,
        }
    }

    /// Takes a packet that came in by `path`. What is forged, of another probe, or came by another way than it was sent is
    /// counted as wrong and changes nothing.
    pub fn handle_packet(&mut self, path: Path, packet: &[u8]) {
        let good = Probe::decode(&self.offer.key, packet)
            .ok()
            .filter(|probe| probe.path == path && probe.probe == self.offer.probe)
            .filter(|probe| self.offer.schedule.payload(probe.train) == Some(packet.len()));
        let Some(probe) = good else {
            self.wrong += 1;
            return;
        };
        let window = self.offer.window;
        self.over |= probe.round >= window.end();
        if !window.has(probe.round) {
            return;
        }
        let place = usize::try_from(probe.round - window.first).expect("rounds are bounded");
        let seen = match path {
            Path::Multicast => &mut self.multicast,
            Path::Unicast => &mut self.unicast,
        };
        match probe.train {
            BURST if probe.index < BURST_PACKETS => seen.bursts[place] |= 1 << probe.index,
            BURST => self.wrong += 1,
            train if probe.index < EACH => seen.paced[place] |= 1 << (train * EACH + probe.index),
            _ => self.wrong += 1,
        }
    }

    /// Whether a packet of a later round came: nothing of this machine's rounds is to come.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Packets that were no good ones.
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    /// What came by one way, and what should have.
    pub fn flow(&self, path: Path) -> Flow {
        let window = self.offer.window;
        let (seen, every) = match path {
            Path::Multicast => (&self.multicast, 1),
            Path::Unicast => (&self.unicast, window.unicast_every),
        };
        let sent = |round: u32| match path {
            Path::Multicast => true,
            Path::Unicast => window.unicast(round),
        };
        let burst = |round: u32| match path {
            Path::Multicast => Window::multicast_burst(round),
            Path::Unicast => window.unicast_burst(round),
        };
        let schedule = &self.offer.schedule;
        let rounds = || (window.first..window.end()).zip(seen.paced.iter().zip(&seen.bursts));
        let tally = |bytes, sent: usize, came: u32| Tally {
            bytes,
            sent: u32::try_from(sent).unwrap_or(u32::MAX),
            came,
        };
        let paced_rounds = rounds().filter(|(round, _)| sent(*round)).count();
        let mut sizes = Vec::new();
        for (train, &bytes) in schedule.sizes().iter().enumerate() {
            let mask = ((1u16 << EACH) - 1) << (train * usize::from(EACH));
            let came = seen.paced.iter().map(|bits| (bits & mask).count_ones()).sum();
            sizes.push(tally(bytes, paced_rounds * usize::from(EACH), came));
        }
        let bursts = rounds().filter(|(round, _)| burst(*round)).count();
        let came = seen.bursts.iter().map(|bits| bits.count_ones()).sum();
        let per_second = usize::try_from(ROUNDS_PER_SECOND).unwrap_or(1);
        let second = |rounds: &[u16]| rounds.iter().map(|bits| bits.count_ones()).sum::<u32>();
        let lost = rounds()
            .filter(|(round, _)| sent(*round))
            .flat_map(|(round, (&bits, _))| {
                (0..schedule.paced_count())
                    .filter(move |bit| bits >> bit & 1 == 0)
                    .map(move |bit| round.wrapping_mul(16) | bit)
            })
            .take(NAMED);
        Flow {
            sizes,
            bursts: tally(schedule.burst_size(), bursts * usize::from(BURST_PACKETS), came),
            each_second: (schedule.paced_count() * ROUNDS_PER_SECOND)
                .checked_div(every)
                .unwrap_or(0),
            seconds: seen
                .paced
                .chunks(per_second)
                .map(|rounds| u16::try_from(second(rounds)).unwrap_or(u16::MAX))
                .collect(),
            lost: lost.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::schedule::Schedule;
    use super::*;
    use crate::multicast::key::TagKey;

    fn offer(unicast_every: u32) -> ProbeOffer {
        ProbeOffer {
            probe: 7,
            group: "239.255.70.1:9480".parse().unwrap(),
            server: "10.0.0.1".parse().unwrap(),
            key: TagKey::from_bytes([5; 32]),
            schedule: Schedule::for_mtu(1500, false),
            window: Window {
                first: 15,
                rounds: 40,
                unicast_every,
            },
            starts_in: Duration::ZERO,
        }
    }

    fn packet(offer: &ProbeOffer, path: Path, round: u32, train: u8, index: u8) -> Vec<u8> {
        let mut packet = Vec::new();
        let probe = Probe {
            path,
            probe: offer.probe,
            round,
            train,
            index,
        };
        probe.encode(&offer.key, offer.schedule.payload(train).unwrap(), &mut packet);
        packet
    }

    #[test]
    fn all_that_is_sent_is_what_is_expected() {
        let offer = offer(2);
        let mut gathering = Gathering::new(offer.clone());
        for round in 0..56 {
            for (train, index) in offer.schedule.paced() {
                let packet = packet(&offer, Path::Multicast, round, train, index);
                gathering.handle_packet(Path::Multicast, &packet);
                gathering.handle_packet(Path::Multicast, &packet);
            }
            if offer.window.unicast(round) {
                for (train, index) in offer.schedule.paced() {
                    let packet = packet(&offer, Path::Unicast, round, train, index);
                    gathering.handle_packet(Path::Unicast, &packet);
                }
            }
            for (path, burst) in [
                (Path::Multicast, Window::multicast_burst(round)),
                (Path::Unicast, offer.window.unicast_burst(round)),
            ] {
                for index in (0..BURST_PACKETS).filter(|_| burst) {
                    gathering.handle_packet(path, &packet(&offer, path, round, BURST, index));
                }
            }
            assert_eq!(gathering.is_over(), round >= 55);
        }
        let multicast = gathering.flow(Path::Multicast);
        let tally = |bytes, sent| Tally {
            bytes,
            sent,
            came: sent,
        };
        assert_eq!(
            multicast.sizes,
            [tally(128, 80), tally(1280, 80), tally(1400, 80), tally(1500, 80)]
        );
        assert_eq!((multicast.bursts, multicast.each_second), (tally(1500, 256), 160));
        assert_eq!((multicast.seconds, multicast.lost), (vec![160, 160], vec![]));
        let unicast = gathering.flow(Path::Unicast);
        assert_eq!(
            (unicast.paced(), unicast.bursts, unicast.each_second),
            (tally(1500, 160), tally(1500, 128), 80)
        );
        assert_eq!(gathering.wrong(), 0);
    }

    #[test]
    fn what_does_not_come_is_named_and_what_is_wrong_counts_as_lost() {
        let offer = offer(0);
        let mut gathering = Gathering::new(offer.clone());
        let mut other = offer.clone();
        other.probe += 1;
        let mut forged = packet(&offer, Path::Multicast, 20, 0, 0);
        forged[40] ^= 1;
        for wrong in [
            forged,
            packet(&other, Path::Multicast, 20, 0, 0),
            packet(&offer, Path::Unicast, 20, 0, 0),
            packet(&offer, Path::Multicast, 20, 0, EACH),
            packet(&offer, Path::Multicast, 20, BURST, BURST_PACKETS),
            vec![],
        ] {
            gathering.handle_packet(Path::Multicast, &wrong);
        }
        gathering.handle_packet(Path::Multicast, &packet(&offer, Path::Multicast, 15, 0, 0));
        let flow = gathering.flow(Path::Multicast);
        assert_eq!((gathering.wrong(), flow.paced().came), (6, 1));
        assert_eq!((flow.lost.len(), flow.lost[0]), (NAMED, 15 * 16 + 1));
        let unicast = gathering.flow(Path::Unicast);
        assert_eq!((unicast.all().sent, unicast.each_second), (0, 0));
    }
}
