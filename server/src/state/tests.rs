use std::os::unix::fs::PermissionsExt;

use simulcast_protocol::api::Token;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::limits::{KEPT_EVENTS, LOG_BYTES, ORDERS_OF_A_NODE, UNKNOWN};
use simulcast_protocol::install::{Disk, Dmi, Event, Hello, Mac, NodeName, NodeState, What};
use simulcast_protocol::name::Version;

use super::*;

struct Site {
    directory: tempfile::TempDir,
    state: State,
}

fn site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    Site { directory, state }
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn hash(byte: u8) -> TokenHash {
    TokenHash::of(&Token::from_bytes([byte; 32]))
}

impl Site {
    /// A token of a node that has just said hello.
    fn bearer(&self, name: &str, byte: u8) -> Bearer {
        self.state
            .welcome(&node(name), hash(byte), "10.0.0.9", 100)
            .unwrap();
        self.state.bearer(hash(byte), 100).unwrap().unwrap()
    }

    /// The same with an order.
    fn ordered(&self, name: &str, byte: u8) -> (Bearer, Ordered) {
        let bearer = self.bearer(name, byte);
        let number = self.state.next_order().unwrap();
        if let OrderOf::Open(_) = self.state.order_of(&bearer).unwrap() {
            self.state.give(&bearer, order(number, name), 101).unwrap();
        }
        let bearer = self.state.bearer(hash(byte), 101).unwrap().unwrap();
        let ordered = bearer.order.clone().unwrap();
        (bearer, ordered)
    }

    fn state_of(&self, name: &str) -> NodeState {
        self.state.record(&node(name)).unwrap().state
    }

    fn install(&self, name: &str) {
        self.state.decide(&[node(name)], NodeState::Install, 50).unwrap();
    }
}

fn order(number: u64, name: &str) -> NewOrder {
    NewOrder {
        number,
        node: node(name),
        image: "golden01".parse().unwrap(),
        version: Version::new(3).unwrap(),
        manifest: ManifestId::of(b"x"),
        bytes: format!("order {number}").into_bytes(),
        files: vec!["10net".to_owned()],
    }
}

fn event(number: u32, step: &str, what: What) -> Event {
    Event {
        number,
        at: u64::from(number) * 1000,
        step: step.to_owned(),
        what,
        detail: String::new(),
    }
}

fn mac(number: u32) -> Mac {
    let [_, a, b, c] = number.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}").parse().unwrap()
}

fn hello(number: u32) -> Hello {
    Hello {
        boot: mac(number),
        macs: vec![mac(number)],
        dmi: Dmi::default(),
        firmware: "bios".to_owned(),
        architecture: "x86_64".to_owned(),
        processors: 2,
        memory: 1 << 30,
        disks: vec![Disk {
            name: "sda".to_owned(),
            size: 1 << 33,
            model: "QEMU\u{1b}[2J".to_owned(),
            bus: String::new(),
        }],
    }
}

