//! The one order of all decisions: the topology they make, the facts to be made durable, and what
//! is sent to the shards after that.

use model::mutant::{self, Mutant};
use model::topology::{Change, Topology, Vhost};
use model::{QueueId, ShardId};

use crate::coordinator::durable;
use crate::coordinator::versions::{AfterApplied, Requester, Versions};
use crate::mesh::control::{Answer, Control};
use crate::store::meta::Fact;

/// What was decided.
#[derive(Debug, Hash)]
pub(super) struct Decisions {
    topology: Topology,
    versions: Versions,
    /// The version of the youngest vhost.
    newest_vhost: u64,
    /// Facts to be made durable before anything in `ordered` is sent.
    records: Vec<Fact>,
    /// What is sent in the order of the decisions.
    ordered: Vec<(ShardId, Control)>,
    /// What promises nothing about decisions and may overtake them.
    independent: Vec<(ShardId, Control)>,
}

impl Decisions {
    pub fn new(topology: Topology, shards: u16) -> Self {
        Self {
            topology,
            versions: Versions::new(shards),
            newest_vhost: 0,
            records: Vec::new(),
            ordered: Vec::new(),
            independent: Vec::new(),
        }
    }

    /// The coordinator's own copy: everything decided, applied elsewhere or not.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.versions.shards().count() as u16
    }

    /// The vhost that a request names.
    pub fn vhost(&self, name: &str) -> Result<&Vhost, Answer> {
        self.topology.vhost(name).ok_or(Answer::NoVhost)
    }

    /// Makes the change a version of its own, records what is durable of it and tells every shard.
    pub fn decide(&mut self, change: Change) {
        self.record_change(&change);
        self.announce(change);
    }

    /// Makes the change a version of its own and tells every shard. It is durable already, or need
    /// not be.
    pub fn announce(&mut self, change: Change) {
        let version = self.versions.decide();
        if matches!(change, Change::VhostCreated(_)) {
            self.newest_vhost = version;
        }
        self.topology.apply(version, &change);
        self.broadcast(&Control::Apply(version, change));
    }

    /// Records what is durable of a change that the topology has already.
    pub fn record_change(&mut self, change: &Change) {
        self.records.extend(durable::fact(&self.topology, change));
    }

    /// The version of the last change.
    pub fn decided(&self) -> u64 {
        self.topology.version()
    }

    /// Every shard has applied all changes up to this version.
    pub fn settled(&self) -> u64 {
        self.versions.settled()
    }

    /// Records a fact that is no change of the topology.
    pub fn record(&mut self, fact: Fact) {
        self.records.push(fact);
    }

    /// Answers when every shard has applied what is decided so far: also a request that changed
    /// nothing may promise only what every shard knows.
    pub fn answer(&mut self, requester: Requester, answer: Answer) {
        let after = AfterApplied::Answer(requester, answer);
        if let Some(AfterApplied::Answer(requester, answer)) = self.versions.wait(after) {
            self.send_answer(requester, answer);
        }
    }

    /// Answers a request to open a vhost. One that every shard knows may be opened whatever else
    /// is being changed.
    pub fn answer_opened(&mut self, requester: Requester, answer: Answer) {
        if self.versions.settled() >= self.newest_vhost {
            self.answer_now(requester, answer);
        } else {
            self.answer(requester, answer);
        }
    }

    /// Answers what promises nothing about the topology.
    pub fn answer_now(&mut self, requester: Requester, answer: Answer) {
        self.send_now(requester.shard, Control::Answer(requester.request, answer));
    }

    /// Returns the queue from [`Self::next_applied`] when every shard has applied what is decided
    /// so far. `true` if that is so already.
    pub fn forget_when_applied(&mut self, queue: QueueId) -> bool {
        self.versions.wait(AfterApplied::Forget(queue)).is_some()
    }

    /// A shard has applied all changes up to `version`. Call [`Self::next_applied`] until it
    /// returns `None`.
    pub fn applied(&mut self, shard: ShardId, version: u64) {
        if let Some(settled) = self.versions.applied(shard, version) {
            self.broadcast(&Control::Settled(settled));
        }
    }

    /// Sends the answers that waited for what is applied now, up to the next deleted queue that no
    /// shard knows any more.
    pub fn next_applied(&mut self) -> Option<QueueId> {
        loop {
            match self.versions.next_settled()? {
                AfterApplied::Answer(requester, answer) => self.send_answer(requester, answer),
                AfterApplied::Forget(queue) => return Some(queue),
            }
        }
    }

    /// Sends behind what is decided.
    pub fn send(&mut self, to: ShardId, control: Control) {
        self.ordered.push((to, control));
    }

    /// Sends what may overtake decisions.
    pub fn send_now(&mut self, to: ShardId, control: Control) {
        self.independent.push((to, control));
    }

    /// Sends what may overtake decisions to every shard.
    pub fn broadcast_now(&mut self, control: &Control) {
        for shard in self.versions.shards() {
            self.send_now(shard, control.clone());
        }
    }

    /// See [`Coordinator::take_records`](crate::coordinator::Coordinator::take_records).
    pub fn take_records(&mut self) -> Vec<Fact> {
        if mutant::active(Mutant::RecordedTooLate) && !self.ordered.is_empty() {
            return Vec::new();
        }
        std::mem::take(&mut self.records)
    }

    /// What is to be sent, in order; without what depends on records if these are not durable.
    pub fn take_outbound(&mut self, are_durable: bool) -> Vec<(ShardId, Control)> {
        let mut outbound = std::mem::take(&mut self.independent);
        if are_durable {
            outbound.append(&mut self.ordered);
        }
        outbound
    }

    /// True if every shard has applied everything and nothing waits for that.
    pub fn is_settled(&self) -> bool {
        self.versions.is_settled()
    }

    fn send_answer(&mut self, requester: Requester, answer: Answer) {
        self.send(requester.shard, Control::Answer(requester.request, answer));
    }

    fn broadcast(&mut self, control: &Control) {
        for shard in self.versions.shards() {
            self.send(shard, control.clone());
        }
    }
}
