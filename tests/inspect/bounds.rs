//! Long lists and careless askers next to a client that must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use amqp::Method;
use ringtail::mesh::inspect::{CHUNK_ROWS, Page, ShardAnswer, ShardRequest};
use ringtail::runtime::inspect::InspectError;

use crate::broker::{Broker, PATIENCE};
use crate::client::Client;

const QUEUES: usize = 12_000;

#[test]
fn many_queues_are_listed_in_chunks_while_a_neighbour_publishes() {
    let broker = Broker::start();
    let mut client = Client::connect(broker.address());
    for number in 0..QUEUES {
        client.declare_with(&format!("q{number}"), false, number % 500 != 0);
    }
    client.declare("busy");
    let stop = Arc::new(AtomicBool::new(false));
    let (address, told) = (broker.address(), Arc::clone(&stop));
    let neighbour = thread::spawn(move || publish_until(address, &told));
    for _ in 0..3 {
        let [known, here] = broker.queue_ids();
        assert!(known.is_sorted() && known.len() == QUEUES + 1);
        assert_eq!(known, here);
    }
    let queues = ShardRequest::Queues(Page { behind: None, most: usize::MAX });
    let ShardAnswer::Queues(chunk) = broker.shard(0, queues) else { panic!() };
    assert_eq!(chunk.items.len(), CHUNK_ROWS);
    stop.store(true, Ordering::Relaxed);
    let (rounds, worst) = neighbour.join().unwrap();
    println!("{rounds} confirms beside the lists, the slowest after {worst:?}");
    assert!(rounds > 0 && worst < Duration::from_secs(2), "{rounds} confirms, {worst:?}");
}

/// Publishes with confirms; how many, and the longest wait for one.
fn publish_until(address: std::net::SocketAddr, stop: &AtomicBool) -> (usize, Duration) {
    let mut client = Client::connect(address);
    client.call(1, &Method::ConfirmSelect { nowait: false }, "ConfirmSelectOk");
    let (mut rounds, mut worst) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) || rounds == 0 {
        let begun = Instant::now();
        client.publish(1, ("", "busy"), false);
        client.expect("BasicAck");
        worst = worst.max(begun.elapsed());
        rounds += 1;
    }
    (rounds, worst)
}

#[test]
fn who_does_not_take_answers_and_who_asks_too_much_disturb_nobody() {
    let broker = Broker::start();
    let mut client = Client::connect(broker.address());
    client.declare("q");
    let inspector = broker.inspector().clone();
    let careless = thread::spawn(move || {
        let mut busy = 0;
        for _ in 0..20_000 {
            // Nobody waits for the answer.
            match inspector.ask_shard(0, ShardRequest::Counts, Duration::ZERO) {
                Err(InspectError::Busy) => busy += 1,
                Ok(_) | Err(InspectError::Late) => {}
                Err(other) => panic!("{other}"),
            }
        }
        busy
    });
    for _ in 0..1000 {
        client.publish(1, ("", "q"), false);
        client.get(1, "q", true, "BasicGetOk");
    }
    println!("{} of 20000 questions were refused", careless.join().unwrap());
    assert!(matches!(broker.shard(0, ShardRequest::Counts), ShardAnswer::Counts(_)));
    let none = broker.inspector().ask_shard(9, ShardRequest::Counts, PATIENCE);
    assert_eq!(none, Err(InspectError::NoShard));
    let inspector = broker.inspector().clone();
    drop(client);
    drop(broker);
    let gone = inspector.ask_shard(0, ShardRequest::Counts, PATIENCE);
    assert_eq!(gone, Err(InspectError::Gone));
}
