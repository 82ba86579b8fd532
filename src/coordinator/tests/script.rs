//! Each rule of the coordinator, message by message.

use std::net::Ipv4Addr;

use amqp::table::{TableWriter, Value};
use model::access::Rights;
use model::topology::Change;
use model::topology::spec::{
    Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, QueueSpec,
};
use model::{ConnId, Entropy, Now, QueueId, Refusal, RequestId, Resource, ShardId};

use crate::coordinator::{Coordinator, CoordinatorConfig};
use crate::mesh::control::{Alarms, Answer, Control, LoginAttempt, LoginRefusal, Request};

const ANNA: ConnId = ConnId(1);
const OTTO: ConnId = ConnId(2);

/// A coordinator of two shards whose first changes are settled.
pub(in crate::coordinator) struct Script(pub Coordinator);

impl Script {
    pub fn new() -> Self {
        let mut script = Self(Coordinator::new(config()));
        script.settle();
        script
    }

    pub fn control(&mut self, from: u16, control: Control) {
        self.0.control(ShardId(from), control, Now::default());
    }

    pub fn ask(&mut self, from: u16, ticket: u64, request: Request) {
        self.control(from, Control::Ask(RequestId(ticket), request));
    }

    pub fn out(&mut self) -> Vec<(u16, Control)> {
        self.0.take_outbound().into_iter().map(|(to, control)| (to.0, control)).collect()
    }

    /// Lets every shard apply everything; what else was sent, in order.
    pub fn settle(&mut self) -> Vec<(u16, Control)> {
        let mut others = Vec::new();
        loop {
            let out = self.out();
            if out.is_empty() {
                return others;
            }
            for (to, control) in out {
                match control {
                    Control::Apply(version, _) => self.control(to, Control::Applied(version)),
                    Control::Settled(_) => {}
                    other => others.push((to, other)),
                }
            }
        }
    }

    /// Asks and settles; there is one answer and nothing else.
    pub fn answer(&mut self, request: Request) -> Answer {
        self.ask(0, 99, request);
        match self.settle().as_slice() {
            [(0, Control::Answer(RequestId(99), answer))] => answer.clone(),
            other => panic!("not one answer: {other:?}"),
        }
    }

    /// Declares a queue to the end; its identity and home.
    pub fn declare(&mut self, spec: QueueSpec) -> (QueueId, u16) {
        self.ask(0, 99, declare(spec));
        let [(home, Control::Create(_, spec))] = &self.settle()[..] else {
            panic!("no queue to create");
        };
        self.control(*home, Control::Created(spec.id));
        assert_eq!(self.settle(), [answer(0, 99, Answer::Done)]);
        (spec.id, *home)
    }

    fn exchange(&mut self, name: &str, auto_delete: bool) {
        let request = Request::DeclareExchange("/".into(), exchange(name, auto_delete));
        assert_eq!(self.answer(request), Answer::Done);
    }

    fn has_exchange(&self, name: &str) -> bool {
        self.0.topology().vhost("/").is_some_and(|vhost| vhost.exchange(name).is_some())
    }
}

pub(in crate::coordinator) fn config() -> CoordinatorConfig {
    CoordinatorConfig {
        loopback_users: vec!["guest".into()],
        memory_limit: 1_000_000_000,
        ..CoordinatorConfig::new(2, Entropy::from_seed(1))
    }
}

pub(in crate::coordinator) fn queue(name: &str, owner: Option<ConnId>) -> QueueSpec {
    QueueSpec {
        id: QueueId(0),
        name: name.into(),
        home: ShardId(0),
        durable: false,
        auto_delete: false,
        owner,
        server_named: false,
        arguments: Arguments::default(),
    }
}

pub(in crate::coordinator) fn exchange(name: &str, auto_delete: bool) -> ExchangeSpec {
    ExchangeSpec {
        name: name.into(),
        kind: ExchangeKind::Fanout,
        durable: false,
        auto_delete,
        internal: false,
        arguments: Arguments::default(),
    }
}

pub(in crate::coordinator) fn binding(source: &str, destination: Destination) -> Binding {
    let arguments = Arguments::default();
    Binding { source: source.into(), destination, key: "".into(), arguments }
}

pub(in crate::coordinator) fn to_queue(source: &str, name: &str) -> Binding {
    binding(source, Destination::Queue(name.into()))
}

pub(in crate::coordinator) fn bind(binding: Binding) -> Request {
    Request::Bind("/".into(), binding, ANNA)
}

