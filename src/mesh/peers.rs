//! The other endpoints as this shard sees them: what is to go there, and what it answered.

use std::collections::{BTreeSet, VecDeque};

use model::mutant::{self, Mutant};
use model::queue::EnqueueEnd;
use model::{ChannelId, ConnId, ShardId};

use crate::mesh::batch::Batch;
use crate::mesh::control::Control;
use crate::mesh::enqueue::{Awaiting, EnqueueOutcome, FinishedEnqueue};
use crate::mesh::held::{HeldEnqueues, ListedConfirms};
use crate::mesh::progress::{Progress, ProgressMark};

/// Bytes that a shard may have sent to all its peers and not seen applied. Beyond it publishers are
/// not read.
pub(crate) const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// One endpoint. A shard is its own peer too, so that its own queues confirm like others.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// What goes there at the end of the turn.
    pub out: Batch,
    sent: u64,
    sent_bytes: u64,
    answered: ProgressMark,
    awaiting_applied: VecDeque<Awaiting>,
    awaiting_durable: VecDeque<Awaiting>,
    /// Publishes of commits that are not applied there yet: they may be refused.
    committed: VecDeque<Awaiting>,
    /// Connections that are not read until the window opens.
    pub stalled: Vec<ConnId>,
    /// Commits that go on when the window opens.
    pub commits: Vec<(ConnId, ChannelId)>,
    /// What this shard has done for that one.
    pub progress: Progress,
    /// Enqueues of that shard that queues of this one hold.
    pub held: HeldEnqueues,
    /// What waits for a list from there.
    listed: ListedConfirms,
    /// Messages relayed there that have not come to their queues.
    relayed: BTreeSet<u64>,
    told: ProgressMark,
}

impl Peer {
    /// Counts an enqueue sent there; gives its number.
    pub fn send(&mut self, bytes: u64) -> u64 {
        self.sent += 1;
        self.sent_bytes += bytes;
        self.sent
    }

    /// The last enqueue sent there is a message whose queues are found there.
    pub fn is_relay(&mut self) {
        self.relayed.insert(self.sent);
    }

    /// A message from there, whose queues are found here, has come to them.
    pub fn forwarded(&mut self, number: u64, bytes: u64, refused: bool) {
        let end = if refused { EnqueueEnd::Refused } else { EnqueueEnd::Applied };
        self.held.finish(number, end);
        self.progress.free(bytes);
    }

    /// The number of the last enqueue sent there.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Lets a confirm wait for the last enqueue.
    pub fn wait(&mut self, awaiting: Awaiting, durable: bool) {
        let list = if durable { &mut self.awaiting_durable } else { &mut self.awaiting_applied };
        list.push_back(awaiting);
    }

    /// Remembers which commit the last enqueue belongs to.
    pub fn committed(&mut self, publish: Awaiting) {
        self.committed.push_back(publish);
    }

    /// A queue there has refused an enqueue; the publish to tell.
    #[cold]
    pub fn refused(&self, enqueue: u64) -> Option<Awaiting> {
        let lists = [&self.awaiting_applied, &self.awaiting_durable, &self.committed];
        lists
            .into_iter()
            .zip([true, true, false])
            .find_map(|(list, confirms)| {
                let from = list.partition_point(|one| one.enqueue < enqueue);
                let same = list.range(from..).take_while(|one| one.enqueue == enqueue);
                // An entry of a commit may wait for an enqueue that another publish made.
                same.copied().find(|one| !confirms || one.publish > 0)
            })
            .or_else(|| self.listed.refused(enqueue))
    }

    /// A queue here holds the enqueue that is entering; its number. `own`: this shard is its own
    /// source.
    #[cold]
    pub fn hold(&mut self, own: bool) -> u64 {
        let before = if own { self.sent } else { self.progress.done().applied };
        let number = before + 1;
        if self.held.hold(number) {
            if own {
                self.held_there(number);
            } else {
                self.out.control(Control::Held(number));
            }
        }
        number
    }

    /// A queue there holds an enqueue of this shard.
    #[cold]
    pub fn held_there(&mut self, number: u64) {
        if !mutant::active(Mutant::HeldConfirmed) {
            self.listed.hold(number);
        }
    }

    /// Whether queues there hold this enqueue. Classic queues hold nothing.
    #[inline]
    pub fn holds(&self, enqueue: u64) -> bool {
        cfg!(feature = "second-kinds") && self.listed.holds(enqueue)
    }

