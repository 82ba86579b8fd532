//! Keys about what new vhosts get: limits, and operator policies for their queues.

use model::Name;
use model::access::defaults::{DefaultLimits, DefaultPolicy};
use model::access::limits::VhostLimit;
use model::access::pattern::NamePattern;
use model::policy::{PolicyScope, PolicyValue, keys as settings};

use super::Config;
use super::keys::{Key, key_of};
use super::units;

const PATTERN: &str = "a regular expression";
const POSITIVE: &str = "a whole number from 1 on";
const BYTES: &str = "bytes from 1 on, optionally with the unit KB, MB or GB";
const TIME: &str = "milliseconds up to 315360000000, or a duration like 30m";
const TEXT: &str = "a text";

/// The keys.
pub const KEYS: &[Key] = &[
    key_of("default_limits.vhosts.*.pattern", PATTERN, |config, id, value| {
        limits(config, id).vhosts = Some(pattern(value)?);
        Some(())
    }),
    key_of("default_limits.vhosts.*.max_connections", POSITIVE, |config, id, value| {
        limit(config, id, VhostLimit::Connections, value)
    }),
    key_of("default_limits.vhosts.*.max_queues", POSITIVE, |config, id, value| {
        limit(config, id, VhostLimit::Queues, value)
    }),
    key_of("default_policies.operator.*.vhost_pattern", PATTERN, |config, id, value| {
        policy(config, id).vhosts = Some(pattern(value)?);
        Some(())
    }),
    key_of("default_policies.operator.*.queue_pattern", PATTERN, |config, id, value| {
        policy(config, id).queues = Some(pattern(value)?);
        Some(())
    }),
    key_of("default_policies.operator.*.expires", TIME, |config, id, value| {
        setting(config, id, "expires", integer(units::duration_ms(value)?)?)
    }),
    key_of("default_policies.operator.*.message_ttl", TIME, |config, id, value| {
        setting(config, id, "message-ttl", integer(units::duration_ms(value)?)?)
    }),
    key_of("default_policies.operator.*.max_length", POSITIVE, |config, id, value| {
        setting(config, id, "max-length", count(value)?)
    }),
    key_of("default_policies.operator.*.max_length_bytes", BYTES, |config, id, value| {
        setting(config, id, "max-length-bytes", bytes(value)?)
    }),
    key_of("default_policies.operator.*.max_in_memory_length", POSITIVE, |config, id, value| {
        setting(config, id, "max-in-memory-length", count(value)?)
    }),
    key_of("default_policies.operator.*.max_in_memory_bytes", BYTES, |config, id, value| {
        setting(config, id, "max-in-memory-bytes", bytes(value)?)
    }),
    key_of("default_policies.operator.*.delivery_limit", POSITIVE, |config, id, value| {
        setting(config, id, "delivery-limit", count(value)?)
    }),
    // About mirrors and files of RabbitMQ's queues. Accepted without effect.
    key_of("default_policies.operator.*.classic_queues.ha_mode", TEXT, |_, _, _| Some(())),
    key_of("default_policies.operator.*.classic_queues.ha_params", TEXT, |_, _, _| Some(())),
    key_of("default_policies.operator.*.classic_queues.ha_sync_mode", TEXT, |_, _, _| Some(())),
    key_of("default_policies.operator.*.classic_queues.queue_version", POSITIVE, |_, _, value| {
        count(value).map(drop)
    }),
];

/// A policy without a setting is none.
pub fn check(config: &mut Config) {
    let policies = &mut config.vhost_defaults.policies;
    let without = policies.iter().filter(|(_, policy)| policy.definition.is_empty());
    let without: Vec<_> = without.map(|(id, _)| id.clone()).collect();
    for id in without {
        policies.remove(&id);
        let warning = format!("default_policies.operator.{id} has no setting and no effect");
        config.warnings.push(warning);
    }
}

fn limits<'c>(config: &'c mut Config, id: &str) -> &'c mut DefaultLimits {
    config.vhost_defaults.limits.entry(id.into()).or_default()
}

fn policy<'c>(config: &'c mut Config, id: &str) -> &'c mut DefaultPolicy {
    config.vhost_defaults.policies.entry(id.into()).or_default()
}

fn limit(config: &mut Config, id: &str, limit: VhostLimit, value: &str) -> Option<()> {
    let most = value.parse().ok().filter(|&most: &u64| most > 0)?;
    limits(config, id).limits.insert(limit, most);
    Some(())
}

/// A setting, if operators may set it to this value.
fn setting(config: &mut Config, id: &str, key: &str, value: PolicyValue) -> Option<()> {
    let alone = [(Name::from(key), value.clone())].into();
    settings::check(PolicyScope::Operator, &alone).ok()?;
    policy(config, id).definition.insert(key.into(), value);
    Some(())
}

fn pattern(value: &str) -> Option<Name> {
    NamePattern::new(value).ok().map(|pattern| pattern.text().clone())
}

fn count(value: &str) -> Option<PolicyValue> {
    integer(value.parse().ok().filter(|&count| count > 0)?)
}

fn bytes(value: &str) -> Option<PolicyValue> {
    integer(units::bytes(value).filter(|&bytes| bytes > 0)?)
}

fn integer(value: u64) -> Option<PolicyValue> {
    i64::try_from(value).ok().map(PolicyValue::Integer)
}