#[test]
fn an_install_goes_through_its_states() {
    let site = site();
    assert_eq!(site.state.record(&node("n1")).unwrap(), Record::unheard());
    site.install("n1");
    let bearer = site.bearer("n1", 1);
    assert_eq!(
        site.state.order_of(&bearer).unwrap(),
        OrderOf::Open(NodeState::Install)
    );
    let (bearer, number) = site.ordered("n1", 2);
    assert_eq!(site.state_of("n1"), NodeState::Installing);
    assert_eq!(
        site.state.order_of(&bearer).unwrap(),
        OrderOf::Given(b"order 1".to_vec())
    );
    // One token has one order, whoever else asks in the same moment.
    let other = site.state.give(&bearer, order(99, "n1"), 102).unwrap();
    assert_eq!(other, b"order 1");
    let events = [
        event(0, "partition", What::Began),
        event(1, "partition", What::Retrying),
        event(2, "partition", What::Done),
        event(3, "receive", What::Began),
        event(4, "receive", What::Progress { done: 30, total: 120 }),
    ];
    site.state.report(&bearer, &number, &events, 110).unwrap();
    let record = site.state.record(&node("n1")).unwrap();
    let order = record.order.unwrap();
    assert_eq!(
        (order.step.as_deref(), order.per_cent()),
        (Some("receive"), Some(25))
    );
    assert_eq!(
        (record.address.as_deref(), record.heard),
        (Some("10.0.0.9"), Some(110))
    );
    // Again, and out of date: nothing counts twice, nothing goes back.
    site.state.report(&bearer, &number, &events, 111).unwrap();
    let late = event(3, "receive", What::Progress { done: 1, total: 120 });
    site.state.report(&bearer, &number, &[late], 112).unwrap();
    assert_eq!(
        site.state.record(&node("n1")).unwrap().order.unwrap().done_bytes,
        30
    );
    let steps = site.state.steps(number.number).unwrap();
    let shown: Vec<_> = steps
        .iter()
        .map(|s| (s.step.as_str(), s.state, s.began, s.ended, s.retries))
        .collect();
    let expected = [
        ("partition", StepState::Done, 0, Some(2000), 1),
        ("receive", StepState::Running, 3000, None, 0),
    ];
    assert_eq!(shown, expected);
    let end = [event(5, "receive", What::Done), event(6, "", What::Finished)];
    site.state.report(&bearer, &number, &end, 120).unwrap();
    let record = site.state.record(&node("n1")).unwrap();
    assert_eq!((record.state, record.since), (NodeState::Installed, Some(120)));
    assert_eq!(record.order.unwrap().result, Some(OrderResult::Installed));
    // The token may still report, for a month.
    let bearer = site.state.bearer(hash(2), 121).unwrap().unwrap();
    assert!(bearer.ended);
    site.state
        .report(
            &bearer,
            &number,
            &[event(7, "", What::Up), event(8, "", What::Failed)],
            130,
        )
        .unwrap();
    let record = site.state.record(&node("n1")).unwrap();
    assert_eq!(
        (record.state, record.order.unwrap().up),
        (NodeState::Installed, Some(130))
    );
    assert_eq!(
        site.state
            .bearer(hash(2), 120 + super::access::REPORTING + 1)
            .unwrap(),
        None
    );
}

#[test]
fn a_machine_that_was_switched_off_goes_on_with_its_order() {
    let site = site();
    site.install("n1");
    let (bearer, order) = site.ordered("n1", 1);
    let began = [
        event(0, "partition", What::Began),
        event(1, "receive", What::Began),
    ];
    site.state.report(&bearer, &order, &began, 110).unwrap();
    let (again, same) = site.ordered("n1", 2);
    assert_eq!((same.number, same.attempt), (order.number, 2));
    let record = site.state.record(&node("n1")).unwrap();
    assert_eq!(
        (record.state, record.order.unwrap().step),
        (NodeState::Installing, None)
    );
    // Its events are counted anew.
    site.state
        .report(&again, &same, &[event(0, "modules", What::Began)], 120)
        .unwrap();
    let steps: Vec<_> = site
        .state
        .steps(order.number)
        .unwrap()
        .into_iter()
        .map(|step| step.step)
        .collect();
    assert_eq!(steps, ["modules"]);
    site.state
        .report(&again, &same, &[event(1, "", What::Finished)], 130)
        .unwrap();
    let orders = site.state.orders(&node("n1")).unwrap();
    assert_eq!(
        (orders.len(), orders[0].attempts, orders[0].result),
        (1, 2, Some(OrderResult::Installed))
    );
    // After that, a new order is a new one.
    site.install("n1");
    assert!(site.ordered("n1", 3).1.number > order.number);
}

#[test]
fn what_the_operator_decides_meanwhile_holds() {
    let site = site();
    site.install("n1");
    let (bearer, number) = site.ordered("n1", 1);
    site.install("n1");
    site.state
        .report(&bearer, &number, &[event(0, "", What::Finished)], 120)
        .unwrap();
    assert_eq!(site.state_of("n1"), NodeState::Install);
    let bearer = site.state.bearer(hash(1), 121).unwrap().unwrap();
    assert!(bearer.ended);
    assert_eq!(
        site.state.orders(&node("n1")).unwrap()[0].result,
        Some(OrderResult::GivenUp)
    );
}

