//! One publisher and one consumer through the pure shard, for a count of instructions: run it with
//! two numbers of rounds under callgrind, and the difference is what the messages cost.
//!
//! `shard CASE ROUNDS`, where CASE is `auto`, `ack` or `cross` (both hops over a batch) followed by
//! the bytes of a body, such as `ack-1024`. Every round is [`ROUND`] messages.

#[path = "../tests/rig/mod.rs"]
mod rig;

use amqp::methods::Method;
use rig::Rig;
use ringtail::shard::Outbox;

/// Messages in a round.
const ROUND: usize = 100;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let case = arguments.next().unwrap_or_else(|| "auto-16".into());
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(100);
    let (kind, size) = case.split_once('-').unwrap_or((&case, "16"));
    let size = size.parse().unwrap_or(16);
    let (shards, ack) = (if kind == "cross" { 2 } else { 1 }, kind == "ack");

    let mut rig = Rig::balanced(shards);
    let consumer = rig.client(0);
    let publisher = rig.client(usize::from(shards) - 1);
    rig.call(consumer, 1, &rig::declare("q", false));
    rig.call(consumer, 1, &rig::consume_with("q", !ack));
    let chunk = rig::publishes("q", size, ROUND);
    let (mut outbox, mut bytes, mut acks) = (Outbox::default(), Vec::new(), Vec::new());
    let mut delivered = 0;
    for _ in 0..rounds {
        rig.publish(publisher, &chunk);
        bytes.clear();
        rig.take_into(consumer, &mut outbox, &mut bytes);
        rig.settle();
        delivered += ROUND as u64;
        if ack {
            acks.clear();
            let method = Method::BasicAck { delivery_tag: delivered, multiple: true };
            amqp::frame::write_method(&mut acks, 1, &method);
            rig.send(consumer, &acks);
        }
    }
    // The last round is read, so that a broker that loses messages is not measured as a fast one.
    assert_eq!(rig::deliveries(&bytes), (ROUND, delivered));
    println!("{delivered} messages");
}
