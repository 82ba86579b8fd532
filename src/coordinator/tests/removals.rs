//! What goes with many bindings goes in pieces, and others do not wait for it.

use model::topology::Change;
use model::topology::spec::{Binding, Destination, ExchangeSpec, QueueSpec};
use model::{ConnId, RequestId};

use crate::coordinator::tests::replica::Replica;
use crate::coordinator::tests::script::{Script, bind, binding, config, exchange, queue, unbind};
use crate::coordinator::{Coordinator, CoordinatorConfig};
use crate::mesh::control::{Answer, Control, Request};

const AT_ONCE: usize = 10;
const MANY: usize = 95;

fn script() -> Script {
    let config = CoordinatorConfig { removed_at_once: AT_ONCE, ..config() };
    let mut script = Script(Coordinator::new(config));
    script.settle();
    script
}

fn labelled(source: &str, destination: Destination, number: usize) -> Binding {
    Binding { key: number.to_string().into(), ..binding(source, destination) }
}

/// An exchange of many bindings, durable with all of them; and a small one.
fn many_bindings(script: &mut Script) {
    for name in ["large", "small"] {
        let spec = ExchangeSpec { durable: true, ..exchange(name, false) };
        let answer = script.answer(Request::DeclareExchange("/".into(), spec));
        assert_eq!(answer, Answer::Done);
    }
    script.declare(QueueSpec { durable: true, ..queue("q", None) });
    for number in 0..MANY {
        let binding = labelled("large", Destination::Queue("q".into()), number);
        assert_eq!(script.answer(bind(binding)), Answer::Done);
    }
    let both = labelled("large", Destination::Exchange("large".into()), 0);
    assert_eq!(script.answer(bind(both)), Answer::Done);
}

