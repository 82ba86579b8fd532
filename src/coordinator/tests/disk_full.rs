//! What goes on while the disk has no room for what was decided, and what waits.

use model::{ConnId, ExchangeSpec, Now, Refusal, RequestId, ShardId};

use crate::coordinator::disk_full::WAITING_MAX;
use crate::coordinator::tests::script::{Script, exchange, login, queue};
use crate::mesh::control::{Alarms, Answer, Control, Request};

const ANNA: ConnId = ConnId(1);
const OTTO: ConnId = ConnId(2);

fn declare(name: &str) -> Request {
    let spec = ExchangeSpec { durable: true, ..exchange(name, false) };
    Request::DeclareExchange("/".into(), spec)
}

/// A coordinator with a change that found no room.
fn full() -> Script {
    let mut script = Script::new();
    script.0.take_records();
    script.ask(0, 1, declare("x"));
    assert_eq!(script.0.take_records().len(), 1);
    script.0.disk_is_full(true, Now::default());
    assert_eq!(script.out(), []);
    script
}

fn answers(script: &mut Script) -> Vec<(u64, Answer)> {
    let answer = |(_, control)| match control {
        Control::Answer(ticket, answer) => (ticket.0, answer),
        other => panic!("{other:?}"),
    };
    script.out().into_iter().map(answer).collect()
}

#[test]
fn what_promises_nothing_of_the_topology_goes_on_without_room() {
    let mut script = full();
    let open = Request::OpenVhost { conn: ANNA, user: "guest".into(), vhost: "/".into() };
    for (ticket, request) in
        (2..).zip([login("guest", "guest"), open, Request::ConnectionGone(ANNA)])
    {
        script.ask(1, ticket, request);
    }
    let opened = Answer::Opened { rights: model::access::Rights::ALL, counts_channels: false };
    let expected = [(2, Answer::LoggedIn), (3, opened), (4, Answer::Done)];
    assert_eq!(answers(&mut script), expected);
    script.control(0, Control::Memory(2_000_000_000));
    script.0.disk_is_low(true);
    let alarms = [(true, false), (true, true)].map(|(memory, disk)| Alarms { memory, disk });
    let expected = alarms.map(|alarms| [0, 1].map(|shard| (shard, Control::Alarm(alarms))));
    assert_eq!(script.out(), expected.concat());
    script.0.disk_is_full(false, Now::default());
    assert!(matches!(script.out()[..], [(0, Control::Apply(..)), (1, Control::Apply(..))]));
}

#[test]
fn changes_wait_in_their_order_and_nothing_of_them_is_told() {
    let mut script = full();
    script.ask(0, 2, Request::DeclareQueue("/".into(), queue("q", Some(OTTO))));
    script.ask(0, 3, declare("y"));
    script.ask(0, 4, Request::ConnectionGone(OTTO));
    assert_eq!((script.out(), script.0.take_records()), (vec![], vec![]));
    script.0.disk_is_full(false, Now::default());
    // The exchange, and identities for queues.
    assert_eq!(script.0.take_records().len(), 2);
    let told = script.settle();
    let [(home, Control::Create(_, spec)), first, last] = &told[..] else {
        panic!("{told:?}");
    };
    let done = |ticket| (0, Control::Answer(RequestId(ticket), Answer::Done));
    assert_eq!((first, last), (&done(1), &done(3)));
    script.control(*home, Control::Created(spec.id));
    let told = script.settle();
    let is_freeze = |(_, control): &(u16, Control)| matches!(control, Control::Freeze { .. });
    assert!(told.iter().any(is_freeze), "{told:?}");
}

#[test]
fn what_waits_is_bounded() {
    let mut script = full();
    for ticket in 2..WAITING_MAX as u64 + 2 {
        script.ask(0, ticket, declare("y"));
    }
    assert_eq!(script.out(), []);
    script.ask(0, 0, declare("z"));
    assert_eq!(answers(&mut script), [(0, Answer::Refused(Refusal::NoRoom))]);
    assert_eq!(script.0.take_outbound(), []);
    script.0.control(
        ShardId(0),
        Control::Ask(RequestId(0), login("guest", "guest")),
        Now::default(),
    );
    assert_eq!(answers(&mut script), [(0, Answer::LoggedIn)]);
}
