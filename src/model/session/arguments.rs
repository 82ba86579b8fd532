//! Which arguments declares may have, and when two declares are equivalent.

use amqp::{Table, Value};

use crate::exchange::{ALTERNATE_EXCHANGE, validate_arguments};
use crate::queue::{KindName, Overflow};
use crate::refusal::{Refusal, Resource};
use crate::session::content::EXPIRATION_MAX_MS;
use crate::topology::spec::{ExchangeKind, ExchangeSpec, Name, QueueSpec};

/// Arguments that only classic queues obey.
const CLASSIC_ONLY: [&str; 9] = [
    "x-expires",
    "x-message-ttl",
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_KEY,
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-max-priority",
    "x-message-deduplication",
];
/// Arguments that RabbitMQ knows, but not for the kinds that are built.
const QUEUE_OF_OTHER_KINDS: [&str; 2] = ["x-dead-letter-strategy", "x-delivery-limit"];
/// Most bytes of a name or a routing key.
const NAME_LEN_MAX: usize = 255;
const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
const DEAD_LETTER_KEY: &str = "x-dead-letter-routing-key";
/// Further arguments of queues that must be equal when a queue is declared again.
const QUEUE_COMPARED: [&str; 13] = [
    "x-expires",
    "x-message-ttl",
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_KEY,
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-consumer-timeout",
];

/// Bytes of an encoded table of arguments: a shard, the coordinator and the disk keep each a copy.
pub const ARGUMENTS_MAX: usize = 16 * 1024;

/// Checks the size of the arguments of a declare, a binding or a consumer.
///
/// # Errors
/// [`Refusal::ArgumentsTooLarge`]
pub fn check_size(table: Table<'_>) -> Result<(), Refusal> {
    let size = table.encoded().len();
    if size > ARGUMENTS_MAX { Err(Refusal::ArgumentsTooLarge { size }) } else { Ok(()) }
}

/// Checks the arguments of queue.declare.
///
/// # Errors
/// [`Refusal::InvalidArgument`] for the first that is wrong, then
/// [`Refusal::ArgumentOfOtherKind`].
pub fn check_queue(queue: &Resource, table: Table<'_>) -> Result<(), Refusal> {
    check(queue, table, "x-queue-type", queue_type)?;
    let kind = table.get("x-queue-type").and_then(|kind| KindName::from_name(kind.as_str()?));
    if kind.unwrap_or_default() != KindName::Classic {
        refuse_any(queue, table, &CLASSIC_ONLY)?;
    }
    check(queue, table, "x-expires", expires)?;
    check(queue, table, "x-message-ttl", milliseconds)?;
    queue.long_string(table, DEAD_LETTER_EXCHANGE)?;
    check(queue, table, DEAD_LETTER_EXCHANGE, dead_letter_name)?;
    let exchange = table.get(DEAD_LETTER_EXCHANGE).is_some();
    check(queue, table, DEAD_LETTER_KEY, |key| dead_letter_key(key, exchange))?;
    check(queue, table, "x-max-length", not_negative)?;
    check(queue, table, "x-max-length-bytes", not_negative)?;
    check(queue, table, "x-max-priority", priority)?;
    check(queue, table, "x-overflow", overflow)?;
    check(queue, table, "x-queue-mode", queue_mode)?;
    check(queue, table, "x-queue-version", queue_version)?;
    check(queue, table, "x-single-active-consumer", boolean)?;
    check(queue, table, "x-message-deduplication", boolean)?;
    check(queue, table, "x-consumer-timeout", timeout)?;
    let mut others = table.iter().filter(|(key, _)| QUEUE_OF_OTHER_KINDS.contains(key));
    others.next().map_or(Ok(()), |(argument, _)| {
        Err(Refusal::ArgumentOfOtherKind(queue.clone(), argument.into()))
    })
}

/// A name or a routing key that nothing else can have is refused; RabbitMQ takes it.
fn dead_letter_name(value: Value<'_>) -> Option<String> {
    match (value, value.as_str()) {
        (_, Some(name)) if name.len() > NAME_LEN_MAX => {
            Some(format!("\"more than {NAME_LEN_MAX} bytes\""))
        }
        (_, Some(_)) => None,
        (Value::LongString(_), None) => Some("\"not UTF-8\"".into()),
        (other, None) => Some(unacceptable(other)),
    }
}

fn dead_letter_key(key: Value<'_>, exchange: bool) -> Option<String> {
    let wrong = dead_letter_name(key);
    let missing = (!exchange).then(|| "routing_key_but_no_dlx_defined".into());
    wrong.or(missing)
}

