//! Alternate exchanges that policies give: a change of a policy changes the routes at once.

use amqp::{Method, Table, TableWriter, Value};
use model::access::command::{AdminAnswer, AdminCommand};
use model::policy::{ApplyTo, Policy, PolicyScope, PolicyValue};

use crate::rig::{self, Client, Rig};

fn done(broker: &mut Rig, command: AdminCommand) {
    broker.administer(1, command);
    broker.settle();
    assert_eq!(broker.administered(), Some((1, AdminAnswer::Done)));
}

fn policy(name: &str, pattern: &str, priority: i64, alternate: &str) -> AdminCommand {
    let definition = [("alternate-exchange".into(), PolicyValue::Text(alternate.into()))].into();
    let (name, pattern, apply_to) = (name.into(), pattern.into(), ApplyTo::Exchanges);
    let policy = Policy { name, pattern, apply_to, priority, definition };
    AdminCommand::SetPolicy("/".into(), PolicyScope::User, policy)
}

fn clear(name: &str) -> AdminCommand {
    AdminCommand::ClearPolicy("/".into(), PolicyScope::User, name.into())
}

fn exchange<'a>(exchange: &'a str, kind: &'a str, arguments: Table<'a>) -> Method<'a> {
    Method::ExchangeDeclare {
        ticket: 0,
        exchange,
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments,
    }
}

/// A broker with the queues `one` and `two`, each behind a fanout exchange of its name.
fn broker() -> (Rig, Client) {
    let mut broker = Rig::new(2);
    let client = broker.client(0);
    for name in ["one", "two"] {
        broker.call(client, 1, &rig::declare(name, false));
        broker.call(client, 1, &exchange(name, "fanout", Table::EMPTY));
        let (ticket, routing_key, nowait, arguments) = (0, "", false, Table::EMPTY);
        let (queue, exchange) = (name, name);
        let bind = Method::QueueBind { ticket, queue, exchange, routing_key, nowait, arguments };
        broker.call(client, 1, &bind);
    }
    (broker, client)
}

/// Where a message to the exchange goes; a client on each shard publishes one.
fn way(broker: &mut Rig, clients: [Client; 2], exchange: &str) -> &'static str {
    for client in clients {
        let (ticket, routing_key, mandatory, immediate) = (0, "k", false, false);
        let method = Method::BasicPublish { ticket, exchange, routing_key, mandatory, immediate };
        let mut bytes = rig::encoded(1, &method);
        let properties = amqp::Properties::EMPTY;
        amqp::frame::write_header(&mut bytes, 1, 0, properties.encoded());
        assert!(broker.send(client, &bytes).is_empty());
    }
    let mut count = |queue| {
        let (mut count, ticket, no_ack) = (0, 0, true);
        let get = Method::BasicGet { ticket, queue, no_ack };
        while rig::names(&broker.call(clients[0], 1, &get)) == ["BasicGetOk"] {
            count += 1;
        }
        count
    };
    match (count("one"), count("two")) {
        (0, 0) => "nowhere",
        (2, 0) => "one",
        (0, 2) => "two",
        other => panic!("{other:?}"),
    }
}

fn run() {
    let (mut broker, client) = broker();
    let clients = [client, broker.client(1)];
    let declared = TableWriter::new().with("alternate-exchange", Value::LongString(b"two"));
    broker.call(client, 1, &exchange("x", "topic", Table::EMPTY));
    broker.call(client, 1, &exchange("x-own", "topic", declared.table()));
    assert_eq!(way(&mut broker, clients, "x"), "nowhere");
    done(&mut broker, policy("p", "^x", 0, "one"));
    assert_eq!(way(&mut broker, clients, "x"), "one");
    assert_eq!(way(&mut broker, clients, "x-own"), "two", "the argument counts");
    assert_eq!(way(&mut broker, clients, ""), "nowhere", "the default exchange has none");
    // An exchange that is declared later has it at once, one of the standard too.
    broker.call(client, 1, &exchange("x-new", "headers", Table::EMPTY));
    assert_eq!(way(&mut broker, clients, "x-new"), "one");
    done(&mut broker, policy("amq", "^amq.direct$", 0, "one"));
    assert_eq!(way(&mut broker, clients, "amq.direct"), "one");
    // The highest priority counts, even if what it names does not exist.
    done(&mut broker, policy("higher", "^x", 1, "two"));
    assert_eq!(way(&mut broker, clients, "x"), "two");
    done(&mut broker, policy("higher", "^x", 1, "nosuch"));
    assert_eq!(way(&mut broker, clients, "x"), "nowhere");
    done(&mut broker, clear("higher"));
    assert_eq!(way(&mut broker, clients, "x"), "one");
    done(&mut broker, clear("p"));
    assert_eq!(way(&mut broker, clients, "x"), "nowhere");
    assert_eq!(way(&mut broker, clients, "x-own"), "two");
    clients.into_iter().for_each(|client| broker.vanish(client));
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn a_policy_gives_exchanges_an_alternate_and_takes_it_again() {
    run();
}

/// Every fault in policies for exchanges shows in this run.
#[cfg(feature = "mutants")]
#[test]
fn faults_in_policies_for_exchanges_are_found() {
    use model::mutant::{Mutant, select};
    for mutant in Mutant::POLICIES.iter().copied() {
        select(Some(mutant));
        let caught = std::panic::catch_unwind(run).is_err();
        select(None);
        assert!(caught, "{mutant:?} is not found");
    }
}
