//! The other endpoints as this shard sees them: what is to go there, and what it answered.

use std::collections::VecDeque;

use model::mutant::{self, Mutant};
use model::{ChannelId, ConnId, ShardId};

use super::batch::{Batch, Watermark};
use super::home::Became;
use super::message::Control;
use super::progress::Progress;

/// Octets a shard may have sent to all its peers and not seen applied. Publishers beyond it are not
/// read.
pub(super) const WINDOW_OCTETS: u64 = 4 * 1024 * 1024;

/// A publish whose confirm, or a commit that, waits for a home.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaiting {
    /// The enqueue at that home.
    pub enqueue: u64,
    pub conn: ConnId,
    pub channel: ChannelId,
    /// The number of the publish on its channel; 0 for a commit.
    pub publish: u64,
}

/// One endpoint; a shard is among its own peers, so that its own queues confirm like others.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// What goes there at the end of the turn.
    pub out: Batch,
    sent: u64,
    sent_octets: u64,
    answered: Watermark,
    awaiting_applied: VecDeque<Awaiting>,
    awaiting_durable: VecDeque<Awaiting>,
    /// Publishes of commits that are not applied there: they may be refused.
    committed: VecDeque<Awaiting>,
    /// Connections that are not read until the window opens.
    pub stalled: Vec<ConnId>,
    /// Commits that go on when the window opens.
    pub commits: Vec<(ConnId, ChannelId)>,
    /// What this shard has done for that one.
    pub progress: Progress,
    told: Watermark,
}

impl Peer {
    /// Counts an enqueue sent there; gives its number.
    pub fn send(&mut self, octets: u64) -> u64 {
        self.sent += 1;
        self.sent_octets += octets;
        self.sent
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

    /// Remembers whose commit the last enqueue is of.
    pub fn committed(&mut self, publish: Awaiting) {
        self.committed.push_back(publish);
    }

    /// A queue there has refused an enqueue; who is to hear of it.
    #[cold]
    pub fn refused(&self, enqueue: u64) -> Option<Awaiting> {
        let lists = [&self.awaiting_applied, &self.awaiting_durable, &self.committed];
        lists.into_iter().zip([true, true, false]).find_map(|(list, confirms)| {
            let from = list.partition_point(|one| one.enqueue < enqueue);
            let same = list.range(from..).take_while(|one| one.enqueue == enqueue);
            // A commit waits for the last enqueue, whosever that is.
            same.copied().find(|one| !confirms || one.publish > 0)
        })
    }

    /// Octets sent and not applied.
    pub fn outstanding(&self) -> u64 {
        self.sent_octets - self.answered.octets
    }

    /// What was sent there is applied: so it is where this shard is the home itself.
    pub fn apply_all(&mut self) {
        self.progress.applied_all(self.sent, self.sent_octets);
    }

    /// Takes the home's progress.
    pub fn answered(&mut self, mark: Watermark) {
        self.answered = mark;
        while pop_up_to(&mut self.committed, mark.applied).is_some() {}
    }

    /// A publish that the home's progress confirms.
    pub fn confirmed(&mut self) -> Option<Awaiting> {
        pop_up_to(&mut self.awaiting_applied, self.answered.applied)
            .or_else(|| pop_up_to(&mut self.awaiting_durable, self.answered.durable))
    }

    /// What became here of the last enqueue of that shard.
    pub fn became(&mut self, became: Became) {
        if became.logged() {
            self.progress.logged();
        }
        if became.refused() {
            self.out.control(Control::Refused(self.progress.done().applied));
        }
    }

    /// The progress to tell that shard, if there is any. While this shard is crowded, the octets
    /// are not told, so that the other's window closes.
    pub fn news(&mut self, crowded: bool) -> Option<Watermark> {
        let mut done = self.progress.done();
        if crowded {
            done.octets = self.told.octets;
        }
        let news = done != self.told;
        self.told = done;
        news.then_some(done)
    }

    /// Confirms that wait.
    pub fn waiting(&self) -> usize {
        self.awaiting_applied.len() + self.awaiting_durable.len()
    }
}

fn pop_up_to(list: &mut VecDeque<Awaiting>, enqueue: u64) -> Option<Awaiting> {
    list.pop_front_if(|first| first.enqueue <= enqueue)
}

/// All endpoints: the shards, then the coordinator.
#[derive(Debug)]
pub(super) struct Peers {
    list: Vec<Peer>,
    window: u64,
}

impl Peers {
    pub fn new(shards: u16) -> Self {
        let list = (0..=shards).map(|_| Peer::default()).collect();
        Self { list, window: WINDOW_OCTETS / u64::from(shards.max(2) - 1) }
    }

    pub fn get(&mut self, id: ShardId) -> &mut Peer {
        // Ids are given out by this process, for the endpoints that there are.
        &mut self.list[id.index()]
    }

    /// Whether publishers to the home must wait.
    pub fn full(&mut self, id: ShardId) -> bool {
        let window = self.window;
        self.get(id).outstanding() > window && !mutant::active(Mutant::WindowIgnored)
    }

    /// Whether publishers to the home may go on.
    pub fn relaxed(&mut self, id: ShardId) -> bool {
        let window = self.window;
        self.get(id).outstanding() <= window / 2
    }

    pub fn shards(&self) -> u16 {
        // One endpoint is the coordinator.
        (self.list.len() - 1) as u16
    }

    /// Confirms that wait for any home.
    pub fn waiting(&self) -> usize {
        self.list.iter().map(Peer::waiting).sum()
    }
}
