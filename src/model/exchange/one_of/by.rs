//! What a hash exchange hashes of a message.

use amqp::table::Value;
use amqp::{Basic, Table};

use super::stable::StableHash;
use crate::exchange::LazyProperties;
use crate::topology::spec::Name;

/// The argument of an exchange that names the header to hash.
pub(in crate::exchange) const HASH_HEADER: &str = "hash-header";
/// The argument of an exchange that names the property to hash.
pub(in crate::exchange) const HASH_PROPERTY: &str = "hash-property";

/// A part of a message.
#[derive(Debug)]
pub(in crate::exchange) enum HashBy {
    /// The routing key; of several the first.
    Key,
    /// The header of this name.
    Header(Name),
    /// A property.
    Property(HashProperty),
}

/// The properties that can be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exchange) enum HashProperty {
    CorrelationId,
    MessageId,
    Timestamp,
}

impl HashProperty {
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"correlation_id" => Self::CorrelationId,
            b"message_id" => Self::MessageId,
            b"timestamp" => Self::Timestamp,
            _ => return None,
        })
    }
}

impl HashBy {
    /// Reads checked arguments of an exchange.
    pub fn of(arguments: Table<'_>) -> Self {
        if let Some(header) = arguments.get(HASH_HEADER).and_then(|header| header.as_str()) {
            return Self::Header(header.into());
        }
        match arguments.get(HASH_PROPERTY) {
            Some(Value::LongString(name)) => {
                HashProperty::from_name(name).map_or(Self::Key, Self::Property)
            }
            _ => Self::Key,
        }
    }

    /// The hash of the message's part. Messages without it have the same hash.
    pub fn hash<'h, F: FnOnce() -> Basic<'h>>(
        &self,
        key: &str,
        properties: &LazyProperties<'h, F>,
    ) -> u64 {
        let mut hash = StableHash::default();
        match self {
            Self::Key => hash.bytes(key.as_bytes()),
            Self::Header(header) => {
                let headers = properties.headers.unwrap_or_default();
                if let Some(value) = headers.get(header) {
                    add_value(value, &mut hash);
                }
            }
            Self::Property(property) => add_property(*property, properties, &mut hash),
        }
        hash.finish()
    }
}

fn add_property(property: HashProperty, properties: &Basic<'_>, hash: &mut StableHash) {
    let text = match property {
        HashProperty::CorrelationId => properties.correlation_id,
        HashProperty::MessageId => properties.message_id,
        HashProperty::Timestamp => {
            return properties.timestamp.into_iter().for_each(|seconds| hash.number(seconds));
        }
    };
    text.into_iter().for_each(|text| hash.bytes(text.as_bytes()));
}

/// Values of different types are different, as in RabbitMQ.
fn add_value(value: Value<'_>, hash: &mut StableHash) {
    hash.bytes(value.type_name().as_bytes());
    match value {
        Value::LongString(bytes) | Value::Binary(bytes) => hash.bytes(bytes),
        Value::Table(table) => hash.bytes(table.encoded()),
        Value::Array(array) => hash.bytes(array.encoded()),
        Value::Bool(value) => hash.number(value.into()),
        Value::Float(value) => hash.number(value.to_bits().into()),
        Value::Double(value) => hash.number(value.to_bits()),
        Value::Timestamp(seconds) => hash.number(seconds),
        Value::Decimal(scale, value) => hash.bytes(&[&[scale][..], &value.to_be_bytes()].concat()),
        Value::Void => {}
        // All others are integers.
        other => hash.number(other.as_integer().unwrap_or_default().cast_unsigned()),
    }
}