/// Lets shards apply what is sent, round by round; the most changes of a round, and the answers.
fn rounds(script: &mut Script, replica: &mut Replica) -> (usize, Vec<(usize, RequestId, Answer)>) {
    let (mut most, mut answers) = (0, Vec::new());
    for round in 0.. {
        let records = script.0.take_records();
        replica.follow_removal(&records, &script.0);
        let out = script.out();
        if out.is_empty() {
            break;
        }
        let changes =
            |(to, control): &&(u16, Control)| *to == 0 && matches!(control, Control::Apply(_, _));
        most = most.max(out.iter().filter(changes).count());
        for (to, control) in out {
            match control {
                Control::Apply(version, _) => script.control(to, Control::Applied(version)),
                Control::Answer(request, answer) => answers.push((round, request, answer)),
                Control::Settled(_) => {}
                Control::Freeze { queue, .. } => script.control(to, Control::Frozen(queue, Ok(0))),
                Control::Drop(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    (most, answers)
}

fn delete_exchange(name: &str) -> Request {
    Request::DeleteExchange { vhost: "/".into(), name: name.into(), if_unused: false }
}

fn delete_queue(name: &str) -> Request {
    let (if_unused, if_empty, conn) = (false, false, ConnId(1));
    Request::DeleteQueue { vhost: "/".into(), name: name.into(), if_unused, if_empty, conn }
}

/// Deletes what has many bindings, and something small behind it.
fn deleted_in_pieces(large: &Request) {
    let (mut script, mut replica) = (script(), Replica::default());
    many_bindings(&mut script);
    rounds(&mut script, &mut replica);
    script.ask(0, 1, large.clone());
    script.ask(0, 2, delete_exchange("small"));
    let (most, answers) = rounds(&mut script, &mut replica);
    assert!(most <= AT_ONCE, "{most} changes at once");
    let [(early, small, Answer::Done), (late, large, _)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!((small.0, large.0), (2, 1));
    assert!(*early <= 3 && *late >= MANY / AT_ONCE, "rounds {early} and {late}");
    assert!(script.0.topology().vhost("/").unwrap().bindings().next().is_none());
    assert!(script.0.is_idle());
    replica.restart(config());
}

fn an_exchange_goes_in_pieces() {
    deleted_in_pieces(&delete_exchange("large"));
}

#[test]
fn an_exchange_with_many_bindings_goes_in_pieces_and_others_do_not_wait() {
    an_exchange_goes_in_pieces();
}

#[test]
fn a_queue_with_many_bindings_goes_in_pieces_and_others_do_not_wait() {
    let (mut script, mut replica) = (script(), Replica::default());
    many_bindings(&mut script);
    script.ask(0, 3, unbind(labelled("large", Destination::Exchange("large".into()), 0)));
    rounds(&mut script, &mut replica);
    deleted_in_pieces_of_queue(script, replica);
}

fn deleted_in_pieces_of_queue(mut script: Script, mut replica: Replica) {
    script.ask(0, 1, delete_queue("q"));
    // Frozen first.
    let (most, answers) = rounds(&mut script, &mut replica);
    assert!(most <= AT_ONCE, "{most} changes at once");
    assert!(matches!(&answers[..], [(late, RequestId(1), Answer::Deleted(0))] if *late > 9));
    assert!(script.0.is_idle());
    replica.restart(config());
}

#[test]
fn a_crash_before_the_last_piece_brings_everything_back_but_what_was_unbound() {
    let (mut script, mut replica) = (script(), Replica::default());
    many_bindings(&mut script);
    rounds(&mut script, &mut replica);
    script.ask(0, 1, delete_exchange("large"));
    // Some bindings are gone for the shards; one of those is unbound by its client.
    let gone = script.out().into_iter().find_map(|(_, control)| match control {
        Control::Apply(_, Change::Unbound(_, binding)) => Some(binding),
        _ => None,
    });
    script.ask(0, 2, unbind(gone.clone().unwrap()));
    assert_eq!(replica.follow_removal(&script.0.take_records(), &script.0), 1);
    let after = replica.restart(config());
    let vhost = after.topology().vhost("/").unwrap();
    assert_eq!(vhost.bindings().count(), MANY);
    assert!(!vhost.has_binding(&gone.unwrap()));
}

#[test]
fn a_long_chain_of_auto_delete_exchanges_goes_in_pieces() {
    let (mut script, mut replica) = (script(), Replica::default());
    let name = |number: usize| format!("e{number}");
    for number in 0..MANY {
        let request = Request::DeclareExchange("/".into(), exchange(&name(number), true));
        assert_eq!(script.answer(request), Answer::Done);
    }
    script.declare(queue("q", None));
    for number in 0..MANY {
        let to = match number {
            0 => Destination::Queue("q".into()),
            _ => Destination::Exchange(name(number - 1).into()),
        };
        assert_eq!(script.answer(bind(binding(&name(number), to))), Answer::Done);
    }
    script.ask(0, 1, unbind(binding("e0", Destination::Queue("q".into()))));
    let (most, answers) = rounds(&mut script, &mut replica);
    assert!(most <= AT_ONCE + 1, "{most} changes at once");
    assert!(
        matches!(&answers[..], [(late, RequestId(1), Answer::Done)] if *late > 9),
        "{answers:?}"
    );
    let left = script.0.topology().vhost("/").unwrap().exchanges();
    assert_eq!(left.filter(|exchange| exchange.spec.auto_delete).count(), 0);
}

fn exclusive_queues_go_some_at_a_time() {
    const QUEUES: usize = 600;
    let (mut script, owner) = (script(), ConnId(7));
    for number in 0..QUEUES {
        script.declare(queue(&format!("x{number}"), Some(owner)));
    }
    script.ask(0, 1, Request::ConnectionGone(owner));
    let mut gone = 0;
    loop {
        let out = script.out();
        if out.is_empty() {
            break;
        }
        let mut frozen = Vec::new();
        for (to, control) in out {
            match control {
                Control::Apply(version, _) => script.control(to, Control::Applied(version)),
                Control::Freeze { queue, .. } => frozen.push((to, queue)),
                Control::Answer(RequestId(1), Answer::Done) => assert_eq!(gone, QUEUES),
                Control::Settled(_) | Control::Drop(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(frozen.len() <= 256, "{} at once", frozen.len());
        gone += frozen.len();
        for (to, queue) in frozen {
            script.control(to, Control::Frozen(queue, Ok(0)));
        }
    }
    assert_eq!((gone, script.0.is_idle()), (QUEUES, true));
}

#[test]
fn the_exclusive_queues_of_a_connection_go_some_at_a_time() {
    exclusive_queues_go_some_at_a_time();
}

#[cfg(feature = "mutants")]
#[test]
fn what_goes_at_once_is_found_out() {
    use model::mutant::{Mutant, select};
    select(Some(Mutant::BindingsUncut));
    let bindings = std::panic::catch_unwind(an_exchange_goes_in_pieces).is_err();
    select(Some(Mutant::ExclusiveUncut));
    let exclusive = std::panic::catch_unwind(exclusive_queues_go_some_at_a_time).is_err();
    select(None);
    assert!(bindings && exclusive);
}
