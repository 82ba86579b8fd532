//! Which exchanges, queues and bindings there are, the same on every shard.

use crate::hash::{Map, Seed};
use crate::spec::{Binding, ExchangeSpec, Name, QueueSpec};
pub use crate::vhost::{QueueEntry, Vhost};

/// One step from a version of the topology to the next.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A vhost with its default exchanges.
    VhostCreated(Name),
    /// An exchange, in a vhost.
    ExchangeCreated(Name, ExchangeSpec),
    /// An exchange by name, in a vhost, with every binding from or to it.
    ExchangeDeleted(Name, Name),
    /// A queue, in a vhost.
    QueueCreated(Name, QueueSpec),
    /// A queue by name, in a vhost, with every binding to it.
    QueueDeleted(Name, Name),
    /// A binding, in a vhost.
    Bound(Name, Binding),
    /// No longer a binding, in a vhost.
    Unbound(Name, Binding),
}

/// One copy of all vhosts. Copies that applied the same changes in the same order are the same.
#[derive(Debug)]
pub struct Topology {
    seed: Seed,
    version: u64,
    vhosts: Map<Name, Vhost>,
}

impl Topology {
    /// A topology without any vhost, at version 0.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { seed, version: 0, vhosts: Map::with_hasher(seed) }
    }

    /// Goes on to `version`. What the change names exists, or does not yet: the coordinator decides
    /// one change after the other. One that does not fit changes the version alone.
    pub fn apply(&mut self, version: u64, change: &Change) {
        self.version = version;
        match change {
            Change::VhostCreated(name) => {
                let seed = self.seed;
                self.vhosts.entry(name.clone()).or_insert_with(|| Vhost::new(version, seed));
            }
            Change::ExchangeCreated(vhost, spec) => {
                self.change(vhost, |vhost| vhost.add_exchange(version, spec.clone()));
            }
            Change::ExchangeDeleted(vhost, name) => {
                self.change(vhost, |vhost| vhost.remove_exchange(name));
            }
            Change::QueueCreated(vhost, spec) => {
                self.change(vhost, |vhost| vhost.add_queue(version, spec.clone()));
            }
            Change::QueueDeleted(vhost, name) => {
                self.change(vhost, |vhost| vhost.remove_queue(name));
            }
            Change::Bound(vhost, binding) => {
                self.change(vhost, |vhost| vhost.bind(binding.clone()))
            }
            Change::Unbound(vhost, binding) => self.change(vhost, |vhost| vhost.unbind(binding)),
        }
    }

    /// The version of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The vhost with this name.
    #[inline]
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<&Vhost> {
        self.vhosts.get(name)
    }

    /// All vhosts with their names, in no order that means anything: sort what is shown.
    pub fn vhosts(&self) -> impl Iterator<Item = (&str, &Vhost)> {
        self.vhosts.iter().map(|(name, vhost)| (name.as_ref(), vhost))
    }

    fn change(&mut self, vhost: &str, change: impl FnOnce(&mut Vhost)) {
        if let Some(vhost) = self.vhosts.get_mut(vhost) {
            change(vhost);
        }
    }
}
