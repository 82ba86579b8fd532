//! Everything about rights that outlives a restart, and the facts that change it.

use std::collections::BTreeMap;

use crate::access::limits::{UserLimits, VhostLimits};
use crate::access::{PermissionPatterns, TopicPatterns, VhostSettings};
use crate::policy::{Policy, PolicyScope};
use crate::topology::spec::Name;

/// A change of rights, settings, limits or policies that outlives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AccessFact {
    /// Permissions are looked at. Data folders of versions that had none lack this.
    InForce,
    /// The user is gone, with all permissions.
    UserDeleted(Name),
    /// The user's permissions in a vhost.
    Permissions(UserInVhost, PermissionPatterns),
    /// The user has no permissions in the vhost any more.
    PermissionsCleared(UserInVhost),
    /// The user's permissions for routing keys of an exchange.
    TopicPermissions(UserInVhost, Name, TopicPatterns),
    /// No more permissions for routing keys of the exchange.
    TopicPermissionsCleared(UserInVhost, Name),
    /// The settings of a vhost.
    VhostSettings(Name, VhostSettings),
    /// The limits of a vhost; without any, it has none.
    VhostLimits(Name, VhostLimits),
    /// The limits of a user; without any, it has none.
    UserLimits(Name, UserLimits),
    /// A policy in a vhost.
    Policy(Name, PolicyScope, Policy),
    /// No longer a policy: vhost, scope, name.
    PolicyCleared(Name, PolicyScope, Name),
    /// A global parameter: its name, and its value as JSON.
    GlobalParameter(Name, Name),
}

/// A user in a vhost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserInVhost {
    /// The user's name.
    pub user: Name,
    /// The vhost's name.
    pub vhost: Name,
}

/// The state that the facts make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct AccessState {
    /// Permissions are looked at.
    pub in_force: bool,
    /// By user and vhost.
    pub permissions: BTreeMap<UserInVhost, PermissionPatterns>,
    /// By user, vhost and exchange.
    pub topic_permissions: BTreeMap<(UserInVhost, Name), TopicPatterns>,
    /// By vhost; absent: nothing is set.
    pub vhosts: BTreeMap<Name, VhostSettings>,
    /// By vhost; none of them is empty.
    pub vhost_limits: BTreeMap<Name, VhostLimits>,
    /// By user; none of them is empty.
    pub user_limits: BTreeMap<Name, UserLimits>,
    /// By vhost, scope and name.
    pub policies: BTreeMap<(Name, PolicyScope, Name), Policy>,
    /// Values as JSON, by name.
    pub global_parameters: BTreeMap<Name, Name>,
}

impl AccessState {
    /// Applies a fact.
    pub fn apply(&mut self, fact: &AccessFact) {
        match fact.clone() {
            AccessFact::InForce => self.in_force = true,
            AccessFact::UserDeleted(user) => self.forget_user(&user),
            AccessFact::Permissions(of, patterns) => drop(self.permissions.insert(of, patterns)),
            AccessFact::PermissionsCleared(of) => drop(self.permissions.remove(&of)),
            AccessFact::TopicPermissions(of, exchange, patterns) => {
                self.topic_permissions.insert((of, exchange), patterns);
            }
            AccessFact::TopicPermissionsCleared(of, exchange) => {
                self.topic_permissions.remove(&(of, exchange));
            }
            AccessFact::VhostSettings(vhost, settings) => drop(self.vhosts.insert(vhost, settings)),
            AccessFact::VhostLimits(vhost, limits) => put(&mut self.vhost_limits, vhost, limits),
            AccessFact::UserLimits(user, limits) => put(&mut self.user_limits, user, limits),
            AccessFact::Policy(vhost, scope, policy) => {
                self.policies.insert((vhost, scope, policy.name.clone()), policy);
            }
            AccessFact::PolicyCleared(vhost, scope, name) => {
                self.policies.remove(&(vhost, scope, name));
            }
            AccessFact::GlobalParameter(name, value) => {
                self.global_parameters.insert(name, value);
            }
        }
    }

    fn forget_user(&mut self, user: &str) {
        self.permissions.retain(|of, _| *of.user != *user);
        self.topic_permissions.retain(|(of, _), _| *of.user != *user);
        self.user_limits.retain(|name, _| **name != *user);
    }

    /// The vhost is gone, with all permissions and policies in it.
    pub fn forget_vhost(&mut self, vhost: &str) {
        self.permissions.retain(|of, _| *of.vhost != *vhost);
        self.topic_permissions.retain(|(of, _), _| *of.vhost != *vhost);
        self.vhosts.retain(|name, _| **name != *vhost);
        self.vhost_limits.retain(|name, _| **name != *vhost);
        self.policies.retain(|(name, ..), _| **name != *vhost);
    }

