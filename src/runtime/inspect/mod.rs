//! How threads outside the data path ask shards and the coordinator: an [`Inspector`] that any
//! thread may use, and behind it a bounded channel and a wake-up for each of them.
//!
//! ```text
//!  any thread ── Inspector ── channel, wake-up ──▶ Questions ── one a turn ──▶ Shard, Coordinator
//!       ▲                                              │
//!       └────────────── the question's Reply ◀─────────┘
//! ```
//!
//! At most [`QUESTIONS_MAX`] questions of all threads are under way at each of them; the next is
//! refused. A shard never waits for who asked: an answer that nobody takes is dropped.

mod questions;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::Duration;

pub use self::questions::{InspectError, Questions};
use self::questions::{Question, Reply};
use crate::mesh::inspect::{CoordinatorAnswer, CoordinatorRequest, ShardAnswer, ShardRequest};
use crate::runtime::wakeup::Wakeup;

/// Questions under way at one shard, or at the coordinator: that wait, that are executed, and whose
/// answers are being handed over.
pub const QUESTIONS_MAX: usize = 64;

/// How a shard is asked.
pub type ShardPort = Port<ShardRequest, ShardAnswer>;
/// How the coordinator is asked.
pub type CoordinatorPort = Port<CoordinatorRequest, CoordinatorAnswer>;
/// What a shard is asked.
pub type ShardQuestions = Questions<ShardRequest, ShardAnswer>;
/// What the coordinator is asked.
pub type CoordinatorQuestions = Questions<CoordinatorRequest, CoordinatorAnswer>;

/// Asks the shards and the coordinator of one broker. It may be cloned and used by any thread; the
/// broker neither waits for it nor keeps anything when it is gone.
#[derive(Debug, Clone)]
pub struct Inspector {
    shards: Arc<[ShardPort]>,
    coordinator: CoordinatorPort,
}

impl Inspector {
    /// Asks by these ports.
    #[must_use]
    pub fn new(shards: Vec<ShardPort>, coordinator: CoordinatorPort) -> Self {
        Self { shards: shards.into(), coordinator }
    }

    /// How many shards there are. Connection ids say which one has them:
    /// [`ConnId::origin`](model::ConnId::origin).
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Asks a shard and waits for the answer, at most for `patience`.
    ///
    /// # Errors
    ///
    /// See [`InspectError`].
    pub fn ask_shard(
        &self,
        shard: usize,
        request: ShardRequest,
        patience: Duration,
    ) -> Result<ShardAnswer, InspectError> {
        self.shards.get(shard).ok_or(InspectError::NoShard)?.ask(request, patience)
    }

    /// Asks the coordinator and waits for the answer, at most for `patience`.
    ///
    /// # Errors
    ///
    /// See [`InspectError`].
    pub fn ask_coordinator(
        &self,
        request: CoordinatorRequest,
        patience: Duration,
    ) -> Result<CoordinatorAnswer, InspectError> {
        self.coordinator.ask(request, patience)
    }

    /// Asks a shard; `then` is called with the answer, on the shard's thread: it must hand it over
    /// and return, never wait. It is called exactly once unless this fails.
    ///
    /// # Errors
    ///
    /// [`InspectError::Busy`] and [`InspectError::NoShard`].
    pub fn tell_shard(
        &self,
        shard: usize,
        request: ShardRequest,
        then: impl FnOnce(Result<ShardAnswer, InspectError>) + Send + 'static,
    ) -> Result<(), InspectError> {
        self.shards.get(shard).ok_or(InspectError::NoShard)?.tell(request, then)
    }

    /// Asks the coordinator; like [`Self::tell_shard`].
    ///
    /// # Errors
    ///
    /// [`InspectError::Busy`].
    pub fn tell_coordinator(
        &self,
        request: CoordinatorRequest,
        then: impl FnOnce(Result<CoordinatorAnswer, InspectError>) + Send + 'static,
    ) -> Result<(), InspectError> {
        self.coordinator.tell(request, then)
    }
}

/// The way to one endpoint.
#[derive(Debug)]
pub struct Port<Q, A> {
    questions: Sender<Question<Q, A>>,
    wakeup: Arc<Wakeup>,
    under_way: Arc<AtomicUsize>,
}

