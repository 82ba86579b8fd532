//! Limits of vhosts and of users, as they are set.

use std::collections::BTreeMap;

use model::Name;
use model::access::limits::{UserLimit, UserLimits, VhostLimit, VhostLimits};
use model::access::state::AccessState;

/// The limits that are set; no map is empty.
#[derive(Debug, Default, Hash)]
pub(in crate::coordinator) struct OwnLimits {
    pub vhosts: BTreeMap<Name, VhostLimits>,
    pub users: BTreeMap<Name, UserLimits>,
}

impl OwnLimits {
    /// What outlived a restart.
    pub fn recovered(state: &AccessState) -> Self {
        Self { vhosts: state.vhost_limits.clone(), users: state.user_limits.clone() }
    }

    /// A limit of a vhost.
    pub fn vhost(&self, vhost: &str, limit: VhostLimit) -> Option<u64> {
        self.vhosts.get(vhost)?.get(&limit).copied()
    }

    /// A limit of a user.
    pub fn user(&self, user: &str, limit: UserLimit) -> Option<u64> {
        self.users.get(user)?.get(&limit).copied()
    }

    pub fn forget_vhost(&mut self, vhost: &str) {
        self.vhosts.remove(vhost);
    }

    pub fn forget_user(&mut self, user: &str) {
        self.users.remove(user);
    }
}

/// The most queues of each vhost that has such a limit.
pub(in crate::coordinator) fn of_queues(state: &AccessState) -> BTreeMap<Name, u64> {
    let limits = state.vhost_limits.iter();
    let of_queues = limits.map(|(vhost, limits)| (vhost, limits.get(&VhostLimit::Queues)));
    of_queues.filter_map(|(vhost, limit)| Some((vhost.clone(), *limit?))).collect()
}
