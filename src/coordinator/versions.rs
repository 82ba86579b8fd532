//! Which changes are decided, which of them every shard has applied, and what waits for that.

use std::collections::VecDeque;

use model::mutant::{self, Mutant};
use model::{QueueId, RequestId, ShardId};

use crate::mesh::control::Answer;

/// Who waits for the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Requester {
    pub shard: ShardId,
    pub request: RequestId,
}

/// What is done once every shard has applied the changes decided so far.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum AfterApplied {
    /// A request is answered.
    Answer(Requester, Answer),
    /// A deleted queue is known to no shard any more.
    Forget(QueueId),
}

/// How far the changes are.
#[derive(Debug, Hash)]
pub(super) struct Versions {
    decided: u64,
    /// By shard.
    applied: Vec<u64>,
    settled: u64,
    /// With the version each waits for; versions never fall.
    waiting: VecDeque<(u64, AfterApplied)>,
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

    /// Keeps `after` until all that is decided is settled; gives it back if that is so already.
    pub fn wait(&mut self, after: AfterApplied) -> Option<AfterApplied> {
        if self.settled == self.decided {
            return Some(after);
        }
        self.waiting.push_back((self.decided, after));
        None
    }

    /// A shard has applied all changes up to `version`. Returns the version up to which all shards
    /// have, if that has risen.
    pub fn applied(&mut self, shard: ShardId, version: u64) -> Option<u64> {
        let applied = self.applied.get_mut(shard.index())?;
        *applied = version.max(*applied);
        let mut settled = self.applied.iter().copied().min()?;
        if mutant::active(Mutant::SettledTooEarly) {
            settled = version.max(self.settled);
        }
        let has_risen = settled > self.settled;
        self.settled = settled;
        has_risen.then_some(settled)
    }

    /// Every shard has applied all changes up to this version.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// The next of what waited for a version that is settled now.
    pub fn next_settled(&mut self) -> Option<AfterApplied> {
        self.waiting.pop_front_if(|(version, _)| *version <= self.settled).map(|(_, after)| after)
    }

    pub fn is_settled(&self) -> bool {
        self.settled == self.decided && self.waiting.is_empty()
    }
}