#[test]
fn a_hello_in_a_nodes_name_does_not_stop_it() {
    let site = site();
    site.install("n1");
    let (real, number) = site.ordered("n1", 1);
    let (_, forged) = site.ordered("n1", 2);
    assert_eq!(
        (number.number, number.attempt, forged.attempt),
        (forged.number, 1, 2)
    );
    let real = site.state.bearer(real.hash, 105).unwrap().unwrap();
    assert!(!real.ended);
    site.state
        .report(&real, &number, &[event(0, "", What::Finished)], 120)
        .unwrap();
    assert_eq!(site.state_of("n1"), NodeState::Installed);
    let current = site.state.record(&node("n1")).unwrap().order.unwrap();
    assert_eq!(
        (current.number, current.result),
        (number.number, Some(OrderResult::Installed))
    );
    assert!(site.state.bearer(hash(2), 121).unwrap().unwrap().ended);
}

#[test]
fn a_failed_node_may_still_finish() {
    let site = site();
    site.install("n1");
    let (bearer, number) = site.ordered("n1", 1);
    let mut failed = event(1, "boot-loader", What::Failed);
    failed.detail = "no EFI partition".to_owned();
    let events = [event(0, "boot-loader", What::Began), failed];
    site.state.report(&bearer, &number, &events, 120).unwrap();
    assert_eq!(site.state_of("n1"), NodeState::Failed);
    let step = &site.state.steps(number.number).unwrap()[0];
    assert_eq!(
        (step.state, step.detail.as_str()),
        (StepState::Failed, "no EFI partition")
    );
    site.state
        .report(&bearer, &number, &[event(2, "", What::Finished)], 130)
        .unwrap();
    assert_eq!(site.state_of("n1"), NodeState::Installed);
}

#[test]
fn tokens_are_few_and_their_own() {
    let site = site();
    site.install("n1");
    for byte in 1..=6 {
        site.bearer("n1", byte);
    }
    site.bearer("n2", 9);
    let alive: Vec<_> = (1..=9)
        .filter(|&byte| site.state.bearer(hash(byte), 100).unwrap().is_some())
        .collect();
    assert_eq!(
        (alive.len(), alive.contains(&6), alive.contains(&9)),
        (5, true, true)
    );
    assert_eq!(site.state.bearer(hash(9), 100).unwrap().unwrap().node, node("n2"));
    assert_eq!(site.state.bearer(hash(77), 100).unwrap(), None);
    site.state.forget(&[node("n1")]).unwrap();
    assert_eq!(site.state.bearer(hash(6), 100).unwrap(), None);
    assert_eq!(site.state.record(&node("n1")).unwrap(), Record::unheard());
}

#[test]
fn events_orders_and_logs_are_bounded() {
    let site = site();
    site.install("n1");
    let (bearer, number) = site.ordered("n1", 1);
    let flood: Vec<_> = (0..KEPT_EVENTS + 500)
        .map(|number| event(number, "x\u{1b}[2J", What::Retrying))
        .collect();
    site.state.report(&bearer, &number, &flood, 110).unwrap();
    let kept: u32 = site
        .state
        .ask(|connection| Ok(connection.query_row("SELECT count(*) FROM event", [], |row| row.get(0))?))
        .unwrap();
    assert_eq!(kept, KEPT_EVENTS);
    site.state
        .report(&bearer, &number, &[event(u32::MAX, "", What::Finished)], 111)
        .unwrap();
    assert_eq!(
        site.state_of("n1"),
        NodeState::Installed,
        "the end is heard however much was said before"
    );
    let piece = "é".repeat(300_000);
    for _ in 0..10 {
        site.state.append_log(number.number, &piece, 110).unwrap();
    }
    let log = site.state.log(number.number).unwrap();
    assert!(log.len() as u64 <= LOG_BYTES + 100, "{}", log.len());
    assert!(log.ends_with("[the log is longer than is kept]\n"));
    for round in 0..ORDERS_OF_A_NODE + 5 {
        site.install("n1");
        site.ordered("n1", u8::try_from(round + 10).unwrap());
    }
    let orders = site.state.orders(&node("n1")).unwrap();
    assert_eq!(orders.len(), ORDERS_OF_A_NODE as usize);
    assert!(orders.iter().all(|order| order.number != number.number));
    assert_eq!(site.state.log(number.number).unwrap(), "");
}

