//! The topology: which vhosts, exchanges, queues and bindings exist. Every shard has a copy.

#[cfg(test)]
mod paused_route_test;
pub mod spec;
pub mod vhost;
#[cfg(test)]
mod vhost_test;
mod weight;

use std::hash::{Hash, Hasher};

use crate::access::Rights;
use crate::access::state::UserInVhost;
use crate::hash::{SecretSeed, UntrustedMap};
use crate::topology::spec::{Binding, ExchangeSpec, Name, QueueSpec};
pub use crate::topology::vhost::{QueueEntry, Vhost};

/// One step from a version of the topology to the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A vhost with its default exchanges.
    VhostCreated(Name),
    /// A vhost is gone with everything in it.
    VhostDeleted(Name),
    /// A user is gone. No change of the topology, but ordered among these.
    UserDeleted(Name),
    /// A user has other rights in a vhost; ordered like [`Self::UserDeleted`].
    RightsChanged(UserInVhost, Rights),
    /// The channels of a user count at the coordinator from now on (`true`), or no more; ordered
    /// like [`Self::UserDeleted`].
    ChannelsCounted(Name, bool),
    /// An exchange, in a vhost.
    ExchangeCreated(Name, ExchangeSpec),
    /// An exchange by name, in a vhost, with every binding from or to it.
    ExchangeDeleted(Name, Name),
    /// Exchanges, in a vhost, have these alternate exchanges by policies from now on.
    AlternatesChanged(Name, Vec<(Name, Option<Name>)>),
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
    seed: SecretSeed,
    version: u64,
    vhosts: UntrustedMap<Name, Vhost>,
    /// Bytes of memory that they hold, nearly.
    bytes: usize,
}

impl Topology {
    /// A topology without any vhost, at version 0.
    #[must_use]
    pub fn new(seed: SecretSeed) -> Self {
        Self { vhosts: UntrustedMap::with_hasher(seed), seed, version: 0, bytes: 0 }
    }

    /// Applies a change and moves on to `version`. The coordinator decides only changes that fit;
    /// one that does not fit changes nothing but the version.
    pub fn apply(&mut self, version: u64, change: &Change) {
        self.version = version;
        match change {
            Change::VhostCreated(name) => {
                let seed = self.seed;
                self.vhosts.entry(name.clone()).or_insert_with(|| Vhost::new(version, seed));
            }
            Change::VhostDeleted(name) => drop(self.vhosts.remove(name)),
            Change::UserDeleted(_) | Change::RightsChanged(..) | Change::ChannelsCounted(..) => {}
            Change::ExchangeCreated(vhost, spec) => {
                self.change(vhost, |vhost| vhost.add_exchange(version, spec.clone()));
            }
            Change::ExchangeDeleted(vhost, name) => {
                self.change(vhost, |vhost| vhost.remove_exchange(name));
            }
            Change::AlternatesChanged(vhost, alternates) => {
                self.change(vhost, |vhost| vhost.set_alternates(alternates));
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

    /// Bytes of memory that this copy holds, nearly.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The vhost with this name.
    #[inline]
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<&Vhost> {
        self.vhosts.get(name)
    }

    /// All vhosts with their names in arbitrary order: sort what is shown.
    pub fn vhosts(&self) -> impl Iterator<Item = (&str, &Vhost)> {
        self.vhosts.iter().map(|(name, vhost)| (name.as_ref(), vhost))
    }

    fn change(&mut self, vhost: &str, change: impl FnOnce(&mut Vhost)) {
        if let Some(vhost) = self.vhosts.get_mut(vhost) {
            let before = vhost.bytes();
            change(vhost);
            self.bytes = self.bytes + vhost.bytes() - before;
        }
    }
}

/// Copies that applied the same changes have the same hash, whatever their seeds are.
impl Hash for Topology {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let mut vhosts: Vec<_> = self.vhosts.iter().collect();
        vhosts.sort_unstable_by_key(|(name, _)| *name);
        (self.version, vhosts).hash(hasher);
    }
}
