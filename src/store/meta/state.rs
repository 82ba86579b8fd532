//! The state that all durable facts make: the first batch of a file, and what a start restores.

use std::collections::{BTreeMap, BTreeSet};

use model::access::state::{AccessFact, AccessState};
use model::topology::Change;
use model::topology::spec::{Binding, Destination, ExchangeSpec, Name, QueueSpec};
use model::{Arguments, QueueId};

use super::fact::{Fact, User};

/// Everything that outlives a restart besides messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetaState {
    /// By name.
    pub vhosts: BTreeMap<Name, VhostState>,
    /// By name.
    pub users: BTreeMap<Name, User>,
    /// Permissions, settings, limits and policies.
    pub access: AccessState,
    /// Every queue ever created has a smaller id. 0: there was none.
    pub queues_below: QueueId,
}

/// What outlives a restart in a vhost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VhostState {
    /// By name, without the predeclared ones.
    pub exchanges: BTreeMap<Name, ExchangeSpec>,
    /// By name.
    pub queues: BTreeMap<Name, QueueSpec>,
    /// All bindings by destination and source, to find those of a deleted exchange or queue.
    incoming: BTreeMap<Destination, BTreeMap<Name, BTreeSet<KeyAndArguments>>>,
    /// The destinations of bindings from an exchange.
    outgoing: BTreeMap<Name, BTreeSet<Destination>>,
}

/// A binding's key and arguments.
type KeyAndArguments = (Name, Arguments);

impl MetaState {
    /// True if there is neither a vhost nor a user: nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vhosts.is_empty() && self.users.is_empty()
    }

    /// Applies a fact. One that does not fit the state has no effect; none such is ever written.
    pub fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Changed(change) => self.change(change),
            Fact::User(user) => {
                self.users.insert(user.name.clone(), user.clone());
            }
            Fact::QueuesBelow(queue) => self.queues_below = self.queues_below.max(*queue),
            Fact::Access(fact) => {
                if let AccessFact::UserDeleted(user) = fact {
                    self.users.remove(user);
                }
                self.access.apply(fact);
            }
        }
    }

    /// Facts that turn an empty state into this one, in an order in which each fits.
    pub fn facts(&self) -> impl Iterator<Item = Fact> {
        let users = self.users.values().cloned().map(Fact::User);
        let vhosts = self.vhosts.iter();
        let changes = vhosts.flat_map(|(name, vhost)| vhost.changes(name)).map(Fact::Changed);
        let access = self.access.facts().map(Fact::Access);
        let below = std::iter::once(Fact::QueuesBelow(self.queues_below));
        below.chain(users).chain(changes).chain(access)
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::VhostCreated(name) => drop(self.vhosts.entry(name.clone()).or_default()),
            Change::VhostDeleted(name) => {
                self.vhosts.remove(name);
                self.access.forget_vhost(name);
            }
            Change::ExchangeCreated(name, _)
            | Change::ExchangeDeleted(name, _)
            | Change::QueueCreated(name, _)
            | Change::QueueDeleted(name, _)
            | Change::Bound(name, _)
            | Change::Unbound(name, _) => {
                if let Some(vhost) = self.vhosts.get_mut(name) {
                    vhost.change(change);
                }
            }
            // Facts about access say these.
            Change::UserDeleted(_)
            | Change::RightsChanged(..)
            | Change::ChannelsCounted(..)
            | Change::AlternatesChanged(..) => {}
        }
    }
}

