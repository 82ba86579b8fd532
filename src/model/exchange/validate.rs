//! What exchange types demand of their arguments and their bindings.

use amqp::{Table, Value};

use super::headers;
use super::one_of::{HASH_HEADER, HASH_PROPERTY, HashProperty};
use super::stateful::{DEFAULT_LENGTH, HISTORY_MAX, SeenLimits};
use crate::refusal::exchange_types::ByType;
use crate::refusal::{Refusal, Resource, erlang};
use crate::topology::spec::{Binding, Destination, ExchangeKind, ExchangeSpec};

/// Arguments of an exchange that remembers values of a header.
const CACHE_SIZE: &str = "x-cache-size";
const CACHE_TTL: &str = "x-cache-ttl";
const CACHE_PERSISTENCE: &str = "x-cache-persistence";
/// The argument of an exchange that says how many messages it keeps.
const HISTORY_LENGTH: &str = "x-recent-history-length";

/// Checks the arguments of an exchange of this kind.
///
/// # Errors
/// [`Refusal::InvalidArgumentType`], [`Refusal::ByExchangeType`]
pub fn validate_arguments(
    kind: ExchangeKind,
    exchange: &Resource,
    table: Table<'_>,
) -> Result<(), Refusal> {
    match kind {
        ExchangeKind::ConsistentHash => hash_arguments(exchange, table),
        ExchangeKind::RecentHistory => history_arguments(table),
        ExchangeKind::Deduplication => deduplication_arguments(table),
        _ => Ok(()),
    }
}

/// RabbitMQ takes integers with a sign only, and any number.
fn history_arguments(table: Table<'_>) -> Result<(), Refusal> {
    let Some(value) = table.get(HISTORY_LENGTH) else { return Ok(()) };
    let signed = matches!(value, Value::Byte(_) | Value::Short(_) | Value::Int(_) | Value::Long(_));
    match value.as_integer().filter(|_| signed) {
        Some(length) if length > HISTORY_MAX as i64 => {
            Err(ByType::HistoryTooLong(length, HISTORY_MAX).into())
        }
        Some(length) if length > 0 => Ok(()),
        _ => Err(ByType::HistoryLength(erlang::term(value)).into()),
    }
}

/// RabbitMQ closes the connection with 541 for a name that is no long string.
fn hash_arguments(exchange: &Resource, table: Table<'_>) -> Result<(), Refusal> {
    exchange.long_string(table, HASH_HEADER)?;
    exchange.long_string(table, HASH_PROPERTY)?;
    match (table.get(HASH_HEADER), table.get(HASH_PROPERTY)) {
        (Some(_), Some(_)) => Err(ByType::TwoHashes.into()),
        (None, Some(Value::LongString(name))) if HashProperty::from_name(name).is_none() => {
            Err(ByType::HashProperty(String::from_utf8_lossy(name).into()).into())
        }
        _ => Ok(()),
    }
}

/// How many messages an exchange of type `x-recent-history` keeps.
pub(super) fn history_length(spec: &ExchangeSpec) -> usize {
    let length = spec.arguments.table().get(HISTORY_LENGTH).and_then(|length| length.as_integer());
    length.and_then(|length| length.try_into().ok()).unwrap_or(DEFAULT_LENGTH)
}

/// As rabbitmq-message-deduplication checks them, but for `disk`.
fn deduplication_arguments(table: Table<'_>) -> Result<(), Refusal> {
    if table.get(CACHE_SIZE).and_then(positive).is_none() {
        return Err(ByType::CacheSize.into());
    }
    if table.get(CACHE_TTL).is_some_and(|ttl| positive(ttl).is_none()) {
        return Err(ByType::CacheTtl.into());
    }
    match table.get(CACHE_PERSISTENCE) {
        None | Some(Value::LongString(b"memory")) => Ok(()),
        Some(Value::LongString(b"disk")) => Err(ByType::CacheOnDisk.into()),
        Some(_) => Err(ByType::CachePersistence.into()),
    }
}

/// What an exchange of type `x-message-deduplication` remembers.
pub(super) fn seen_limits(spec: &ExchangeSpec) -> SeenLimits {
    let table = spec.arguments.table();
    let argument = |name| table.get(name).and_then(positive);
    let size = argument(CACHE_SIZE).and_then(|size| size.try_into().ok());
    SeenLimits { size: size.unwrap_or(1), ttl_ms: argument(CACHE_TTL) }
}

/// A positive integer, which may be a text.
fn positive(value: Value<'_>) -> Option<u64> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.or_else(|| value.as_str()?.parse().ok()).filter(|number| *number > 0)
}

/// Checks a binding to an exchange of this kind.
///
/// # Errors
/// [`Refusal::InvalidXMatch`] for a headers exchange and an x-match that does not exist;
/// [`Refusal::ByExchangeType`] for a key or a destination that the type does not take.
pub fn validate_binding(kind: ExchangeKind, binding: &Binding) -> Result<(), Refusal> {
    match kind {
        ExchangeKind::Headers => headers::validate(&binding.arguments),
        ExchangeKind::ConsistentHash => match integer(&binding.key) {
            None => Err(ByType::WeightNoInteger(binding.key.clone()).into()),
            Some(0) => Err(ByType::WeightTooLow.into()),
            Some(_) => Ok(()),
        },
        ExchangeKind::LocalRandom if !binding.key.is_empty() => {
            Err(ByType::KeyNotEmpty(binding.key.clone()).into())
        }
        ExchangeKind::LocalRandom if matches!(binding.destination, Destination::Exchange(_)) => {
            Err(ByType::NoQueue.into())
        }
        _ => Ok(()),
    }
}

/// The weight that a binding key of a consistent hash exchange stands for.
pub(super) fn weight(key: &str) -> u32 {
    integer(key).unwrap_or(1)
}

/// A decimal number with or without a sign, as Erlang reads it: 0 if it is negative, and the
/// highest number if it is higher.
fn integer(text: &str) -> Option<u32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if text.starts_with('-') {
        return Some(0);
    }
    // Nothing but too many digits is wrong with it.
    Some(digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_as_erlang_reads_integers() {
        assert_eq!(["1", "+5", "007"].map(integer), [Some(1), Some(5), Some(7)]);
        assert_eq!(["0", "-0", "-3"].map(integer), [Some(0); 3]);
        assert_eq!(["99999999999999999999", "4294967295"].map(integer), [Some(u32::MAX); 2]);
        assert_eq!(["", "-", "1.5", "x", " 1", "1 ", "+-1"].map(integer), [None; 7]);
    }
}
