//! Enqueues that finish out of order: a queue holds them, and the watermark passes them without
//! confirming them. The home tells the source which ones are held, then lists those that have
//! ended.
//!
//! ```text
//!   source                                            home
//!     enqueue 7, 8, 9  ------------------------------->  8 is held
//!     <---------------------------  Held(8), watermark 9
//!     7 and 9 are confirmed                              8 is applied, and durable if logged
//!     <---------------------------------  Finished([8])
//!     8 is confirmed
//! ```
//!
//! `Held` comes in front of the watermark that passes it, like a refusal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::mutant::{self, Mutant};
use model::queue::EnqueueEnd;

use crate::mesh::enqueue::{Awaiting, FinishedEnqueue};

/// An enqueue that some queues hold.
#[derive(Debug, Default)]
struct HeldEnqueue {
    queues: u32,
    logged: bool,
    refused: bool,
}

/// The home's side, for one source: enqueues that queues hold, and those that have ended.
#[derive(Debug, Default)]
pub(crate) struct HeldEnqueues {
    held: BTreeMap<u64, HeldEnqueue>,
    /// Ended, with the last record logged since the last mark.
    logged: Vec<FinishedEnqueue>,
    /// Ended, with the batch of the log that makes it durable.
    marks: VecDeque<(u64, FinishedEnqueue)>,
    /// To be told to the source.
    finished: Vec<FinishedEnqueue>,
}

impl HeldEnqueues {
    /// A queue holds an enqueue; true if it is the first queue that does.
    pub fn hold(&mut self, number: u64) -> bool {
        let enqueue = self.held.entry(number).or_default();
        enqueue.queues += 1;
        enqueue.queues == 1
    }

    /// An enqueue has ended in one of the queues that held it.
    pub fn finish(&mut self, number: u64, end: EnqueueEnd) {
        let Some(enqueue) = self.held.get_mut(&number) else {
            debug_assert!(false, "enqueue {number} ended twice");
            return;
        };
        enqueue.queues -= 1;
        enqueue.logged |= end == EnqueueEnd::Logged;
        enqueue.refused |= end == EnqueueEnd::Refused;
        if enqueue.queues > 0 {
            return;
        }
        let HeldEnqueue { logged, refused, .. } = *enqueue;
        self.held.remove(&number);
        let waits = logged && !mutant::active(Mutant::ListedTooEarly);
        let list = if waits { &mut self.logged } else { &mut self.finished };
        list.push(FinishedEnqueue { number, refused });
    }

    /// Messages logged so far are in this batch or before. True if one of them waits for it.
    pub fn mark(&mut self, batch: u64) -> bool {
        let waits = !self.logged.is_empty();
        self.marks.extend(self.logged.drain(..).map(|enqueue| (batch, enqueue)));
        waits
    }

    /// Batches up to this one are durable.
    pub fn durable(&mut self, batch: u64) {
        while let Some((_, enqueue)) = self.marks.pop_front_if(|mark| mark.0 <= batch) {
            self.finished.push(enqueue);
        }
    }

    /// Takes what the source is to be told.
    pub fn take_finished(&mut self) -> Vec<FinishedEnqueue> {
        std::mem::take(&mut self.finished)
    }

    /// Enqueues that are held, or not durable yet.
    pub fn len(&self) -> usize {
        self.held.len() + self.logged.len() + self.marks.len()
    }
}

/// The source's side, for one home: confirms and commits that wait for a list.
#[derive(Debug, Default)]
pub(crate) struct ListedConfirms {
    /// Enqueues that the home holds.
    held: BTreeSet<u64>,
    /// Publishes that the watermark has passed while the home held them.
    passed: BTreeMap<u64, Awaiting>,
    /// Publishes of transactions that the home holds; they may still be refused.
    committed: BTreeMap<u64, Awaiting>,
    /// Commits that the watermark has passed. Each waits for all earlier enqueues that are held.
    commits: Vec<Awaiting>,
    /// Confirms and commits that wait no more.
    released: Vec<Awaiting>,
}

impl ListedConfirms {
    /// The home holds an enqueue.
    #[cold]
    pub fn hold(&mut self, number: u64) {
        self.held.insert(number);
    }

    /// Whether the home holds an enqueue.
    pub fn holds(&self, number: u64) -> bool {
        self.held.contains(&number)
    }

    /// True if the home holds nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The watermark has passed what a confirm or a commit waits for; given back if it does not
    /// wait for a list too.
    pub fn admit(&mut self, awaiting: Awaiting) -> Option<Awaiting> {
        if awaiting.publish == 0 {
            if self.commit_waits(&awaiting) {
                self.commits.push(awaiting);
                return None;
            }
        } else if self.holds(awaiting.enqueue) {
            self.passed.insert(awaiting.enqueue, awaiting);
            return None;
        }
        Some(awaiting)
    }

