//! Which changes are decided, which every shard has applied, and what waits for that.

use std::collections::VecDeque;

use model::mutant::{self, Mutant};
use model::{QueueId, ShardId};

use super::Asker;
use crate::shard::message::Answer;

/// What is done once every shard has applied the changes decided so far.
#[derive(Debug)]
pub(super) enum Then {
    /// A question is answered.
    Answer(Asker, Answer),
    /// A deleted queue is known to nobody any more.
    Forget(QueueId),
}

#[derive(Debug)]
pub(super) struct Versions {
    decided: u64,
    /// By shard.
    applied: Vec<u64>,
    settled: u64,
    /// With the version each waits for; versions never fall.
    waiting: VecDeque<(u64, Then)>,
}

impl Versions {
    pub fn new(shards: u16) -> Self {
        let applied = vec![0; usize::from(shards)];
        Self { decided: 0, applied, settled: 0, waiting: VecDeque::new() }
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        // Made from a u16.
        (0..self.applied.len() as u16).map(ShardId)
    }

    /// The number of the next change.
    pub fn decide(&mut self) -> u64 {
        self.decided += 1;
        self.decided
    }

    /// Keeps `then` until all that is decided is settled; gives it back if that is so already.
    pub fn wait(&mut self, then: Then) -> Option<Then> {
        if self.settled == self.decided {
            return Some(then);
        }
        self.waiting.push_back((self.decided, then));
        None
    }

    /// A shard has applied all up to `version`. Says up to where everything is settled, if that is
    /// farther now.
    pub fn applied(&mut self, shard: ShardId, version: u64) -> Option<u64> {
        let applied = self.applied.get_mut(shard.index())?;
        *applied = version.max(*applied);
        let mut settled = self.applied.iter().copied().min()?;
        if mutant::active(Mutant::SettledTooEarly) {
            settled = version.max(self.settled);
        }
        let is_news = settled > self.settled;
        self.settled = settled;
        is_news.then_some(settled)
    }

    /// Every shard has applied all changes up to this version.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// The next of what waited for what is settled now.
    pub fn next_settled(&mut self) -> Option<Then> {
        self.waiting.pop_front_if(|(version, _)| *version <= self.settled).map(|(_, then)| then)
    }

    pub fn is_settled(&self) -> bool {
        self.settled == self.decided && self.waiting.is_empty()
    }
}
