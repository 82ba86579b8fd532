//! Exchanges and queues that go with very many bindings: the bindings go first, some at a time.
//!
//! ```text
//!   delete, unbind --> jobs --> some changes --> every shard has applied them
//!                       ^                                    |
//!                       +------------------------------------+
//! ```
//!
//! So no shard applies more of them in a turn. A job that has just begun goes first, the others
//! take turns: who deletes something small does not wait for who deletes something large. What is
//! durable of a job is one fact, recorded with its last change: until then a crash brings
//! everything back, and nobody was told otherwise.

mod pending;

use model::topology::Change;
use model::topology::spec::{Destination, Name};
use model::{Exchange, QueueId};

use crate::coordinator::decisions::Decisions;
use crate::coordinator::queues::QueueLifeCycle;
use crate::coordinator::versions::Requester;
use crate::mesh::control::Answer;

pub(super) use self::pending::{REMOVED_AT_ONCE, Removals};
use self::pending::{Removal, RemovalSteps, SLICE};

impl QueueLifeCycle {
    /// Deletes an exchange, which was created by this version, and answers.
    pub fn remove_exchange(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        vhost: Name,
        (name, version): (Name, u64),
    ) {
        let exchange = Removal::Exchange { vhost, name, version };
        self.removals.begun.push_back(vec![Removal::Answer(requester), exchange]);
        self.go_on_removing(decisions);
    }

    /// Takes a frozen queue out of the topology; it is gone when that is settled.
    pub fn remove_queue(&mut self, decisions: &mut Decisions, queue: QueueId) {
        let Some(entry) = self.directory.get(queue) else { return };
        let (vhost, name) = (entry.vhost.clone(), entry.spec.name.clone());
        self.removals.begun.push_back(vec![Removal::Queue { vhost, name, queue }]);
        self.go_on_removing(decisions);
    }

    /// An exchange has lost a binding. Answers when what follows from that is done.
    pub fn look_for_unused(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        vhost: Name,
        source: Name,
    ) {
        let unused = Removal::Unused { vhost, names: vec![source] };
        self.removals.begun.push_back(vec![Removal::Answer(requester), unused]);
        self.go_on_removing(decisions);
    }

    /// Goes on, as far as every shard has applied what was removed before.
    pub fn go_on_removing(&mut self, decisions: &mut Decisions) {
        while self.removals.left(decisions) > 0 {
            let begun = self.removals.begun.pop_front();
            let Some(mut job) = begun.or_else(|| self.removals.going_on.pop_front()) else {
                return;
            };
            let end = self.removals.ever + SLICE;
            while self.removals.ever < end && self.one_step(decisions, &mut job) {}
            if !job.is_empty() {
                self.removals.going_on.push_back(job);
            }
        }
    }

    /// A step of a job, or a piece of one; false if there is no other, or not now.
    fn one_step(&mut self, decisions: &mut Decisions, job: &mut RemovalSteps) -> bool {
        let left = self.removals.left(decisions);
        match job.pop() {
            None => return false,
            Some(Removal::Answer(requester)) => decisions.answer(requester, Answer::Done),
            Some(step) if left == 0 => {
                job.push(step);
                return false;
            }
            Some(Removal::Exchange { vhost, name, version }) => {
                self.remove_some_of_exchange(decisions, job, (vhost, name, version), left);
            }
            Some(Removal::Queue { vhost, name, queue }) => {
                self.remove_some_of_queue(decisions, job, (vhost, name, queue), left);
            }
            Some(Removal::Unused { vhost, names }) => {
                self.remove_unused(decisions, job, (vhost, names), left);
            }
        }
        true
    }

    fn remove_some_of_exchange(
        &mut self,
        decisions: &mut Decisions,
        job: &mut RemovalSteps,
        (vhost, name, version): (Name, Name, u64),
        left: usize,
    ) {
        let place = decisions.topology().vhost(&vhost);
        let exchange = place.and_then(|place| place.exchange(&name));
        // One of another version has only the name.
        if exchange.is_none_or(|exchange| exchange.version != version) {
            return;
        }
        let of = Destination::Exchange(name.clone());
        if let Some(losers) = self.unbind_some(decisions, &vhost, &of, left) {
            job.push(Removal::Exchange { vhost: vhost.clone(), name, version });
            return job.push(Removal::Unused { vhost, names: losers });
        }
        let losers = sources_to(decisions, &vhost, &of);
        decisions.decide(Change::ExchangeDeleted(vhost.clone(), name));
        self.removals.count(1, decisions);
        job.push(Removal::Unused { vhost, names: losers });
    }

    fn remove_some_of_queue(
        &mut self,
        decisions: &mut Decisions,
        job: &mut RemovalSteps,
        (vhost, name, queue): (Name, Name, QueueId),
        left: usize,
    ) {
        let of = Destination::Queue(name.clone());
        if let Some(losers) = self.unbind_some(decisions, &vhost, &of, left) {
            job.push(Removal::Queue { vhost: vhost.clone(), name, queue });
            return job.push(Removal::Unused { vhost, names: losers });
        }
        let losers = sources_to(decisions, &vhost, &of);
        decisions.decide(Change::QueueDeleted(vhost.clone(), name));
        self.removals.count(1, decisions);
        job.push(Removal::Unused { vhost, names: losers });
        if decisions.forget_when_applied(queue) {
            self.forgotten(decisions, queue);
        }
    }

    /// Removes bindings of something that goes. Returns the exchanges that lost one. `None`: they
    /// are so few that they go with it.
    fn unbind_some(
        &mut self,
        decisions: &mut Decisions,
        vhost: &Name,
        of: &Destination,
        left: usize,
    ) -> Option<Vec<Name>> {
        let mut some = decisions.topology().vhost(vhost)?.some_bindings(of, left + 1);
        self.removals.count(some.len().min(left), decisions);
        if some.len() <= left {
            return None;
        }
        some.truncate(left);
        let mut losers: Vec<Name> = Vec::new();
        for binding in some {
            if binding.destination == *of && losers.last() != Some(&binding.source) {
                losers.push(binding.source.clone());
            }
            decisions.announce(Change::Unbound(vhost.clone(), binding));
        }
        self.removals.count(0, decisions);
        Some(losers)
    }

    /// Deletes those of the exchanges that lost their last binding and are auto-delete, then in the
    /// same way the exchanges that were bound to these.
    fn remove_unused(
        &mut self,
        decisions: &mut Decisions,
        job: &mut RemovalSteps,
        (vhost, mut names): (Name, Vec<Name>),
        left: usize,
    ) {
        for _ in 0..left {
            let Some(name) = names.pop() else { return };
            self.removals.count(1, decisions);
            let place = decisions.topology().vhost(&vhost);
            let exchange = place.and_then(|place| place.exchange(&name));
            let is_unused =
                |exchange: &&Exchange| exchange.spec.auto_delete && exchange.bindings() == 0;
            if let Some(version) = exchange.filter(is_unused).map(|exchange| exchange.version) {
                job.push(Removal::Unused { vhost: vhost.clone(), names });
                return job.push(Removal::Exchange { vhost, name, version });
            }
        }
        job.push(Removal::Unused { vhost, names });
    }
}

/// The exchanges that bindings to the destination come from.
fn sources_to(decisions: &Decisions, vhost: &str, destination: &Destination) -> Vec<Name> {
    let vhost = decisions.topology().vhost(vhost);
    vhost.into_iter().flat_map(|vhost| vhost.sources_to(destination)).map(Name::from).collect()
}