pub(in crate::coordinator) fn unbind(binding: Binding) -> Request {
    Request::Unbind("/".into(), binding, ANNA)
}

pub(in crate::coordinator) fn declare(spec: QueueSpec) -> Request {
    Request::DeclareQueue("/".into(), spec)
}

pub(in crate::coordinator) fn delete(name: &str, conn: ConnId) -> Request {
    let (if_unused, if_empty) = (true, false);
    Request::DeleteQueue { vhost: "/".into(), name: name.into(), if_unused, if_empty, conn }
}

pub(in crate::coordinator) fn delete_exchange(name: &str, if_unused: bool) -> Request {
    Request::DeleteExchange { vhost: "/".into(), name: name.into(), if_unused }
}

pub(in crate::coordinator) fn login(user: &str, password: &str) -> Request {
    let (user, password) = (user.into(), password.into());
    Request::Login(LoginAttempt { user, password, from: Ipv4Addr::LOCALHOST.into() })
}

fn answer(shard: u16, ticket: u64, answer: Answer) -> (u16, Control) {
    (shard, Control::Answer(RequestId(ticket), answer))
}

fn freeze(queue: QueueId, if_unused: bool) -> Control {
    Control::Freeze { queue, if_unused, if_empty: false }
}

#[test]
fn a_queue_is_created_at_home_then_known_everywhere_then_answered() {
    let mut script = Script::new();
    script.ask(1, 5, declare(queue("q", None)));
    let out = script.out();
    let [(0, Control::Create(vhost, spec))] = &out[..] else { panic!("{out:?}") };
    assert_eq!((&**vhost, spec.id.origin(), spec.home), ("/", ShardId::OF_QUEUES, ShardId(0)));
    script.control(0, Control::Created(spec.id));
    let apply = Control::Apply(2, Change::QueueCreated("/".into(), spec.clone()));
    assert_eq!(script.out(), [(0, apply.clone()), (1, apply)]);
    script.control(1, Control::Applied(2));
    assert_eq!(script.out(), []);
    script.control(0, Control::Applied(2));
    let settled = Control::Settled(2);
    assert_eq!(script.out(), [(0, settled.clone()), (1, settled), answer(1, 5, Answer::Done)]);
    assert!(script.0.is_idle());
}

#[test]
fn two_declares_of_one_name_make_one_queue() {
    let mut script = Script::new();
    script.ask(0, 1, declare(queue("q", None)));
    script.ask(1, 2, declare(queue("q", None)));
    let out = script.settle();
    let [(home, Control::Create(_, spec))] = &out[..] else { panic!("{out:?}") };
    script.control(*home, Control::Created(spec.id));
    assert_eq!(script.settle(), [answer(0, 1, Answer::Done), answer(1, 2, Answer::Done)]);
}

#[test]
fn what_changes_nothing_waits_for_what_was_decided_before() {
    let mut script = Script::new();
    script.declare(queue("q", None));
    script.ask(0, 1, bind(to_queue("amq.fanout", "q")));
    script.ask(1, 2, bind(to_queue("amq.fanout", "q")));
    script.ask(1, 3, Request::Sync);
    let version = script.0.topology().version();
    assert_eq!(script.out().len(), 2);
    script.control(0, Control::Applied(version));
    assert_eq!(script.out(), []);
    script.control(1, Control::Applied(version));
    let answers = [(0, 1), (1, 2), (1, 3)].map(|(to, ticket)| answer(to, ticket, Answer::Done));
    assert_eq!(script.out()[2..], answers);
}

#[test]
fn queues_are_balanced_but_for_those_that_live_with_their_connection() {
    let mut script = Script::new();
    let mut home = |name: &str, owner, server_named| {
        script.declare(QueueSpec { server_named, ..queue(name, owner) }).1
    };
    assert_eq!(home("a", Some(ANNA), false), 0);
    assert_eq!(home("b", None, true), 0);
    assert_eq!(home("c", None, false), 1);
    assert_eq!(home("d", None, false), 1);
    assert_eq!(home("e", None, false), 0);
    assert_eq!(home("f", None, false), 1);
}