    /// The watermark has passed a publish of a transaction, which may be refused while it is held.
    pub fn committed(&mut self, publish: Awaiting) {
        if self.holds(publish.enqueue) {
            self.committed.insert(publish.enqueue, publish);
        }
    }

    /// Who is to hear that an enqueue was refused that the watermark has passed.
    pub fn refused(&self, number: u64) -> Option<Awaiting> {
        self.passed.get(&number).or_else(|| self.committed.get(&number)).copied()
    }

    /// An enqueue that was held has ended.
    pub fn finish(&mut self, number: u64) {
        self.held.remove(&number);
        self.committed.remove(&number);
        self.released.extend(self.passed.remove(&number));
        let commits = std::mem::take(&mut self.commits);
        let (waiting, released) = commits.into_iter().partition(|one| self.commit_waits(one));
        self.commits = waiting;
        self.released.extend::<Vec<_>>(released);
    }

    /// A confirm or a commit that waits no more.
    pub fn released(&mut self) -> Option<Awaiting> {
        self.released.pop()
    }

    fn commit_waits(&self, commit: &Awaiting) -> bool {
        self.held.range(..=commit.enqueue).next().is_some()
    }

    /// Confirms and commits that wait for a list.
    pub fn len(&self) -> usize {
        self.passed.len() + self.commits.len() + self.released.len()
    }
}

#[cfg(test)]
mod tests {
    use model::{ChannelId, ConnId};

    use crate::mesh::held::*;

    fn awaiting(enqueue: u64, publish: u64) -> Awaiting {
        Awaiting { enqueue, conn: ConnId(1), channel: ChannelId(1), publish }
    }

    fn released(listed: &mut ListedConfirms) -> Vec<u64> {
        std::iter::from_fn(|| listed.released()).map(|one| one.enqueue).collect()
    }

    fn told(held: &mut HeldEnqueues) -> Vec<(u64, bool)> {
        held.take_finished().iter().map(|one| (one.number, one.refused)).collect()
    }

    #[test]
    fn an_enqueue_ends_with_the_last_queue_that_holds_it() {
        let mut held = HeldEnqueues::default();
        assert_eq!([1, 1, 2].map(|number| held.hold(number)), [true, false, true]);
        held.finish(2, EnqueueEnd::Applied);
        held.finish(1, EnqueueEnd::Refused);
        assert_eq!(told(&mut held), [(2, false)]);
        held.finish(1, EnqueueEnd::Applied);
        assert_eq!((told(&mut held), held.len()), (vec![(1, true)], 0));
    }

    #[test]
    fn a_logged_enqueue_ends_when_its_batch_is_durable() {
        let mut held = HeldEnqueues::default();
        for number in [1, 2, 3] {
            held.hold(number);
        }
        held.finish(2, EnqueueEnd::Logged);
        assert!(held.mark(5) && !held.mark(6));
        held.finish(3, EnqueueEnd::Logged);
        assert!(held.mark(6));
        held.durable(4);
        assert!(told(&mut held).is_empty());
        held.durable(5);
        assert_eq!(told(&mut held), [(2, false)]);
        held.finish(1, EnqueueEnd::Applied);
        held.durable(u64::MAX);
        assert_eq!((told(&mut held), held.len()), (vec![(1, false), (3, false)], 0));
    }

    #[test]
    fn a_publish_is_confirmed_when_watermark_and_list_have_passed_it() {
        let mut listed = ListedConfirms::default();
        listed.hold(2);
        listed.hold(3);
        assert_eq!(listed.admit(awaiting(1, 1)).map(|one| one.publish), Some(1));
        assert!(listed.admit(awaiting(2, 2)).is_none());
        listed.finish(2);
        assert_eq!(released(&mut listed), [2]);
        // The list may come first: the log is slower than the queue of another publish.
        listed.finish(3);
        assert!(released(&mut listed).is_empty());
        assert!(listed.admit(awaiting(3, 3)).is_some());
        assert_eq!(listed.len(), 0);
    }

    #[test]
    fn a_commit_waits_for_all_that_is_held_before_it() {
        let mut listed = ListedConfirms::default();
        (2..=4).for_each(|number| listed.hold(number));
        assert!(listed.admit(awaiting(3, 0)).is_none());
        listed.finish(3);
        listed.finish(4);
        assert!(released(&mut listed).is_empty());
        listed.finish(2);
        assert_eq!((released(&mut listed), listed.len()), (vec![3], 0));
    }

    #[test]
    fn who_hears_of_a_refusal_is_known_until_the_end() {
        let mut listed = ListedConfirms::default();
        listed.hold(1);
        listed.hold(2);
        listed.committed(awaiting(1, 0));
        listed.committed(awaiting(7, 0));
        listed.admit(awaiting(2, 9));
        assert_eq!(listed.refused(1).map(|one| one.publish), Some(0));
        assert_eq!(listed.refused(2).map(|one| one.publish), Some(9));
        assert!(listed.refused(7).is_none());
        listed.finish(1);
        assert!(listed.refused(1).is_none());
    }
}
