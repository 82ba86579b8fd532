//! What is in force for a queue: its arguments, its policy and its operator policy merged as in
//! RabbitMQ. Of two limits the smaller one counts. Elsewhere an operator policy counts before a
//! policy, and an argument before both.

use amqp::Value;
use amqp::table::TableWriter;

use crate::policy::{Definition, PolicyValue};
use crate::topology::spec::Arguments;

/// Settings of which the smaller value counts.
const LIMITS: [&str; 6] = [
    "message-ttl",
    "expires",
    "max-length",
    "max-length-bytes",
    "delivery-limit",
    "consumer-timeout",
];
/// Settings of policies that queues have as arguments, with `x-` in front.
const OF_QUEUES: [&str; 9] = [
    "message-ttl",
    "expires",
    "max-length",
    "max-length-bytes",
    "delivery-limit",
    "consumer-timeout",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "overflow",
];

/// A policy and an operator policy together.
#[must_use]
pub fn definitions(policy: Option<&Definition>, operator: Option<&Definition>) -> Definition {
    let mut merged = policy.cloned().unwrap_or_default();
    for (key, value) in operator.into_iter().flatten() {
        let least = match (merged.get(key), value) {
            (Some(PolicyValue::Integer(one)), PolicyValue::Integer(other))
                if LIMITS.contains(&key.as_ref()) =>
            {
                PolicyValue::Integer(*one.min(other))
            }
            _ => value.clone(),
        };
        merged.insert(key.clone(), least);
    }
    merged
}

/// The arguments of a queue with what a definition adds to them or lowers in them.
#[must_use]
pub fn arguments(declared: &Arguments, definition: &Definition) -> Arguments {
    let table = declared.table();
    let mut merged = TableWriter::new();
    for (key, value) in table.iter() {
        let setting = key.strip_prefix("x-").and_then(|key| definition.get(key));
        merged = merged.with(key, lower(key, value, setting));
    }
    for key in OF_QUEUES {
        let argument = format!("x-{key}");
        if table.get(&argument).is_none()
            && let Some(value) = definition.get(key).and_then(wire)
        {
            merged = merged.with(&argument, value);
        }
    }
    merged.table().into()
}

/// An argument, or the setting of the same name if both are limits and this one is lower.
fn lower<'v>(key: &str, value: Value<'v>, setting: Option<&PolicyValue>) -> Value<'v> {
    let is_limit = key.strip_prefix("x-").is_some_and(|key| LIMITS.contains(&key));
    match (value.as_integer(), setting) {
        (Some(declared), Some(PolicyValue::Integer(set))) if is_limit && *set < declared => {
            Value::Long(*set)
        }
        _ => value,
    }
}

fn wire(value: &PolicyValue) -> Option<Value<'_>> {
    match value {
        PolicyValue::Integer(number) => Some(Value::Long(*number)),
        PolicyValue::Text(text) => Some(Value::LongString(text.as_bytes())),
        PolicyValue::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(settings: &[(&str, i64)]) -> Definition {
        let settings = settings.iter();
        settings.map(|(key, value)| ((*key).into(), PolicyValue::Integer(*value))).collect()
    }

    #[test]
    fn of_two_limits_the_smaller_counts() {
        let policy = definition(&[("message-ttl", 100), ("max-length", 5)]);
        let operator = definition(&[("message-ttl", 50), ("max-length", 9), ("expires", 7)]);
        let merged = definitions(Some(&policy), Some(&operator));
        assert_eq!(merged, definition(&[("message-ttl", 50), ("max-length", 5), ("expires", 7)]));
        assert_eq!(definitions(None, Some(&operator)), operator);
        assert_eq!(definitions(Some(&policy), None), policy);
    }

    #[test]
    fn an_operators_text_counts_before_a_users() {
        let overflow =
            |text: &str| Definition::from([("overflow".into(), PolicyValue::Text(text.into()))]);
        let merged = definitions(Some(&overflow("drop-head")), Some(&overflow("reject-publish")));
        assert_eq!(merged, overflow("reject-publish"));
    }

    #[test]
    fn arguments_count_before_policies_unless_these_are_lower_limits() {
        let declared = TableWriter::new()
            .with("x-message-ttl", Value::Int(60))
            .with("x-max-length", Value::Long(3))
            .with("x-dead-letter-exchange", Value::LongString(b"mine"))
            .with("other", Value::Bool(true));
        let mut settings = definition(&[("message-ttl", 50), ("max-length", 5), ("expires", 9)]);
        for (key, value) in [("dead-letter-exchange", "theirs"), ("overflow", "drop-head")] {
            settings.insert(key.into(), PolicyValue::Text(value.into()));
        }
        settings.insert("ha-params".into(), PolicyValue::Integer(2));
        let merged = arguments(&declared.table().into(), &settings);
        let expected = TableWriter::new()
            .with("x-message-ttl", Value::Long(50))
            .with("x-max-length", Value::Long(3))
            .with("x-dead-letter-exchange", Value::LongString(b"mine"))
            .with("other", Value::Bool(true))
            .with("x-expires", Value::Long(9))
            .with("x-overflow", Value::LongString(b"drop-head"));
        assert_eq!(merged, expected.table().into());
    }
}