#[test]
fn a_queue_is_frozen_forgotten_everywhere_and_dropped() {
    let mut script = Script::new();
    let (id, home) = script.declare(queue("q", None));
    script.ask(1, 7, delete("q", ANNA));
    assert_eq!(script.out(), [(home, freeze(id, true))]);
    let in_use = Refusal::InUse(Resource::queue("/", "q"));
    script.control(home, Control::Frozen(id, Err(in_use.clone())));
    assert_eq!(script.settle(), [answer(1, 7, Answer::Refused(in_use))]);
    script.ask(1, 8, delete("q", ANNA));
    script.ask(0, 9, delete("q", OTTO));
    assert_eq!(script.out(), [(home, freeze(id, true))]);
    script.control(home, Control::Frozen(id, Ok(3)));
    let expected = [
        (home, Control::Drop(id)),
        answer(1, 8, Answer::Deleted(3)),
        answer(0, 9, Answer::Deleted(0)),
    ];
    assert_eq!(script.settle(), expected);
    assert_eq!(script.answer(delete("q", ANNA)), Answer::Deleted(0));
}

#[test]
fn deletes_of_a_queue_in_the_making_wait_for_it() {
    let mut script = Script::new();
    script.ask(0, 1, declare(queue("q", None)));
    script.ask(0, 2, delete("q", ANNA));
    let out = script.settle();
    let [(home, Control::Create(_, spec))] = &out[..] else { panic!("{out:?}") };
    script.control(*home, Control::Created(spec.id));
    assert_eq!(script.settle(), [(*home, freeze(spec.id, true)), answer(0, 1, Answer::Done)]);
    script.control(*home, Control::Frozen(spec.id, Ok(0)));
    let expected = [(*home, Control::Drop(spec.id)), answer(0, 2, Answer::Deleted(0))];
    assert_eq!(script.settle(), expected);
}

#[test]
fn a_name_is_taken_again_when_its_old_queue_is_gone() {
    let mut script = Script::new();
    let (id, home) = script.declare(queue("q", None));
    script.ask(0, 1, delete("q", ANNA));
    script.settle();
    script.ask(0, 2, declare(queue("q", None)));
    assert_eq!(script.settle(), []);
    script.control(home, Control::Frozen(id, Ok(0)));
    let out = script.settle();
    let [drop, deleted, (home, Control::Create(_, spec))] = &out[..] else { panic!("{out:?}") };
    assert_eq!(*drop, (0, Control::Drop(id)));
    assert_eq!(*deleted, answer(0, 1, Answer::Deleted(0)));
    assert!(spec.id > id);
    script.control(*home, Control::Created(spec.id));
    assert_eq!(script.settle(), [answer(0, 2, Answer::Done)]);
    assert!(script.0.is_idle());
}

#[test]
fn another_connections_queue_is_locked() {
    let mut script = Script::new();
    script.declare(queue("q", Some(OTTO)));
    let locked = Answer::Refused(Refusal::Locked(Resource::queue("/", "q")));
    assert_eq!(script.answer(delete("q", ANNA)), locked);
    assert_eq!(script.answer(bind(to_queue("amq.fanout", "q"))), locked);
    // Nothing is bound, so there is nothing to be locked out of.
    assert_eq!(script.answer(unbind(to_queue("amq.fanout", "q"))), Answer::Done);
    let owners = Request::Bind("/".into(), to_queue("amq.fanout", "q"), OTTO);
    assert_eq!(script.answer(owners), Answer::Done);
    assert_eq!(script.answer(unbind(to_queue("amq.fanout", "q"))), locked);
}

#[test]
fn an_unused_queue_is_deleted_without_a_freeze() {
    let mut script = Script::new();
    let (id, home) = script.declare(queue("q", None));
    script.ask(1, 1, Request::AwaitDeleted(id));
    assert_eq!(script.settle(), []);
    script.control(home, Control::Unused(id));
    assert_eq!(script.settle(), [(home, Control::Drop(id)), answer(1, 1, Answer::Done)]);
    assert_eq!(script.answer(Request::AwaitDeleted(id)), Answer::Done);
}

#[test]
fn an_unused_queue_that_is_being_frozen_is_deleted_once() {
    for frozen_first in [false, true] {
        let mut script = Script::new();
        let (id, home) = script.declare(queue("q", None));
        script.ask(0, 1, delete("q", ANNA));
        assert_eq!(script.settle(), [(home, freeze(id, true))]);
        script.control(home, Control::Unused(id));
        if !frozen_first {
            assert_eq!(script.settle(), []);
        }
        script.control(home, Control::Frozen(id, Ok(4)));
        let expected = [(home, Control::Drop(id)), answer(0, 1, Answer::Deleted(4))];
        assert_eq!(script.settle(), expected);
        assert!(script.0.is_idle());
    }
}

