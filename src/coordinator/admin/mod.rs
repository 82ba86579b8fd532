//! Users, vhosts, rights, limits and policies: what administrators decide. A change is ordered
//! among those of the topology, so a shard that has applied it obeys it, and the answer promises
//! that all do.

mod gone_vhosts;
mod limit_changes;
pub(in crate::coordinator) mod limits;
mod passwords;
mod permissions;
pub(in crate::coordinator) mod policies;
mod policy_changes;
mod users;
pub(in crate::coordinator) mod windows;

use std::collections::BTreeMap;

use model::Name;
use model::access::command::{
    AdminAnswer, AdminCommand, AdminError, Credential, NAME_MAX, RECORDS_MAX, TAGS_MAX, VHOSTS_MAX,
};
use model::access::credentials::CredentialValidator;
use model::access::defaults::VhostDefaults;
use model::access::limits::{merged, without};
use model::access::state::{AccessFact, UserInVhost};
use model::access::{Access, PermissionPatterns, Rights, TopicPatterns, VhostSettings};
use model::topology::Change;

pub(in crate::coordinator) use self::permissions::compile;
pub(in crate::coordinator) use self::policies::check as check_policy;
pub(in crate::coordinator) use self::users::Users;
use crate::coordinator::admin::limits::OwnLimits;
use crate::coordinator::admin::permissions::Permissions;
use crate::coordinator::decisions::Decisions;
use crate::coordinator::queues::QueueLifeCycle;
use crate::coordinator::versions::Requester;
use crate::mesh::control::Answer;
use crate::store::meta::{Fact, MetaState};

/// The tag of RabbitMQ's first user.
const FIRST_TAG: &str = "administrator";

/// What of a command is left to do.
enum CommandProgress {
    /// Nothing.
    Done,
    /// Queues have to be told, or to go; they answer.
    Later,
}

/// What administrators decide, but for what only queues are told.
#[derive(Debug, Hash)]
pub(in crate::coordinator) struct Administration {
    pub users: Users,
    permissions: Permissions,
    pub limits: OwnLimits,
    defaults: VhostDefaults,
    validator: CredentialValidator,
    vhosts: BTreeMap<Name, VhostSettings>,
}

impl Administration {
    /// What outlived a restart.
    pub fn recovered(
        loopback: Vec<String>,
        (defaults, validator): (VhostDefaults, CredentialValidator),
        state: &MetaState,
    ) -> Self {
        let mut users = Users::new(loopback);
        state.users.values().for_each(|user| users.adopt(user.clone()));
        let permissions = Permissions::recovered(&state.access);
        let limits = OwnLimits::recovered(&state.access);
        let vhosts = state.access.vhosts.clone();
        Self { users, permissions, limits, defaults, validator, vhosts }
    }

    /// The user, vhost and permissions of a first start.
    pub fn create_first(
        &mut self,
        (decisions, queues): (&mut Decisions, &mut QueueLifeCycle),
        user: (Name, Credential),
        vhost: &Name,
    ) {
        let (name, credential) = user;
        decisions.record(Fact::Access(AccessFact::InForce));
        self.create_vhost((&mut *decisions, queues), vhost);
        let put = self.put_user(decisions, name.clone(), credential, vec![FIRST_TAG.into()]);
        debug_assert!(put.is_ok(), "a password can be hashed");
        self.give_all(decisions, UserInVhost { user: name, vhost: vhost.clone() });
    }

    /// A data folder of a version without permissions: who could log in could do everything, and
    /// still can.
    pub fn adopt_unrestricted(&mut self, decisions: &mut Decisions, state: &MetaState) {
        decisions.record(Fact::Access(AccessFact::InForce));
        for user in state.users.keys() {
            for vhost in state.vhosts.keys() {
                let of = UserInVhost { user: user.clone(), vhost: vhost.clone() };
                self.give_all(decisions, of);
            }
        }
    }

    fn give_all(&mut self, decisions: &mut Decisions, of: UserInVhost) {
        let patterns = PermissionPatterns::all();
        let set = self.permissions.set(of.clone(), &patterns);
        debug_assert!(set.is_ok(), "the pattern is valid");
        decisions.record(Fact::Access(AccessFact::Permissions(of, patterns)));
    }

    /// The users of the configuration may use a new vhost. Who exists already keeps its password.
    fn admit_default_users(&mut self, decisions: &mut Decisions, vhost: &Name) {
        let users = self.defaults.users_of(vhost);
        let users: Vec<_> = users.map(|(name, user)| (name.clone(), user.clone())).collect();
        for (name, user) in users {
            let (credential, tags) = (user.credential(), user.tags);
            let exists = self.users.contains(&name)
                || self.put_user(decisions, name.clone(), credential, tags).is_ok();
            if exists {
                let of = UserInVhost { user: name, vhost: vhost.clone() };
                // The configuration checks the patterns. If there are too many permissions, the
                // user has none here.
                self.set_permissions(decisions, of, user.patterns).ok();
            }
        }
    }

