//! Policies: settings for the queues and exchanges of a vhost whose names match a pattern. What of
//! them is in force for a queue is its own arguments, its policy and its operator policy merged.

pub mod keys;
pub mod merge;

use std::collections::BTreeMap;

use crate::topology::spec::Name;

/// Whose policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyScope {
    /// A user's.
    User,
    /// An operator's, which limits what users set.
    Operator,
}

/// What a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All,
    /// Queues of every type.
    Queues,
    /// Queues of this type.
    ClassicQueues,
    /// Queues of this type.
    QuorumQueues,
    /// Queues of this type.
    Streams,
    /// Exchanges.
    Exchanges,
}

impl ApplyTo {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::All,
        Self::Queues,
        Self::ClassicQueues,
        Self::QuorumQueues,
        Self::Streams,
        Self::Exchanges,
    ];

    /// The name in definitions files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
            Self::Exchanges => "exchanges",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|apply_to| apply_to.name() == name)
    }

    /// Whether it applies to classic queues, the only type that there is.
    #[must_use]
    pub fn has_queues(self) -> bool {
        matches!(self, Self::All | Self::Queues | Self::ClassicQueues)
    }

    /// Whether it applies to exchanges.
    #[must_use]
    pub fn has_exchanges(self) -> bool {
        matches!(self, Self::All | Self::Exchanges)
    }
}

/// A value of a policy's definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PolicyValue {
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(Name),
    /// Any other JSON, as text; only settings without effect have such a value.
    Other(Name),
}

/// The settings of a policy by key.
pub type Definition = BTreeMap<Name, PolicyValue>;

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Unique in its vhost and scope.
    pub name: Name,
    /// A regular expression that matches somewhere in the name of the object.
    pub pattern: Name,
    /// What it applies to.
    pub apply_to: ApplyTo,
    /// Of all policies that match, the one with the highest is in force, with no other.
    pub priority: i64,
    /// Its settings.
    pub definition: Definition,
}
