//! What is listed of clients that publish, consume and get.

use amqp::{Method, Table};
use model::session::ChannelCounters;
use ringtail::mesh::inspect::{
    ConnectionCounters, ConnectionState, CoordinatorAnswer, CoordinatorRequest, ExchangeCounters,
    Page, ShardAnswer, ShardRequest,
};

use crate::broker::{Broker, SHARDS, walk};
use crate::client::Client;

#[test]
fn everything_a_client_does_is_counted() {
    let broker = Broker::start();
    let mut client = Client::connect(broker.address());
    client.open(7);
    for queue in ["a", "b"] {
        client.declare(queue);
        client.call(1, &bind(queue), "QueueBindOk");
    }
    client.call(1, &Method::ConfirmSelect { nowait: false }, "ConfirmSelectOk");
    for _ in 0..3 {
        client.publish(1, ("amq.fanout", "k"), false);
        client.expect("BasicAck");
    }
    client.publish(1, ("", "nowhere"), true);
    client.expect("BasicReturn");
    client.expect("BasicAck");
    client.publish(1, ("", "nowhere"), false);
    client.expect("BasicAck");
    take(&mut client);
    check_channels(&broker);
    check_queues(&broker);
    let fanout = ExchangeCounters { publish_in: 3, publish_out: 6 };
    assert_eq!(broker.exchange("amq.fanout"), fanout);
    assert_eq!(broker.exchange(""), ExchangeCounters { publish_in: 2, publish_out: 0 });
    assert_eq!(broker.exchange("amq.direct"), ExchangeCounters::default());
    check_connection(&broker, &client);
}

/// Of three messages in each queue: `a` is got and asked once more, `b` is consumed.
fn take(client: &mut Client) {
    client.get(7, "a", true, "BasicGetOk");
    client.get(7, "a", false, "BasicGetOk");
    let requeue = Method::BasicReject { delivery_tag: 2, requeue: true };
    client.send(7, &requeue);
    client.get(7, "a", false, "BasicGetOk");
    client.get(7, "a", true, "BasicGetOk");
    client.get(7, "a", true, "BasicGetEmpty");
    client.call(
        7,
        &Method::BasicQos { prefetch_size: 0, prefetch_count: 2, global: false },
        "BasicQosOk",
    );
    client.consume(7, "b", "tag", false);
    client.expect("BasicDeliver");
    client.expect("BasicDeliver");
    client.send(7, &Method::BasicAck { delivery_tag: 0, multiple: true });
    client.expect("BasicDeliver");
    client.get(7, "a", true, "BasicGetEmpty");
}

fn check_channels(broker: &Broker) {
    let channels = broker.channels();
    assert_eq!(channels.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 7]);
    let publisher = ChannelCounters {
        publish: 5,
        confirm: 5,
        return_unroutable: 1,
        drop_unroutable: 1,
        ..ChannelCounters::default()
    };
    assert_eq!(channels[0].counters, publisher);
    assert!(channels[0].confirms && channels[0].unconfirmed == 0);
    let consumer = ChannelCounters {
        deliver: 3,
        get: 2,
        get_no_ack: 2,
        get_empty: 2,
        redeliver: 1,
        // One of basic.get and two deliveries.
        ack: 3,
        ..ChannelCounters::default()
    };
    assert_eq!(channels[1].counters, consumer);
    assert_eq!(
        (channels[1].unacknowledged, channels[1].consumers, channels[1].prefetch),
        (1, 1, 2)
    );
    let consumers = broker.consumers();
    assert_eq!(consumers.len(), 1);
    let consumer = &consumers[0];
    assert_eq!((&*consumer.tag, consumer.number, consumer.prefetch), ("tag", 7, 2));
    assert_eq!((consumer.no_ack, consumer.queue), (false, broker.queue("b").id));
}

