//! What a connection knows of its user's rights: how far they reach, and the answers for objects
//! that the coordinator was asked about.

use std::collections::BTreeMap;

use crate::access::{Access, Reach, Rights};

/// This many answers are remembered; with more, all are forgotten and asked for again.
pub const ANSWERS_MAX: usize = 256;

/// The rights of a connection.
#[derive(Debug, Default)]
pub struct AccessCache {
    rights: Rights,
    answers: BTreeMap<Access, bool>,
}

impl AccessCache {
    /// Whether the user may do this; `None`: the coordinator has to be asked.
    #[must_use]
    pub fn allows(&self, access: &Access) -> Option<bool> {
        if access.topic.is_some() {
            return if self.rights.topics { self.answers.get(access).copied() } else { Some(true) };
        }
        match self.rights.reach(access.right) {
            Reach::Everything => Some(true),
            Reach::Nothing => Some(false),
            Reach::Some => self.answers.get(access).copied(),
        }
    }

    /// True if nothing has to be looked at.
    #[inline]
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.rights == Rights::ALL
    }

    /// Takes in other rights; what was answered before counts no more.
    pub fn set(&mut self, rights: Rights) {
        self.rights = rights;
        self.answers.clear();
    }

    /// Remembers what the coordinator answered.
    pub fn answered(&mut self, answers: impl ExactSizeIterator<Item = (Access, bool)>) {
        if self.answers.len() + answers.len() > ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.extend(answers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Right;

    #[test]
    fn only_rights_to_some_objects_are_asked_for() {
        let mut cache = AccessCache::default();
        let [write, read] = [Right::Write, Right::Read].map(|right| Access::queue(right, "q"));
        assert_eq!(cache.allows(&write), Some(false));
        cache.set(Rights { write: Reach::Some, read: Reach::Everything, ..Rights::default() });
        assert_eq!((cache.allows(&write), cache.allows(&read)), (None, Some(true)));
        cache.answered([(write.clone(), true)].into_iter());
        assert_eq!(cache.allows(&write), Some(true));
        cache.set(Rights { write: Reach::Some, ..Rights::default() });
        assert_eq!(cache.allows(&write), None);
    }

    #[test]
    fn keys_are_asked_for_only_if_topics_are_restricted() {
        let mut cache = AccessCache::default();
        let key = Access::topic(Right::Write, "amq.topic", "a.b");
        cache.set(Rights::ALL);
        assert_eq!((cache.allows(&key), cache.is_unrestricted()), (Some(true), true));
        cache.set(Rights { topics: true, ..Rights::ALL });
        assert_eq!((cache.allows(&key), cache.is_unrestricted()), (None, false));
    }

    #[test]
    fn answers_are_bounded() {
        let mut cache = AccessCache::default();
        cache.set(Rights { read: Reach::Some, ..Rights::default() });
        for number in 0..3 * ANSWERS_MAX {
            let access = Access::queue(Right::Read, &number.to_string());
            cache.answered([(access.clone(), true)].into_iter());
            assert_eq!(cache.allows(&access), Some(true));
            assert!(cache.answers.len() <= ANSWERS_MAX);
        }
    }
}
