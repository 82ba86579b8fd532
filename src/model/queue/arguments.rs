//! What the arguments of a queue and its policy come to.

use amqp::Value;

use crate::dead_letters::DeadLetterTarget;
use crate::topology::spec::{Arguments, Name};

/// The effective arguments of a queue: what its own arguments and its policy come to. A queue is
/// told them when it is created and whenever they change, by
/// [`QueueCommands::reconfigure`](crate::queue::QueueCommands::reconfigure). It never reads an
/// argument itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct EffectiveArguments {
    /// `x-dead-letter-exchange` and `x-dead-letter-routing-key`: where messages that die go.
    /// `None`: nowhere.
    pub dead_letters: Option<DeadLetterTarget>,
    /// `x-message-ttl`: a message that enters lives at most this long, in milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`: the queue is deleted when it was unused for this long, in milliseconds. Not 0.
    pub expires_ms: Option<u64>,
    /// `x-max-length`: at most this many ready messages.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`: the bodies of the ready messages have at most this many bytes.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`: what happens at these limits.
    pub overflow: Overflow,
    /// `x-single-active-consumer`: only one consumer is served, the others wait to take its place.
    pub single_active_consumer: bool,
    /// `x-message-deduplication`: a message does not enter while one in the queue has the same
    /// value of the header `x-deduplication-header`.
    pub deduplicates: bool,
    /// `x-max-priority`: messages with a higher priority, up to this one, leave first. `None`: all
    /// leave in the order of arrival. It never changes.
    pub max_priority: Option<u8>,
    /// `x-consumer-timeout`: how long a client may take to settle a delivery, in milliseconds,
    /// unless its consumer says otherwise.
    pub consumer_timeout_ms: Option<u64>,
    /// `x-shuffle-max-ms`: how long a shuffled queue holds an enqueue at most, in milliseconds.
    #[cfg(feature = "second-kinds")]
    pub shuffle_max_ms: Option<u64>,
}

/// What a queue does when one more message would exceed its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// `drop-head`: the message enters, and the first ones die.
    #[default]
    DropHead,
    /// `reject-publish`: the message is refused.
    RejectPublish,
    /// `reject-publish-dlx`: the message is refused, and dies.
    RejectPublishDlx,
}

impl Overflow {
    /// The value of `x-overflow` with this name. `None`: there is no such value.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "drop-head" => Some(Self::DropHead),
            "reject-publish" => Some(Self::RejectPublish),
            "reject-publish-dlx" => Some(Self::RejectPublishDlx),
            _ => None,
        }
    }
}

impl EffectiveArguments {
    /// What the arguments of a declare come to. They have been checked.
    #[must_use]
    pub fn of(arguments: &Arguments) -> Self {
        let table = arguments.table();
        let text = |key| table.get(key).and_then(text);
        let number = |key| {
            let value = table.get(key).and_then(|value| value.as_integer());
            value.and_then(|number| u64::try_from(number).ok())
        };
        let overflow = table.get("x-overflow");
        Self {
            dead_letters: text("x-dead-letter-exchange").map(|exchange| DeadLetterTarget {
                exchange,
                key: text("x-dead-letter-routing-key"),
            }),
            single_active_consumer: table.get("x-single-active-consumer")
                == Some(Value::Bool(true)),
            deduplicates: table.get("x-message-deduplication") == Some(Value::Bool(true)),
            max_priority: number("x-max-priority").and_then(priorities),
            consumer_timeout_ms: number("x-consumer-timeout"),
            message_ttl_ms: number("x-message-ttl"),
            expires_ms: number("x-expires"),
            max_length: number("x-max-length"),
            max_length_bytes: number("x-max-length-bytes"),
            overflow: overflow
                .and_then(|value| Overflow::from_name(value.as_str()?))
                .unwrap_or_default(),
            #[cfg(feature = "second-kinds")]
            shuffle_max_ms: number("x-shuffle-max-ms"),
        }
    }

    /// Whether the number of messages or their bytes are limited.
    #[must_use]
    pub fn limited(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }
}

/// With a single priority a queue has none.
fn priorities(max: u64) -> Option<u8> {
    u8::try_from(max).ok().filter(|max| *max > 0)
}

/// A name in an argument, which has at most 255 bytes.
fn text(value: Value<'_>) -> Option<Name> {
    value.as_str().filter(|name| name.len() <= 255).map(Name::from)
}

#[cfg(test)]
mod tests {
    use amqp::TableWriter;

    use super::*;

    #[test]
    fn integers_of_all_types_are_read() {
        let table = TableWriter::new()
            .with("x-message-ttl", Value::Long(60_000))
            .with("x-expires", Value::Short(5))
            .with("x-max-length", Value::Byte(7))
            .with("x-max-priority", Value::UnsignedByte(255))
            .with("x-overflow", Value::LongString(b"reject-publish"));
        let effective = EffectiveArguments::of(&Arguments::from(table.table()));
        assert_eq!((effective.message_ttl_ms, effective.expires_ms), (Some(60_000), Some(5)));
        assert_eq!((effective.max_length, effective.max_length_bytes), (Some(7), None));
        assert_eq!((effective.max_priority, priorities(0)), (Some(255), None));
        assert_eq!(effective.overflow, Overflow::RejectPublish);
        assert!(effective.limited() && !EffectiveArguments::default().limited());
    }
}