/// Checks an argument, if present, with `rule`, which returns what is wrong with the value.
fn check(
    queue: &Resource,
    table: Table<'_>,
    key: &str,
    rule: impl Fn(Value<'_>) -> Option<String>,
) -> Result<(), Refusal> {
    match table.get(key).and_then(rule) {
        None => Ok(()),
        Some(why) => Err(invalid(queue, key, why)),
    }
}

fn queue_type(value: Value<'_>) -> Option<String> {
    match value.as_str() {
        Some(built) if KindName::from_name(built).is_some() => None,
        Some(known @ ("quorum" | "stream")) => {
            Some(format!("queue type '{known}' is not supported yet"))
        }
        Some(other) => Some(format!("\"unsupported queue type '{other}'\"")),
        None => Some(unacceptable(value)),
    }
}

fn queue_mode(value: Value<'_>) -> Option<String> {
    match value.as_str() {
        Some("default" | "lazy") => None,
        Some(other) => Some(format!("\"unsupported queue mode '{other}'\"")),
        None => Some(unacceptable(value)),
    }
}

fn not_negative(value: Value<'_>) -> Option<String> {
    match value.as_integer() {
        Some(negative) if negative < 0 => Some(format!("{{value_negative,{negative}}}")),
        Some(_) => None,
        None => Some(no_integer(value)),
    }
}

fn priority(value: Value<'_>) -> Option<String> {
    let high = value.as_integer().filter(|max| *max > i64::from(u8::MAX));
    not_negative(value).or_else(|| high.map(|max| format!("{{max_value_exceeded,{max}}}")))
}

/// A time that a message or a queue may live.
fn milliseconds(value: Value<'_>) -> Option<String> {
    let long = value.as_integer().filter(|ms| *ms > EXPIRATION_MAX_MS as i64);
    not_negative(value).or_else(|| long.map(|ms| format!("{{value_too_large,{ms}}}")))
}

fn expires(value: Value<'_>) -> Option<String> {
    match value.as_integer() {
        Some(0) => Some("{value_zero,0}".into()),
        _ => milliseconds(value),
    }
}

fn overflow(value: Value<'_>) -> Option<String> {
    match value {
        Value::LongString(_) => {
            let known = value.as_str().and_then(Overflow::from_name).is_some();
            (!known).then(|| "invalid_overflow".into())
        }
        _ => Some(unacceptable(value)),
    }
}

fn queue_version(value: Value<'_>) -> Option<String> {
    match value.as_integer() {
        Some(1 | 2) => None,
        Some(negative) if negative < 0 => Some(format!("{{value_negative,{negative}}}")),
        Some(other) => Some(format!("\"unsupported queue version '{other}'\"")),
        None => Some(no_integer(value)),
    }
}

fn boolean(value: Value<'_>) -> Option<String> {
    (!matches!(value, Value::Bool(_))).then(|| unacceptable(value))
}

/// A time in milliseconds; 0 would be over at once.
fn timeout(value: Value<'_>) -> Option<String> {
    match value.as_integer() {
        Some(0) => Some("{value_zero,0}".into()),
        Some(negative) if negative < 0 => Some(format!("{{value_negative,{negative}}}")),
        Some(_) => None,
        None => Some(no_integer(value)),
    }
}

fn no_integer(value: Value<'_>) -> String {
    format!("\"expected integer, got {}\"", value.type_name())
}

fn unacceptable(value: Value<'_>) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

/// What the arguments of basic.consume come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerArguments {
    /// `x-priority`, else 0.
    pub priority: i64,
    /// `x-consumer-timeout` in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// Checks and reads the arguments of basic.consume.
///
/// # Errors
/// [`Refusal::InvalidArgument`] for the first that is wrong.
pub fn check_consumer(queue: &Resource, table: Table<'_>) -> Result<ConsumerArguments, Refusal> {
    let priority = match table.get("x-priority") {
        Some(value) => {
            value.as_integer().ok_or_else(|| invalid(queue, "x-priority", no_integer(value)))?
        }
        None => 0,
    };
    check(queue, table, "x-consumer-timeout", timeout)?;
    let time = table.get("x-consumer-timeout").and_then(|value| value.as_integer());
    let timeout_ms = time.and_then(|ms| u64::try_from(ms).ok());
    Ok(ConsumerArguments { priority, timeout_ms })
}

/// Checks the arguments of an exchange.declare that creates.
///
/// # Errors
/// [`Refusal::InvalidArgumentType`] for an alternate exchange that is no long string; then what the
/// type refuses.
pub fn check_exchange(
    kind: ExchangeKind,
    exchange: &Resource,
    table: Table<'_>,
) -> Result<(), Refusal> {
    exchange.long_string(table, ALTERNATE_EXCHANGE)?;
    validate_arguments(kind, exchange, table)
}

fn refuse_any(what: &Resource, table: Table<'_>, names: &[&str]) -> Result<(), Refusal> {
    let mut found = table.iter().filter(|(key, _)| names.contains(key));
    match found.next() {
        Some((key, _)) => Err(invalid(what, key, "not supported yet".into())),
        None => Ok(()),
    }
}

fn invalid(resource: &Resource, argument: &str, why: String) -> Refusal {
    Refusal::InvalidArgument { resource: resource.clone(), argument: argument.into(), why }
}

/// Compares a queue.declare with the existing queue, in RabbitMQ's order.
///
/// # Errors
/// [`Refusal::Locked`] or [`Refusal::Inequivalent`].
pub fn same_queue(vhost: &str, declared: &QueueSpec, current: &QueueSpec) -> Result<(), Refusal> {
    let resource = Resource::queue(vhost, &current.name);
    if declared.owner != current.owner {
        return Err(Refusal::Locked(resource));
    }
    same_flag(&resource, "durable", declared.durable, current.durable)?;
    same_flag(&resource, "auto_delete", declared.auto_delete, current.auto_delete)?;
    for key in &QUEUE_COMPARED {
        let (received, current) = (declared.arguments.table(), current.arguments.table());
        same_argument(&resource, key, queue_value(received, key), queue_value(current, key))?;
    }
    Ok(())
}

/// A queue without a type is a classic one.
fn queue_value<'a>(table: Table<'a>, key: &str) -> Option<Value<'a>> {
    let absent = (key == "x-queue-type").then_some(Value::LongString(b"classic"));
    table.get(key).or(absent)
}

