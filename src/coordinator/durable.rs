//! What of a change outlives a restart.

use model::topology::spec::{Binding, Destination, Name};
use model::topology::{Change, Topology, Vhost};
use model::{QueueSpec, ShardId};

use crate::store::meta::Fact;

/// The change as a fact, if it outlives a restart. It is not applied to the topology yet.
pub(super) fn fact(topology: &Topology, change: &Change) -> Option<Fact> {
    let vhost = |name: &Name| topology.vhost(name);
    let outlives = match change {
        Change::VhostCreated(_) | Change::VhostDeleted(_) => true,
        // Recorded as facts of their own.
        Change::UserDeleted(_)
        | Change::RightsChanged(..)
        | Change::ChannelsCounted(..)
        | Change::AlternatesChanged(..) => false,
        Change::ExchangeCreated(_, spec) => spec.durable,
        Change::ExchangeDeleted(name, exchange) => has_durable_exchange(vhost(name)?, exchange),
        Change::QueueCreated(_, spec) => is_durable(spec),
        Change::QueueDeleted(name, queue) => has_durable_queue(vhost(name)?, queue),
        Change::Bound(name, binding) | Change::Unbound(name, binding) => {
            joins_durable(vhost(name)?, binding)
        }
    };
    outlives.then(|| Fact::Changed(without_home(change)))
}

/// An exclusive queue goes with its connection, which ends with the process.
pub(super) fn is_durable(spec: &QueueSpec) -> bool {
    spec.durable && spec.owner.is_none()
}

/// The home of a queue is chosen again at every start.
fn without_home(change: &Change) -> Change {
    match change {
        Change::QueueCreated(vhost, spec) => {
            let spec = QueueSpec { home: ShardId::default(), ..spec.clone() };
            Change::QueueCreated(vhost.clone(), spec)
        }
        other => other.clone(),
    }
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
