//! The permissions of all users in all vhosts, compiled. Nothing else matches patterns of
//! permissions.

use std::collections::BTreeMap;

use model::Name;
use model::access::command::AdminError;
use model::access::pattern::{NamePattern, PatternError};
use model::access::state::{AccessState, UserInVhost};
use model::access::{Access, PermissionPatterns, Reach, Right, Rights, TopicPatterns};
use model::mutant::{self, Mutant};

/// The permissions of one user in one vhost.
#[derive(Debug, Hash)]
struct Compiled {
    configure: NamePattern,
    write: NamePattern,
    read: NamePattern,
}

/// The permissions for routing keys of one exchange.
#[derive(Debug, Hash)]
struct CompiledTopics {
    write: NamePattern,
    read: NamePattern,
}

/// All permissions.
#[derive(Debug, Default, Hash)]
pub(in crate::coordinator) struct Permissions {
    by_user: BTreeMap<UserInVhost, Compiled>,
    /// By user and vhost, then by exchange; no map is empty.
    topics: BTreeMap<UserInVhost, BTreeMap<Name, CompiledTopics>>,
}

impl Permissions {
    /// What outlived a restart. A pattern that is not understood any more gives nothing.
    pub fn recovered(state: &AccessState) -> Self {
        let mut permissions = Self::default();
        for (of, patterns) in &state.permissions {
            let nothing = PermissionPatterns::default();
            if permissions.set(of.clone(), patterns).is_err() {
                permissions.set(of.clone(), &nothing).ok();
            }
        }
        for ((of, exchange), patterns) in &state.topic_permissions {
            let nothing = TopicPatterns::default();
            if permissions.set_topics(of.clone(), exchange.clone(), patterns).is_err() {
                permissions.set_topics(of.clone(), exchange.clone(), &nothing).ok();
            }
        }
        permissions
    }

    /// What a shard is told of a user's rights; `None`: the user may not open the vhost.
    pub fn rights(&self, of: &UserInVhost) -> Option<Rights> {
        let compiled = self.by_user.get(of)?;
        Some(Rights {
            configure: compiled.configure.reach(),
            write: compiled.write.reach(),
            read: compiled.read.reach(),
            topics: self.topics.contains_key(of),
        })
    }

    /// Whether the user may do this. A match that takes too long counts as none.
    pub fn allow(&self, of: &UserInVhost, access: &Access) -> bool {
        if mutant::active(Mutant::RightsIgnored) {
            return true;
        }
        let (pattern, name) = match &access.topic {
            Some(key) => {
                let topics = self.topics.get(of).and_then(|topics| topics.get(&access.name));
                // Who has no permissions for an exchange may use every key.
                let Some(topics) = topics else { return true };
                (if access.right == Right::Write { &topics.write } else { &topics.read }, key)
            }
            None => {
                let Some(compiled) = self.by_user.get(of) else { return false };
                (compiled.pattern(access.right), &access.name)
            }
        };
        pattern.matches(name).unwrap_or(false)
    }

    /// How many there are, those for topics not counted.
    pub fn len(&self) -> usize {
        self.by_user.len()
    }

    /// How many there are for exchanges of topics.
    pub fn topics_len(&self) -> usize {
        self.topics.values().map(BTreeMap::len).sum()
    }

    /// Sets the permissions of a user in a vhost.
    pub fn set(
        &mut self,
        of: UserInVhost,
        patterns: &PermissionPatterns,
    ) -> Result<(), AdminError> {
        let [configure, write, read] = [&patterns.configure, &patterns.write, &patterns.read];
        let compiled = Compiled {
            configure: compile(configure)?,
            write: compile(write)?,
            read: compile(read)?,
        };
        self.by_user.insert(of, compiled);
        Ok(())
    }

    /// Takes them; false if there were none.
    pub fn clear(&mut self, of: &UserInVhost) -> bool {
        self.by_user.remove(of).is_some()
    }

    /// Sets the permissions for routing keys of an exchange.
    pub fn set_topics(
        &mut self,
        of: UserInVhost,
        exchange: Name,
        patterns: &TopicPatterns,
    ) -> Result<(), AdminError> {
        let compiled = CompiledTopics {
            write: compile(&expanded(&patterns.write, &of))?,
            read: compile(&expanded(&patterns.read, &of))?,
        };
        self.topics.entry(of).or_default().insert(exchange, compiled);
        Ok(())
    }

    /// Takes those for an exchange, or for all. Returns the exchanges that had some.
    pub fn clear_topics(&mut self, of: &UserInVhost, exchange: Option<&Name>) -> Vec<Name> {
        let Some(topics) = self.topics.get_mut(of) else { return Vec::new() };
        let cleared = topics.extract_if(.., |name, _| exchange.is_none_or(|only| name == only));
        let cleared = cleared.map(|(name, _)| name).collect();
        if topics.is_empty() {
            self.topics.remove(of);
        }
        cleared
    }

