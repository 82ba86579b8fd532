//! The encoding of facts about rights, settings and policies.

use std::collections::BTreeMap;

use amqp::{Reader, Writer};
use model::access::limits::LimitKind;
use model::access::state::{AccessFact, UserInVhost};
use model::access::{PermissionPatterns, TopicPatterns, VhostSettings};
use model::policy::{ApplyTo, Definition, Policy, PolicyScope, PolicyValue};

use super::fact::{Malformed, read_names, read_text, write_names, write_text};

const IN_FORCE: u8 = 10;
const USER_DELETED: u8 = 11;
const PERMISSIONS: u8 = 12;
const PERMISSIONS_CLEARED: u8 = 13;
const TOPIC_PERMISSIONS: u8 = 14;
const TOPIC_PERMISSIONS_CLEARED: u8 = 15;
const VHOST_SETTINGS: u8 = 16;
const POLICY: u8 = 17;
const POLICY_CLEARED: u8 = 18;
// 19 and 20 are other facts.
const VHOST_LIMITS: u8 = 21;
const USER_LIMITS: u8 = 22;
const VHOST_METADATA: u8 = 23;
const GLOBAL_PARAMETER: u8 = 24;

const INTEGER: u8 = 0;
const TEXT: u8 = 1;
const OTHER: u8 = 2;

pub(super) fn write(to: &mut Writer<'_>, fact: &AccessFact) {
    match fact {
        AccessFact::InForce => to.octet(IN_FORCE),
        AccessFact::UserDeleted(user) => {
            to.octet(USER_DELETED);
            write_text(to, user);
        }
        AccessFact::Permissions(of, patterns) => {
            write_of(to, PERMISSIONS, of);
            let PermissionPatterns { configure, write, read } = patterns;
            [configure, write, read].into_iter().for_each(|pattern| write_text(to, pattern));
        }
        AccessFact::PermissionsCleared(of) => write_of(to, PERMISSIONS_CLEARED, of),
        AccessFact::TopicPermissions(of, exchange, TopicPatterns { write, read }) => {
            write_of(to, TOPIC_PERMISSIONS, of);
            [exchange, write, read].into_iter().for_each(|text| write_text(to, text));
        }
        AccessFact::TopicPermissionsCleared(of, exchange) => {
            write_of(to, TOPIC_PERMISSIONS_CLEARED, of);
            write_text(to, exchange);
        }
        AccessFact::VhostSettings(vhost, settings) => write_settings(to, vhost, settings),
        AccessFact::VhostLimits(vhost, limits) => write_limits(to, VHOST_LIMITS, vhost, limits),
        AccessFact::UserLimits(user, limits) => write_limits(to, USER_LIMITS, user, limits),
        AccessFact::Policy(vhost, scope, policy) => {
            to.octet(POLICY);
            write_text(to, vhost);
            to.bit(*scope == PolicyScope::Operator);
            write_policy(to, policy);
        }
        AccessFact::PolicyCleared(vhost, scope, name) => {
            to.octet(POLICY_CLEARED);
            write_text(to, vhost);
            to.bit(*scope == PolicyScope::Operator);
            write_text(to, name);
        }
        AccessFact::GlobalParameter(name, value) => {
            to.octet(GLOBAL_PARAMETER);
            write_text(to, name);
            write_text(to, value);
        }
    }
}

/// Decodes a fact of this kind. `None`: it is of no kind that is known here.
pub(super) fn read(kind: u8, from: &mut Reader<'_>) -> Option<Result<AccessFact, Malformed>> {
    let is_known = matches!(kind, IN_FORCE..=POLICY_CLEARED | VHOST_LIMITS..=GLOBAL_PARAMETER);
    is_known.then(|| read_known(kind, from))
}

fn read_known(kind: u8, from: &mut Reader<'_>) -> Result<AccessFact, Malformed> {
    Ok(match kind {
        IN_FORCE => AccessFact::InForce,
        USER_DELETED => AccessFact::UserDeleted(read_text(from)?),
        PERMISSIONS => AccessFact::Permissions(read_of(from)?, read_permissions(from)?),
        PERMISSIONS_CLEARED => AccessFact::PermissionsCleared(read_of(from)?),
        TOPIC_PERMISSIONS => {
            let (of, exchange) = (read_of(from)?, read_text(from)?);
            let patterns = TopicPatterns { write: read_text(from)?, read: read_text(from)? };
            AccessFact::TopicPermissions(of, exchange, patterns)
        }
        TOPIC_PERMISSIONS_CLEARED => {
            AccessFact::TopicPermissionsCleared(read_of(from)?, read_text(from)?)
        }
        VHOST_SETTINGS | VHOST_METADATA => {
            AccessFact::VhostSettings(read_text(from)?, read_settings(kind, from)?)
        }
        VHOST_LIMITS => AccessFact::VhostLimits(read_text(from)?, read_limits(from)?),
        USER_LIMITS => AccessFact::UserLimits(read_text(from)?, read_limits(from)?),
        POLICY => AccessFact::Policy(read_text(from)?, read_scope(from)?, read_policy(from)?),
        POLICY_CLEARED => {
            AccessFact::PolicyCleared(read_text(from)?, read_scope(from)?, read_text(from)?)
        }
        GLOBAL_PARAMETER => AccessFact::GlobalParameter(read_text(from)?, read_text(from)?),
        other => return Err(Malformed::Kind(other)),
    })
}

