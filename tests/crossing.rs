//! Every publish and every delivery crosses shards: the publisher on one, the queue on another, the
//! consumer on a third.

#[path = "rig/mod.rs"]
mod rig;

use amqp::Method;
use rig::{Client, Rig};

/// The shard that declares and consumes, the queue's home, the publisher's.
const CONSUMER: usize = 0;
const HOME: usize = 1;
const PUBLISHER: usize = 2;

fn crossing() -> (Rig, Client, Client) {
    let mut rig = Rig::new(3);
    let (consumer, publisher) = (rig.client(CONSUMER), rig.client(PUBLISHER));
    rig.call(consumer, 1, &rig::declare("q", false));
    (rig, consumer, publisher)
}

#[test]
fn messages_take_two_hops_and_confirms_come_back() {
    for size in [0, 16, 2048, 2049, 100_000] {
        let (mut rig, consumer, publisher) = crossing();
        rig.call(consumer, 1, &rig::consume_with("q", true));
        rig.call(publisher, 1, &Method::ConfirmSelect { nowait: false });
        let (published, delivered) = (rig.crossed(PUBLISHER, HOME), rig.crossed(HOME, CONSUMER));
        assert!(published < 100 && delivered < 200, "only questions so far");
        let confirmed = rig.send(publisher, &rig::publishes("q", size, 10));
        // A larger body goes by reference beside the records.
        let least = 10 * if size > 2048 { 16 } else { size.max(16) };
        assert!(rig.crossed(PUBLISHER, HOME) >= least, "the first hop");
        assert_eq!(rig::acks(&confirmed), [(10, true)], "{size}");
        // What has left for the socket gives credit for more.
        let mut got = Vec::new();
        while rig::deliveries(&got).0 < 10 {
            let more = rig.take(consumer);
            assert!(!more.is_empty(), "{} of 10", rig::deliveries(&got).0);
            got.extend(more);
        }
        assert_eq!(rig::deliveries(&got), (10, 10));
        assert!(rig.crossed(HOME, CONSUMER) >= least, "the second hop");
        assert_eq!(rig.crossed(PUBLISHER, CONSUMER), 0, "nothing goes straight");
    }
}

#[test]
fn what_is_not_settled_is_requeued_at_home() {
    let (mut rig, consumer, publisher) = crossing();
    rig.call(consumer, 1, &rig::consume("q"));
    rig.send(publisher, &rig::publishes("q", 16, 5));
    assert_eq!(rig::deliveries(&rig.take(consumer)), (5, 5));
    rig.call(consumer, 1, &Method::BasicAck { delivery_tag: 2, multiple: true });
    let close = Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    rig.call(consumer, 1, &close);
    rig.call(consumer, 1, &Method::ChannelOpen { out_of_band: "" });
    rig.crossed(HOME, CONSUMER);
    rig.call(consumer, 1, &rig::consume_with("q", true));
    rig.take(consumer);
    assert!(rig.crossed(HOME, CONSUMER) > 3 * 16, "three messages came again");
}
