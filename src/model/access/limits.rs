//! Limits of vhosts and of users: how many connections, queues and channels each may have.

use std::collections::BTreeMap;

/// What a vhost may have too many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VhostLimit {
    /// Open connections.
    Connections,
    /// Queues.
    Queues,
}

/// What a user may have too many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UserLimit {
    /// Open connections.
    Connections,
    /// Channels of all connections.
    Channels,
}

/// A kind of limit, named as in RabbitMQ.
pub trait LimitKind: Copy + Ord + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// The name in definitions files.
    fn name(self) -> &'static str;

    /// The one of this name.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl LimitKind for VhostLimit {
    const ALL: &'static [Self] = &[Self::Connections, Self::Queues];

    fn name(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::Queues => "max-queues",
        }
    }
}

impl LimitKind for UserLimit {
    const ALL: &'static [Self] = &[Self::Connections, Self::Channels];

    fn name(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::Channels => "max-channels",
        }
    }
}

/// The limits that are set; 0 allows nothing.
pub type VhostLimits = BTreeMap<VhostLimit, u64>;
/// The limits that are set; 0 allows nothing.
pub type UserLimits = BTreeMap<UserLimit, u64>;
/// Limits as they are asked for: a negative one is none.
pub type WantedLimits<K> = BTreeMap<K, i64>;

/// The limits with what is wanted in their place; those that are not named stay.
#[must_use]
pub fn merged<K: LimitKind>(
    before: &BTreeMap<K, u64>,
    wanted: &WantedLimits<K>,
) -> BTreeMap<K, u64> {
    let mut limits = before.clone();
    for (kind, limit) in wanted {
        match u64::try_from(*limit) {
            Ok(limit) => drop(limits.insert(*kind, limit)),
            Err(_) => drop(limits.remove(kind)),
        }
    }
    limits
}

/// The limits without one of them, or none (`None`).
#[must_use]
pub fn without<K: LimitKind>(before: &BTreeMap<K, u64>, kind: Option<K>) -> BTreeMap<K, u64> {
    let stays = |other: &K| kind.is_some_and(|kind| kind != *other);
    before.iter().filter(|(other, _)| stays(other)).map(|(kind, limit)| (*kind, *limit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_limit_is_none_and_others_stay() {
        let limits = merged(&VhostLimits::new(), &[(VhostLimit::Queues, 0)].into());
        assert_eq!(limits, [(VhostLimit::Queues, 0)].into());
        let limits = merged(&limits, &[(VhostLimit::Connections, 7)].into());
        assert_eq!(limits.len(), 2);
        let limits = merged(&limits, &[(VhostLimit::Queues, -1)].into());
        assert_eq!(limits, [(VhostLimit::Connections, 7)].into());
    }

    #[test]
    fn one_limit_goes_or_all_do() {
        let limits: UserLimits = [(UserLimit::Connections, 1), (UserLimit::Channels, 2)].into();
        let left = without(&limits, Some(UserLimit::Channels));
        assert_eq!(left, [(UserLimit::Connections, 1)].into());
        assert_eq!(without(&limits, None), UserLimits::new());
        assert_eq!(UserLimit::from_name("max-channels"), Some(UserLimit::Channels));
        assert_eq!(VhostLimit::from_name("max-channels"), None);
    }
}
