//! Namespaces, the bridge, loss, rates, counters, cables.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use simulcast_protocol::units::Rate;
use simulcast_testkit::netns::{Namespace, Network, Offload, Snooping};
use simulcast_testkit::run::Run;
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::wait;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 1);
const PORT: u16 = 7777;

fn socket(namespace: &Namespace) -> UdpSocket {
    let socket = namespace
        .enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

fn member(namespace: &Namespace) -> UdpSocket {
    let socket = socket(namespace);
    socket
        .join_multicast_v4(&GROUP, &namespace.address().parse().unwrap())
        .unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    match socket.recv(&mut buffer) {
        Ok(len) => Some(buffer[..len].to_vec()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => panic!("receive: {error}"),
    }
}

#[test]
fn multicast_reaches_every_member_with_either_setting_of_the_bridge() {
    if !ready("network", &[Feature::Root, Feature::Network]) {
        return;
    }
    for snooping in [Snooping::Off, Snooping::WithQuerier] {
        let run = Run::start("multicast").unwrap();
        let network = Network::new(&run, snooping).unwrap();
        let server = network.join("server", 1).unwrap();
        let nodes: Vec<_> = (11..15)
            .map(|n| network.join(&format!("node{n}"), n).unwrap())
            .collect();
        let stranger = network.join("stranger", 99).unwrap();
        let sender = socket(&server);
        let members: Vec<_> = nodes.iter().map(member).collect();
        let heard_so_far = || stranger.counters().unwrap().received_packets;
        if snooping == Snooping::WithQuerier {
            wait::until(
                "the bridge to spare who did not ask",
                Duration::from_secs(30),
                || {
                    let before = heard_so_far();
                    for _ in &members {
                        sender.send_to(b"probe", (GROUP, PORT)).unwrap();
                    }
                    for member in &members {
                        assert!((0..members.len()).all(|_| receive(member).as_deref() == Some(b"probe")));
                    }
                    Ok((heard_so_far() == before).then_some(()))
                },
            )
            .unwrap();
        }
        let before = heard_so_far();
        for round in 0..200u8 {
            sender.send_to(&[round; 1472], (GROUP, PORT)).unwrap();
            for (node, member) in nodes.iter().zip(&members) {
                assert_eq!(
                    receive(member),
                    Some(vec![round; 1472]),
                    "{snooping:?} {}",
                    node.name()
                );
            }
        }
        // Besides the stream the stranger hears at most what machines say when they come up.
        let heard = heard_so_far() - before;
        println!("{snooping:?}: a machine that did not ask heard {heard} of 200 packets");
        match snooping {
            Snooping::Off => assert!(heard >= 200, "{heard}"),
            Snooping::WithQuerier => assert!(heard < 100, "{heard}"),
        }
    }
}

#[test]
fn loss_is_what_was_set_and_ends() {
    if !ready("network", &[Feature::Root, Feature::Network, Feature::Loss]) {
        return;
    }
    let run = Run::start("loss").unwrap();
    let network = Network::new(&run, Snooping::Off).unwrap();
    let (server, node) = (
        network.join("server", 1).unwrap(),
        network.join("node01", 11).unwrap(),
    );
    let (sender, receiver) = (socket(&server), member(&node));
    assert_eq!(arrived(&sender, &receiver, 2_000), 2_000);
    for per_cent in [1u32, 10] {
        node.set_loss(f64::from(per_cent)).unwrap();
        let lost = 20_000 - arrived(&sender, &receiver, 20_000);
        let expected = 200 * per_cent;
        // Five standard deviations of a binomial of 20,000 with this probability.
        let slack = 5.0 * (f64::from(expected) * (1.0 - f64::from(per_cent) / 100.0)).sqrt();
        println!("{per_cent} % set, {lost} of 20000 lost");
        assert!(
            (f64::from(lost) - f64::from(expected)).abs() < slack,
            "{per_cent} %: {lost} lost"
        );
    }
    node.set_loss(0.0).unwrap();
    assert_eq!(arrived(&sender, &receiver, 2_000), 2_000);
    assert!(node.set_loss(101.0).is_err());
}

/// How many of `count` small packets arrive; sent so that the receiver's buffer never overflows.
fn arrived(sender: &UdpSocket, receiver: &UdpSocket, count: u32) -> u32 {
    let drain = |wait: Duration| {
        receiver.set_read_timeout(Some(wait)).unwrap();
        std::iter::from_fn(|| receive(receiver)).map(|_| 1).sum::<u32>()
    };
    let mut got = 0;
    for _ in 0..count / 100 {
        for _ in 0..100 {
            sender.send_to(&[0; 64], (GROUP, PORT)).unwrap();
        }
        receiver.set_nonblocking(true).unwrap();
        got += std::iter::from_fn(|| receive(receiver)).map(|_| 1).sum::<u32>();
        receiver.set_nonblocking(false).unwrap();
    }
    got + drain(Duration::from_millis(300))
}

#[test]
fn rates_hold_in_both_directions() {
    if !ready("network", &[Feature::Root, Feature::Network, Feature::Shaping]) {
        return;
    }
    let run = Run::start("rate").unwrap();
    let network = Network::new(&run, Snooping::Off).unwrap();
    let (server, node) = (
        network.join("server", 1).unwrap(),
        network.join("node01", 11).unwrap(),
    );
    let rate = Rate::from_bits_per_second(80_000_000);
    server.set_uplink_rate(rate).unwrap();
    let up = transfer(&server, &node, 4 << 20);
    // A burst of 128 KiB passes at once; Ethernet, IP and TCP headers are counted as well.
    let least = rate.time_for((4 << 20) - (128 << 10));
    println!("uplink {up:?}, at least {least:?}");
    assert!(up >= least && up < least * 20, "{up:?}, not {least:?}");
    server
        .set_uplink_rate(Rate::from_bits_per_second(10_000_000_000))
        .unwrap();
    node.set_downlink_rate(rate).unwrap();
    let down = transfer(&server, &node, 4 << 20);
    println!("downlink {down:?}, at least {least:?}");
    assert!(down >= least && down < least * 20, "{down:?}, not {least:?}");
}

#[test]
fn counters_show_packets_as_on_a_wire_when_segmented() {
    if !ready("network", &[Feature::Root, Feature::Network]) {
        return;
    }
    let run = Run::start("offload").unwrap();
    let network = Network::new(&run, Snooping::Off).unwrap();
    let (server, node) = (
        network.join("server", 1).unwrap(),
        network.join("node01", 11).unwrap(),
    );
    let bytes = 8 << 20;
    let mut packets = Vec::new();
    for offload in [Offload::Whole, Offload::Segmented] {
        server.set_offload(offload).unwrap();
        let before = server.counters().unwrap();
        transfer(&server, &node, bytes);
        let sent = server.counters().unwrap().since(before);
        println!("{offload:?}: {sent:?}");
        assert!(
            sent.sent_bytes > bytes && sent.sent_bytes < bytes * 11 / 10,
            "{sent:?}"
        );
        packets.push(sent.sent_packets);
    }
    // 1,448 bytes of TCP payload fit a packet.
    assert!(
        packets[0] * 5 < packets[1] && packets[1] >= bytes / 1448,
        "{packets:?}"
    );
}

/// How long `bytes` take from one machine to the other by TCP.
fn transfer(from: &Namespace, to: &Namespace, bytes: u64) -> Duration {
    let listener = to
        .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .unwrap()
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = SocketAddr::new(to.address().parse().unwrap(), port);
    let mut stream = from.enter(|| TcpStream::connect(address)).unwrap().unwrap();
    let (mut incoming, _) = listener.accept().unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let chunk = vec![7; 1 << 16];
            for _ in 0..bytes >> 16 {
                stream.write_all(&chunk).unwrap();
            }
        });
        let mut got = Vec::new();
        incoming.read_to_end(&mut got).unwrap();
        assert_eq!(got.len() as u64, bytes);
    });
    start.elapsed()
}

#[test]
fn a_cable_that_is_out_carries_nothing() {
    if !ready("network", &[Feature::Root, Feature::Network]) {
        return;
    }
    let run = Run::start("cable").unwrap();
    let network = Network::new(&run, Snooping::Off).unwrap();
    let (server, node) = (
        network.join("server", 1).unwrap(),
        network.join("node01", 11).unwrap(),
    );
    let (sender, receiver) = (socket(&server), socket(&node));
    let address = format!("{}:{PORT}", node.address());
    sender.send_to(b"one", &address).unwrap();
    assert_eq!(receive(&receiver).unwrap(), b"one");
    node.set_connected(false).unwrap();
    sender.send_to(b"two", &address).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert_eq!(receive(&receiver), None);
    node.set_connected(true).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    sender.send_to(b"three", &address).unwrap();
    assert_eq!(receive(&receiver).unwrap(), b"three");
}