impl VhostState {
    /// All bindings, by destination and source.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> {
        let sources = self.incoming.iter().flat_map(|(destination, sources)| {
            sources.iter().map(move |(source, labels)| (destination, source, labels))
        });
        sources.flat_map(|(destination, source, labels)| {
            labels.iter().map(|(key, arguments)| Binding {
                source: source.clone(),
                destination: destination.clone(),
                key: key.clone(),
                arguments: arguments.clone(),
            })
        })
    }

    /// Changes that create this vhost, in an order in which each fits.
    pub fn changes(&self, name: &Name) -> impl Iterator<Item = Change> {
        let vhost = || name.clone();
        let exchanges = self.exchanges.values().cloned();
        let queues = self.queues.values().cloned();
        std::iter::once(Change::VhostCreated(vhost()))
            .chain(exchanges.map(move |spec| Change::ExchangeCreated(vhost(), spec)))
            .chain(queues.map(move |spec| Change::QueueCreated(vhost(), spec)))
            .chain(self.bindings().map(move |binding| Change::Bound(vhost(), binding)))
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::VhostCreated(_)
            | Change::VhostDeleted(_)
            | Change::UserDeleted(_)
            | Change::RightsChanged(..)
            | Change::ChannelsCounted(..)
            | Change::AlternatesChanged(..) => {}
            Change::ExchangeCreated(_, spec) => {
                self.exchanges.insert(spec.name.clone(), spec.clone());
            }
            Change::ExchangeDeleted(_, name) => self.delete_exchange(name),
            Change::QueueCreated(_, spec) => {
                self.queues.insert(spec.name.clone(), spec.clone());
            }
            Change::QueueDeleted(_, name) => {
                self.queues.remove(name);
                self.unbind_all(&Destination::Queue(name.clone()));
            }
            Change::Bound(_, binding) => self.bind(binding),
            Change::Unbound(_, binding) => self.unbind(binding),
        }
    }

    fn delete_exchange(&mut self, name: &Name) {
        self.exchanges.remove(name);
        self.unbind_all(&Destination::Exchange(name.clone()));
        for destination in self.outgoing.remove(name).into_iter().flatten() {
            if let Some(sources) = self.incoming.get_mut(&destination) {
                sources.remove(name);
                if sources.is_empty() {
                    self.incoming.remove(&destination);
                }
            }
        }
    }

    fn bind(&mut self, binding: &Binding) {
        let Binding { source, destination, key, arguments } = binding.clone();
        self.outgoing.entry(source.clone()).or_default().insert(destination.clone());
        let sources = self.incoming.entry(destination).or_default();
        sources.entry(source).or_default().insert((key, arguments));
    }

    fn unbind(&mut self, binding: &Binding) {
        let Binding { source, destination, key, arguments } = binding;
        let Some(sources) = self.incoming.get_mut(destination) else {
            return;
        };
        let Some(labels) = sources.get_mut(source) else {
            return;
        };
        labels.remove(&(key.clone(), arguments.clone()));
        if !labels.is_empty() {
            return;
        }
        sources.remove(source);
        if sources.is_empty() {
            self.incoming.remove(destination);
        }
        self.leads_no_more(source, destination);
    }

    /// Removes every binding to that destination.
    fn unbind_all(&mut self, destination: &Destination) {
        for source in self.incoming.remove(destination).into_iter().flatten() {
            self.leads_no_more(&source.0, destination);
        }
    }

    fn leads_no_more(&mut self, source: &Name, destination: &Destination) {
        if let Some(destinations) = self.outgoing.get_mut(source) {
            destinations.remove(destination);
            if destinations.is_empty() {
                self.outgoing.remove(source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::meta::draw;

    proptest! {
        #[test]
        fn its_own_facts_make_a_state_again(seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut state = MetaState::default();
            for _ in 0..100 {
                state.apply(&draw::fact(&mut random));
            }
            let mut again = MetaState::default();
            state.facts().for_each(|fact| again.apply(&fact));
            prop_assert_eq!(state, again);
        }
    }

    fn binding(source: &str, destination: Destination) -> Change {
        let (key, arguments) = ("k".into(), Arguments::default());
        Change::Bound("/".into(), Binding { source: source.into(), destination, key, arguments })
    }

    #[test]
    fn what_is_deleted_takes_its_bindings_with_it() {
        let mut state = MetaState::default();
        let mut change = |change| {
            state.apply(&Fact::Changed(change));
            state.vhosts.values().flat_map(VhostState::bindings).count()
        };
        change(Change::VhostCreated("/".into()));
        change(binding("x", Destination::Queue("q".into())));
        change(binding("x", Destination::Exchange("y".into())));
        assert_eq!(change(binding("y", Destination::Queue("q".into()))), 3);
        assert_eq!(change(Change::ExchangeDeleted("/".into(), "y".into())), 1);
        assert_eq!(change(Change::QueueDeleted("/".into(), "q".into())), 0);
        assert_eq!(state.vhosts["/"], VhostState::default());
    }

    #[test]
    fn identities_only_grow() {
        let mut state = MetaState::default();
        for (told, below) in [(5, 5), (9, 9), (7, 9)] {
            state.apply(&Fact::QueuesBelow(QueueId(told)));
            assert_eq!(state.queues_below, QueueId(below));
        }
        assert!(state.is_empty());
    }
}
