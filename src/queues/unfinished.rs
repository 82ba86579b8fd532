//! What the queues of a home do in pieces, each turn as much as its budget of work allows.
//!
//! ```text
//!   a channel is gone, or limited --> walk over its queues --+
//!   a connection has credit again --> walk over its queues --+--> queues with tasks --> answers
//!   settle, purge ... --------------------------------------+          |
//!   delete -----------------------> dropped queues                     v
//!                                          requests to a queue that holds them back wait with it
//! ```
//!
//! What is told at the end of a walk, such as that a channel is released, is told when all of its
//! queues have done their part.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use model::mutant::{self, Mutant};
use model::queue::QueueProgress;
use model::{ChannelId, ConnId, QueueCommands, QueueId, QueueKind, ShardId, WorkBudget};

use crate::mesh::control::{QueueAnswer, QueueRequest};
use crate::queues::hosted::Queues;
use crate::queues::output::{HomeOutput, HostOutput};
use crate::queues::work::{LateAnswer, OpenWalk, QueueWalk, Waiting};

/// Units of work that one queue does before others have their turn.
const QUEUE_WORK: u32 = 256;

impl Queues {
    /// What is left of the turn's work.
    #[inline]
    pub fn budget(&mut self) -> &mut WorkBudget {
        &mut self.unfinished.budget
    }

    /// The most units of work that a turn does.
    pub fn work_bound(&self) -> u64 {
        self.unfinished.budget.bound()
    }

    /// Takes back what a channel has not settled, and its consumers. False: the answer comes later.
    pub fn channel_gone(&mut self, channel: ChannelId, outward: &mut impl HomeOutput) -> bool {
        let Some(queues) = self.channels.remove(&channel) else { return true };
        let walk = QueueWalk::Gone(channel, queues.into_iter());
        self.begin_walk(walk, (channel, None), outward)
    }

    /// The channel's consumers share a limit from now on, or no more. False: the answer comes
    /// later.
    pub fn limit(
        &mut self,
        (conn, channel): (ConnId, ChannelId),
        limited: bool,
        outward: &mut impl HomeOutput,
    ) -> bool {
        if !self.channels.contains_key(&channel) {
            return true;
        }
        let walk = QueueWalk::Limit { channel, limited, behind: None };
        self.begin_walk(walk, (channel, Some(conn)), outward)
    }

    /// Flow credit of a connection returned: queues that waited for it go on.
    pub fn return_credit(&mut self, conn: ConnId, bytes: u64, outward: &mut impl HomeOutput) {
        let queues = self.credit.give_back(conn, bytes);
        if !queues.is_empty() {
            self.unfinished.walks.push_back(QueueWalk::Reopen(conn, queues.into_iter()));
            self.go_on_with_walks(outward);
        }
    }

    /// Queues of these connections go on, which waited for room for a large message.
    #[cold]
    pub(super) fn reopen(
        &mut self,
        waiting: Vec<(ConnId, Vec<QueueId>)>,
        outward: &mut impl HomeOutput,
    ) {
        for (conn, queues) in waiting {
            self.unfinished.walks.push_back(QueueWalk::Reopen(conn, queues.into_iter()));
        }
        self.go_on_with_walks(outward);
    }

    fn begin_walk(
        &mut self,
        walk: QueueWalk,
        (channel, limited): (ChannelId, Option<ConnId>),
        outward: &mut impl HomeOutput,
    ) -> bool {
        // A channel that is gone may have been told of a limit; that needs no answer any more.
        let before = self.unfinished.open.get(&channel).map_or(0, |open| open.parts);
        self.unfinished.open.insert(channel, OpenWalk { parts: before + 1, limited });
        self.unfinished.walks.push_back(walk);
        self.go_on_with_walks(outward);
        self.unfinished.is_over(channel)
    }

