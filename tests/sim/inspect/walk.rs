//! Walks over lists, each chunk at another time: what is there from the first chunk to the last is
//! listed exactly once, and no chunk is longer than was asked for.

use std::collections::{BTreeMap, BTreeSet};

use ringtail::mesh::inspect::{
    BindingListing, ChannelCursor, ConsumerCursor, CoordinatorAnswer, CoordinatorRequest,
    ExchangeCursor, ExchangeRowCursor, ListChunk, Page, QueueRow, ShardAnswer, ShardRequest,
};

use model::{ConnId, QueueId};

use crate::run::MORTAL;
use crate::world::World;

/// More walks than this are not under way at once.
const WALKS: usize = 3;

/// Behind what a list goes on.
#[derive(Debug, Clone)]
pub enum Behind {
    /// Queues of a shard.
    Queue(usize, Option<QueueId>),
    /// Connections of a shard.
    Conn(usize, Option<ConnId>),
    /// Channels of a shard.
    Channel(usize, Option<ChannelCursor>),
    /// Consumers of a shard.
    Consumer(usize, Option<ConsumerCursor>),
    /// Exchanges that were published to from a shard.
    Counted(usize, Option<ExchangeRowCursor>),
    /// Queues of the coordinator.
    Known(Option<QueueId>),
    /// Exchanges.
    Exchange(Option<ExchangeCursor>),
    /// Bindings.
    Binding(Option<BindingListing>),
}

/// A list that is being walked.
pub struct Walk {
    /// `None`: it is through.
    at: Option<Behind>,
    /// What was there at the beginning.
    first: BTreeSet<String>,
    /// How often each was listed.
    seen: BTreeMap<String, usize>,
    /// From the beginning.
    whole: Behind,
}

impl World {
    /// Begins a walk, or asks for the next chunk of one.
    pub fn walk_on(&mut self) {
        if self.inspector.walks.len() < WALKS && self.rng.u8(..3) == 0 {
            let whole = self.some_list();
            let first = self.whole(&whole);
            let walk = Walk { at: Some(whole.clone()), first, seen: BTreeMap::new(), whole };
            self.inspector.walks.push(walk);
            return;
        }
        let walks = self.inspector.walks.len();
        if walks == 0 {
            return;
        }
        let mut walk = self.inspector.walks.swap_remove(self.rng.usize(..walks));
        let most = self.rng.usize(1..4);
        if let Some(at) = walk.at.take() {
            let (keys, next) = self.chunk(at, most);
            if keys.len() > most {
                let asked = &walk.whole;
                self.h.fail(|| format!("a chunk of {asked:?} has {} rows", keys.len()));
            }
            keys.into_iter().for_each(|key| *walk.seen.entry(key).or_default() += 1);
            walk.at = next;
        }
        match walk.at {
            Some(_) => self.inspector.walks.push(walk),
            None => self.judge(walk),
        }
    }

    /// The queue that a chunk ended with is deleted before the next chunk.
    pub fn walk_past_deleted(&mut self) {
        let one = self.connect(1, 0);
        self.quiet();
        self.on(one, |actor| actor.delete(MORTAL, false, false));
        self.quiet();
        self.on(one, |actor| {
            actor.declare(MORTAL, false, false);
            (0..3).for_each(|_| actor.declare_server_named());
        });
        self.quiet();
        for shard in 0..self.shards() {
            let whole = Behind::Queue(shard, None);
            let first = self.whole(&whole);
            let (mut seen, mut at) = (BTreeMap::new(), Some(whole.clone()));
            while let Some(behind) = at.take() {
                let page = ShardRequest::Queues(Page { behind: last_of(&behind), most: 1 });
                let ShardAnswer::Queues(chunk) = self.list_of(shard, page) else { panic!() };
                let mortal = self.h.queues[MORTAL].as_str();
                if chunk.items.iter().any(|row| *row.name == *mortal) {
                    self.on(one, |actor| actor.delete(MORTAL, false, false));
                    self.quiet();
                }
                let key = |row: &QueueRow| format!("{:?}", row.id);
                chunk.items.iter().for_each(|row| *seen.entry(key(row)).or_default() += 1);
                at = chunk.next.map(|next| Behind::Queue(shard, Some(next)));
            }
            self.judge(Walk { at: None, first, seen, whole });
        }
    }

    fn some_list(&mut self) -> Behind {
        let shard = self.rng.usize(..self.shards());
        match self.rng.u8(..10) {
            0..=2 => Behind::Queue(shard, None),
            3 => Behind::Conn(shard, None),
            4 => Behind::Channel(shard, None),
            5 => Behind::Consumer(shard, None),
            6 => Behind::Counted(shard, None),
            7 => Behind::Known(None),
            8 => Behind::Exchange(None),
            _ => Behind::Binding(None),
        }
    }