    /// What the state says of the same object as a fact that sets something, as such a fact.
    #[must_use]
    pub fn get(&self, fact: &AccessFact) -> Option<AccessFact> {
        Some(match fact {
            AccessFact::Permissions(of, _) => {
                AccessFact::Permissions(of.clone(), self.permissions.get(of)?.clone())
            }
            AccessFact::TopicPermissions(of, exchange, _) => {
                let patterns = self.topic_permissions.get(&(of.clone(), exchange.clone()))?;
                AccessFact::TopicPermissions(of.clone(), exchange.clone(), patterns.clone())
            }
            AccessFact::VhostSettings(vhost, _) => {
                AccessFact::VhostSettings(vhost.clone(), self.vhosts.get(vhost)?.clone())
            }
            AccessFact::VhostLimits(vhost, _) => {
                let limits = self.vhost_limits.get(vhost).cloned().unwrap_or_default();
                AccessFact::VhostLimits(vhost.clone(), limits)
            }
            AccessFact::UserLimits(user, _) => {
                let limits = self.user_limits.get(user).cloned().unwrap_or_default();
                AccessFact::UserLimits(user.clone(), limits)
            }
            AccessFact::Policy(vhost, scope, policy) => {
                let key = (vhost.clone(), *scope, policy.name.clone());
                AccessFact::Policy(vhost.clone(), *scope, self.policies.get(&key)?.clone())
            }
            AccessFact::GlobalParameter(name, _) => {
                AccessFact::GlobalParameter(name.clone(), self.global_parameters.get(name)?.clone())
            }
            _ => return None,
        })
    }

    /// Facts that turn an empty state into this one.
    pub fn facts(&self) -> impl Iterator<Item = AccessFact> {
        let in_force = self.in_force.then_some(AccessFact::InForce);
        let permissions = self.permissions.iter();
        let permissions = permissions.map(|(of, p)| AccessFact::Permissions(of.clone(), p.clone()));
        let topics = self.topic_permissions.iter().map(|((of, exchange), patterns)| {
            AccessFact::TopicPermissions(of.clone(), exchange.clone(), patterns.clone())
        });
        let vhosts = self.vhosts.iter();
        let vhosts = vhosts.map(|(name, s)| AccessFact::VhostSettings(name.clone(), s.clone()));
        let policies = self.policies.iter().map(|((vhost, scope, _), policy)| {
            AccessFact::Policy(vhost.clone(), *scope, policy.clone())
        });
        let first = in_force.into_iter().chain(permissions).chain(topics).chain(vhosts);
        let globals = self.global_parameters.iter();
        let globals = globals.map(|(name, v)| AccessFact::GlobalParameter(name.clone(), v.clone()));
        first.chain(self.limits()).chain(policies).chain(globals)
    }

    fn limits(&self) -> impl Iterator<Item = AccessFact> {
        let (vhosts, users) = (self.vhost_limits.iter(), self.user_limits.iter());
        let vhosts = vhosts.map(|(name, l)| AccessFact::VhostLimits(name.clone(), l.clone()));
        let users = users.map(|(name, l)| AccessFact::UserLimits(name.clone(), l.clone()));
        vhosts.chain(users)
    }
}

fn put<K>(all: &mut BTreeMap<Name, BTreeMap<K, u64>>, of: Name, limits: BTreeMap<K, u64>) {
    if limits.is_empty() {
        all.remove(&of);
    } else {
        all.insert(of, limits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::limits::{UserLimit, VhostLimit};

    fn of(user: &str, vhost: &str) -> UserInVhost {
        UserInVhost { user: user.into(), vhost: vhost.into() }
    }

    fn state() -> AccessState {
        let mut state = AccessState::default();
        for (user, vhost) in [("anna", "/"), ("anna", "v"), ("otto", "v")] {
            let of = of(user, vhost);
            state.apply(&AccessFact::Permissions(of.clone(), PermissionPatterns::all()));
            state.apply(&AccessFact::TopicPermissions(of, "x".into(), TopicPatterns::default()));
        }
        state.apply(&AccessFact::VhostSettings("v".into(), VhostSettings::default()));
        let limits = [(VhostLimit::Queues, 0)].into();
        state.apply(&AccessFact::VhostLimits("v".into(), limits));
        let limits = [(UserLimit::Channels, 7)].into();
        state.apply(&AccessFact::UserLimits("anna".into(), limits));
        state.apply(&AccessFact::InForce);
        state.apply(&AccessFact::GlobalParameter("cluster_name".into(), "\"here\"".into()));
        state
    }

    #[test]
    fn its_own_facts_make_a_state_again() {
        let state = state();
        let mut again = AccessState::default();
        state.facts().for_each(|fact| again.apply(&fact));
        assert_eq!(again, state);
    }

    #[test]
    fn limits_that_say_nothing_are_none() {
        let mut state = AccessState::default();
        let limited = AccessFact::UserLimits("anna".into(), [(UserLimit::Channels, 1)].into());
        let unlimited = AccessFact::UserLimits("anna".into(), UserLimits::new());
        state.apply(&limited);
        assert_eq!(state.get(&unlimited), Some(limited));
        state.apply(&unlimited);
        assert_eq!((state.get(&unlimited), &state), (Some(unlimited), &AccessState::default()));
    }

    #[test]
    fn users_and_vhosts_take_their_permissions_with_them() {
        let mut state = state();
        state.apply(&AccessFact::UserDeleted("anna".into()));
        assert_eq!(state.permissions.keys().collect::<Vec<_>>(), [&of("otto", "v")]);
        assert_eq!(state.topic_permissions.len(), 1);
        state.forget_vhost("v");
        let global_parameters = [("cluster_name".into(), "\"here\"".into())].into();
        let left = AccessState { in_force: true, global_parameters, ..AccessState::default() };
        assert_eq!(state, left);
    }
}
