//! One client asks for more than the work of a turn: it is done in pieces, in order, and others are
//! served in between. Work is counted, never timed.

use amqp::frame::{write_body, write_header};
use amqp::properties::Basic;
use amqp::table::ArrayWriter;
use amqp::{Method, Table, TableWriter, Value};
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

/// Units of work in a turn.
const WORK: u32 = 100;
/// What cannot be cut here, in units: a node of a topic exchange, the parts of one message.
const UNCUT: u64 = 16;

fn broker(shards: u16) -> Rig {
    Rig::configured(shards, u64::MAX, |config| config.turn_work = WORK)
}

/// A turn that is not too long; false if nothing moved.
fn turn(broker: &mut Rig, shard: usize) -> bool {
    let moved = broker.turn(shard);
    let (done, most) = broker.shards[shard].work_done();
    assert!(done <= most + UNCUT, "{done} units in a turn, at most {most}");
    moved
}

/// Turns until nothing moves, none of them too long; how many there were.
fn turns(broker: &mut Rig) -> usize {
    let mut count = 0;
    loop {
        let mut moved = false;
        for shard in 0..broker.shards.len() {
            moved |= turn(broker, shard);
        }
        count += 1;
        if !moved {
            return count;
        }
    }
}

fn bind(broker: &mut Rig, client: Client, queue: &str, exchange: &str, routing_key: &str) {
    let arguments = Table::EMPTY;
    let bind =
        Method::QueueBind { ticket: 0, queue, exchange, routing_key, nowait: false, arguments };
    broker.call(client, 1, &bind);
}

/// A publish to an exchange, with more routing keys in its header.
fn publish(exchange: &str, routing_key: &str, keys: &[String], body: &[u8]) -> Vec<u8> {
    let list = keys
        .iter()
        .fold(ArrayWriter::new(), |list, key| list.with(Value::LongString(key.as_bytes())));
    let headers = TableWriter::new().with("CC", Value::Array(list.array()));
    let mut properties = Vec::new();
    Basic { headers: Some(headers.table()), ..Basic::default() }.write(&mut properties);
    let (mandatory, immediate) = (false, false);
    let method = Method::BasicPublish { ticket: 0, exchange, routing_key, mandatory, immediate };
    let mut bytes = rig::encoded(1, &method);
    write_header(&mut bytes, 1, body.len() as u64, &properties);
    write_body(&mut bytes, 1, body, 131_072);
    bytes
}

#[test]
fn a_publish_with_many_keys_takes_many_turns_and_stays_in_order() {
    let mut broker = broker(1);
    let (client, other) = (broker.client(0), broker.client(0));
    broker.call(client, 1, &rig::declare("q", false));
    for n in 0..40 {
        bind(&mut broker, client, "q", "amq.topic", &format!("#.a.#.b{n}.#.*.#"));
    }
    broker.call(client, 1, &Method::ConfirmSelect { nowait: false });
    let keys: Vec<String> = (0..800).map(|n| format!("a.a.a.b{}.c{n}", n % 40)).collect();
    broker.receive(
        client,
        &[publish("amq.topic", "x", &keys, b"1"), rig::publish("q", b"2")].concat(),
    );
    assert_eq!(broker.gate(client), Gate::Paused);
    // Another client is served meanwhile.
    broker.receive(other, &rig::encoded(1, &rig::declare("r", false)));
    for _ in 0..6 {
        broker.turn(0);
    }
    assert_eq!(broker.gate(client), Gate::Paused);
    assert_eq!(rig::names(&broker.take_now(other)), ["QueueDeclareOk"]);
    assert!(turns(&mut broker) > 1);
    assert_eq!(rig::acks(&broker.take(client)), [(2, true)]);
    let bytes = broker.call(client, 1, &rig::consume_with("q", true));
    assert_eq!(rig::deliveries(&bytes), (2, 2));
    let at = |body: u8| bytes.windows(8).position(|w| w == [3, 0, 1, 0, 0, 0, 1, body]);
    assert!(at(b'1').unwrap() < at(b'2').unwrap(), "in the order of their publishes");
}

