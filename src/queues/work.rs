//! What is unfinished in a home: queues with tasks, walks over queues, queues that are dropped, and
//! answers that wait for them.

use std::collections::{VecDeque, btree_set};

use model::mutant::{self, Mutant};
use model::{ChannelId, ConnId, Map, QueueId, QueueKind, Refusal, RequestId, Seed, WorkBudget};

use crate::mesh::control::{QueueAnswer, QueueRequest};

/// What a queue that holds requests back does when it is done.
#[derive(Debug)]
pub(super) enum Waiting {
    Request(RequestId, QueueRequest),
    Freeze {
        if_unused: bool,
        if_empty: bool,
    },
    /// The walk over the queues of this channel waits for this one.
    Walk(ChannelId),
}

/// What was asked of a home, and is answered later.
#[derive(Debug)]
pub(crate) enum LateAnswer {
    /// A request; what the queue delivers comes behind the answer.
    Request(RequestId, QueueAnswer, QueueId),
    /// The coordinator's.
    Frozen(QueueId, Result<u32, Refusal>),
    /// Everything of the channel is released.
    Released(ChannelId),
    /// The consumers of the channel share a limit, or no more.
    Limited(ConnId, ChannelId),
}

/// A walk over queues.
#[derive(Debug)]
pub(super) enum QueueWalk {
    /// The channel is gone.
    Gone(ChannelId, btree_set::IntoIter<QueueId>),
    /// The channel is limited, or no more, in its queues behind one.
    Limit { channel: ChannelId, limited: bool, behind: Option<QueueId> },
    /// The connection has credit again.
    Reopen(ConnId, std::vec::IntoIter<QueueId>),
}

/// How a walk over the queues of a channel ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenWalk {
    /// Queues that have not done their part, and 1 while the walk is under way.
    pub parts: usize,
    /// The connection, if the channel is limited; else it is gone.
    pub limited: Option<ConnId>,
}

/// What is unfinished in a home.
#[derive(Debug)]
pub(super) struct UnfinishedWork {
    pub budget: WorkBudget,
    /// Queues with tasks.
    pub busy: VecDeque<QueueId>,
    pub walks: VecDeque<QueueWalk>,
    pub open: Map<ChannelId, OpenWalk>,
    pub dropped: VecDeque<QueueKind>,
    /// Queues that do not hold back any more what waits with them.
    pub answering: VecDeque<QueueId>,
    pub answers: VecDeque<LateAnswer>,
}

impl UnfinishedWork {
    pub fn new(budget: WorkBudget, seed: Seed) -> Self {
        Self {
            budget,
            busy: VecDeque::new(),
            walks: VecDeque::new(),
            open: Map::with_hasher(seed),
            dropped: VecDeque::new(),
            answering: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    /// A queue has tasks.
    #[cold]
    pub fn busy(&mut self, id: QueueId) {
        self.busy.push_back(id);
    }

    pub fn is_empty(&self) -> bool {
        let waits = self.busy.is_empty() && self.walks.is_empty() && self.answering.is_empty();
        waits && self.dropped.is_empty() && self.answers.is_empty()
    }

    /// Walks that are not over, and queues that were deleted and not dropped as a whole.
    pub fn len(&self) -> usize {
        self.walks.len() + self.open.len() + self.dropped.len()
    }

    /// A queue has done its part of the walk, or the walk has reached the last one.
    pub fn part_done(&mut self, channel: ChannelId) {
        let Some(open) = self.open.get_mut(&channel) else { return };
        open.parts -= 1;
        if open.parts > 0 {
            return;
        }
        let answer = match open.limited {
            Some(conn) => LateAnswer::Limited(conn, channel),
            None => LateAnswer::Released(channel),
        };
        self.open.remove(&channel);
        self.answers.push_back(answer);
    }

    /// Whether the walk of this channel, which was begun last, is over: then it is not told.
    pub fn is_over(&mut self, channel: ChannelId) -> bool {
        let over = !self.open.contains_key(&channel);
        if over {
            self.answers.retain(|answer| match answer {
                LateAnswer::Released(other) | LateAnswer::Limited(_, other) => *other != channel,
                _ => true,
            });
        }
        over
    }

    pub fn may_walk(&self) -> bool {
        !self.budget.is_spent() || mutant::active(Mutant::WalksUncut)
    }
}
