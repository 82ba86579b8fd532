//! The dead letters of a shard that are under way, and other messages without a publisher here, and
//! what waits for them.

mod dead;
mod pending;
mod relays;

use model::mutant::{self, Mutant};
use model::queue::ledger::Ledger;
use model::{Draft, QueueId, Refusal, ShardId, Targets};

use crate::sessions::QueueAt;

pub(crate) use self::pending::Relays;

/// Letters under way at once; the others stay in their queues.
const UNDER_WAY_MAX: usize = 4096;
/// Bytes of those.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where a letter comes from, which is told when it has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LetterOrigin {
    /// A queue, by its number for it.
    Queue(QueueId, u64),
    /// A shard has relayed it: its number for it, and what it counts in the window.
    Relay(ShardId, u64, u64),
    /// The history of an exchange.
    History,
}

/// A letter under way.
#[derive(Debug)]
struct Letter {
    origin: LetterOrigin,
    /// Homes that have not confirmed it.
    waits: u16,
    /// A queue has refused it.
    refused: bool,
    bytes: u64,
}

/// The dead letters of a shard that are under way.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    under_way: Ledger<Letter>,
    /// The number of the last letter.
    last: u64,
    bytes: u64,
    /// By home: queues whose next letter waits for the window to it.
    pub blocked: Vec<Vec<QueueId>>,
    /// Letters that have arrived, or go nowhere, and whether a queue has refused them.
    pub arrived: Vec<(LetterOrigin, bool)>,
    /// Messages of histories that are under way.
    histories: usize,
    /// The version that this shard has applied but for these.
    pub applied: Option<u64>,
    /// Queues that are frozen and have dying messages: who is told when they have none, and what.
    pub freezing: Vec<(ShardId, QueueId, Result<u32, Refusal>)>,
    pub draft: Draft,
    pub routes: Vec<QueueAt>,
    /// What the next letter was routed to so far.
    pub targets: Targets,
    /// The letter whose route goes on in the next turn: its queue, and the queue's number for it.
    pub routing: Option<(QueueId, u64)>,
}

impl DeadLetters {
    pub fn new(shards: u16) -> Self {
        Self {
            under_way: Ledger::default(),
            last: 0,
            bytes: 0,
            blocked: vec![Vec::new(); usize::from(shards)],
            arrived: Vec::new(),
            histories: 0,
            applied: None,
            freezing: Vec::new(),
            draft: Draft::default(),
            routes: Vec::new(),
            targets: Targets::new(),
            routing: None,
        }
    }

    /// True if another letter may leave.
    pub fn has_room(&self) -> bool {
        self.under_way.len() < UNDER_WAY_MAX && self.bytes < BYTES_MAX
    }

    /// Letters under way.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Letters under way, queues that wait for a window, queues that wait to be deleted.
    pub fn waiting(&self) -> usize {
        self.len() + self.blocked.iter().map(Vec::len).sum::<usize>() + self.freezing.len()
    }

    /// A letter leaves; its number.
    pub fn begin(&mut self, origin: LetterOrigin, bytes: u64) -> u64 {
        self.last += 1;
        self.bytes += bytes;
        self.histories += usize::from(origin == LetterOrigin::History);
        self.under_way.push(self.last, Letter { origin, waits: 0, refused: false, bytes });
        self.last
    }

    /// A queue has refused a letter.
    #[cold]
    pub fn refused(&mut self, letter: u64) {
        if let Some(letter) = self.under_way.get_mut(letter) {
            letter.refused = true;
        }
    }

    /// Whether messages of histories are under way.
    pub fn brings_histories(&self) -> bool {
        self.histories > 0 && !mutant::active(Mutant::ReplayUnsettled)
    }

    /// The letter waits for so many homes.
    pub fn wait(&mut self, letter: u64, waits: u16) {
        let early = mutant::active(Mutant::BuriedTooEarly);
        match self.under_way.get_mut(letter) {
            Some(waiting) if waits > 0 && !early => waiting.waits = waits,
            _ => self.end(letter),
        }
    }

    /// A home has a letter.
    pub fn confirmed(&mut self, letter: u64) {
        let Some(waiting) = self.under_way.get_mut(letter) else { return };
        waiting.waits = waiting.waits.saturating_sub(1);
        if waiting.waits == 0 {
            self.end(letter);
        }
    }

    fn end(&mut self, letter: u64) {
        if let Some(Letter { origin, refused, bytes, .. }) = self.under_way.remove(letter) {
            self.bytes -= bytes;
            self.histories -= usize::from(origin == LetterOrigin::History);
            self.arrived.push((origin, refused));
        }
    }

    /// Queues whose letters waited for the window to this home, which has opened.
    pub fn unblocked(&mut self, home: ShardId) -> Vec<QueueId> {
        self.blocked.get_mut(home.index()).map(std::mem::take).unwrap_or_default()
    }
}