#[test]
fn unknown_machines_are_bounded_and_the_oldest_go_first() {
    let site = site();
    for number in 0..20 {
        site.state
            .remember(hello(number), "10.0.0.1", i64::from(number))
            .unwrap();
    }
    site.state.remember(hello(0), "10.0.0.2", 1000).unwrap();
    let machines = site.state.unknown().unwrap();
    assert_eq!(
        (machines.len(), machines[0].mac, machines[0].last),
        (20, mac(0), 1000)
    );
    assert_eq!(
        (
            machines[0].address.as_str(),
            machines[0].hello.disks[0].model.as_str()
        ),
        ("10.0.0.2", "QEMU[2J")
    );
    site.state
        .change(Durable::Soon, |transaction| {
            for number in 0..UNKNOWN as i64 {
                transaction.execute(
                    "INSERT INTO unknown SELECT 'x' || ?1, 500, 500, '', hello FROM unknown WHERE mac = ?2",
                    rusqlite::params![number, mac(0).to_string()],
                )?;
            }
            Ok(())
        })
        .unwrap();
    site.state.remember(hello(21), "10.0.0.1", 2000).unwrap();
    let kept: Vec<String> = site
        .state
        .ask(|connection| {
            let mut statement = connection.prepare("SELECT mac FROM unknown").unwrap();
            let macs = statement.query_map([], |row| row.get(0)).unwrap();
            Ok(macs.map(|mac| mac.unwrap()).collect())
        })
        .unwrap();
    assert_eq!(kept.len(), UNKNOWN);
    for (number, there) in [(0, true), (21, true), (5, false)] {
        assert_eq!(kept.contains(&mac(number).to_string()), there, "{number}");
    }
}

#[test]
fn the_file_is_ours_alone_is_opened_again_and_a_later_one_is_refused() {
    let site = site();
    site.install("n1");
    let path = site.directory.path().join(FILE);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // The daemon and a command have it open at the same time.
    let other = State::open(site.directory.path()).unwrap();
    assert_eq!(other.record(&node("n1")).unwrap().state, NodeState::Install);
    other.decide(&[node("n1")], NodeState::Rescue, 60).unwrap();
    assert_eq!(site.state_of("n1"), NodeState::Rescue);
    let Site { directory, state } = site;
    drop((state, other));
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    let error = State::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("has format 7, and this program knows formats up to 3"),
        "{error}"
    );
    std::fs::write(&path, "nonsense, and more of it, so that it is no database").unwrap();
    assert!(State::open(directory.path()).is_err());
}

#[test]
fn a_file_of_format_1_is_brought_up_to_date() {
    let site = site();
    site.install("n1");
    let Site { directory, state } = site;
    drop(state);
    let old = Connection::open(directory.path().join(FILE)).unwrap();
    old.execute_batch("DROP TABLE push; DROP TABLE push_node; DROP TABLE operator;")
        .unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let state = State::open(directory.path()).unwrap();
    assert_eq!(state.record(&node("n1")).unwrap().state, NodeState::Install);
    assert_eq!(state.last_push().unwrap(), None);
    assert_eq!(state.operators().unwrap(), []);
}

#[test]
fn an_operators_token_opens_until_it_expires_or_is_revoked() {
    let Site {
        directory: _kept,
        state,
    } = site();
    let token = |byte| TokenHash::of(&Token::from_bytes([byte; 32]));
    let operator = OperatorRecord {
        name: "ann".parse().unwrap(),
        role: Role::Operate,
        nodes: Some("@gpu".to_owned()),
        images: Some(vec!["golden".parse().unwrap()]),
        made: 100,
        expires: Some(200),
    };
    assert!(state.add_operator(&operator, token(1)).unwrap());
    assert!(!state.add_operator(&operator, token(2)).unwrap());
    assert_eq!(state.operator(token(1), 199).unwrap(), Some(operator.clone()));
    assert_eq!(state.operator(token(1), 200).unwrap(), None);
    assert_eq!(state.operator(token(2), 150).unwrap(), None);
    assert!(state.revoke_operator(&operator.name).unwrap());
    assert!(!state.revoke_operator(&operator.name).unwrap());
    assert_eq!(state.operator(token(1), 150).unwrap(), None);
}
