//! What an administrator tells the coordinator, and what it answers. The HTTP API and the command
//! line speak to a running broker in these values only.

use crate::access::credentials::PasswordRefused;
use crate::access::limits::{UserLimit, VhostLimit, WantedLimits};
use crate::access::{HashAlgorithm, PermissionPatterns, TopicPatterns, VhostSettings};
use crate::policy::{Policy, PolicyScope};
use crate::secret::Secret;
use crate::topology::spec::Name;

/// The longest name of a user, vhost, policy or tag, in bytes.
pub const NAME_MAX: usize = 255;
/// The most tags of a user or a vhost.
pub const TAGS_MAX: usize = 64;
/// The most users, permissions, topic permissions and policies, each.
pub const RECORDS_MAX: usize = 100_000;
/// The most vhosts.
pub const VHOSTS_MAX: usize = 10_000;

/// How a user proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A password in clear, and random bytes to put in front of it when it is hashed.
    Password(Secret, [u8; 4]),
    /// A password that was hashed elsewhere, as in [`User`](crate::access::User).
    Hash(HashAlgorithm, Secret),
    /// No password logs the user in.
    None,
}

/// A change of users, vhosts, rights, limits or policies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AdminCommand {
    /// Create the user, or change what it has.
    PutUser {
        /// The user.
        name: Name,
        /// Its password.
        credential: Credential,
        /// Its tags.
        tags: Vec<Name>,
    },
    /// Delete the user and close its connections.
    DeleteUser(Name),
    /// Create the vhost, or change its settings.
    PutVhost(Name, VhostSettings),
    /// Close the connections of the vhost and delete everything in it.
    DeleteVhost(Name),
    /// Give a user permissions in a vhost, instead of those that it has there.
    SetPermissions {
        /// The user.
        user: Name,
        /// The vhost.
        vhost: Name,
        /// The permissions.
        patterns: PermissionPatterns,
    },
    /// Take a user's permissions in a vhost.
    ClearPermissions {
        /// The user.
        user: Name,
        /// The vhost.
        vhost: Name,
    },
    /// Limit the routing keys that a user may use with a topic exchange.
    SetTopicPermissions {
        /// The user.
        user: Name,
        /// The vhost.
        vhost: Name,
        /// The exchange.
        exchange: Name,
        /// The permissions.
        patterns: TopicPatterns,
    },
    /// Limit them no more: for one exchange, or for all (`None`).
    ClearTopicPermissions {
        /// The user.
        user: Name,
        /// The vhost.
        vhost: Name,
        /// The exchange.
        exchange: Option<Name>,
    },
    /// Limit what there may be in a vhost; limits that are not named stay. Nobody is closed.
    SetVhostLimits(Name, WantedLimits<VhostLimit>),
    /// Limit it no more: one limit, or all (`None`).
    ClearVhostLimits(Name, Option<VhostLimit>),
    /// Limit what a user may have; limits that are not named stay. Nobody is closed.
    SetUserLimits(Name, WantedLimits<UserLimit>),
    /// Limit it no more: one limit, or all (`None`).
    ClearUserLimits(Name, Option<UserLimit>),
    /// Create the policy, or change it.
    SetPolicy(Name, PolicyScope, Policy),
    /// Delete the policy: vhost, scope, name.
    ClearPolicy(Name, PolicyScope, Name),
}

/// What the coordinator answers, when the change is durable and every shard obeys it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AdminAnswer {
    /// It is done, or was so already.
    Done,
    /// It cannot be done.
    Refused(AdminError),
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AdminError {
    /// There is no such user.
    #[error("User \"{0}\" does not exist")]
    NoUser(Name),
    /// There is no such vhost.
    #[error("Virtual host '{0}' does not exist")]
    NoVhost(Name),
    /// There is no such policy.
    #[error("Policy \"{0}\" does not exist")]
    NoPolicy(Name),
    /// The vhost cannot be deleted.
    #[error("Refusing to delete virtual host '{0}' because it is protected from deletion")]
    Protected(Name),
    /// The vhost is being deleted.
    #[error("Virtual host '{0}' is being deleted")]
    VhostGoes(Name),
    /// A pattern is no regular expression, or has a part that is not built.
    #[error("invalid regular expression '{pattern}': {why}")]
    Pattern {
        /// The pattern.
        pattern: Name,
        /// What is wrong.
        why: String,
    },
    /// The settings of a policy are not valid; RabbitMQ's text.
    #[error("Validation failed\n\n{0}\n")]
    Policy(String),
    /// The password is not one that the configuration allows; RabbitMQ's text.
    #[error(transparent)]
    Password(#[from] PasswordRefused),
    /// A hash of a password is not base64 of a salt and a hash.
    #[error("the password hash of user '{0}' is not valid")]
    Hash(Name),
    /// A name is empty or too long.
    #[error("a name has from 1 to {NAME_MAX} bytes")]
    Name,
    /// There are as many as there may be.
    #[error("there are as many {0} as there may be")]
    TooMany(&'static str),
}