    /// Takes all of a user.
    pub fn forget_user(&mut self, user: &str) {
        self.by_user.retain(|of, _| *of.user != *user);
        self.topics.retain(|of, _| *of.user != *user);
    }

    /// Takes all in a vhost.
    pub fn forget_vhost(&mut self, vhost: &str) {
        self.by_user.retain(|of, _| *of.vhost != *vhost);
        self.topics.retain(|of, _| *of.vhost != *vhost);
    }
}

impl Compiled {
    fn pattern(&self, right: Right) -> &NamePattern {
        match right {
            Right::Configure => &self.configure,
            Right::Write => &self.write,
            Right::Read => &self.read,
        }
    }
}

/// Compiles a pattern, and refuses one that takes too long for a name that is made to be hard.
pub(in crate::coordinator) fn compile(text: &str) -> Result<NamePattern, AdminError> {
    let refused = |why: String| AdminError::Pattern { pattern: text.into(), why };
    let pattern = NamePattern::new(text).map_err(|why: PatternError| refused(why.to_string()))?;
    let hard = || ["a", "1", ".", "-"].map(|part| part.repeat(255));
    let is_slow = |name: &String| pattern.matches(name).is_err();
    if pattern.reach() == Reach::Some && hard().iter().any(is_slow) {
        return Err(refused("a match takes too many steps".to_owned()));
    }
    Ok(pattern)
}

/// The names that stand for variables are taken literally.
fn expanded(pattern: &str, of: &UserInVhost) -> String {
    let literally = |name: &str| {
        let mut text = String::with_capacity(name.len());
        for c in name.chars() {
            if c.is_ascii_punctuation() && c != '_' {
                text.push('\\');
            }
            text.push(c);
        }
        text
    };
    let pattern = pattern.replace("{username}", &literally(&of.user));
    pattern.replace("{vhost}", &literally(&of.vhost))
}

#[cfg(test)]
mod tests {
    use crate::coordinator::admin::permissions::*;

    fn of(user: &str) -> UserInVhost {
        UserInVhost { user: user.into(), vhost: "/".into() }
    }

    fn patterns(configure: &str, write: &str, read: &str) -> PermissionPatterns {
        PermissionPatterns { configure: configure.into(), write: write.into(), read: read.into() }
    }

    fn permissions() -> Permissions {
        let mut permissions = Permissions::default();
        permissions.set(of("anna"), &patterns("^a", r"^(?!amq\.).*", ".*")).unwrap();
        permissions
    }

    #[test]
    fn each_right_has_its_pattern() {
        let permissions = permissions();
        let may = |right, name| permissions.allow(&of("anna"), &Access::exchange(right, name));
        assert!(may(Right::Configure, "abc") && !may(Right::Configure, "bca"));
        assert!(
            may(Right::Write, "x") && !may(Right::Write, "amq.topic") && !may(Right::Write, "")
        );
        assert!(may(Right::Read, "anything"));
        assert!(!permissions.allow(&of("otto"), &Access::exchange(Right::Read, "x")));
    }

    #[test]
    fn shards_are_told_how_far_rights_reach() {
        let mut permissions = permissions();
        let expected = Rights {
            configure: Reach::Some,
            write: Reach::Some,
            read: Reach::Everything,
            topics: false,
        };
        assert_eq!(permissions.rights(&of("anna")), Some(expected));
        assert_eq!(permissions.rights(&of("otto")), None);
        assert!(permissions.clear(&of("anna")) && !permissions.clear(&of("anna")));
        assert_eq!(permissions.rights(&of("anna")), None);
    }

    #[test]
    fn keys_are_restricted_by_exchange_with_variables() {
        let mut permissions = permissions();
        let user = of("a.b");
        let topics = TopicPatterns { write: "^{username}-{vhost}".into(), read: ".*".into() };
        permissions.set_topics(user.clone(), "amq.topic".into(), &topics).unwrap();
        let may = |permissions: &Permissions, right, exchange, key| {
            permissions.allow(&user, &Access::topic(right, exchange, key))
        };
        assert!(may(&permissions, Right::Write, "amq.topic", "a.b-/x"));
        assert!(!may(&permissions, Right::Write, "amq.topic", "axb-/x"));
        assert!(may(&permissions, Right::Read, "amq.topic", "axb"));
        assert!(may(&permissions, Right::Write, "other", "axb"));
        assert_eq!(permissions.clear_topics(&user, None), [Name::from("amq.topic")]);
        assert!(may(&permissions, Right::Write, "amq.topic", "axb"));
    }

    #[test]
    fn patterns_that_are_wrong_or_too_slow_are_refused_by_name() {
        let mut permissions = permissions();
        for wrong in ["(", r"^(?=(a|aa|aaa)*b)(?!x)(a|a|a)*\1c$"] {
            let refused = permissions.set(of("anna"), &patterns(wrong, "", "")).unwrap_err();
            assert!(refused.to_string().contains(&format!("'{wrong}'")), "{refused}");
        }
        // What was there before stays.
        assert!(permissions.allow(&of("anna"), &Access::queue(Right::Configure, "abc")));
    }
}
