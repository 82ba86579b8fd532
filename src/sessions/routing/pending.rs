//! A publish that goes on in another turn.

use model::{Draft, Name, Targets};

use crate::sessions::broker::QueueAt;
use crate::sessions::connections::Publisher;

/// A message is sent to so many queues at once.
pub(super) const QUEUES_MAX: usize = 64;

/// A publish that goes on in another turn.
#[derive(Debug)]
pub(crate) struct PendingPublish {
    pub publisher: Publisher,
    pub draft: Draft,
    pub stage: PublishStage,
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum PublishStage {
    /// It is being routed, by these keys beside its own.
    Routing(Vec<Name>, Box<Targets>),
    /// It is being sent to its queues.
    Sending(Sending),
}

/// The queues that a publish goes to.
#[derive(Debug)]
pub(crate) struct Sending {
    pub queues: Vec<QueueAt>,
    pub sent: usize,
    pub refused: bool,
}