impl<Q, A> Clone for Port<Q, A> {
    fn clone(&self) -> Self {
        Self {
            questions: self.questions.clone(),
            wakeup: Arc::clone(&self.wakeup),
            under_way: Arc::clone(&self.under_way),
        }
    }
}

/// A way to the endpoint whose thread sleeps by that wake-up, and the endpoint's side of it.
#[must_use]
pub fn port<Q, A>(wakeup: &Arc<Wakeup>) -> (Port<Q, A>, Questions<Q, A>) {
    let (sender, receiver): (_, Receiver<Question<Q, A>>) = channel();
    let under_way = Arc::new(AtomicUsize::new(0));
    let questions = Questions::new(receiver, Arc::clone(&under_way));
    (Port { questions: sender, wakeup: Arc::clone(wakeup), under_way }, questions)
}

impl<Q: Send + 'static, A: Send + 'static> Port<Q, A> {
    fn ask(&self, request: Q, patience: Duration) -> Result<A, InspectError> {
        let (sender, answer) = sync_channel(1);
        // Who asked may have lost patience: then nobody takes the answer.
        self.tell(request, move |answer| drop(sender.try_send(answer)))?;
        answer.recv_timeout(patience).unwrap_or(Err(InspectError::Late))
    }

    fn tell(
        &self,
        request: Q,
        then: impl FnOnce(Result<A, InspectError>) + Send + 'static,
    ) -> Result<(), InspectError> {
        if self.under_way.fetch_add(1, Ordering::Relaxed) >= QUESTIONS_MAX {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            return Err(InspectError::Busy);
        }
        let reply = Reply::new(Box::new(then), Arc::clone(&self.under_way));
        // If the endpoint is gone, the reply is dropped with the question and says so.
        drop(self.questions.send(Question { request, reply }));
        self.wakeup.wake();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::mesh::inspect::InspectId;

    fn pair() -> (Port<u32, u32>, Questions<u32, u32>) {
        port(&Arc::new(Wakeup::new().unwrap()))
    }

    fn answer_all(questions: &mut Questions<u32, u32>) -> usize {
        let mut count = 0;
        while let Some((id, request)) = questions.take() {
            questions.answer(id, request + 1);
            count += 1;
        }
        count
    }

    #[test]
    fn one_question_too_many_is_refused_and_places_come_back() {
        let (port, mut questions) = pair();
        for _ in 0..3 {
            for _ in 0..QUESTIONS_MAX {
                port.tell(1, |_| {}).unwrap();
            }
            assert_eq!(port.tell(1, |_| {}), Err(InspectError::Busy));
            assert!(questions.waits());
            assert_eq!(answer_all(&mut questions), QUESTIONS_MAX);
            assert!(!questions.waits());
        }
    }

    #[test]
    fn a_question_that_is_not_answered_keeps_its_place_and_nobody_awake() {
        let (port, mut questions) = pair();
        let answers = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&answers);
        port.tell(4, move |answer| told.lock().unwrap().push(answer)).unwrap();
        let (id, request) = questions.take().unwrap();
        assert!(!questions.waits() && questions.take().is_none());
        questions.answer(InspectId(id.0 + 1), 9);
        assert!(answers.lock().unwrap().is_empty());
        questions.answer(id, request);
        questions.answer(id, request);
        assert_eq!(*answers.lock().unwrap(), [Ok(4)]);
    }

    #[test]
    fn nobody_waits_for_an_endpoint_or_an_asker_that_is_gone() {
        let (port, mut questions) = pair();
        assert_eq!(port.ask(1, Duration::ZERO), Err(InspectError::Late));
        assert_eq!(answer_all(&mut questions), 1);
        port.tell(1, |_| panic!("a mistake of who asks")).unwrap();
        assert_eq!(answer_all(&mut questions), 1);
        let gone = Arc::new(Mutex::new(None));
        let told = Arc::clone(&gone);
        port.tell(1, move |answer| *told.lock().unwrap() = Some(answer)).unwrap();
        questions.close();
        assert_eq!(*gone.lock().unwrap(), Some(Err(InspectError::Gone)));
        assert_eq!(port.ask(1, Duration::from_secs(9)), Err(InspectError::Gone));
        assert_eq!(port.under_way.load(Ordering::Relaxed), 0);
    }
}