    /// What a shard is told of the user's rights; `None`: the user may not open the vhost.
    pub fn rights(&self, of: &UserInVhost) -> Option<Rights> {
        self.permissions.rights(of).filter(|_| self.users.contains(&of.user))
    }

    /// Whether the user may do each of these.
    pub fn permit(&self, of: &UserInVhost, wanted: Vec<Access>) -> Vec<(Access, bool)> {
        let allowed = |access: Access| {
            let allowed = self.permissions.allow(of, &access);
            (access, allowed)
        };
        wanted.into_iter().map(allowed).collect()
    }

    /// Obeys a command, and answers it when every shard obeys it too.
    pub fn obey(
        &mut self,
        (decisions, queues): (&mut Decisions, &mut QueueLifeCycle),
        requester: Requester,
        command: AdminCommand,
    ) {
        let answer = match self.execute((&mut *decisions, queues), requester, command) {
            Ok(CommandProgress::Later) => return,
            Ok(CommandProgress::Done) => AdminAnswer::Done,
            Err(why) => AdminAnswer::Refused(why),
        };
        decisions.answer(requester, Answer::Admin(answer));
    }

    fn execute(
        &mut self,
        (decisions, queues): (&mut Decisions, &mut QueueLifeCycle),
        requester: Requester,
        command: AdminCommand,
    ) -> Result<CommandProgress, AdminError> {
        match command {
            AdminCommand::PutUser { name, credential, tags } => {
                if let Credential::Password(password, _) = &credential {
                    self.validator.check(password.expose())?;
                }
                self.put_user(decisions, name, credential, tags)?;
            }
            AdminCommand::DeleteUser(name) => self.delete_user(decisions, name)?,
            AdminCommand::PutVhost(name, settings) => {
                self.put_vhost((decisions, queues), name, settings)?;
            }
            AdminCommand::DeleteVhost(name) => {
                self.delete_vhost((decisions, queues), requester, name)?;
                return Ok(CommandProgress::Later);
            }
            AdminCommand::SetPermissions { user, vhost, patterns } => {
                let of = self.find(decisions, user, vhost)?;
                self.set_permissions(decisions, of, patterns)?;
            }
            AdminCommand::ClearPermissions { user, vhost } => {
                let of = self.find(decisions, user, vhost)?;
                self.clear_permissions(decisions, of);
            }
            AdminCommand::SetTopicPermissions { user, vhost, exchange, patterns } => {
                let of = self.find(decisions, user, vhost)?;
                self.set_topic_permissions(decisions, of, exchange, patterns)?;
            }
            AdminCommand::ClearTopicPermissions { user, vhost, exchange } => {
                let of = self.find(decisions, user, vhost)?;
                self.clear_topic_permissions(decisions, of, exchange.as_ref());
            }
            AdminCommand::SetVhostLimits(vhost, wanted) => {
                self.limit_vhost((decisions, queues), vhost, |before| merged(before, &wanted))?;
            }
            AdminCommand::ClearVhostLimits(vhost, kind) => {
                self.limit_vhost((decisions, queues), vhost, |before| without(before, kind))?;
            }
            AdminCommand::SetUserLimits(user, wanted) => {
                self.limit_user(decisions, user, |before| merged(before, &wanted))?;
            }
            AdminCommand::ClearUserLimits(user, kind) => {
                self.limit_user(decisions, user, |before| without(before, kind))?;
            }
            AdminCommand::SetPolicy(vhost, scope, policy) => {
                find_vhost(decisions, &vhost)?;
                check_name(&policy.name)?;
                queues.set_policy(decisions, requester, (vhost, scope), policy)?;
                return Ok(CommandProgress::Later);
            }
            AdminCommand::ClearPolicy(vhost, scope, name) => {
                find_vhost(decisions, &vhost)?;
                queues.clear_policy(decisions, requester, (vhost, scope), &name)?;
                return Ok(CommandProgress::Later);
            }
        }
        Ok(CommandProgress::Done)
    }

    fn put_user(
        &mut self,
        decisions: &mut Decisions,
        name: Name,
        credential: Credential,
        tags: Vec<Name>,
    ) -> Result<(), AdminError> {
        check_name(&name)?;
        check_tags(&tags)?;
        if !self.users.contains(&name) {
            check_count(self.users.len(), RECORDS_MAX, "users")?;
        }
        let user = Users::user(name, credential, tags)?;
        decisions.record(Fact::User(user.clone()));
        self.users.adopt(user);
        Ok(())
    }

    fn delete_user(&mut self, decisions: &mut Decisions, name: Name) -> Result<(), AdminError> {
        if !self.users.remove(&name) {
            return Err(AdminError::NoUser(name));
        }
        self.permissions.forget_user(&name);
        self.limits.forget_user(&name);
        decisions.record(Fact::Access(AccessFact::UserDeleted(name.clone())));
        decisions.announce(Change::UserDeleted(name));
        Ok(())
    }

