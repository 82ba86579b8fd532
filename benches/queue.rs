//! The queue: a message in and out, with and without an acknowledgement, and through a backlog.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::queue::{
    Delivery, DropSpilled, DroppedSpilled, EnqueueEnd, EnqueueId, Expiry, KindName, Overdue,
    QueueOutput, Settle, Spilled, Unfit,
};
use model::{
    Ask, ChannelId, ConnId, ConsumerId, ConsumerSpec, Draft, Message, Now, QueueCommands, QueueId,
    QueueKind, RequestId, Seed, ShardId, Stored,
};

/// Messages an iteration.
const MESSAGES: u64 = 1000;
const CHANNEL: ChannelId = ChannelId(1);
const NOW: Now = Now { monotonic_us: 0, wall_ms: 0 };

/// Takes deliveries and remembers the last number.
#[derive(Default)]
struct Sink(u64);

impl QueueOutput for Sink {
    fn open(&mut self, _: QueueId, _: ConnId) -> bool {
        true
    }
    fn open_for(&mut self, _: QueueId, _: ConnId, _: Message<'_>) -> bool {
        true
    }
    fn ask(&mut self, _: QueueId, ask: Ask) -> Option<u32> {
        Some(ask.count)
    }
    fn deliver(&mut self, delivery: Delivery<'_>) {
        black_box(delivery.message.record());
        self.0 = delivery.to.number;
    }
    fn got(&mut self, _: RequestId, _: u32, _: Delivery<'_>) {}
    fn empty(&mut self, _: RequestId) {}
    fn overdue(&mut self, _: Overdue) {}
    fn unfit(&mut self, _: Unfit) {}
    fn refuse(&mut self) {}
    fn hold(&mut self) -> EnqueueId {
        EnqueueId { source: ShardId(0), number: 1 }
    }
    fn finish(&mut self, _: EnqueueId, _: EnqueueEnd) {}
    fn log_held(&mut self, _: QueueId, _: u64, _: Message<'_>) -> Stored {
        Stored::NOWHERE
    }
    fn log(&mut self, _: QueueId, _: u64, _: Expiry, _: Message<'_>) -> Stored {
        Stored::NOWHERE
    }
    fn bypass_log(&mut self, _: QueueId, _: u64, _: Expiry, _: Message<'_>) -> bool {
        false
    }
    fn log_again(&mut self, _: QueueId, _: u64, _: (Stored, Expiry), _: Message<'_>) -> Stored {
        Stored::NOWHERE
    }
    fn settled(&mut self, _: QueueId, _: u64, _: Stored) {}
    fn let_go(&mut self, _: Stored) {}
    fn spill(&mut self, _: QueueId, _: Spilled<'_>) {}
    fn fetch(&mut self, _: QueueId) {}
    fn purge(&mut self, _: QueueId) {}
    fn died(&mut self, _: QueueId) {}
    fn drop_spilled(&mut self, _: QueueId, _: DropSpilled) -> DroppedSpilled {
        DroppedSpilled { messages: 0, bodies: 0, next: Expiry::NEVER }
    }
}

fn queue() -> QueueKind {
    QueueKind::new(KindName::Classic, QueueId(1), false, false, Seed::default())
}

fn consumer(no_ack: bool) -> ConsumerSpec {
    let (id, conn, channel) = (ConsumerId(1), ConnId(1), CHANNEL);
    ConsumerSpec {
        id,
        conn,
        channel,
        no_ack,
        prefetch: 0,
        exclusive: false,
        priority: 0,
        limited: false,
        timeout_ms: None,
        properties_max: usize::MAX,
    }
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
        straight.consume(consumer(true), NOW);
        group.bench_function(format!("straight through, {size} B"), |bencher| {
            bencher.iter(|| {
                for _ in 0..MESSAGES {
                    straight.push(message, NOW, &mut Sink::default());
                }
            });
        });
        let mut acked = queue();
        acked.consume(consumer(false), NOW);
        group.bench_function(format!("acknowledged one by one, {size} B"), |bencher| {
            bencher.iter(|| (0..MESSAGES).for_each(|_| push_and_settle(&mut acked, message)));
        });
        group.bench_function(format!("backlog and drain, {size} B"), |bencher| {
            bencher.iter(|| fill_and_drain(message));
        });
    }
    group.finish();
}

fn push_and_settle(queue: &mut QueueKind, message: Message<'_>) {
    let mut sink = Sink::default();
    queue.push(message, NOW, &mut sink);
    let number = sink.0;
    queue.settle(CHANNEL, number, Settle::Ack, NOW, &mut sink);
}

fn fill_and_drain(message: Message<'_>) {
    let (mut queue, mut sink) = (queue(), Sink::default());
    for _ in 0..MESSAGES {
        queue.push(message, NOW, &mut sink);
    }
    queue.consume(consumer(false), NOW);
    queue.dispatch(NOW, &mut sink);
    let number = sink.0;
    queue.settle_up_to(CHANNEL, number, Settle::Ack, NOW, &mut sink);
}

criterion_group!(benches, queues);
criterion_main!(benches);
