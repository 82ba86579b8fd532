//! Limits in a definitions file, and limits that a file itself must not exceed.

use std::collections::BTreeMap;

use model::Name;
use model::access::limits::{UserLimit, VhostLimit, VhostLimits, WantedLimits, merged};
use model::access::state::{AccessFact, UserInVhost};
use model::topology::Change;

use crate::coordinator::admin::Users;
use crate::coordinator::admin::limits::of_queues;
use crate::coordinator::definitions::Importer;
use crate::coordinator::definitions::read::{DefinitionsError, Object};
use crate::store::meta::Fact;

impl Importer<'_> {
    /// Creates a vhost, with the limits, operator policies and users that the configuration gives
    /// it. New queues of the file have to keep these limits.
    pub(super) fn create_vhost(&mut self, vhost: &Name) {
        self.change(Change::VhostCreated(vhost.clone()));
        for fact in self.defaults.facts(vhost) {
            if let AccessFact::VhostLimits(vhost, limits) = &fact
                && let Some(limit) = limits.get(&VhostLimit::Queues)
            {
                self.queue_limits.insert(vhost.clone(), *limit);
            }
            self.access(fact);
        }
        self.admit_default_users(vhost);
    }

    /// The users of the configuration may use the vhost. Who exists already keeps its password.
    fn admit_default_users(&mut self, vhost: &Name) {
        for (name, user) in self.defaults.users_of(vhost) {
            let exists = self.state.users.contains_key(name);
            let made = Users::user(name.clone(), user.credential(), user.tags.clone());
            if let (false, Ok(user)) = (exists, made) {
                self.add(Fact::User(user));
            }
            let of = UserInVhost { user: name.clone(), vhost: vhost.clone() };
            self.access(AccessFact::Permissions(of, user.patterns.clone()));
        }
    }

    /// The limits that a user object names; others stay.
    pub(super) fn limit_user(&mut self, user: &Name, wanted: &WantedLimits<UserLimit>) {
        let before = self.state.access.user_limits.get(user).cloned().unwrap_or_default();
        self.access(AccessFact::UserLimits(user.clone(), merged(&before, wanted)));
    }

    /// The limits that a vhost object names; others stay. RabbitMQ writes them there but reads
    /// them from the parameters alone, which stand in the same file.
    pub(super) fn limit_vhost(&mut self, vhost: &Name, wanted: &WantedLimits<VhostLimit>) {
        let before = self.state.access.vhost_limits.get(vhost).cloned().unwrap_or_default();
        self.access(AccessFact::VhostLimits(vhost.clone(), merged(&before, wanted)));
    }

    /// A parameter with all limits of a vhost.
    pub(super) fn vhost_limits(
        &mut self,
        object: &Object<'_>,
        vhost: Name,
    ) -> Result<(), DefinitionsError> {
        if object.text("name")? != "limits" {
            return Err(object.refused("limits of a vhost have the name 'limits'"));
        }
        let limits = merged(&VhostLimits::new(), &object.limits("value")?);
        self.access(AccessFact::VhostLimits(vhost, limits));
        Ok(())
    }

    /// The limits that new queues have to keep: those that were there before the file. Like this
    /// what a broker exports can be imported, even if a limit was lowered below what there is.
    pub(super) fn queue_limits_before(&self) -> BTreeMap<Name, u64> {
        of_queues(&self.state.access)
    }

    /// Refuses a new queue beyond the limit of its vhost.
    pub(super) fn check_queues(
        &self,
        object: &Object<'_>,
        vhost: &Name,
    ) -> Result<(), DefinitionsError> {
        let Some(limit) = self.queue_limits.get(vhost) else { return Ok(()) };
        let count = self.state.vhosts.get(vhost).map_or(0, |vhost| vhost.queues.len() as u64);
        if count < *limit {
            return Ok(());
        }
        Err(object.refused(format!("queue limit in vhost '{vhost}' ({limit}) is reached")))
    }
}
