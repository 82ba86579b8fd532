//! A home by itself, with another shard that sends it messages: what its memory, its store and the
//! end of the broker do to it.

use bytes::Bytes;
use model::{Arguments, Draft, Entropy, Name, Now, QueueId, QueueSpec, RequestId, ShardId};

use crate::mesh::batch::Batch;
use crate::mesh::control::{Control, QueueAnswer, QueueRequest};
use crate::mesh::inspect::{InspectId, Page, ShardAnswer, ShardRequest};
use crate::mesh::progress::ProgressMark;
use crate::mesh::record::MeshRecord;
use crate::shard::{Shard, ShardConfig};
use crate::store::{Done, FileName, RecoveredQueue, Work};

const HOME: ShardId = ShardId(0);
const OTHER: ShardId = ShardId(1);
const NOW: Now = Now { monotonic_us: 0, wall_ms: 0 };

fn spec(id: u64, durable: bool) -> QueueSpec {
    QueueSpec {
        id: QueueId(u64::MAX - id),
        name: Name::default(),
        home: HOME,
        durable,
        auto_delete: false,
        owner: None,
        server_named: false,
        arguments: Arguments::default(),
    }
}

/// A home of some queues that may hold so many bytes.
fn home(queues: u64, resident_max: usize) -> Shard {
    let config = ShardConfig { resident_max, ..ShardConfig::new(HOME, 2, Entropy::from_seed(1)) };
    let mut shard = Shard::new(config);
    for id in 1..=queues {
        shard.control(ShardId(2), Control::Create(Name::default(), spec(id, true)), NOW);
    }
    shard
}

/// The other shard sends persistent messages of so many bytes to a queue.
fn send(shard: &mut Shard, queue: u64, count: usize, size: usize) {
    let (mut draft, mut batch) = (Draft::default(), Batch::default());
    for _ in 0..count {
        draft.begin("", "");
        draft.header(amqp::Properties::EMPTY, 2, 0, size as u32);
        let body = Bytes::from(vec![7; size]);
        draft.body(&body, &body);
        draft.count(&shard.queues.gauge());
        let queues = std::iter::once(QueueId(u64::MAX - queue));
        batch.enqueue(queues, draft.message(), true);
    }
    shard.mesh(OTHER, &mut batch, NOW);
    shard.end_turn(NOW);
}

/// The disk carries everything out.
fn sync(shard: &mut Shard) {
    while let Some(op) = shard.next_op() {
        shard.done(Done { id: op.id, result: Ok(Bytes::new()) }, NOW);
    }
    shard.end_turn(NOW);
}

/// What the other shard is told, the last of each kind.
fn told(shard: &mut Shard) -> (ProgressMark, Option<QueueAnswer>, usize) {
    let mut batch = std::mem::take(shard.outbound(OTHER));
    let (mut at, mut mark, mut answer, mut left) = (0, ProgressMark::default(), None, 0);
    while let Some(record) = batch.next(&mut at) {
        match record {
            MeshRecord::Watermark(told) => mark = told,
            MeshRecord::Control(Control::QueueAnswer(_, told)) => answer = Some(told),
            MeshRecord::Control(Control::Left) => left += 1,
            _ => {}
        }
    }
    (mark, answer, left)
}

fn count(shard: &mut Shard, queue: u64) -> Option<QueueAnswer> {
    let id = QueueId(u64::MAX - queue);
    let ask = Control::QueueAsk(RequestId(1), id, QueueRequest::Count);
    shard.control(OTHER, ask, NOW);
    told(shard).1
}

/// Bytes that a queue has in memory and could spill.
fn spillable(shard: &Shard, queue: u64) -> usize {
    shard.queues.spillable(QueueId(u64::MAX - queue))
}

#[test]
fn queues_within_their_memory_keep_everything() {
    let mut shard = home(2, 10_000_000);
    send(&mut shard, 1, 1000, 1000);
    send(&mut shard, 2, 1000, 1000);
    assert!(spillable(&shard, 1) > 900_000 && spillable(&shard, 2) > 900_000);
    assert!(!shard.unfinished());
}

#[test]
fn what_is_beyond_the_memory_spills_from_the_longest_queue() {
    let mut shard = home(2, 1_000_000);
    send(&mut shard, 1, 100, 1000);
    let short = spillable(&shard, 1);
    send(&mut shard, 2, 2000, 1000);
    assert!(shard.queues.resident() <= 760_000, "{}", shard.queues.resident());
    assert_eq!(spillable(&shard, 1), short);
    assert_eq!(count(&mut shard, 2), Some(QueueAnswer::Counts(2000, 0)));
}

/// Bytes that operations under way write to logs and to segments of queues; they are carried out.
fn written(shard: &mut Shard) -> (usize, usize) {
    let (mut logs, mut segments) = (0, 0);
    while let Some(op) = shard.next_op() {
        if let Work::Write { pieces, .. } = &op.work {
            let bytes: usize = pieces.iter().map(Bytes::len).sum();
            match op.file {
                FileName::Log { .. } => logs += bytes,
                FileName::Queue { .. } => segments += bytes,
            }
        }
        shard.done(Done { id: op.id, result: Ok(Bytes::new()) }, NOW);
    }
    shard.end_turn(NOW);
    (logs, segments)
}