    /// Whether queues there hold an enqueue of this shard.
    #[inline]
    pub fn holds_any(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Enqueues that were held there have ended: who is to hear of those that were refused.
    /// [`Self::confirmed`] follows.
    #[cold]
    pub fn finished(&mut self, ended: &[FinishedEnqueue]) -> Vec<Awaiting> {
        let refused = ended.iter().filter(|one| one.refused);
        let refused = refused.filter_map(|one| self.refused(one.number)).collect();
        for one in ended {
            self.listed.finish(one.number);
            self.relayed.remove(&one.number);
        }
        refused
    }

    /// Bytes sent and not applied.
    pub fn outstanding(&self) -> u64 {
        self.sent_bytes - self.answered.bytes
    }

    /// All that was sent there is applied: true at once where this shard is the home.
    pub fn apply_all(&mut self) {
        self.progress.applied_all(self.sent, self.sent_bytes);
    }

    /// Takes the home's progress.
    pub fn answered(&mut self, mark: ProgressMark) {
        self.answered = mark;
        while let Some(publish) = pop_up_to(&mut self.committed, mark.applied) {
            self.listed.committed(publish);
        }
    }

    /// Whether the home has said that all enqueues up to this one are applied, or also durable, and
    /// holds none.
    pub fn has_answered(&self, enqueue: u64, durable: bool) -> bool {
        let done = if durable { self.answered.durable } else { self.answered.applied };
        done >= enqueue && !self.holds_any()
    }

    /// A publish that the home's progress and its lists confirm.
    pub fn confirmed(&mut self) -> Option<Awaiting> {
        loop {
            let next = self.listed.released().or_else(|| self.passed())?;
            if self.listed.is_empty() {
                return Some(next);
            }
            if let Some(next) = self.listed.admit(next) {
                return Some(next);
            }
        }
    }

    /// A publish that the watermarks have passed.
    fn passed(&mut self) -> Option<Awaiting> {
        pop_up_to(&mut self.awaiting_applied, self.answered.applied)
            .or_else(|| pop_up_to(&mut self.awaiting_durable, self.answered.durable))
    }

    /// The outcome of the last enqueue of that shard.
    pub fn enqueued(&mut self, outcome: EnqueueOutcome) {
        if outcome.logged() {
            self.progress.logged();
        }
        if outcome.refused() {
            self.out.control(Control::Refused(self.progress.done().applied));
        }
    }

    /// The progress to tell that shard, if there is any. Under backpressure the bytes are kept
    /// back, so that the other's window closes.
    pub fn news(&mut self, backpressure: bool) -> Option<ProgressMark> {
        let mut done = self.progress.done();
        if backpressure {
            done.bytes = self.told.bytes;
        }
        let news = done != self.told;
        self.told = done;
        news.then_some(done)
    }

    /// Confirms that wait.
    pub fn waiting(&self) -> usize {
        let by_list = self.listed.len() + self.held.len();
        self.awaiting_applied.len() + self.awaiting_durable.len() + by_list
    }
}

fn pop_up_to(list: &mut VecDeque<Awaiting>, enqueue: u64) -> Option<Awaiting> {
    list.pop_front_if(|first| first.enqueue <= enqueue)
}

/// All endpoints: the shards, then the coordinator.
#[derive(Debug)]
pub(crate) struct Peers {
    list: Vec<Peer>,
    window: u64,
}

impl Peers {
    pub fn new(shards: u16) -> Self {
        let list = (0..=shards).map(|_| Peer::default()).collect();
        Self { list, window: WINDOW_BYTES / u64::from(shards.max(2) - 1) }
    }

    pub fn get(&mut self, id: ShardId) -> &mut Peer {
        // Ids are given out by this process, for the endpoints that there are.
        &mut self.list[id.index()]
    }

    /// True if publishers to the home must wait.
    pub fn full(&mut self, id: ShardId) -> bool {
        let window = self.window;
        self.get(id).outstanding() > window && !mutant::active(Mutant::WindowIgnored)
    }

    /// True if publishers to the home may go on.
    pub fn relaxed(&mut self, id: ShardId) -> bool {
        let window = self.window;
        self.get(id).outstanding() <= window / 2
    }

    /// The coordinator's endpoint.
    pub fn coordinator(&self) -> ShardId {
        ShardId(self.shards())
    }

    pub fn shards(&self) -> u16 {
        // One endpoint is the coordinator.
        (self.list.len() - 1) as u16
    }

    /// Messages that other shards find the queues of, and have not yet brought there.
    pub fn relayed(&self) -> usize {
        self.list.iter().map(|peer| peer.relayed.len()).sum()
    }

    /// Confirms that wait for any home.
    pub fn waiting(&self) -> usize {
        self.list.iter().map(Peer::waiting).sum()
    }
}