#[test]
fn a_publish_to_many_queues_is_confirmed_behind_the_last() {
    const QUEUES: usize = 1000;
    for shards in [1, 2] {
        let mut broker = broker(shards);
        let client = broker.client(0);
        for n in 0..QUEUES {
            let queue = format!("q{n}");
            broker.call(client, 1, &rig::declare(&queue, false));
            bind(&mut broker, client, &queue, "amq.fanout", "");
        }
        broker.call(client, 1, &Method::ConfirmSelect { nowait: false });
        broker.receive(client, &publish("amq.fanout", "", &[], b"all"));
        assert_eq!(broker.gate(client), Gate::Paused);
        broker.turn(0);
        assert_eq!(rig::acks(&broker.take_now(client)), []);
        assert!(turns(&mut broker) > 5);
        assert_eq!(
            (rig::acks(&broker.take(client)), broker.gate(client)),
            (vec![(1, false)], Gate::Open)
        );
        for n in 0..QUEUES {
            let purge = Method::QueuePurge { ticket: 0, queue: &format!("q{n}"), nowait: false };
            assert_eq!(broker.call(client, 1, &purge)[11..15], 1_u32.to_be_bytes());
        }
    }
}

#[cfg(feature = "mutants")]
#[test]
fn faults_in_the_pieces_of_a_publish_are_found() {
    use model::mutant::{Mutant, select};
    let faults: [(Mutant, fn()); 12] = [
        (Mutant::TicksUncut, messages_of_many_queues_expire_in_pieces),
        (Mutant::SendingUncut, a_publish_to_many_queues_is_confirmed_behind_the_last),
        (Mutant::SinglesUncut, a_recover_in_a_transaction_takes_many_turns),
        (Mutant::RollbackUncut, publishes_of_a_transaction_are_dropped_and_sent_in_pieces),
        (Mutant::EndingUncut, publishes_of_a_transaction_are_dropped_and_sent_in_pieces),
        (Mutant::AnswersUncut, requests_that_waited_for_a_queue_are_answered_in_pieces),
        (Mutant::ReserveDoubled, requests_that_waited_for_a_queue_are_answered_in_pieces),
        (Mutant::LettersUncut, a_dead_letter_takes_many_turns_through_many_patterns),
        (Mutant::RouteUncut, a_publish_with_many_keys_takes_many_turns_and_stays_in_order),
        (Mutant::RouteUncut, one_key_takes_many_turns),
        (Mutant::CommitUncut, settles_of_a_commit_take_many_turns),
        (Mutant::CopiesUncut, a_publish_to_many_queues_is_confirmed_behind_the_last),
    ];
    for (fault, test) in faults {
        select(Some(fault));
        let found = std::panic::catch_unwind(test).is_err();
        select(None);
        assert!(found, "{fault:?} is not found");
    }
}

#[test]
fn a_channel_with_many_queues_is_released_in_pieces() {
    const QUEUES: usize = 500;
    for shards in [1, 2] {
        let mut broker = broker(shards);
        let client = broker.client(0);
        for n in 0..QUEUES {
            let queue = format!("q{n}");
            broker.call(client, 1, &rig::declare(&queue, false));
            broker.call(client, 1, &rig::consume(&queue));
            broker.send(client, &rig::publish(&queue, b"x"));
        }
        let close =
            Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        broker.receive(client, &rig::encoded(1, &close));
        assert!(turns(&mut broker) > 5);
        assert_eq!(rig::names(&broker.take(client)), ["ChannelCloseOk"]);
        let other = broker.client(0);
        for n in 0..QUEUES {
            let got = Method::BasicGet { ticket: 0, queue: &format!("q{n}"), no_ack: true };
            assert_eq!(rig::names(&broker.call(other, 1, &got)), ["BasicGetOk"], "{n}");
        }
    }
}

