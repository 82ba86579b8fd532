//! Commands of an operator, and what clients see of them.

use std::time::{Duration, Instant};

use amqp::Method;
use model::{Refusal, Resource};
use ringtail::mesh::inspect::{CoordinatorAnswer, ShardAnswer};

use crate::broker::{Broker, PATIENCE, SHARDS};
use crate::client::Client;

fn not_found(name: &str) -> Refusal {
    Refusal::NotFound(Resource::queue("/", name))
}

#[test]
fn a_client_is_told_why_an_operator_closes_its_connection() {
    let broker = Broker::start();
    let (mut client, other) =
        (Client::connect(broker.address()), Client::connect(broker.address()));
    client.declare_with("own", true, false);
    let conn = broker.connection(client.address()).id;
    assert_eq!(broker.close(conn, "Closed via\nmanagement plugin"), ShardAnswer::Closing);
    let payload = client.expect("ConnectionClose");
    let Ok(Method::ConnectionClose { reply_code, reply_text, class_id, method_id }) =
        Method::read(&payload)
    else {
        panic!("{payload:?}")
    };
    assert_eq!(reply_text, "CONNECTION_FORCED - Closed viamanagement plugin");
    assert_eq!((reply_code, class_id, method_id), (320, 0, 0));
    assert!(matches!(broker.close(conn, "again"), ShardAnswer::Closing));
    client.send(0, &Method::ConnectionCloseOk {});
    assert!(!client.read());
    drop(client);
    until(|| broker.connections().len() == 1);
    assert_eq!(broker.close(conn, "too late"), ShardAnswer::NoConnection);
    assert_eq!(broker.connection(other.address()).channels, 1);
    // What was its own is gone, as after any other end.
    until(|| broker.queues().is_empty());
}

#[test]
fn a_queue_is_purged_from_any_shard() {
    let broker = Broker::start();
    let mut client = Client::connect(broker.address());
    for queue in ["a", "b"] {
        client.declare(queue);
        for shard in 0..usize::from(SHARDS) {
            for _ in 0..5 {
                client.publish(1, ("", queue), false);
            }
            client.get(1, queue, true, "BasicGetOk");
            assert_eq!(broker.purge(shard, queue), ShardAnswer::Purged(4));
            client.get(1, queue, true, "BasicGetEmpty");
        }
    }
    client.declare_with("own", true, false);
    let locked = Refusal::Locked(Resource::queue("/", "own"));
    for shard in 0..usize::from(SHARDS) {
        assert_eq!(broker.purge(shard, "none"), ShardAnswer::Refused(not_found("none")));
        assert_eq!(broker.purge(shard, "own"), ShardAnswer::Refused(locked.clone()));
    }
}

#[test]
fn a_queue_is_deleted_under_the_conditions_of_a_client() {
    let broker = Broker::start();
    let mut client = Client::connect(broker.address());
    client.declare("q");
    let q = || Resource::queue("/", "q");
    let refused = |refusal| CoordinatorAnswer::Refused(refusal);
    client.publish(1, ("", "q"), false);
    client.get(1, "q", false, "BasicGetOk");
    client.publish(1, ("", "q"), false);
    client.declare("q");
    assert_eq!(broker.delete("q", false, true), refused(Refusal::NotEmpty(q())));
    client.open(2);
    client.consume(2, "q", "tag", true);
    client.expect("BasicDeliver");
    assert_eq!(broker.delete("q", true, false), refused(Refusal::InUse(q())));
    assert_eq!(broker.delete("q", false, false), CoordinatorAnswer::Deleted(0));
    // It is gone everywhere by now, and its name free.
    assert!(broker.queues().is_empty());
    assert_eq!(broker.delete("q", false, false), refused(not_found("q")));
    client.declare("q");
    client.declare_with("own", true, false);
    let locked = Refusal::Locked(Resource::queue("/", "own"));
    assert_eq!(broker.delete("own", false, false), refused(locked));
}

fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
}