fn check_queues(broker: &Broker) {
    let (a, b) = (broker.queue("a"), broker.queue("b"));
    assert_eq!((&*a.vhost, a.snapshot.ready, a.snapshot.unacknowledged), ("/", 0, 0));
    assert_eq!((b.snapshot.ready, b.snapshot.unacknowledged, b.snapshot.consumers), (0, 1, 1));
    let counters = b.snapshot.counters;
    assert_eq!((counters.published, counters.delivered, counters.acked), (3, 3, 2));
}

fn check_connection(broker: &Broker, client: &Client) {
    let row = broker.connection(client.address());
    assert_eq!((&*row.user, &*row.vhost, &*row.mechanism), ("guest", "/", "PLAIN"));
    assert_eq!((row.state, row.channels, row.frame_max), (ConnectionState::Running, 2, 131_072));
    assert_eq!(row.local, broker.address());
    // The protocol header is no frame.
    let counters = ConnectionCounters {
        received_bytes: client.sent.0 - 8,
        received_frames: client.sent.1,
        sent_bytes: client.received.0,
        sent_frames: client.received.1,
    };
    let received_bytes = row.counters.received_bytes - 8;
    assert_eq!(ConnectionCounters { received_bytes, ..row.counters }, counters);
}

#[test]
fn the_topology_is_listed_by_the_coordinator() {
    let broker = Broker::start();
    let mut client = Client::connect(broker.address());
    client.declare("q");
    client.call(1, &bind("q"), "QueueBindOk");
    let vhosts = walk(|page| match broker.coordinator(CoordinatorRequest::Vhosts(page)) {
        CoordinatorAnswer::Vhosts(chunk) => chunk,
        other => panic!("{other:?}"),
    });
    assert_eq!(vhosts, ["/".into()]);
    let users = walk(|page| match broker.coordinator(CoordinatorRequest::Users(page)) {
        CoordinatorAnswer::Users(chunk) => chunk,
        other => panic!("{other:?}"),
    });
    assert_eq!(users.iter().map(|user| &*user.name).collect::<Vec<_>>(), ["guest"]);
    let exchanges = walk(|page| match broker.coordinator(CoordinatorRequest::Exchanges(page)) {
        CoordinatorAnswer::Exchanges(chunk) => chunk,
        other => panic!("{other:?}"),
    });
    let fanout = exchanges.iter().find(|listing| *listing.spec.name == *"amq.fanout").unwrap();
    assert_eq!((exchanges.len(), fanout.bindings), (7, 1));
    let bindings = walk(|page| match broker.coordinator(CoordinatorRequest::Bindings(page)) {
        CoordinatorAnswer::Bindings(chunk) => chunk,
        other => panic!("{other:?}"),
    });
    assert_eq!((bindings.len(), &*bindings[0].binding.source), (1, "amq.fanout"));
    let [known, here] = broker.queue_ids();
    assert_eq!((known.len(), &known), (1, &here));
    counts(&broker);
    // An end that is behind everything.
    let last = CoordinatorRequest::Vhosts(Page::behind(Some("z".into())));
    let CoordinatorAnswer::Vhosts(chunk) = broker.coordinator(last) else { panic!() };
    assert!(chunk.items.is_empty() && chunk.next.is_none());
}

fn counts(broker: &Broker) {
    let shards =
        (0..usize::from(SHARDS)).map(|shard| match broker.shard(shard, ShardRequest::Counts) {
            ShardAnswer::Counts(counts) => {
                (counts.connections, counts.queues, counts.connections_opened)
            }
            other => panic!("{other:?}"),
        });
    let sum = shards.fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    assert_eq!(sum, (1, 1, 1));
    let CoordinatorAnswer::Counts(counts) = broker.coordinator(CoordinatorRequest::Counts) else {
        panic!()
    };
    assert_eq!((counts.vhosts, counts.queues, counts.alarms.any()), (1, 1, false));
}

fn bind(queue: &str) -> Method<'_> {
    Method::QueueBind {
        ticket: 0,
        queue,
        exchange: "amq.fanout",
        routing_key: "k",
        nowait: false,
        arguments: Table::EMPTY,
    }
}