/// Compares an exchange.declare with the existing exchange.
///
/// # Errors
/// [`Refusal::Inequivalent`]
pub fn same_exchange(
    vhost: &str,
    declared: &ExchangeSpec,
    current: &ExchangeSpec,
) -> Result<(), Refusal> {
    let resource = Resource::exchange(vhost, &current.name);
    if declared.kind != current.kind {
        // As Erlang prints an atom: one with a hyphen has quotes of its own.
        let own = |kind: &str| if kind.contains('-') { "'" } else { "" };
        let quoted = |kind: &str| format!("'{0}{kind}{0}'", own(kind));
        return Err(Refusal::Inequivalent {
            resource,
            property: "type".into(),
            received: quoted(declared.kind.name()),
            current: quoted(current.kind.name()),
        });
    }
    same_flag(&resource, "durable", declared.durable, current.durable)?;
    same_flag(&resource, "auto_delete", declared.auto_delete, current.auto_delete)?;
    same_flag(&resource, "internal", declared.internal, current.internal)?;
    let (received, current) = (declared.arguments.table(), current.arguments.table());
    let key = ALTERNATE_EXCHANGE;
    same_argument(&resource, key, received.get(key), current.get(key))
}

fn same_flag(what: &Resource, name: &str, received: bool, current: bool) -> Result<(), Refusal> {
    if received == current {
        return Ok(());
    }
    Err(Refusal::Inequivalent {
        resource: what.clone(),
        property: name.into(),
        received: format!("'{received}'"),
        current: format!("'{current}'"),
    })
}

fn same_argument(
    what: &Resource,
    key: &str,
    received: Option<Value<'_>>,
    current: Option<Value<'_>>,
) -> Result<(), Refusal> {
    let integers = received.and_then(|v| v.as_integer()).zip(current.and_then(|v| v.as_integer()));
    if received == current || integers.is_some_and(|(one, other)| one == other) {
        return Ok(());
    }
    Err(Refusal::Inequivalent {
        resource: what.clone(),
        property: Name::from(key),
        received: told(received, current),
        current: told(current, received),
    })
}

/// A value as RabbitMQ's 406 prints it: with its type where the other one is absent.
fn told(value: Option<Value<'_>>, other: Option<Value<'_>>) -> String {
    match value {
        None => "none".into(),
        Some(value) if other.is_some() => shown(value),
        Some(value) => format!("the value {} of type '{}'", shown(value), value.type_name()),
    }
}

fn shown(value: Value<'_>) -> String {
    match (value, value.as_integer()) {
        (_, Some(number)) => format!("'{number}'"),
        (Value::LongString(bytes), _) => format!("'{}'", String::from_utf8_lossy(bytes)),
        (Value::Bool(flag), _) => format!("'{flag}'"),
        (other, _) => format!("'{}'", other.type_name()),
    }
}
