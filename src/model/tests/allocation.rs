//! Routing allocates nothing once its list has grown: counted by an allocator of the test's own.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use amqp::Basic;
use amqp::table::{TableWriter, Value};
use model::topology::Change;
use model::{
    Arguments, Binding, Destination, Entropy, QueueId, QueueSpec, ShardId, Targets, Topology,
};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged. The counter is a constant-made cell
// without a destructor, so touching it allocates nothing and is sound while a thread ends.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's guarantee is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's guarantee is passed on; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn topology() -> Topology {
    let mut topology = Topology::new(Entropy::from_seed(1).map_seed());
    topology.apply(1, &Change::VhostCreated("/".into()));
    for id in 0..40 {
        let spec = QueueSpec {
            id: QueueId(id),
            name: format!("q{id}").into(),
            home: ShardId(0),
            durable: false,
            auto_delete: false,
            owner: None,
            server_named: false,
            arguments: Arguments::default(),
        };
        topology.apply(2, &Change::QueueCreated("/".into(), spec));
        for (source, key) in [
            ("amq.direct", "a.b.c"),
            ("amq.fanout", ""),
            ("amq.topic", "a.#"),
            ("amq.topic", "#.*.c"),
            ("amq.headers", ""),
        ] {
            let headers = TableWriter::new().with("a", Value::Int(1));
            let arguments: Arguments = headers.table().into();
            let destination = Destination::Queue(format!("q{id}").into());
            let binding =
                Binding { source: source.into(), destination, key: key.into(), arguments };
            topology.apply(3, &Change::Bound("/".into(), binding));
        }
    }
    let binding = Binding {
        source: "amq.match".into(),
        destination: Destination::Exchange("amq.topic".into()),
        key: "".into(),
        arguments: Arguments::default(),
    };
    topology.apply(4, &Change::Bound("/".into(), binding));
    topology
}

#[test]
fn a_warm_route_allocates_nothing() {
    let topology = topology();
    let vhost = topology.vhost("/").unwrap();
    let headers = TableWriter::new().with("a", Value::Long(1));
    let mut targets = Targets::new();
    let names = ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"];
    let mut round = |name: &str, key: &str, count: usize| {
        targets.clear();
        let exchange = vhost.exchange(name).unwrap();
        let properties = || Basic { headers: Some(headers.table()), ..Basic::default() };
        vhost.route(exchange, &[key], properties, &mut targets);
        assert_eq!(targets.queues().len(), count, "{name}");
    };
    names.iter().for_each(|name| round(name, "a.b.c", 40));
    let before = COUNT.get();
    for _ in 0..10 {
        names.iter().for_each(|name| round(name, "a.b.c", 40));
        round("", "q7", 1);
    }
    assert_eq!(COUNT.get(), before);
    drop(vec![0u8; 10]);
    assert_eq!(COUNT.get(), before + 1, "the counter counts");
}
