//! Who may do what, as values: users, rights to exchanges and queues, and what shards are told of
//! them. Only the coordinator compiles and matches patterns.

pub mod cache;
pub mod command;
pub mod credentials;
pub mod defaults;
pub mod limits;
pub mod pattern;
pub mod state;

use crate::refusal::Kind;
use crate::secret::Secret;
use crate::topology::spec::Name;

/// What a user may do with an exchange or a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Right {
    /// Declare and delete it.
    Configure,
    /// Publish to an exchange, bind to the object.
    Write,
    /// Consume from a queue, bind from an exchange.
    Read,
}

impl Right {
    /// The name in RabbitMQ's texts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// How far a right reaches in a vhost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reach {
    /// To no object.
    #[default]
    Nothing,
    /// To objects with names that the coordinator has to look at.
    Some,
    /// To every object.
    Everything,
}

/// What a shard is told of a user's rights in a vhost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights {
    /// To declare and delete.
    pub configure: Reach,
    /// To publish and to bind to.
    pub write: Reach,
    /// To consume and to bind from.
    pub read: Reach,
    /// Routing keys of topic exchanges have to be asked for too.
    pub topics: bool,
}

impl Rights {
    /// Everything is allowed.
    pub const ALL: Self = Self {
        configure: Reach::Everything,
        write: Reach::Everything,
        read: Reach::Everything,
        topics: false,
    };

    /// How far the right reaches.
    #[must_use]
    pub fn reach(&self, right: Right) -> Reach {
        match right {
            Right::Configure => self.configure,
            Right::Write => self.write,
            Right::Read => self.read,
        }
    }
}

/// One thing that a user wants to do in a vhost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Access {
    /// The right it needs.
    pub right: Right,
    /// What the object is.
    pub kind: Kind,
    /// The object; the default exchange is `amq.default`.
    pub name: Name,
    /// The routing key, where the right to a topic is asked for.
    pub topic: Option<Name>,
}

/// The name by which rights to the default exchange are asked for.
pub const DEFAULT_EXCHANGE: &str = "amq.default";

impl Access {
    /// A right to a queue.
    #[must_use]
    pub fn queue(right: Right, name: &str) -> Self {
        Self { right, kind: Kind::Queue, name: name.into(), topic: None }
    }

    /// A right to an exchange.
    #[must_use]
    pub fn exchange(right: Right, name: &str) -> Self {
        let name = if name.is_empty() { DEFAULT_EXCHANGE } else { name };
        Self { right, kind: Kind::Exchange, name: name.into(), topic: None }
    }

    /// A right to a routing key of a topic exchange.
    #[must_use]
    pub fn topic(right: Right, exchange: &str, key: &str) -> Self {
        let topic = Some(key.into());
        Self { right, kind: Kind::Exchange, name: exchange.into(), topic }
    }
}

/// How a password is hashed, named as in RabbitMQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HashAlgorithm {
    /// `rabbit_password_hashing_sha256`.
    #[default]
    Sha256,
    /// `rabbit_password_hashing_sha512`.
    Sha512,
    /// `rabbit_password_hashing_md5`.
    Md5,
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Md5];

    /// The name in definitions files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
            Self::Md5 => "rabbit_password_hashing_md5",
        }
    }

    /// The algorithm of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    /// The user's name.
    pub name: Name,
    /// base64(salt of 4 bytes ++ hash(salt ++ password)); empty: no password logs the user in.
    pub password_hash: Secret,
    /// How it is hashed.
    pub algorithm: HashAlgorithm,
    /// Tags, named as in RabbitMQ.
    pub tags: Vec<Name>,
}

/// The patterns that give a user rights in a vhost: regular expressions that have to match
/// somewhere in an object's name. An empty one matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PermissionPatterns {
    /// For [`Right::Configure`].
    pub configure: Name,
    /// For [`Right::Write`].
    pub write: Name,
    /// For [`Right::Read`].
    pub read: Name,
}

impl PermissionPatterns {
    /// Everything is allowed.
    #[must_use]
    pub fn all() -> Self {
        let all = || Name::from(".*");
        Self { configure: all(), write: all(), read: all() }
    }
}

/// The patterns that routing keys of a topic exchange have to match. `{username}` and `{vhost}` in
/// them stand for the user's and the vhost's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TopicPatterns {
    /// For publishes.
    pub write: Name,
    /// For keys of bindings.
    pub read: Name,
}

/// What a vhost is beside its objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct VhostSettings {
    /// A text for people.
    pub description: Name,
    /// Tags.
    pub tags: Vec<Name>,
    /// The type of queues that are declared without one.
    pub default_queue_type: Option<Name>,
    /// The vhost cannot be deleted.
    pub protected: bool,
}