    fn put_vhost(
        &mut self,
        (decisions, queues): (&mut Decisions, &mut QueueLifeCycle),
        name: Name,
        settings: VhostSettings,
    ) -> Result<(), AdminError> {
        check_name(&name)?;
        check_tags(&settings.tags)?;
        if queues.is_vhost_going(&name) {
            return Err(AdminError::VhostGoes(name));
        }
        if decisions.vhost(&name).is_err() {
            check_count(decisions.topology().vhosts().count(), VHOSTS_MAX, "vhosts")?;
            self.create_vhost((&mut *decisions, queues), &name);
        }
        if self.vhosts.get(&name) != Some(&settings) {
            let fact = AccessFact::VhostSettings(name.clone(), settings.clone());
            decisions.record(Fact::Access(fact));
            self.vhosts.insert(name, settings);
        }
        Ok(())
    }

    /// The vhost is gone at once, for every client; the queues that were in it go after that.
    fn delete_vhost(
        &mut self,
        (decisions, queues): (&mut Decisions, &mut QueueLifeCycle),
        requester: Requester,
        name: Name,
    ) -> Result<(), AdminError> {
        find_vhost(decisions, &name)?;
        if self.vhosts.get(&name).is_some_and(|settings| settings.protected) {
            return Err(AdminError::Protected(name));
        }
        self.permissions.forget_vhost(&name);
        self.limits.forget_vhost(&name);
        self.vhosts.remove(&name);
        decisions.decide(Change::VhostDeleted(name.clone()));
        queues.vhost_gone(decisions, requester, &name);
        Ok(())
    }

    fn set_permissions(
        &mut self,
        decisions: &mut Decisions,
        of: UserInVhost,
        patterns: PermissionPatterns,
    ) -> Result<(), AdminError> {
        check_count(self.permissions.len(), RECORDS_MAX, "permissions")?;
        self.permissions.set(of.clone(), &patterns)?;
        decisions.record(Fact::Access(AccessFact::Permissions(of.clone(), patterns)));
        self.announce_rights(decisions, of);
        Ok(())
    }

    fn clear_permissions(&mut self, decisions: &mut Decisions, of: UserInVhost) {
        if self.permissions.clear(&of) {
            decisions.record(Fact::Access(AccessFact::PermissionsCleared(of.clone())));
            self.announce_rights(decisions, of);
        }
    }

    fn set_topic_permissions(
        &mut self,
        decisions: &mut Decisions,
        of: UserInVhost,
        exchange: Name,
        patterns: TopicPatterns,
    ) -> Result<(), AdminError> {
        check_count(self.permissions.topics_len(), RECORDS_MAX, "topic permissions")?;
        self.permissions.set_topics(of.clone(), exchange.clone(), &patterns)?;
        let fact = AccessFact::TopicPermissions(of.clone(), exchange, patterns);
        decisions.record(Fact::Access(fact));
        self.announce_rights(decisions, of);
        Ok(())
    }

    fn clear_topic_permissions(
        &mut self,
        decisions: &mut Decisions,
        of: UserInVhost,
        exchange: Option<&Name>,
    ) {
        let cleared = self.permissions.clear_topics(&of, exchange);
        if cleared.is_empty() {
            return;
        }
        for exchange in cleared {
            let fact = AccessFact::TopicPermissionsCleared(of.clone(), exchange);
            decisions.record(Fact::Access(fact));
        }
        self.announce_rights(decisions, of);
    }

    /// Every shard forgets what it was answered about the user's rights in the vhost.
    fn announce_rights(&self, decisions: &mut Decisions, of: UserInVhost) {
        let rights = self.permissions.rights(&of).unwrap_or_default();
        decisions.announce(Change::RightsChanged(of, rights));
    }

    fn find(
        &self,
        decisions: &Decisions,
        user: Name,
        vhost: Name,
    ) -> Result<UserInVhost, AdminError> {
        find_vhost(decisions, &vhost)?;
        if !self.users.contains(&user) {
            return Err(AdminError::NoUser(user));
        }
        Ok(UserInVhost { user, vhost })
    }
}

fn find_vhost(decisions: &Decisions, name: &Name) -> Result<(), AdminError> {
    let found = decisions.vhost(name);
    found.map(drop).map_err(|_| AdminError::NoVhost(name.clone()))
}

pub(in crate::coordinator) fn check_name(name: &str) -> Result<(), AdminError> {
    if (1..=NAME_MAX).contains(&name.len()) { Ok(()) } else { Err(AdminError::Name) }
}

pub(in crate::coordinator) fn check_tags(tags: &[Name]) -> Result<(), AdminError> {
    check_count(tags.len(), TAGS_MAX + 1, "tags")?;
    tags.iter().try_for_each(|tag| check_name(tag))
}

/// Refuses one more than there may be.
fn check_count(count: usize, max: usize, what: &'static str) -> Result<(), AdminError> {
    if count < max { Ok(()) } else { Err(AdminError::TooMany(what)) }
}