#[test]
fn a_connection_takes_its_queues_with_it() {
    let mut script = Script::new();
    assert_eq!(script.answer(Request::ConnectionGone(ANNA)), Answer::Done);
    let (ready, _) = script.declare(queue("ready", Some(ANNA)));
    script.declare(queue("other", Some(OTTO)));
    script.ask(0, 1, declare(queue("creating", Some(ANNA))));
    let out = script.settle();
    let [(0, Control::Create(_, creating))] = &out[..] else { panic!("{out:?}") };
    script.ask(0, 2, Request::ConnectionGone(ANNA));
    assert_eq!(script.settle(), [(0, freeze(ready, false))]);
    script.control(0, Control::Frozen(ready, Ok(9)));
    assert_eq!(script.settle(), [(0, Control::Drop(ready))]);
    script.control(0, Control::Created(creating.id));
    assert_eq!(script.settle(), [(0, freeze(creating.id, false)), answer(0, 1, Answer::Done)]);
    script.control(0, Control::Frozen(creating.id, Ok(0)));
    let expected = [(0, Control::Drop(creating.id)), answer(0, 2, Answer::Done)];
    assert_eq!(script.settle(), expected);
    assert!(script.0.is_idle());
}

#[test]
fn a_connection_that_is_gone_overrides_a_freeze_that_was_refused() {
    let mut script = Script::new();
    let (id, home) = script.declare(queue("q", Some(ANNA)));
    script.ask(0, 1, delete("q", ANNA));
    script.ask(0, 2, Request::ConnectionGone(ANNA));
    assert_eq!(script.settle(), [(home, freeze(id, true))]);
    let in_use = Refusal::InUse(Resource::queue("/", "q"));
    script.control(home, Control::Frozen(id, Err(in_use.clone())));
    let expected = [answer(0, 1, Answer::Refused(in_use)), (home, freeze(id, false))];
    assert_eq!(script.settle(), expected);
    script.control(home, Control::Frozen(id, Ok(0)));
    assert_eq!(script.settle(), [(home, Control::Drop(id)), answer(0, 2, Answer::Done)]);
}

#[test]
fn a_declare_that_waited_longer_than_its_connection_makes_nothing() {
    let mut script = Script::new();
    let (id, home) = script.declare(queue("q", None));
    script.ask(0, 1, delete("q", OTTO));
    script.ask(0, 2, declare(queue("q", Some(ANNA))));
    script.ask(0, 3, Request::ConnectionGone(ANNA));
    assert_eq!(script.settle(), [(home, freeze(id, true))]);
    script.control(home, Control::Frozen(id, Ok(0)));
    let nobody = Answer::Refused(Refusal::NotFound(Resource::queue("/", "q")));
    let expected = [
        (home, Control::Drop(id)),
        answer(0, 1, Answer::Deleted(0)),
        answer(0, 2, nobody),
        answer(0, 3, Answer::Done),
    ];
    assert_eq!(script.settle(), expected);
    assert!(script.0.is_idle());
}

#[test]
fn exchanges_come_and_go() {
    let mut script = Script::new();
    script.exchange("x", false);
    let version = script.0.topology().version();
    script.exchange("x", true);
    assert_eq!(script.0.topology().version(), version);
    script.declare(queue("q", None));
    assert_eq!(script.answer(bind(to_queue("x", "q"))), Answer::Done);
    let in_use = Refusal::InUse(Resource::exchange("/", "x"));
    assert_eq!(script.answer(delete_exchange("x", true)), Answer::Refused(in_use));
    assert_eq!(script.answer(delete_exchange("x", false)), Answer::Done);
    assert!(!script.has_exchange("x"));
    assert_eq!(script.answer(delete_exchange("x", false)), Answer::Done);
    let refusal = Answer::Refused(Refusal::DefaultExchange);
    assert_eq!(script.answer(delete_exchange("", false)), refusal);
    let system = Refusal::SystemExchange(Resource::exchange("/", "amq.topic"));
    assert_eq!(script.answer(delete_exchange("amq.topic", false)), Answer::Refused(system));
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let mut script = Script::new();
    script.declare(queue("q", None));
    script.exchange("x", true);
    assert_eq!(script.answer(unbind(to_queue("x", "q"))), Answer::Done);
    assert!(script.has_exchange("x"));
    script.answer(bind(to_queue("x", "q")));
    let other = Binding { key: "other".into(), ..to_queue("x", "q") };
    script.answer(bind(other.clone()));
    script.answer(unbind(to_queue("x", "q")));
    assert!(script.has_exchange("x"));
    script.answer(unbind(other));
    assert!(!script.has_exchange("x"));
}