#[test]
fn what_one_client_settles_is_seen_as_one_by_others() {
    const MESSAGES: usize = 2000;
    let mut broker = broker(2);
    let (client, other) = (broker.client(0), broker.client(1));
    broker.call(client, 1, &rig::declare("q", false));
    broker.publish(client, &rig::publishes("q", 1, MESSAGES));
    broker.call(client, 1, &rig::consume("q"));
    for _ in 0..100 {
        broker.take(client);
    }
    let close = Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    broker.receive(client, &rig::encoded(1, &close));
    // Counts are those of before or after, whenever they are asked for.
    let mut seen = Vec::new();
    for _ in 0..10 {
        broker.turn(0);
        broker.receive(other, &rig::encoded(1, &rig::passive("q")));
    }
    turns(&mut broker);
    let bytes = broker.take(other);
    for at in 0..bytes.len().saturating_sub(4) {
        let count = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        if bytes[..at].ends_with(b"\x01q") {
            seen.push(count as usize);
        }
    }
    assert!(!seen.is_empty() && seen.iter().all(|n| *n == 0 || *n == MESSAGES), "{seen:?}");
}

#[test]
fn a_client_that_sent_is_not_given_up_because_the_broker_was_late() {
    let mut broker = broker(1);
    let client = broker.tuned_to(0, (2047, 131_072, 2));
    broker.call(client, 0, &rig::open("/"));
    // The process stood still; what the client sent is still in its socket.
    broker.now.monotonic_us += 60_000_000;
    broker.tick(0);
    assert_eq!(broker.gate(client), Gate::Open);
    broker.receive(client, &[8, 0, 0, 0, 0, 0, 0, 0xCE]);
    for _ in 0..10 {
        broker.now.monotonic_us += 100_000;
        broker.tick(0);
    }
    assert_eq!(broker.gate(client), Gate::Open);
    // One that sends nothing more is.
    for _ in 0..100 {
        broker.now.monotonic_us += 100_000;
        broker.tick(0);
    }
    assert_eq!(broker.gate(client), Gate::Closing);
}

/// Publishes by one key that many patterns of one exchange are compared with.
/// How many words the patterns have that one key meets.
const WORDS: usize = 12;

/// One of `1 << WORDS` patterns. All of them match `WORDS` times the word `a`.
fn pattern(n: usize) -> String {
    let words = (0..WORDS).map(|word| if n >> word & 1 == 1 { "a" } else { "*" });
    words.collect::<Vec<_>>().join(".")
}

/// The key that all patterns match.
fn key_of_patterns() -> String {
    pattern((1 << WORDS) - 1)
}

fn one_key_takes_many_turns() {
    for exchange in ["amq.topic", "amq.headers"] {
        let mut broker = broker(1);
        let client = broker.client(0);
        broker.call(client, 1, &rig::declare("q", false));
        for n in 0..1 << WORDS {
            let key = pattern(n);
            let name = format!("h{n}");
            let arguments = TableWriter::new().with(&name, Value::Void);
            let bind = Method::QueueBind {
                ticket: 0,
                queue: "q",
                exchange,
                routing_key: &key,
                nowait: false,
                arguments: arguments.table(),
            };
            broker.call(client, 1, &bind);
        }
        broker.call(client, 1, &Method::ConfirmSelect { nowait: false });
        broker.receive(client, &publish_with(exchange, &key_of_patterns(), "h999"));
        assert!(turns(&mut broker) > 2, "{exchange}");
        assert_eq!(rig::acks(&broker.take(client)), [(1, false)]);
        let bytes = broker.call(client, 1, &rig::consume_with("q", true));
        assert_eq!(rig::deliveries(&bytes), (1, 1), "{exchange}");
    }
}

/// A publish with a header.
fn publish_with(exchange: &str, routing_key: &str, header: &str) -> Vec<u8> {
    let headers = TableWriter::new().with(header, Value::Int(1));
    let mut properties = Vec::new();
    Basic { headers: Some(headers.table()), ..Basic::default() }.write(&mut properties);
    let (mandatory, immediate) = (false, false);
    let method = Method::BasicPublish { ticket: 0, exchange, routing_key, mandatory, immediate };
    let mut bytes = rig::encoded(1, &method);
    write_header(&mut bytes, 1, 1, &properties);
    write_body(&mut bytes, 1, b"x", 131_072);
    bytes
}

#[test]
fn a_publish_with_one_key_takes_many_turns_through_many_patterns() {
    one_key_takes_many_turns();
}

