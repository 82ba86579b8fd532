//! The side of the thread that is asked. A turn without a question costs it one load.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use crate::mesh::inspect::InspectId;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// As many questions as may be are under way there.
    #[error("too many questions are under way; ask again when one is answered")]
    Busy,
    /// The time is over. A command may still be carried out.
    #[error("no answer came in time; a command may still be carried out")]
    Late,
    /// The broker has stopped, or stops.
    #[error("the broker stops")]
    Gone,
    /// There is no shard of this number.
    #[error("there is no such shard")]
    NoShard,
}

/// A question with the way back.
#[derive(Debug)]
pub(super) struct Question<Q, A> {
    pub request: Q,
    pub reply: Reply<A>,
}

type Then<A> = Box<dyn FnOnce(Result<A, InspectError>) + Send>;

/// The way back of one question: its end is told exactly once, then its place is free.
pub(super) struct Reply<A> {
    then: Option<Then<A>>,
    under_way: Arc<AtomicUsize>,
}

impl<A> std::fmt::Debug for Reply<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

impl<A> Reply<A> {
    pub fn new(then: Then<A>, under_way: Arc<AtomicUsize>) -> Self {
        Self { then: Some(then), under_way }
    }

    /// A mistake of who asked must not end the thread that answers.
    fn end(&mut self, answer: Result<A, InspectError>) {
        let Some(then) = self.then.take() else { return };
        // First: who is told may ask again at once.
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        if catch_unwind(AssertUnwindSafe(|| then(answer))).is_err() {
            tracing::error!("what an inspector does with an answer panicked");
        }
    }
}

impl<A> Drop for Reply<A> {
    fn drop(&mut self) {
        self.end(Err(InspectError::Gone));
    }
}

/// The questions to one endpoint.
#[derive(Debug)]
pub struct Questions<Q, A> {
    asked: Receiver<Question<Q, A>>,
    under_way: Arc<AtomicUsize>,
    /// Out of the channel already.
    next: Option<Question<Q, A>>,
    /// Those that are being answered.
    replies: BTreeMap<InspectId, Reply<A>>,
    ids: u64,
}

impl<Q, A> Questions<Q, A> {
    pub(super) fn new(asked: Receiver<Question<Q, A>>, under_way: Arc<AtomicUsize>) -> Self {
        Self { asked, under_way, next: None, replies: BTreeMap::new(), ids: 0 }
    }

    /// Ends all questions, those to come too. A thread's end would do that, but a poller may keep
    /// what it served until the process ends.
    pub fn close(&mut self) {
        (self.asked, self.next) = (channel().1, None);
        self.replies.clear();
    }

    /// Whether a question waits to be taken. Before a sleep it follows the announcement of that.
    pub fn waits(&mut self) -> bool {
        if self.next.is_none() && self.under_way.load(Ordering::Relaxed) > self.replies.len() {
            self.next = self.asked.try_recv().ok();
        }
        self.next.is_some()
    }

    /// Whether [`Self::waits`] found one that was not taken.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// Takes the next question.
    pub fn take(&mut self) -> Option<(InspectId, Q)> {
        if !self.waits() {
            return None;
        }
        let Question { request, reply } = self.next.take()?;
        self.ids += 1;
        let id = InspectId(self.ids);
        self.replies.insert(id, reply);
        Some((id, request))
    }

    /// Whether one that was taken is not answered.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Answers a question that was taken.
    pub fn answer(&mut self, id: InspectId, answer: A) {
        if let Some(mut reply) = self.replies.remove(&id) {
            reply.end(Ok(answer));
        }
    }
}
