//! Work on many queues at once: those of a vhost that is deleted, and those for which a changed
//! policy is in force. At most [`WINDOW`] of each are under way, so that a turn stays short.

use std::collections::VecDeque;

use model::QueueId;

use crate::coordinator::versions::Requester;

/// This many queues of a vhost are being deleted, and so many are being told of a policy.
pub(in crate::coordinator) const WINDOW: usize = 256;

/// A vhost that is gone for clients, while its queues are being deleted.
#[derive(Debug, Default, Hash)]
pub(in crate::coordinator) struct GoingVhost {
    /// Queues that were not told yet.
    pub waiting: VecDeque<QueueId>,
    /// Who is answered when the last queue is gone.
    pub requester: Option<Requester>,
}

/// Queues that are told which arguments are in force for them now.
#[derive(Debug, Default, Hash)]
pub(in crate::coordinator) struct Telling {
    /// Queues that were not told yet.
    pub waiting: VecDeque<QueueId>,
    /// How many were told and have not answered.
    pub under_way: usize,
    /// Who is answered when all have.
    pub requesters: Vec<Requester>,
}
