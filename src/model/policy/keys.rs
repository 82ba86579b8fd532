//! The settings that policies may have, and which values are valid.

use crate::policy::{Definition, PolicyScope, PolicyValue};
use crate::refusal::erlang::Text;

/// A setting of policies.
struct PolicySetting {
    key: &'static str,
    /// What RabbitMQ's text calls the value.
    value: &'static str,
    is_valid: fn(&PolicyValue) -> bool,
    /// Operators may set it.
    operator: bool,
}

const fn setting(
    key: &'static str,
    value: &'static str,
    is_valid: fn(&PolicyValue) -> bool,
    operator: bool,
) -> PolicySetting {
    PolicySetting { key, value, is_valid, operator }
}

/// The settings that take effect.
const SETTINGS: [PolicySetting; 10] = [
    setting("alternate-exchange", "alternate exchange name", is_text, false),
    setting("dead-letter-exchange", "dead letter exchange name", is_text, false),
    setting("dead-letter-routing-key", "dead letter routing key", is_text, false),
    setting("message-ttl", "message TTL", is_time, true),
    setting("expires", "queue expiry", |value| is_time(value) && is_positive(value), true),
    setting("max-length", "maximum length", is_natural, true),
    setting("max-length-bytes", "maximum length in bytes", is_natural, true),
    setting("delivery-limit", "delivery limit", is_natural, true),
    setting("consumer-timeout", "consumer timeout", is_natural, false),
    setting("overflow", "overflow value", is_overflow, true),
];

/// Settings of RabbitMQ 3.x and of other queue types that mean nothing here. They are taken, so
/// that definitions of such brokers can be imported.
pub const WITHOUT_EFFECT: [&str; 20] = [
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-sync-batch-size",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
    "queue-mode",
    "queue-version",
    "queue-master-locator",
    "queue-leader-locator",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "max-age",
    "stream-max-segment-size-bytes",
    "stream-filter-size-bytes",
    "initial-cluster-size",
    "target-group-size",
    "dead-letter-strategy",
    "federation-upstream",
    "federation-upstream-set",
];

fn is_text(value: &PolicyValue) -> bool {
    matches!(value, PolicyValue::Text(_))
}

fn is_natural(value: &PolicyValue) -> bool {
    matches!(value, PolicyValue::Integer(0..))
}

/// The longest time that queues take, in milliseconds: ten years.
const TIME_MAX: i64 = 315_360_000_000;

fn is_time(value: &PolicyValue) -> bool {
    matches!(value, PolicyValue::Integer(0..=TIME_MAX))
}

fn is_positive(value: &PolicyValue) -> bool {
    matches!(value, PolicyValue::Integer(1..))
}

fn is_overflow(value: &PolicyValue) -> bool {
    let known =
        |text: &&str| matches!(*text, "drop-head" | "reject-publish" | "reject-publish-dlx");
    matches!(value, PolicyValue::Text(text) if known(&text.as_ref()))
}

/// Checks the settings of a policy.
///
/// # Errors
/// RabbitMQ's text for the first that is wrong; settings that do not exist come first.
pub fn check(scope: PolicyScope, definition: &Definition) -> Result<(), String> {
    if definition.is_empty() {
        return Err("no policy provided".to_owned());
    }
    let unknown = definition.iter().filter(|(key, _)| !is_known(scope, key));
    let unknown: Vec<_> = unknown.map(|(key, value)| pair(key, value)).collect();
    if !unknown.is_empty() {
        return Err(format!("[{}] are not recognised policy settings", unknown.join(",")));
    }
    let wrong = SETTINGS.iter().find_map(|setting| {
        let value = definition.get(setting.key)?;
        (!(setting.is_valid)(value)).then(|| (shown(value), setting.value))
    });
    match wrong {
        Some((value, what)) => Err(format!("{value} is not a valid {what}")),
        None => Ok(()),
    }
}

fn is_known(scope: PolicyScope, key: &str) -> bool {
    let setting = SETTINGS.iter().find(|setting| setting.key == key);
    match (setting, scope) {
        (Some(setting), PolicyScope::Operator) => setting.operator,
        (Some(_), PolicyScope::User) => true,
        (None, _) => WITHOUT_EFFECT.contains(&key),
    }
}

fn pair(key: &str, value: &PolicyValue) -> String {
    format!("{{{},{}}}", binary(key), shown(value))
}

fn shown(value: &PolicyValue) -> String {
    match value {
        PolicyValue::Integer(number) => number.to_string(),
        PolicyValue::Text(text) => binary(text),
        PolicyValue::Other(json) => json.as_ref().into(),
    }
}

fn binary(text: &str) -> String {
    Text::default().binary(text.as_bytes()).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(scope: PolicyScope, settings: &[(&str, PolicyValue)]) -> Option<String> {
        let settings = settings.iter().map(|(key, value)| ((*key).into(), value.clone()));
        check(scope, &settings.collect()).err()
    }

    fn text(value: &str) -> PolicyValue {
        PolicyValue::Text(value.into())
    }

    #[test]
    fn valid_settings_are_taken() {
        let settings = [
            ("message-ttl", PolicyValue::Integer(0)),
            ("expires", PolicyValue::Integer(1)),
            ("overflow", text("reject-publish")),
            ("dead-letter-exchange", text("x")),
            ("ha-mode", text("all")),
            ("queue-mode", text("lazy")),
        ];
        assert_eq!(refused(PolicyScope::User, &settings), None);
    }

    #[test]
    fn wrong_settings_are_refused_in_rabbitmqs_words() {
        let refused = |key, value| refused(PolicyScope::User, &[(key, value)]).unwrap();
        assert_eq!(
            refused("message-ttl", PolicyValue::Integer(-1)),
            "-1 is not a valid message TTL"
        );
        assert_eq!(refused("expires", PolicyValue::Integer(0)), "0 is not a valid queue expiry");
        assert_eq!(
            refused("max-length", text("many")),
            "<<\"many\">> is not a valid maximum length"
        );
        assert_eq!(
            refused("nonsense", PolicyValue::Integer(1)),
            "[{<<\"nonsense\">>,1}] are not recognised policy settings"
        );
    }

    #[test]
    fn operators_set_limits_only() {
        let refused = |key: &str| refused(PolicyScope::Operator, &[(key, text("x"))]).unwrap();
        assert!(refused("dead-letter-exchange").ends_with("are not recognised policy settings"));
        assert_eq!(refused("overflow"), "<<\"x\">> is not a valid overflow value");
    }
}
