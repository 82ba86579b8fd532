//! What the coordinator hands out to be made durable, and how it goes on from that after a restart.
//!
//! Whoever drives it makes what [`Coordinator::take_records`] gives durable, all of it at once,
//! before anything of [`Coordinator::take_outbound`] is sent: so an answer promises the disk too,
//! and no shard has seen what a crash could take back. Where it cannot, it says so by
//! [`Coordinator::disk_is_full`].

use model::mutant::{self, Mutant};
use model::spec::{Binding, Destination, Name};
use model::topology::{Change, Topology, Vhost};
use model::{QueueSpec, ShardId};

use super::{Coordinator, CoordinatorConfig};
use crate::store::meta::{Fact, MetaState};

impl Coordinator {
    /// A coordinator that goes on from what outlived a restart. Every queue has a new home, since
    /// there may be another number of shards; the shards that are the homes have to know the
    /// [`durable_queues`](Self::durable_queues) before they are told anything else. The changes
    /// that make the topology are in the outbox.
    ///
    /// If nothing was ever written, it is as [`Self::new`].
    #[must_use]
    pub fn recovered(config: CoordinatorConfig, state: &MetaState) -> Self {
        let first_user = (config.default_user.clone(), config.default_pass.clone());
        let first_vhost = config.default_vhost.clone();
        let mut coordinator = Self::empty(config, state.queues_below);
        if state.is_empty() {
            let user = coordinator.users.set_password(&first_user.0, first_user.1.as_bytes());
            coordinator.records.push(Fact::User(user));
            coordinator.decide(Change::VhostCreated(first_vhost.into()));
        }
        state.users.values().for_each(|user| coordinator.users.adopt(user.clone()));
        for (name, vhost) in &state.vhosts {
            vhost.changes(name).for_each(|change| coordinator.recover(change));
        }
        coordinator
    }

    /// What is to be durable before anything in the outbox is sent: all of it or nothing.
    pub fn take_records(&mut self) -> Vec<Fact> {
        if mutant::active(Mutant::RecordedTooLate) && !self.out.is_empty() {
            return Vec::new();
        }
        std::mem::take(&mut self.records)
    }

    /// The queues that outlive a restart, with their vhosts and homes, by identity.
    #[must_use]
    pub fn durable_queues(&self) -> Vec<(Name, QueueSpec)> {
        self.directory.ready().filter(|(_, spec)| is_durable(spec)).collect()
    }

    /// Makes the change a version of its own and tells every shard.
    pub(super) fn decide(&mut self, change: Change) {
        self.records.extend(fact(&self.topology, &change));
        self.announce(change);
    }

    /// Keeps identities from being given out again after a crash: those of queues that are not
    /// durable too, since what such a queue spilled may still be there.
    pub(super) fn reserve_identities(&mut self) {
        self.records.extend(self.directory.reserve().map(Fact::QueuesBelow));
    }

    fn recover(&mut self, change: Change) {
        let change = match change {
            Change::QueueCreated(vhost, spec) => {
                let spec = self.directory.adopt(vhost.clone(), spec);
                Change::QueueCreated(vhost, spec)
            }
            other => other,
        };
        self.announce(change);
    }
}

/// The change as a fact, if it outlives a restart. It is not applied yet.
fn fact(topology: &Topology, change: &Change) -> Option<Fact> {
    let vhost = |name: &Name| topology.vhost(name);
    let outlives = match change {
        Change::VhostCreated(_) => true,
        Change::ExchangeCreated(_, spec) => spec.durable,
        Change::ExchangeDeleted(name, exchange) => has_durable_exchange(vhost(name)?, exchange),
        Change::QueueCreated(_, spec) => is_durable(spec),
        Change::QueueDeleted(name, queue) => has_durable_queue(vhost(name)?, queue),
        Change::Bound(name, binding) | Change::Unbound(name, binding) => {
            joins_durable(vhost(name)?, binding)
        }
    };
    let change = match change {
        // A home is nothing that outlives a restart.
        Change::QueueCreated(vhost, spec) => {
            let spec = QueueSpec { home: ShardId::default(), ..spec.clone() };
            Change::QueueCreated(vhost.clone(), spec)
        }
        other => other.clone(),
    };
    outlives.then_some(Fact::Changed(change))
}

/// An exclusive queue goes with its connection, which outlives nothing.
fn is_durable(spec: &QueueSpec) -> bool {
    spec.durable && spec.owner.is_none()
}

fn has_durable_queue(vhost: &Vhost, name: &str) -> bool {
    vhost.queue(name).is_some_and(|queue| is_durable(&queue.spec))
}

fn has_durable_exchange(vhost: &Vhost, name: &str) -> bool {
    vhost.exchange(name).is_some_and(|exchange| exchange.spec.durable)
}

/// A binding outlives a restart if both its ends do, as in RabbitMQ.
fn joins_durable(vhost: &Vhost, binding: &Binding) -> bool {
    let leads_to_durable = match &binding.destination {
        Destination::Queue(name) => has_durable_queue(vhost, name),
        Destination::Exchange(name) => has_durable_exchange(vhost, name),
    };
    leads_to_durable && has_durable_exchange(vhost, &binding.source)
}