    fn judge(&mut self, walk: Walk) {
        let last = self.whole(&walk.whole);
        if let Some((key, count)) = walk.seen.iter().find(|(_, count)| **count > 1) {
            // An exchange may be deleted and declared again in another place.
            if !matches!(walk.whole, Behind::Exchange(_)) {
                self.h.fail(|| format!("{key} is listed {count} times by {:?}", walk.whole));
            }
        }
        for key in walk.first.intersection(&last).filter(|key| stays(&walk.whole, key)) {
            if walk.seen.get(key) != Some(&1) {
                self.h.fail(|| format!("{key} was there and is not listed by {:?}", walk.whole));
            }
        }
    }

    /// All that is listed now. There are never so many that it is more than a chunk.
    pub fn whole(&mut self, list: &Behind) -> BTreeSet<String> {
        let (keys, next) = self.chunk(list.clone(), usize::MAX);
        if next.is_some() {
            self.h.fail(|| format!("{list:?} has more than a chunk"));
        }
        keys.into_iter().collect()
    }

    /// The keys of a chunk, and behind what the next begins.
    fn chunk(&mut self, list: Behind, most: usize) -> (Vec<String>, Option<Behind>) {
        match list {
            Behind::Queue(shard, behind) => {
                let page = ShardRequest::Queues(Page { behind, most });
                let ShardAnswer::Queues(chunk) = self.list_of(shard, page) else { panic!() };
                parts(chunk, |row| format!("{:?}", row.id), |at| Behind::Queue(shard, Some(at)))
            }
            Behind::Conn(shard, behind) => {
                let page = ShardRequest::Connections(Page { behind, most });
                let ShardAnswer::Connections(chunk) = self.list_of(shard, page) else { panic!() };
                parts(chunk, |row| format!("{:?}", row.id), |at| Behind::Conn(shard, Some(at)))
            }
            Behind::Channel(shard, behind) => {
                let page = ShardRequest::Channels(Page { behind, most });
                let ShardAnswer::Channels(chunk) = self.list_of(shard, page) else { panic!() };
                parts(chunk, |row| format!("{:?}", row.id), |at| Behind::Channel(shard, Some(at)))
            }
            Behind::Consumer(shard, behind) => {
                let page = ShardRequest::Consumers(Page { behind, most });
                let ShardAnswer::Consumers(chunk) = self.list_of(shard, page) else { panic!() };
                parts(chunk, |row| format!("{:?}", row.id), |at| Behind::Consumer(shard, Some(at)))
            }
            Behind::Counted(shard, behind) => {
                let page = ShardRequest::Exchanges(Page { behind, most });
                let ShardAnswer::Exchanges(chunk) = self.list_of(shard, page) else { panic!() };
                parts(chunk, |row| row.name.to_string(), |at| Behind::Counted(shard, Some(at)))
            }
            Behind::Known(behind) => {
                let page = CoordinatorRequest::Queues(Page { behind, most });
                let CoordinatorAnswer::Queues(chunk) = self.known(page) else { panic!() };
                parts(chunk, |row| format!("{:?}", row.spec.id), |at| Behind::Known(Some(at)))
            }
            Behind::Exchange(behind) => {
                let page = CoordinatorRequest::Exchanges(Page { behind, most });
                let CoordinatorAnswer::Exchanges(chunk) = self.known(page) else { panic!() };
                parts(chunk, |row| row.spec.name.to_string(), |at| Behind::Exchange(Some(at)))
            }
            Behind::Binding(behind) => {
                let page = CoordinatorRequest::Bindings(Page { behind, most });
                let CoordinatorAnswer::Bindings(chunk) = self.known(page) else { panic!() };
                parts(chunk, |row| format!("{:?}", row.binding), |at| Behind::Binding(Some(at)))
            }
        }
    }

    /// What a shard lists; it answers at once.
    pub fn list_of(&mut self, shard: usize, request: ShardRequest) -> ShardAnswer {
        let id = self.fresh_question();
        self.broker.shards[shard].inspect(id, request, self.now);
        let (answered, answer) = self.broker.shards[shard].next_inspected().unwrap();
        assert_eq!(answered, id);
        answer
    }

    /// What the coordinator lists; it answers at once.
    fn known(&mut self, request: CoordinatorRequest) -> CoordinatorAnswer {
        let id = self.fresh_question();
        self.broker.coordinator.inspect(id, request, self.now);
        let (answered, answer) = self.broker.coordinator.next_inspected().unwrap();
        assert_eq!(answered, id);
        answer
    }
}

/// Whether what is there at two moments was there all the time between: what has an id, which is
/// never used again, and the exchanges that nobody deletes.
fn stays(list: &Behind, key: &str) -> bool {
    match list {
        Behind::Exchange(_) | Behind::Counted(..) => !key.starts_with("x-"),
        Behind::Binding(_) => false,
        _ => true,
    }
}

fn last_of(behind: &Behind) -> Option<QueueId> {
    match behind {
        Behind::Queue(_, last) => *last,
        _ => None,
    }
}

fn parts<T, C>(
    chunk: ListChunk<T, C>,
    key: impl Fn(&T) -> String,
    behind: impl Fn(C) -> Behind,
) -> (Vec<String>, Option<Behind>) {
    (chunk.items.iter().map(key).collect(), chunk.next.map(behind))
}