    /// True if something goes on in the next turn although nothing happens until then.
    pub fn has_work(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Goes on with what is unfinished, as far as the budget of the turn goes.
    pub fn go_on(&mut self, outward: &mut impl HomeOutput) {
        self.go_on_with_walks(outward);
        while !self.unfinished.budget.is_spent()
            && let Some(id) = self.unfinished.busy.pop_front()
        {
            self.go_on_with(id, outward);
        }
        self.go_on_with_dropped(outward);
    }

    fn go_on_with(&mut self, id: QueueId, outward: &mut impl HomeOutput) {
        let Some(host) = self.hosted.get_mut(&id) else { return };
        host.busy = false;
        let most = self.unfinished.budget.left().min(QUEUE_WORK);
        let progress = self.with(id, outward, |queue, now, output| queue.go_on(most, now, output));
        self.progressed(id, progress, outward);
        if let Some(host) = self.hosted.get(&id)
            && !host.waiting.is_empty()
            && !host.queue.withholds()
        {
            self.unfinished.answering.push_back(id);
        }
    }

    /// Counts what a queue did, and tells if it is of no use any more.
    pub(super) fn progressed(
        &mut self,
        id: QueueId,
        progress: Option<QueueProgress>,
        outward: &mut impl HomeOutput,
    ) {
        let progress = progress.unwrap_or_default();
        self.unfinished.budget.spend(progress.used);
        self.tell_unused(id, Some(progress.unused), outward);
    }

    fn go_on_with_walks(&mut self, outward: &mut impl HomeOutput) {
        while self.unfinished.may_walk() && !self.unfinished.walks.is_empty() {
            self.unfinished.budget.spend(1);
            self.one_step(outward);
        }
    }

    /// One queue of the first walk.
    fn one_step(&mut self, outward: &mut impl HomeOutput) {
        let Some(walk) = self.unfinished.walks.front_mut() else { return };
        match walk {
            QueueWalk::Gone(channel, queues) => match (*channel, queues.next()) {
                (channel, Some(id)) => return self.tell_gone(channel, id, outward),
                (channel, None) => self.unfinished.part_done(channel),
            },
            QueueWalk::Limit { channel, limited, behind } => {
                let (channel, limited) = (*channel, *limited);
                match next_queue(self.channels.get(&channel), behind) {
                    Some(id) => return self.tell_limited(channel, limited, id, outward),
                    None => self.unfinished.part_done(channel),
                }
            }
            QueueWalk::Reopen(conn, queues) => {
                let conn = *conn;
                if let Some(id) = queues.next() {
                    self.with(id, outward, |queue, now, output| queue.reopen(conn, now, output));
                    return;
                }
            }
        }
        self.unfinished.walks.pop_front();
    }

    fn tell_gone(&mut self, channel: ChannelId, id: QueueId, outward: &mut impl HomeOutput) {
        if mutant::active(Mutant::ChannelKeepsUnacked) {
            return;
        }
        let most = self.unfinished.budget.left();
        let progress = self.with(id, outward, |queue, now, output| {
            queue.channel_gone(channel, now, output);
            queue.go_on(most, now, output)
        });
        self.progressed(id, progress, outward);
        self.await_part(channel, id);
        if id.is_direct_reply() {
            self.delete(id, outward);
        }
    }

    fn tell_limited(
        &mut self,
        channel: ChannelId,
        limited: bool,
        id: QueueId,
        outward: &mut impl HomeOutput,
    ) {
        let most = self.unfinished.budget.left();
        let progress = self.with(id, outward, |queue, now, output| {
            queue.limit(channel, limited, now, output);
            queue.go_on(most, now, output)
        });
        self.progressed(id, progress, outward);
        self.await_part(channel, id);
    }

    /// The walk of the channel waits for this queue, if that holds requests back.
    fn await_part(&mut self, channel: ChannelId, id: QueueId) {
        let Some(host) = self.hosted.get_mut(&id) else { return };
        if host.queue.withholds()
            && let Some(open) = self.unfinished.open.get_mut(&channel)
        {
            open.parts += 1;
            host.waiting.push_back(Waiting::Walk(channel));
        }
    }

    /// A queue is being dropped, in pieces; what waited with it is answered.
    pub(super) fn drop_queue(
        &mut self,
        id: QueueId,
        queue: QueueKind,
        waiting: VecDeque<Waiting>,
        outward: &mut impl HomeOutput,
    ) {
        for waiting in waiting {
            match waiting {
                Waiting::Walk(channel) => self.unfinished.part_done(channel),
                Waiting::Freeze { .. } => {
                    self.unfinished.answers.push_back(LateAnswer::Frozen(id, Ok(0)));
                }
                Waiting::Request(ticket, request) => {
                    let answer = QueueAnswer::of_none(id, &request);
                    let answer = LateAnswer::Request(ticket, answer, id);
                    self.unfinished.answers.push_back(answer);
                }
            }
        }
        self.unfinished.dropped.push_back(queue);
        self.go_on_with_dropped(outward);
    }

    fn go_on_with_dropped(&mut self, outward: &mut impl HomeOutput) {
        while (!self.unfinished.budget.is_spent() || mutant::active(Mutant::DropsUncut))
            && let Some(mut queue) = self.unfinished.dropped.pop_front()
        {
            self.unfinished.budget.spend(1);
            if let Some(consumer) = queue.take_consumer() {
                outward.consumer_gone(consumer.conn, consumer.channel, consumer.id);
            } else if queue.unfinished() {
                self.drop_some(&mut queue, outward);
            } else {
                self.pinned -= queue.pinned();
                continue;
            }
            self.unfinished.dropped.push_front(queue);
        }
    }

    fn drop_some(&mut self, queue: &mut QueueKind, outward: &mut impl HomeOutput) {
        let before = queue.pinned();
        let Self { credit, store, outcome, dying, .. } = self;
        let source = ShardId::default();
        let mut output = HostOutput { outward, credit, store, outcome, dying, source };
        let most = self.unfinished.budget.left().clamp(1, QUEUE_WORK);
        let progress = queue.go_on(most, self.now, &mut output);
        self.unfinished.budget.spend(progress.used);
        self.pinned = self.pinned + queue.pinned() - before;
    }

    /// The next answer to what was asked before. [`Self::dispatch`] follows the answer to a
    /// request.
    pub fn next_answer(&mut self, outward: &mut impl HomeOutput) -> Option<LateAnswer> {
        loop {
            let answer = self.unfinished.answers.pop_front();
            let spent = self.unfinished.budget.is_spent();
            if answer.is_some() || spent && !mutant::active(Mutant::AnswersUncut) {
                return answer;
            }
            let id = *self.unfinished.answering.front()?;
            let host = self.hosted.get_mut(&id).filter(|host| !host.queue.withholds());
            let Some(waiting) = host.and_then(|host| host.waiting.pop_front()) else {
                self.unfinished.answering.pop_front();
                continue;
            };
            self.unfinished.budget.spend(1);
            match waiting {
                Waiting::Walk(channel) => self.unfinished.part_done(channel),
                Waiting::Freeze { if_unused, if_empty } => {
                    let frozen = self.freeze_now(id, if_unused, if_empty, outward);
                    return Some(LateAnswer::Frozen(id, frozen));
                }
                Waiting::Request(ticket, request) => {
                    if self.is_wanted(&request)
                        && let Some(answer) = self.request_now(ticket, id, request, outward)
                    {
                        return Some(LateAnswer::Request(ticket, answer, id));
                    }
                }
            }
        }
    }

    /// Whether the channel that asked is still there.
    fn is_wanted(&self, request: &QueueRequest) -> bool {
        match request {
            QueueRequest::Consume(consumer) => self.channels.contains_key(&consumer.channel),
            QueueRequest::Get { channel, .. } => self.channels.contains_key(channel),
            QueueRequest::Count | QueueRequest::Cancel(_) | QueueRequest::Purge => true,
        }
    }
}

/// The queue behind one.
fn next_queue(queues: Option<&BTreeSet<QueueId>>, behind: &mut Option<QueueId>) -> Option<QueueId> {
    let first = behind.map_or(Unbounded, Excluded);
    *behind = queues?.range((first, Unbounded)).next().copied();
    *behind
}
