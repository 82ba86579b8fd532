//! What is being removed with its bindings, and how much of it a turn of all shards has seen.

use std::collections::VecDeque;

use model::QueueId;
use model::mutant::{self, Mutant};
use model::topology::spec::Name;

use crate::coordinator::decisions::Decisions;
use crate::coordinator::versions::Requester;

/// Bindings and exchanges that go before every shard has applied that.
pub(in crate::coordinator) const REMOVED_AT_ONCE: usize = 256;
/// Jobs that take turns do so many changes each.
pub(in crate::coordinator) const SLICE: usize = 64;

/// A step of a job.
#[derive(Debug, Hash)]
pub(in crate::coordinator) enum Removal {
    /// An exchange that was created by this version.
    Exchange { vhost: Name, name: Name, version: u64 },
    /// A queue, which is frozen.
    Queue { vhost: Name, name: Name, queue: QueueId },
    /// Exchanges that have lost a binding: those go that are auto-delete and lost the last.
    Unused { vhost: Name, names: Vec<Name> },
    /// The request is answered.
    Answer(Requester),
}

/// Its steps, the next one last.
pub(in crate::coordinator) type RemovalSteps = Vec<Removal>;

/// What is being removed.
#[derive(Debug, Hash)]
pub(in crate::coordinator) struct Removals {
    pub begun: VecDeque<RemovalSteps>,
    pub going_on: VecDeque<RemovalSteps>,
    /// Changes that may be made before every shard has applied them.
    at_once: usize,
    /// How many of them were made.
    made: usize,
    /// How many were ever made.
    pub ever: usize,
    /// The version of the last one.
    version: u64,
}

impl Removals {
    /// Makes so many changes before every shard has applied them.
    pub fn new(at_once: usize) -> Self {
        let (begun, going_on) = Default::default();
        Self { begun, going_on, at_once, made: 0, ever: 0, version: 0 }
    }

    /// True if nothing is being removed.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.going_on.is_empty()
    }

    /// How many changes may be made now.
    pub fn left(&mut self, decisions: &Decisions) -> usize {
        if mutant::active(Mutant::BindingsUncut) {
            return usize::MAX - 1;
        }
        if decisions.settled() >= self.version {
            self.made = 0;
        }
        self.at_once.saturating_sub(self.made).min(SLICE)
    }

    /// So many changes were made.
    pub fn count(&mut self, changes: usize, decisions: &Decisions) {
        (self.made, self.version) = (self.made + changes, decisions.decided());
        self.ever += changes;
    }
}
