//! What is recorded, decision by decision, and what a restart makes of it.

use model::topology::spec::{Binding, Destination, ExchangeSpec, QueueSpec};
use model::{ConnId, QueueId, RequestId, ShardId};

use crate::coordinator::CoordinatorConfig;
use crate::coordinator::tests::replica::Replica;
use crate::coordinator::tests::script::{
    Script, bind, binding, config, declare, delete, delete_exchange, exchange, login, queue,
    to_queue, unbind,
};
use crate::mesh::control::{Answer, Control, Request};

const ANNA: ConnId = ConnId(1);

/// A script whose records are followed.
struct Recorded {
    script: Script,
    replica: Replica,
}

impl Recorded {
    fn new() -> Self {
        let mut recorded = Self { script: Script::new(), replica: Replica::default() };
        // The first vhost, the first user, its permissions, and that these are looked at.
        assert_eq!(recorded.recorded(), 4);
        recorded
    }

    /// How many facts there are since the last call.
    fn recorded(&mut self) -> usize {
        let records = self.script.0.take_records();
        self.replica.follow(&records, self.script.0.topology())
    }

    /// Asks to the end; how many facts that made.
    fn ask(&mut self, request: Request) -> usize {
        assert_eq!(self.script.answer(request), Answer::Done);
        self.recorded()
    }

    fn declare(&mut self, spec: QueueSpec) -> (QueueId, u16, usize) {
        let (id, home) = self.script.declare(spec);
        (id, home, self.recorded())
    }

    fn exchange(&mut self, name: &str, durable: bool, auto_delete: bool) -> usize {
        let spec = ExchangeSpec { durable, ..exchange(name, auto_delete) };
        self.ask(Request::DeclareExchange("/".into(), spec))
    }

    fn restart(&self, shards: u16) -> Script {
        let mut script = Script(self.replica.restart(CoordinatorConfig { shards, ..config() }));
        script.settle();
        script
    }
}

fn durable(name: &str) -> QueueSpec {
    QueueSpec { durable: true, ..queue(name, None) }
}

fn to_exchange(source: &str, name: &str) -> Binding {
    binding(source, Destination::Exchange(name.into()))
}

#[test]
fn only_what_is_durable_is_recorded_and_of_bindings_what_joins_it() {
    let mut recorded = Recorded::new();
    // The first queue takes a record for the identities.
    assert_eq!(recorded.declare(queue("transient", None)).2, 1);
    assert_eq!(recorded.declare(durable("q")).2, 1);
    let exclusive = QueueSpec { owner: Some(ANNA), ..durable("exclusive") };
    assert_eq!(recorded.declare(exclusive).2, 0);
    assert_eq!(recorded.exchange("x", true, false), 1);
    assert_eq!(recorded.exchange("x", true, false), 0);
    assert_eq!(recorded.exchange("t", false, false), 0);
    for (bound, facts) in [
        (to_queue("x", "q"), 1),
        (to_queue("x", "q"), 0),
        (to_queue("amq.fanout", "q"), 1),
        (to_queue("t", "q"), 0),
        (to_queue("x", "transient"), 0),
        (to_queue("x", "exclusive"), 0),
        (to_exchange("x", "t"), 0),
        (to_exchange("x", "amq.fanout"), 1),
    ] {
        assert_eq!(recorded.ask(bind(bound)), facts);
    }
    assert_eq!(recorded.ask(unbind(to_queue("t", "q"))), 0);
    assert_eq!(recorded.ask(unbind(to_queue("amq.fanout", "q"))), 1);
    assert_eq!(recorded.ask(delete_exchange("t", false)), 0);
    assert_eq!(recorded.ask(delete_exchange("x", false)), 1);
}

#[test]
fn a_deletion_is_recorded_with_all_that_it_takes_along() {
    let mut recorded = Recorded::new();
    let (id, home, _) = recorded.declare(durable("q"));
    recorded.exchange("a", true, true);
    recorded.exchange("b", true, true);
    recorded.ask(bind(to_queue("b", "q")));
    recorded.ask(bind(to_exchange("a", "b")));
    recorded.script.ask(0, 1, delete("q", ANNA));
    assert_eq!(recorded.recorded(), 0);
    // Nothing is sent between the three: they are recorded at once.
    recorded.script.control(home, Control::Frozen(id, Ok(0)));
    assert_eq!(recorded.recorded(), 3);
    assert!(recorded.replica.0.vhosts["/"] == Default::default());
}

#[test]
fn homes_are_chosen_anew_for_any_number_of_shards() {
    let mut recorded = Recorded::new();
    for number in 0..20 {
        let server_named = number % 2 == 0;
        recorded.declare(QueueSpec { server_named, ..durable(&format!("q{number}")) });
    }
    for shards in 1..6 {
        // Looks at the balance.
        recorded.restart(shards);
    }
}

#[test]
fn a_restart_knows_everybody_and_answers_as_before() {
    let mut recorded = Recorded::new();
    recorded.declare(durable("q"));
    recorded.exchange("x", true, true);
    recorded.ask(bind(to_queue("x", "q")));
    let mut script = recorded.restart(1);
    assert_eq!(script.answer(login("guest", "guest")), Answer::LoggedIn);
    let version = script.0.topology().version();
    assert_eq!(script.answer(declare(durable("q"))), Answer::Done);
    assert_eq!(script.answer(bind(to_queue("x", "q"))), Answer::Done);
    assert_eq!(script.0.topology().version(), version);
    let [(vhost, spec)] = &script.0.durable_queues()[..] else { panic!("not one queue") };
    assert_eq!((&**vhost, &*spec.name, spec.home), ("/", "q", ShardId(0)));
    let id = spec.id;
    script.ask(0, 1, delete("q", ANNA));
    script.control(0, Control::Frozen(id, Ok(7)));
    let answer = Control::Answer(RequestId(1), Answer::Deleted(7));
    assert!(script.settle().contains(&(0, answer)));
    assert!(script.0.topology().vhost("/").unwrap().exchange("x").is_none());
}

#[test]
fn identities_are_never_given_out_again() {
    let mut recorded = Recorded::new();
    let mut youngest = QueueId(0);
    for number in 0..3000 {
        let (id, ..) = recorded.declare(queue(&format!("q{number}"), None));
        assert!(id > youngest && id < recorded.replica.0.queues_below);
        youngest = id;
    }
    for _ in 0..3 {
        let mut script = recorded.restart(2);
        let id = script.declare(durable("q")).0;
        assert!(id > youngest);
        youngest = id;
        recorded.script = script;
        recorded.recorded();
        let (home, mut script) = (0, recorded.restart(2));
        script.ask(0, 1, delete("q", ANNA));
        script.control(home, Control::Frozen(id, Ok(0)));
        recorded.script = script;
        recorded.recorded();
    }
}

#[test]
fn the_first_user_is_made_once() {
    let mut recorded = Recorded::new();
    let other = CoordinatorConfig {
        default_user: "anna".into(),
        default_pass: "secret".into(),
        default_vhost: "v".into(),
        ..config()
    };
    let mut again = Script(recorded.replica.restart(other));
    again.settle();
    assert!(again.0.topology().vhost("v").is_none());
    let answer = again.answer(login("anna", "secret"));
    assert!(matches!(answer, Answer::LoginRefused { .. }));
    assert_eq!(recorded.recorded(), 0);
}