#[test]
fn a_dead_letter_takes_many_turns_through_many_patterns() {
    let mut broker = broker(1);
    let client = broker.client(0);
    broker.call(client, 1, &rig::declare("q", false));
    for n in 0..1 << WORDS {
        bind(&mut broker, client, "q", "amq.topic", &pattern(n));
    }
    let key = key_of_patterns();
    let arguments = TableWriter::new()
        .with("x-message-ttl", Value::Int(0))
        .with("x-dead-letter-exchange", Value::LongString(b"amq.topic"))
        .with("x-dead-letter-routing-key", Value::LongString(key.as_bytes()));
    let source = Method::QueueDeclare {
        ticket: 0,
        queue: "dying",
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: arguments.table(),
    };
    broker.call(client, 1, &source);
    for body in [b"1", b"2"] {
        broker.receive(client, &rig::publish("dying", body));
    }
    let mut count = 0;
    while broker.turn(0) || broker.shards[0].unfinished() {
        count += 1;
    }
    assert!(count > 3, "{count} turns");
    let bytes = broker.call(client, 1, &rig::consume_with("q", true));
    assert_eq!(rig::deliveries(&bytes), (2, 2));
}

const HELD: usize = 3000;

/// A client in tx mode whose consumer `c` was sent so many deliveries.
fn holding(broker: &mut Rig) -> Client {
    let client = broker.client(0);
    broker.call(client, 1, &rig::declare("q", false));
    broker.publish(client, &rig::publishes("q", 1, HELD));
    broker.call(client, 1, &Method::TxSelect {});
    let mut consume = rig::consume("q");
    if let Method::BasicConsume { consumer_tag, .. } = &mut consume {
        *consumer_tag = "c";
    }
    let mut came = rig::deliveries(&broker.call(client, 1, &consume)).0;
    while came < HELD {
        came += rig::deliveries(&broker.take(client)).0;
    }
    client
}

fn ready(broker: &mut Rig) -> u32 {
    let other = broker.client(0);
    let purge = Method::QueuePurge { ticket: 0, queue: "q", nowait: false };
    u32::from_be_bytes(broker.call(other, 1, &purge)[11..15].try_into().unwrap())
}

fn settles_of_a_commit_take_many_turns() {
    for shards in [1, 2] {
        let mut broker = broker(shards);
        let client = holding(&mut broker);
        // Some of them by themselves, against their order.
        let singles = (1..=200).rev().map(|delivery_tag| {
            rig::encoded(1, &Method::BasicAck { delivery_tag, multiple: false })
        });
        let rest = rig::encoded(1, &Method::BasicAck { delivery_tag: 0, multiple: true });
        let bytes = [singles.collect::<Vec<_>>().concat(), rest].concat();
        broker.receive(client, &bytes);
        turns(&mut broker);
        broker.receive(client, &rig::encoded(1, &Method::TxCommit {}));
        assert!(turns(&mut broker) > HELD / 200);
        assert_eq!(rig::names(&broker.take(client)), ["TxCommitOk"]);
        broker.vanish(client);
        assert_eq!((ready(&mut broker), broker.leftovers()), (0, 1));
    }
}

#[test]
fn settles_of_a_transaction_are_sent_in_pieces() {
    settles_of_a_commit_take_many_turns();
}

#[test]
fn a_rollback_makes_all_settles_of_a_transaction_undone() {
    let mut broker = broker(1);
    let client = holding(&mut broker);
    for delivery_tag in [7, 3, 2000] {
        broker
            .receive(client, &rig::encoded(1, &Method::BasicAck { delivery_tag, multiple: false }));
    }
    let rest = Method::BasicNack { delivery_tag: 1000, multiple: true, requeue: true };
    broker.receive(client, &rig::encoded(1, &rest));
    turns(&mut broker);
    assert_eq!(rig::names(&broker.call(client, 1, &Method::TxRollback {})), ["TxRollbackOk"]);
    let all = rig::encoded(1, &Method::BasicAck { delivery_tag: HELD as u64, multiple: true });
    let commit = rig::encoded(1, &Method::TxCommit {});
    assert_eq!(rig::names(&broker.send(client, &[all, commit].concat())), ["TxCommitOk"]);
    broker.vanish(client);
    assert_eq!(ready(&mut broker), 0);
}