#[test]
fn a_queue_in_backlog_writes_each_message_once() {
    let mut shard = home(1, 3_000_000);
    send(&mut shard, 1, 4000, 1000);
    assert!(
        shard.queues.resident() < 400_000 && !shard.unfinished(),
        "{}",
        shard.queues.resident()
    );
    let (logs, segments) = written(&mut shard);
    assert!(logs > 4_000_000 && segments > 3_900_000, "{logs} {segments}");
    written(&mut shard);
    send(&mut shard, 1, 1000, 1000);
    assert_eq!(told(&mut shard).0, ProgressMark { applied: 5000, bytes: 5_410_000, durable: 4000 });
    let (logs, segments) = written(&mut shard);
    assert!(logs == 0 && (1_000_000..1_100_000).contains(&segments), "{logs} {segments}");
    assert_eq!(told(&mut shard).0.durable, 5000);
    assert_eq!(count(&mut shard, 1), Some(QueueAnswer::Counts(5000, 0)));
    assert!(shard.queues.resident() < 400_000, "{}", shard.queues.resident());
}

#[test]
fn heads_stay_in_memory_however_many_there_are() {
    let mut shard = home(20, 400_000);
    (1..=20).for_each(|queue| send(&mut shard, queue, 50, 1000));
    assert!(shard.queues.resident() <= 400_000, "{}", shard.queues.resident());
    assert!(shard.queues.resident_each().all(|bytes| bytes > 4000));
}

#[test]
fn a_turn_spills_a_bounded_amount() {
    let mut shard = home(1, 4_000_000);
    send(&mut shard, 1, 300, 100_000);
    let mut turns = 1;
    assert!(shard.queues.resident() > 20_000_000, "{}", shard.queues.resident());
    while shard.unfinished() {
        shard.end_turn(NOW);
        turns += 1;
    }
    assert!((4..8).contains(&turns), "{turns} turns");
    assert!(shard.queues.resident() <= 3_000_000, "{}", shard.queues.resident());
}

#[test]
fn memory_that_cannot_spill_does_not_keep_the_shard_busy() {
    let mut shard = home(500, 0);
    (1..=500).for_each(|queue| send(&mut shard, queue, 1, 1000));
    assert!(!shard.unfinished());
    assert!((1..=500).all(|queue| count(&mut shard, queue) == Some(QueueAnswer::Counts(1, 0))));
}

#[test]
fn a_source_is_told_what_is_applied_and_durable() {
    let mut shard = home(1, usize::MAX);
    send(&mut shard, 1, 10, 100);
    let (mark, ..) = told(&mut shard);
    assert_eq!((mark.applied, mark.durable), (10, 0));
    assert_eq!(mark.bytes, 10 * (18 + 100 + 64));
    sync(&mut shard);
    let (mark, ..) = told(&mut shard);
    assert_eq!((mark.applied, mark.durable), (10, 10));
}

#[test]
fn a_recovered_queue_counts_spilled_messages() {
    let mut shard = home(0, usize::MAX);
    let mut found = RecoveredQueue::default();
    (found.messages, found.next_seq) = (7, 20);
    shard.restore(Name::default(), spec(1, true), found);
    send(&mut shard, 1, 2, 100);
    assert_eq!(count(&mut shard, 1), Some(QueueAnswer::Counts(9, 0)));
}

#[test]
fn the_store_stops_when_the_clients_of_all_shards_are_gone() {
    let mut shard = home(1, usize::MAX);
    assert!(shard.store_idle());
    shard.shutdown(NOW);
    shard.end_turn(NOW);
    shard.end_turn(NOW);
    // This shard has nobody, and says so once; the other one has not said so yet.
    assert_eq!((told(&mut shard).2, shard.store_idle()), (1, false));
    send(&mut shard, 1, 1, 100);
    assert!(!shard.store_idle());
    shard.control(OTHER, Control::Left, NOW);
    shard.end_turn(NOW);
    assert_eq!((told(&mut shard).2, shard.store_idle()), (0, false));
    sync(&mut shard);
    assert!(!shard.store_idle());
    sync(&mut shard);
    assert!(shard.store_idle());
}

#[test]
fn snapshots_of_many_queues_come_some_at_a_time() {
    let mut shard = home(5, usize::MAX);
    send(&mut shard, 2, 3, 100);
    let page = |behind| Page { behind, most: 2 };
    let list = |shard: &mut Shard, behind| {
        shard.inspect(InspectId(7), ShardRequest::Queues(page(behind)), NOW);
        match shard.next_inspected() {
            Some((InspectId(7), ShardAnswer::Queues(chunk))) => chunk,
            other => panic!("{other:?}"),
        }
    };
    let first = list(&mut shard, None);
    // In the order of their ids; one that is gone by then is left out, here the last of the chunk.
    shard.control(ShardId(2), Control::Drop(spec(4, true).id), NOW);
    let rest = list(&mut shard, first.next);
    let last = list(&mut shard, rest.next);
    let ids: Vec<_> = [&first, &rest, &last].iter().flat_map(|chunk| &chunk.items).collect();
    let ids: Vec<_> = ids.iter().map(|row| row.id).collect();
    assert_eq!(ids, [5, 4, 3, 2, 1].map(|id| spec(id, true).id));
    assert_eq!((first.items.len(), rest.items.len(), last.next), (2, 2, None));
    let snapshot = rest.items[1].snapshot;
    assert_eq!((snapshot.ready, snapshot.consumers, snapshot.counters.published), (3, 0, 3));
    assert_eq!(snapshot.ready_bytes, 3 * (18 + 100));
}
