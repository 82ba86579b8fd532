//! The queue: a message in and out, with and without an acknowledgement, and through a backlog.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::queue::{Delivery, Outlet, Queue, Settle, Spilled};
use model::{
    Ask, ChannelId, ConnId, ConsumerId, ConsumerSpec, Draft, Message, QueueId, Seed, Stored, Ticket,
};

/// Messages an iteration.
const MESSAGES: u64 = 1000;
const CHANNEL: ChannelId = ChannelId(1);

/// Takes deliveries and remembers the last number.
#[derive(Default)]
struct Sink(u64);

impl Outlet for Sink {
    fn open(&mut self, _: QueueId, _: ConnId) -> bool {
        true
    }
    fn ask(&mut self, _: QueueId, ask: Ask) -> Option<u32> {
        Some(ask.count)
    }
    fn deliver(&mut self, delivery: Delivery<'_>) {
        black_box(delivery.message.record());
        self.0 = delivery.to.number;
    }
    fn got(&mut self, _: Ticket, _: u32, _: Delivery<'_>) {}
    fn empty(&mut self, _: Ticket) {}
    fn refuse(&mut self) {}
    fn log(&mut self, _: QueueId, _: u64, _: Message<'_>) -> Stored {
        Stored::NOWHERE
    }
    fn write_through(&mut self, _: QueueId, _: u64, _: Message<'_>) -> bool {
        false
    }
    fn log_again(&mut self, _: QueueId, _: u64, _: Stored, _: Message<'_>) -> Stored {
        Stored::NOWHERE
    }
    fn settled(&mut self, _: QueueId, _: u64, _: Stored) {}
    fn let_go(&mut self, _: Stored) {}
    fn spill(&mut self, _: QueueId, _: Spilled<'_>) {}
    fn fetch(&mut self, _: QueueId) {}
    fn purge(&mut self, _: QueueId) {}
}

fn queue() -> Queue {
    Queue::new(QueueId(1), false, false, Seed::default())
}

fn consumer(no_ack: bool) -> ConsumerSpec {
    let (id, conn, channel) = (ConsumerId(1), ConnId(1), CHANNEL);
    let (prefetch, exclusive, priority, limited) = (0, false, 0, false);
    ConsumerSpec { id, conn, channel, no_ack, prefetch, exclusive, priority, limited }
}

fn draft(size: usize) -> Draft {
    let mut draft = Draft::default();
    let body = bytes::Bytes::from(vec![b'x'; size]);
    draft.begin("", "queue");
    // At most a few KiB.
    draft.header(amqp::Properties::EMPTY, 1, 0, size as u32);
    draft.body(&body, &body);
    draft
}

fn queues(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(MESSAGES));
    for size in [16, 1024] {
        let mut draft = draft(size);
        let message = draft.message();
        let mut straight = queue();
        straight.consume(consumer(true));
        group.bench_function(format!("straight through, {size} B"), |bencher| {
            bencher
                .iter(|| (0..MESSAGES).for_each(|_| straight.push(message, &mut Sink::default())));
        });
        let mut acked = queue();
        acked.consume(consumer(false));
        group.bench_function(format!("acknowledged one by one, {size} B"), |bencher| {
            bencher.iter(|| (0..MESSAGES).for_each(|_| push_and_settle(&mut acked, message)));
        });
        group.bench_function(format!("backlog and drain, {size} B"), |bencher| {
            bencher.iter(|| fill_and_drain(message));
        });
    }
    group.finish();
}

fn push_and_settle(queue: &mut Queue, message: Message<'_>) {
    let mut sink = Sink::default();
    queue.push(message, &mut sink);
    let number = sink.0;
    queue.settle(CHANNEL, number, Settle::Ack, &mut sink);
}

fn fill_and_drain(message: Message<'_>) {
    let (mut queue, mut sink) = (queue(), Sink::default());
    (0..MESSAGES).for_each(|_| queue.push(message, &mut sink));
    queue.consume(consumer(false));
    queue.dispatch(&mut sink);
    let number = sink.0;
    queue.settle_up_to(CHANNEL, number, Settle::Ack, &mut sink);
}

criterion_group!(benches, queues);
criterion_main!(benches);
