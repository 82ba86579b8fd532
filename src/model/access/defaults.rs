//! What the configuration gives every new vhost whose name matches a pattern.

use std::collections::BTreeMap;

use crate::access::PermissionPatterns;
use crate::access::command::Credential;
use crate::access::limits::VhostLimits;
use crate::access::pattern::NamePattern;
use crate::access::state::AccessFact;
use crate::policy::{ApplyTo, Definition, Policy, PolicyScope};
use crate::secret::Secret;
use crate::topology::spec::Name;

/// The pattern where none is given.
const ANY: &str = ".*";

/// Limits for vhosts; without a pattern, for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct DefaultLimits {
    /// Which vhosts.
    pub vhosts: Option<Name>,
    /// Their limits.
    pub limits: VhostLimits,
}

/// An operator policy for vhosts; without patterns, for all vhosts and all queues.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct DefaultPolicy {
    /// Which vhosts.
    pub vhosts: Option<Name>,
    /// Which queues.
    pub queues: Option<Name>,
    /// Its settings.
    pub definition: Definition,
}

/// A user with permissions in vhosts; without a pattern, in all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DefaultUser {
    /// Which vhosts.
    pub vhosts: Option<Name>,
    /// Its password, if none of that name exists yet.
    pub password: Secret,
    /// Random bytes for the hash of the password.
    pub salt: [u8; 4],
    /// Its tags, likewise.
    pub tags: Vec<Name>,
    /// What it may do in the vhost.
    pub patterns: PermissionPatterns,
}

impl Default for DefaultUser {
    fn default() -> Self {
        Self {
            vhosts: None,
            password: Secret::default(),
            salt: [0; 4],
            tags: Vec::new(),
            patterns: PermissionPatterns::all(),
        }
    }
}

impl DefaultUser {
    /// How the user logs in. Without a password it does not.
    #[must_use]
    pub fn credential(&self) -> Credential {
        if self.password.expose().is_empty() {
            return Credential::None;
        }
        Credential::Password(self.password.clone(), self.salt)
    }
}

/// All defaults, by the names that the configuration gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct VhostDefaults {
    /// The first that matches counts.
    pub limits: BTreeMap<Name, DefaultLimits>,
    /// All that match count.
    pub policies: BTreeMap<Name, DefaultPolicy>,
    /// All that match exist, and may use the vhost.
    pub users: BTreeMap<Name, DefaultUser>,
}

impl VhostDefaults {
    /// The limits and policies that a new vhost of this name gets.
    #[must_use]
    pub fn facts(&self, vhost: &Name) -> Vec<AccessFact> {
        let is_meant = |pattern: &Option<Name>| matches(pattern.as_deref().unwrap_or(ANY), vhost);
        let limits = self.limits.values().find(|limits| is_meant(&limits.vhosts));
        let limits = limits.map(|limits| limits.limits.clone()).filter(|limits| !limits.is_empty());
        let limits = limits.map(|limits| AccessFact::VhostLimits(vhost.clone(), limits));
        let policies = self.policies.iter().filter(|(_, policy)| is_meant(&policy.vhosts));
        let policies = policies.map(|(name, default)| {
            AccessFact::Policy(vhost.clone(), PolicyScope::Operator, policy(name, default))
        });
        limits.into_iter().chain(policies).collect()
    }

    /// The users that a new vhost of this name gets.
    pub fn users_of(&self, vhost: &str) -> impl Iterator<Item = (&Name, &DefaultUser)> {
        let is_meant =
            move |user: &DefaultUser| matches(user.vhosts.as_deref().unwrap_or(ANY), vhost);
        self.users.iter().filter(move |(_, user)| is_meant(user))
    }
}

fn policy(name: &Name, default: &DefaultPolicy) -> Policy {
    Policy {
        name: name.clone(),
        pattern: default.queues.clone().unwrap_or_else(|| ANY.into()),
        apply_to: ApplyTo::All,
        priority: 0,
        definition: default.definition.clone(),
    }
}

/// A pattern that is none matches nothing; the configuration refuses such a one.
fn matches(pattern: &str, name: &str) -> bool {
    NamePattern::new(pattern).is_ok_and(|pattern| pattern.matches(name) == Ok(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::limits::VhostLimit;
    use crate::policy::PolicyValue;

    fn limits(pattern: Option<&str>, queues: u64) -> DefaultLimits {
        let limits = [(VhostLimit::Queues, queues)].into();
        DefaultLimits { vhosts: pattern.map(Name::from), limits }
    }

    #[test]
    fn the_first_limits_that_match_count() {
        let mut defaults = VhostDefaults::default();
        defaults.limits.insert("a".into(), limits(Some("^dev"), 1));
        defaults.limits.insert("b".into(), limits(None, 2));
        let queues = |vhost: &str| match &defaults.facts(&vhost.into())[..] {
            [AccessFact::VhostLimits(_, limits)] => limits[&VhostLimit::Queues],
            other => panic!("{other:?}"),
        };
        assert_eq!(["dev-1", "a-dev"].map(queues), [1, 2]);
    }

    #[test]
    fn all_policies_that_match_count() {
        let mut defaults = VhostDefaults::default();
        for (name, vhosts) in [("a", Some("^dev")), ("b", None), ("c", Some("^x"))] {
            let (vhosts, queues) = (vhosts.map(Name::from), (name == "a").then(|| "^q".into()));
            let definition = [("max-length".into(), PolicyValue::Integer(5))].into();
            defaults.policies.insert(name.into(), DefaultPolicy { vhosts, queues, definition });
        }
        let facts = defaults.facts(&"dev".into());
        let policies = facts.iter().map(|fact| match fact {
            AccessFact::Policy(vhost, PolicyScope::Operator, policy) if **vhost == *"dev" => {
                (&*policy.name, &*policy.pattern)
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(policies.collect::<Vec<_>>(), [("a", "^q"), ("b", ".*")]);
    }
}
