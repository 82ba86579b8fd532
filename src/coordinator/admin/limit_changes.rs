//! Changes of the limits of vhosts and users. Nobody is closed by one: it counts for what comes
//! after it.

use std::collections::BTreeMap;

use model::Name;
use model::access::command::AdminError;
use model::access::limits::{UserLimit, UserLimits, VhostLimit, VhostLimits};
use model::access::state::AccessFact;
use model::topology::Change;

use crate::coordinator::admin::{Administration, find_vhost};
use crate::coordinator::decisions::Decisions;
use crate::coordinator::queues::QueueLifeCycle;
use crate::store::meta::Fact;

impl Administration {
    /// Creates a vhost, with the limits, operator policies and users that the configuration gives
    /// it.
    pub(super) fn create_vhost(
        &mut self,
        (decisions, queues): (&mut Decisions, &mut QueueLifeCycle),
        name: &Name,
    ) {
        decisions.decide(Change::VhostCreated(name.clone()));
        for fact in self.defaults.facts(name) {
            if let AccessFact::VhostLimits(_, limits) = fact {
                let limited = |_: &VhostLimits| limits;
                let known = self.limit_vhost((&mut *decisions, queues), name.clone(), limited);
                debug_assert!(known.is_ok(), "it was just created");
            } else if let AccessFact::Policy(vhost, scope, policy) = fact {
                // There is no queue yet that has to be told.
                queues.adopt_policy(decisions, (vhost, scope), policy).ok();
            }
        }
        self.admit_default_users(decisions, name);
    }

    /// Gives the vhost other limits, made from those that it has.
    pub(super) fn limit_vhost(
        &mut self,
        (decisions, queues): (&mut Decisions, &mut QueueLifeCycle),
        vhost: Name,
        change: impl FnOnce(&VhostLimits) -> VhostLimits,
    ) -> Result<(), AdminError> {
        find_vhost(decisions, &vhost)?;
        let Some(limits) = changed(&mut self.limits.vhosts, &vhost, change) else { return Ok(()) };
        match limits.get(&VhostLimit::Queues) {
            Some(limit) => drop(queues.vhost_limits.insert(vhost.clone(), *limit)),
            None => drop(queues.vhost_limits.remove(&vhost)),
        }
        decisions.record(Fact::Access(AccessFact::VhostLimits(vhost, limits)));
        Ok(())
    }

    /// Gives the user other limits, made from those that it has. Its channels count as long as
    /// they are limited.
    pub(super) fn limit_user(
        &mut self,
        decisions: &mut Decisions,
        user: Name,
        change: impl FnOnce(&UserLimits) -> UserLimits,
    ) -> Result<(), AdminError> {
        if !self.users.contains(&user) {
            return Err(AdminError::NoUser(user));
        }
        let counted = self.counts_channels(&user);
        let Some(limits) = changed(&mut self.limits.users, &user, change) else { return Ok(()) };
        decisions.record(Fact::Access(AccessFact::UserLimits(user.clone(), limits)));
        let counts = self.counts_channels(&user);
        if counts != counted {
            decisions.announce(Change::ChannelsCounted(user, counts));
        }
        Ok(())
    }

    /// True if shards have to ask for each channel of the user.
    pub fn counts_channels(&self, user: &str) -> bool {
        self.limits.user(user, UserLimit::Channels).is_some()
    }
}

/// Changes the limits of one vhost or user; `None`: they stay as they are.
fn changed<K: Ord + Clone>(
    all: &mut BTreeMap<Name, BTreeMap<K, u64>>,
    of: &Name,
    change: impl FnOnce(&BTreeMap<K, u64>) -> BTreeMap<K, u64>,
) -> Option<BTreeMap<K, u64>> {
    let before = all.remove(of).unwrap_or_default();
    let after = change(&before);
    if !after.is_empty() {
        all.insert(of.clone(), after.clone());
    }
    (after != before).then_some(after)
}