#[test]
fn auto_delete_goes_on_from_a_queue_through_exchanges() {
    let mut script = Script::new();
    let (id, home) = script.declare(queue("q", None));
    for (name, auto_delete) in [("a", true), ("b", true), ("c", false)] {
        script.exchange(name, auto_delete);
    }
    script.answer(bind(to_queue("b", "q")));
    script.answer(bind(binding("a", Destination::Exchange("b".into()))));
    script.answer(bind(binding("c", Destination::Exchange("a".into()))));
    script.control(home, Control::Unused(id));
    assert_eq!(script.settle(), [(home, Control::Drop(id))]);
    assert_eq!(["a", "b", "c"].map(|name| script.has_exchange(name)), [false, false, true]);
    script.exchange("a", true);
    script.exchange("b", true);
    script.answer(bind(binding("a", Destination::Exchange("b".into()))));
    script.answer(delete_exchange("b", false));
    assert!(!script.has_exchange("a"));
}

#[test]
fn bindings_need_both_ends() {
    let mut script = Script::new();
    script.declare(queue("q", None));
    let no_queue = Answer::Refused(Refusal::NotFound(Resource::queue("/", "r")));
    let no_exchange = Answer::Refused(Refusal::NotFound(Resource::exchange("/", "x")));
    let default = Answer::Refused(Refusal::DefaultExchange);
    let to_exchange = |name: &str| binding("amq.fanout", Destination::Exchange(name.into()));
    assert_eq!(script.answer(bind(to_queue("amq.fanout", "r"))), no_queue);
    assert_eq!(script.answer(bind(to_queue("x", "q"))), no_exchange);
    assert_eq!(script.answer(bind(to_exchange("x"))), no_exchange);
    assert_eq!(script.answer(bind(to_queue("", "q"))), default);
    assert_eq!(script.answer(bind(to_exchange(""))), default);
    assert_eq!(script.answer(unbind(to_queue("", "q"))), default);
    assert_eq!(script.answer(unbind(to_queue("amq.fanout", "r"))), Answer::Done);
    assert_eq!(script.answer(unbind(to_queue("x", "q"))), Answer::Done);
    let table = TableWriter::new().with("x-match", Value::LongString(b"some"));
    let bad = Binding { arguments: table.table().into(), ..to_queue("amq.match", "q") };
    assert!(matches!(script.answer(bind(bad)), Answer::Refused(Refusal::InvalidXMatch(_))));
    assert_eq!(script.answer(Request::Bind("v".into(), to_queue("x", "q"), ANNA)), Answer::NoVhost);
}

#[test]
fn users_log_in_and_open_vhosts() {
    let mut script = Script::new();
    assert_eq!(script.answer(login("guest", "guest")), Answer::LoggedIn);
    let refused = |why, wait_us| Answer::LoginRefused { why, wait_us };
    let elsewhere = Request::Login(LoginAttempt {
        user: "guest".into(),
        password: "guest".into(),
        from: [192, 0, 2, 1].into(),
    });
    let not_local = refused(LoginRefusal::NotLocal, 8_000);
    assert_eq!(script.answer(elsewhere), not_local);
    let wrong = refused(LoginRefusal::Credentials, 8_000);
    assert_eq!(script.answer(login("guest", "wrong")), wrong);
    let open = |user: &str, vhost: &str| {
        let (user, vhost) = (user.into(), vhost.into());
        Request::OpenVhost { conn: ConnId(1), user, vhost }
    };
    let opened = Answer::Opened { rights: Rights::ALL, counts_channels: false };
    assert_eq!(script.answer(open("guest", "/")), opened);
    assert_eq!(script.answer(open("guest", "v")), Answer::NoVhost);
    assert_eq!(script.answer(open("otto", "/")), Answer::VhostRefused);
}

#[test]
fn the_alarms_go_to_every_shard() {
    let mut script = Script::new();
    let everywhere = |memory, disk| {
        let alarm = Control::Alarm(Alarms { memory, disk });
        [(0, alarm.clone()), (1, alarm)]
    };
    script.control(0, Control::Memory(600_000_000));
    assert_eq!(script.out(), []);
    script.control(1, Control::Memory(600_000_000));
    assert_eq!(script.out(), everywhere(true, false));
    script.0.disk_is_low(true);
    assert_eq!(script.out(), everywhere(true, true));
    script.control(0, Control::Memory(100_000_000));
    assert_eq!(script.out(), everywhere(false, true));
    script.0.disk_is_low(false);
    script.0.disk_is_low(false);
    assert_eq!(script.out(), everywhere(false, false));
}