/// Settings that older versions know too are written as they write them.
fn write_settings(to: &mut Writer<'_>, vhost: &str, settings: &VhostSettings) {
    let VhostSettings { description, tags, default_queue_type, protected } = settings;
    let has_more = default_queue_type.is_some() || *protected;
    to.octet(if has_more { VHOST_METADATA } else { VHOST_SETTINGS });
    write_text(to, vhost);
    write_text(to, description);
    write_names(to, tags);
    if has_more {
        to.bit(default_queue_type.is_some());
        write_text(to, default_queue_type.as_deref().unwrap_or_default());
        to.bit(*protected);
    }
}

fn read_settings(kind: u8, from: &mut Reader<'_>) -> Result<VhostSettings, Malformed> {
    let (description, tags) = (read_text(from)?, read_names(from)?);
    let mut settings = VhostSettings { description, tags, ..VhostSettings::default() };
    if kind == VHOST_METADATA {
        let (is_set, kind) = (from.bit()?, read_text(from)?);
        settings.default_queue_type = is_set.then_some(kind);
        settings.protected = from.bit()?;
    }
    Ok(settings)
}

fn write_of(to: &mut Writer<'_>, kind: u8, of: &UserInVhost) {
    to.octet(kind);
    write_text(to, &of.user);
    write_text(to, &of.vhost);
}

fn read_of(from: &mut Reader<'_>) -> Result<UserInVhost, Malformed> {
    Ok(UserInVhost { user: read_text(from)?, vhost: read_text(from)? })
}

fn read_permissions(from: &mut Reader<'_>) -> Result<PermissionPatterns, Malformed> {
    let (configure, write, read) = (read_text(from)?, read_text(from)?, read_text(from)?);
    Ok(PermissionPatterns { configure, write, read })
}

fn read_scope(from: &mut Reader<'_>) -> Result<PolicyScope, Malformed> {
    Ok(if from.bit()? { PolicyScope::Operator } else { PolicyScope::User })
}

fn write_limits<K: LimitKind>(to: &mut Writer<'_>, fact: u8, of: &str, limits: &BTreeMap<K, u64>) {
    to.octet(fact);
    write_text(to, of);
    // No more than there are kinds.
    to.octet(limits.len() as u8);
    for (kind, limit) in limits {
        write_text(to, kind.name());
        to.longlong(*limit);
    }
}

fn read_limits<K: LimitKind>(from: &mut Reader<'_>) -> Result<BTreeMap<K, u64>, Malformed> {
    let mut limits = BTreeMap::new();
    for _ in 0..from.octet()? {
        let kind = K::from_name(&read_text(from)?).ok_or(Malformed::Limit)?;
        limits.insert(kind, from.longlong()?);
    }
    Ok(limits)
}

fn write_policy(to: &mut Writer<'_>, policy: &Policy) {
    write_text(to, &policy.name);
    write_text(to, &policy.pattern);
    write_text(to, policy.apply_to.name());
    to.longlong(policy.priority.cast_unsigned());
    // No more than there are settings.
    to.short(policy.definition.len() as u16);
    for (key, value) in &policy.definition {
        write_text(to, key);
        match value {
            PolicyValue::Integer(number) => {
                to.octet(INTEGER);
                to.longlong(number.cast_unsigned());
            }
            PolicyValue::Text(text) => {
                to.octet(TEXT);
                write_text(to, text);
            }
            PolicyValue::Other(json) => {
                to.octet(OTHER);
                write_text(to, json);
            }
        }
    }
}

fn read_policy(from: &mut Reader<'_>) -> Result<Policy, Malformed> {
    let (name, pattern, apply_to) = (read_text(from)?, read_text(from)?, read_text(from)?);
    let apply_to = ApplyTo::from_name(&apply_to).ok_or(Malformed::ApplyTo)?;
    let priority = from.longlong()?.cast_signed();
    let mut definition = Definition::new();
    for _ in 0..from.short()? {
        let key = read_text(from)?;
        let value = match from.octet()? {
            INTEGER => PolicyValue::Integer(from.longlong()?.cast_signed()),
            TEXT => PolicyValue::Text(read_text(from)?),
            OTHER => PolicyValue::Other(read_text(from)?),
            other => return Err(Malformed::Kind(other)),
        };
        definition.insert(key, value);
    }
    Ok(Policy { name, pattern, apply_to, priority, definition })
}
