//! The policies of all vhosts, compiled, and which of them are in force for a queue.

use std::collections::BTreeMap;

use model::access::command::AdminError;
use model::access::pattern::NamePattern;
use model::access::state::AccessState;
use model::exchange::{ALTERNATE_EXCHANGE, leads_somewhere};
use model::policy::{ApplyTo, Definition, Policy, PolicyScope, PolicyValue, keys, merge};
use model::{Exchange, Name, QueueId};

use crate::coordinator::admin::permissions::compile;

/// A policy and its pattern.
#[derive(Debug, Hash)]
struct CompiledPolicy {
    policy: Policy,
    pattern: NamePattern,
}

/// Checks a policy; returns those of its settings that have no effect.
///
/// # Errors
/// A setting that is not valid, or the pattern.
pub(in crate::coordinator) fn check(
    scope: PolicyScope,
    policy: &Policy,
) -> Result<Vec<&'static str>, AdminError> {
    keys::check(scope, &policy.definition).map_err(AdminError::Policy)?;
    compile(&policy.pattern)?;
    let has = |key: &&str| policy.definition.contains_key(*key);
    Ok(keys::WITHOUT_EFFECT.into_iter().filter(has).collect())
}

/// All policies.
#[derive(Debug, Default, Hash)]
pub(in crate::coordinator) struct Policies {
    /// By vhost and scope, then by name.
    policies: BTreeMap<(Name, PolicyScope), BTreeMap<Name, CompiledPolicy>>,
    /// What is in force for queues, where anything is.
    in_force: BTreeMap<QueueId, Definition>,
}

impl Policies {
    /// What outlived a restart. A pattern that is not understood any more matches nothing.
    pub fn recovered(state: &AccessState) -> Self {
        let mut policies = Self::default();
        for ((vhost, scope, _), policy) in &state.policies {
            policies.set((vhost.clone(), *scope), policy.clone()).ok();
        }
        policies
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.policies.values().map(BTreeMap::len).sum()
    }

    /// Checks a policy and takes it, instead of one of the same name.
    pub fn set(&mut self, of: (Name, PolicyScope), policy: Policy) -> Result<(), AdminError> {
        check(of.1, &policy)?;
        let pattern = compile(&policy.pattern)?;
        let named = self.policies.entry(of).or_default();
        named.insert(policy.name.clone(), CompiledPolicy { policy, pattern });
        Ok(())
    }

    /// Removes a policy; false if there is none.
    pub fn clear(&mut self, of: &(Name, PolicyScope), name: &str) -> bool {
        self.policies.get_mut(of).is_some_and(|named| named.remove(name).is_some())
    }

    /// Removes all policies of a vhost.
    pub fn forget_vhost(&mut self, vhost: &str) {
        self.policies.retain(|(name, _), _| **name != *vhost);
    }

    /// Forgets a queue.
    pub fn forget_queue(&mut self, queue: QueueId) {
        self.in_force.remove(&queue);
    }

    /// Looks again what is in force for a queue; true if that has changed.
    pub fn resolve(&mut self, queue: QueueId, vhost: &Name, name: &str) -> bool {
        let [user, operator] = [PolicyScope::User, PolicyScope::Operator]
            .map(|scope| self.highest(vhost, scope, (name, ApplyTo::has_queues)))
            .map(|policy| policy.map(|policy| &policy.definition));
        let merged = merge::definitions(user, operator);
        if self.in_force(queue).is_some_and(|known| *known == merged)
            || (merged.is_empty() && !self.in_force.contains_key(&queue))
        {
            return false;
        }
        if merged.is_empty() {
            self.in_force.remove(&queue);
        } else {
            self.in_force.insert(queue, merged);
        }
        true
    }

    /// What is in force for a queue, if anything is.
    pub fn in_force(&self, queue: QueueId) -> Option<&Definition> {
        self.in_force.get(&queue)
    }

    /// The alternate exchange that a policy gives an exchange. Operators give none.
    pub fn alternate(&self, vhost: &Name, exchange: &Exchange) -> Option<Name> {
        if !exchange.takes_alternate() {
            return None;
        }
        let of = (&*exchange.spec.name, ApplyTo::has_exchanges as fn(ApplyTo) -> bool);
        let policy = self.highest(vhost, PolicyScope::User, of)?;
        match policy.definition.get(ALTERNATE_EXCHANGE)? {
            PolicyValue::Text(name) => leads_somewhere(name),
            _ => None,
        }
    }

    /// Of the policies that match the object the one of the highest priority, by name among equals.
    fn highest(
        &self,
        vhost: &Name,
        scope: PolicyScope,
        (name, is_for): (&str, fn(ApplyTo) -> bool),
    ) -> Option<&Policy> {
        let named = self.policies.get(&(vhost.clone(), scope))?;
        let matching = named.values().filter(|compiled| {
            is_for(compiled.policy.apply_to) && compiled.pattern.matches(name) == Ok(true)
        });
        let by_rank = |compiled: &&CompiledPolicy| compiled.policy.priority;
        matching.rev().max_by_key(by_rank).map(|compiled| &compiled.policy)
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::admin::policies::*;

    fn policy(name: &str, pattern: &str, priority: i64, ttl: i64) -> Policy {
        Policy {
            name: name.into(),
            pattern: pattern.into(),
            apply_to: ApplyTo::Queues,
            priority,
            definition: [("message-ttl".into(), PolicyValue::Integer(ttl))].into(),
        }
    }

    fn timeout(policies: &Policies, queue: u64) -> Option<i64> {
        match policies.in_force(QueueId(queue))?.get("message-ttl")? {
            PolicyValue::Integer(ms) => Some(*ms),
            _ => None,
        }
    }

    #[test]
    fn the_policy_of_the_highest_priority_is_in_force() {
        let mut policies = Policies::default();
        let user = (Name::from("/"), PolicyScope::User);
        for (name, pattern, priority, ms) in [("a", "^q", 0, 10), ("b", "^q1", 5, 20)] {
            policies.set(user.clone(), policy(name, pattern, priority, ms)).unwrap();
        }
        let vhost = Name::from("/");
        assert!(policies.resolve(QueueId(1), &vhost, "q1"));
        assert!(policies.resolve(QueueId(2), &vhost, "q2"));
        assert!(!policies.resolve(QueueId(3), &vhost, "other"));
        assert_eq!([1, 2, 3].map(|queue| timeout(&policies, queue)), [Some(20), Some(10), None]);
        assert!(!policies.resolve(QueueId(1), &vhost, "q1"));
        assert!(policies.clear(&user, "b") && !policies.clear(&user, "b"));
        assert!(policies.resolve(QueueId(1), &vhost, "q1"));
        assert_eq!(timeout(&policies, 1), Some(10));
    }

    #[test]
    fn an_operator_lowers_limits() {
        let mut policies = Policies::default();
        let vhost = Name::from("/");
        policies.set((vhost.clone(), PolicyScope::User), policy("a", "", 0, 10)).unwrap();
        policies.set((vhost.clone(), PolicyScope::User), policy("b", ".*", 0, 10)).unwrap();
        policies.set((vhost.clone(), PolicyScope::Operator), policy("c", ".*", 0, 5)).unwrap();
        assert!(policies.resolve(QueueId(1), &vhost, "q"));
        assert_eq!(timeout(&policies, 1), Some(5));
        policies.forget_vhost("/");
        assert!(policies.resolve(QueueId(1), &vhost, "q"));
        assert_eq!(timeout(&policies, 1), None);
    }
}
