//! Commands from outside the data path that wait, and answers that were not taken.

use std::collections::{BTreeMap, VecDeque};

use model::{Name, RequestId};

use crate::mesh::inspect::{InspectId, ShardAnswer};

/// Answers that were not taken yet, and commands that are not answered.
#[derive(Debug, Default)]
pub(super) struct ShardAnswers {
    pub answers: VecDeque<(InspectId, ShardAnswer)>,
    /// By the request that they wait for. Who asks bounds how many there are.
    pub purges: BTreeMap<RequestId, PendingPurge>,
}

/// A purge that waits for its queue, or for the end of a deletion.
#[derive(Debug)]
pub(super) struct PendingPurge {
    pub id: InspectId,
    pub vhost: Name,
    pub name: Name,
}

impl ShardAnswers {
    pub fn answer(&mut self, id: InspectId, answer: ShardAnswer) {
        self.answers.push_back((id, answer));
    }

    /// Commands that are not answered.
    pub fn pending(&self) -> usize {
        self.purges.len()
    }
}
