//! What the arguments of declares may say, and when two declares are the same.

use amqp::{Table, Value};

use crate::exchange::ALTERNATE_EXCHANGE;
use crate::refusal::{Refusal, Resource};
use crate::spec::{ExchangeSpec, Name, QueueSpec};

/// Arguments of queues that RabbitMQ gives a meaning that is not built here: refused by name, never
/// ignored.
const QUEUE_NOT_BUILT: [&str; 12] = [
    "x-message-ttl",
    "x-expires",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-consumer-timeout",
];
/// Arguments of queues that count when two declares are compared, beside those.
const QUEUE_COMPARED: [&str; 3] = ["x-queue-type", "x-queue-mode", "x-queue-version"];
const CONSUMER_NOT_BUILT: [&str; 1] = ["x-consumer-timeout"];

/// Checks the arguments of queue.declare.
///
/// # Errors
/// [`Refusal::InvalidArgument`] for the first that is wrong or not built.
pub fn check_queue(queue: &Resource, table: Table<'_>) -> Result<(), Refusal> {
    refuse_any(queue, table, &QUEUE_NOT_BUILT)?;
    check(queue, table, "x-queue-type", queue_type)?;
    check(queue, table, "x-queue-mode", queue_mode)?;
    check(queue, table, "x-queue-version", queue_version)
}

/// Holds an argument, if it is there, against its rule, which says what is wrong with the value.
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
        Some("classic") => None,
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

fn queue_version(value: Value<'_>) -> Option<String> {
    match value.as_integer() {
        Some(1 | 2) => None,
        Some(negative) if negative < 0 => Some(format!("{{value_negative,{negative}}}")),
        Some(other) => Some(format!("\"unsupported queue version '{other}'\"")),
        None => Some(no_integer(value)),
    }
}

fn no_integer(value: Value<'_>) -> String {
    format!("\"expected integer, got {}\"", value.type_name())
}

fn unacceptable(value: Value<'_>) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

/// Checks the arguments of basic.consume; the consumer's priority, 0 without x-priority.
///
/// # Errors
/// [`Refusal::InvalidArgument`] for the first that is wrong or not built.
pub fn check_consumer(queue: &Resource, table: Table<'_>) -> Result<i64, Refusal> {
    refuse_any(queue, table, &CONSUMER_NOT_BUILT)?;
    let Some(value) = table.get("x-priority") else {
        return Ok(0);
    };
    value.as_integer().ok_or_else(|| invalid(queue, "x-priority", no_integer(value)))
}

/// Checks the arguments of an exchange.declare that creates.
///
/// # Errors
/// [`Refusal::InvalidArgumentType`] for an alternate exchange that is no long string.
pub fn check_exchange(exchange: &Resource, table: Table<'_>) -> Result<(), Refusal> {
    match table.get(ALTERNATE_EXCHANGE) {
        None | Some(Value::LongString(_)) => Ok(()),
        Some(other) => Err(Refusal::InvalidArgumentType {
            resource: exchange.clone(),
            argument: ALTERNATE_EXCHANGE,
            kind: other.type_name(),
        }),
    }
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

/// Compares a queue.declare with the queue that is there, in RabbitMQ's order.
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
    for key in QUEUE_COMPARED.iter().chain(&QUEUE_NOT_BUILT) {
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

/// Compares an exchange.declare with the exchange that is there.
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
        let quoted = |kind: &str| format!("'{kind}'");
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