#[test]
fn a_recover_in_a_transaction_takes_many_turns() {
    let mut broker = broker(2);
    let client = holding(&mut broker);
    let ack = rig::encoded(1, &Method::BasicAck { delivery_tag: 5, multiple: false });
    let cancel = Method::BasicCancel { consumer_tag: "c", nowait: false };
    broker.call(client, 1, &cancel);
    let recover = rig::encoded(1, &Method::BasicRecover { requeue: true });
    broker.receive(client, &[ack, recover].concat());
    assert!(turns(&mut broker) > 5);
    assert_eq!(rig::names(&broker.take(client)), ["BasicRecoverOk"]);
    assert_eq!(ready(&mut broker), HELD as u32 - 1);
}

#[test]
fn publishes_of_a_transaction_are_dropped_and_sent_in_pieces() {
    const PUBLISHES: usize = 3000;
    for committed in [false, true] {
        let mut broker = broker(2);
        let client = broker.client(0);
        broker.call(client, 1, &rig::declare("q", false));
        broker.call(client, 1, &Method::TxSelect {});
        broker.receive(client, &rig::publishes("q", 1, PUBLISHES));
        turns(&mut broker);
        if committed {
            broker.receive(client, &rig::encoded(1, &Method::TxCommit {}));
        }
        broker.vanish_now(client);
        assert!(turns(&mut broker) > 5);
        let due = if committed { PUBLISHES as u32 } else { 0 };
        assert_eq!((ready(&mut broker), broker.leftovers()), (due, 1));
    }
}

#[test]
fn requests_that_waited_for_a_queue_are_answered_in_pieces() {
    const CHANNELS: u16 = 400;
    let mut broker = broker(1);
    let (client, other) = (broker.client(0), broker.client(0));
    broker.call(client, 1, &rig::declare("q", false));
    for channel in 2..=CHANNELS {
        broker.call(other, channel, &Method::ChannelOpen { out_of_band: "" });
    }
    broker.publish(client, &rig::publishes("q", 1, HELD));
    let mut came = rig::deliveries(&broker.call(client, 1, &rig::consume("q"))).0;
    while came < HELD {
        came += rig::deliveries(&broker.take(client)).0;
    }
    let nack = Method::BasicNack { delivery_tag: 0, multiple: true, requeue: true };
    broker.receive(client, &rig::encoded(1, &nack));
    // Until the queue is asked while it puts them back.
    let waits = (0..100).any(|_| {
        turn(&mut broker, 0);
        broker.receive(other, &rig::encoded(1, &rig::passive("q")));
        rig::names(&broker.take_now(other)).is_empty()
    });
    assert!(waits);
    for channel in 2..=CHANNELS {
        broker.receive(other, &rig::encoded(channel, &rig::passive("q")));
    }
    assert!(turns(&mut broker) > usize::from(CHANNELS) / 200);
    let answers = rig::names(&broker.take(other));
    assert_eq!(answers, vec!["QueueDeclareOk"; usize::from(CHANNELS)]);
}

#[test]
fn messages_of_many_queues_expire_in_pieces() {
    const QUEUES: usize = 300;
    let mut broker = broker(1);
    let client = broker.client(0);
    let arguments = TableWriter::new().with("x-message-ttl", Value::Int(10));
    for n in 0..QUEUES {
        let queue = format!("q{n}");
        let mut declare = rig::declare(&queue, false);
        if let Method::QueueDeclare { arguments: place, .. } = &mut declare {
            *place = arguments.table();
        }
        broker.call(client, 1, &declare);
        broker.send(client, &rig::publish(&queue, b"x"));
    }
    broker.now.monotonic_us += 20_000;
    broker.now.wall_ms += 20;
    let mut ticks = 0;
    let now = |broker: &Rig| broker.now.monotonic_us;
    while broker.shards[0].next_deadline_us().is_some_and(|due| due <= now(&broker)) {
        broker.tick_now(0);
        turns(&mut broker);
        ticks += 1;
    }
    assert!((2..QUEUES).contains(&ticks), "{ticks} ticks");
    let other = broker.client(0);
    for n in 0..QUEUES {
        let get = Method::BasicGet { ticket: 0, queue: &format!("q{n}"), no_ack: true };
        assert_eq!(rig::names(&broker.call(other, 1, &get)), ["BasicGetEmpty"], "{n}");
    }
}
