//! What exchange types beyond AMQP's refuse, with the texts of RabbitMQ's plugins.

use std::fmt;

use crate::refusal::Refusal;
use crate::refusal::erlang::Text;
use crate::topology::spec::Name;

/// Why an exchange type refuses an argument or a binding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ByType {
    /// A property that cannot be hashed.
    HashProperty(Name),
    /// Both a header and a property to hash.
    TwoHashes,
    /// A binding key that is not a weight.
    WeightNoInteger(Name),
    /// A weight of 0 or less.
    WeightTooLow,
    /// A binding key where there can be none.
    KeyNotEmpty(Name),
    /// A binding to an exchange where only queues can be bound.
    NoQueue,
    /// A number of values to remember that is missing or none.
    CacheSize,
    /// A time to remember them that is none.
    CacheTtl,
    /// Neither of the places where they can be.
    CachePersistence,
    /// The place where they cannot be yet.
    CacheOnDisk,
    /// A number of messages to keep that is none, as it is printed.
    HistoryLength(String),
    /// A number of messages to keep that is too high, and the most there may be.
    HistoryTooLong(i64, usize),
}

impl fmt::Display for ByType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HashProperty(name) => write!(f, "Unsupported property: {name}"),
            Self::TwoHashes => f.write_str("hash-header and hash-property are mutually exclusive"),
            Self::WeightNoInteger(key) => {
                let key = Text::default().binary(key.as_bytes()).finish();
                write!(f, "The binding key must be an integer: {key}")
            }
            Self::WeightTooLow => f.write_str("The binding key must be greater than 0"),
            Self::KeyNotEmpty(key) => write!(f, "Non empty binding '{key}' key not permitted"),
            Self::NoQueue => f.write_str("Destination not found"),
            Self::CacheSize => f.write_str(
                "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0",
            ),
            Self::CacheTtl => {
                f.write_str("Invalid argument, 'x-cache-ttl' must be an integer greater than 0")
            }
            Self::CachePersistence => f.write_str(
                "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'",
            ),
            Self::CacheOnDisk => {
                f.write_str("Invalid argument, 'x-cache-persistence' 'disk' is not supported yet")
            }
            Self::HistoryLength(value) => write!(
                f,
                "Invalid argument {value}, 'x-recent-history-length' must be a positive integer"
            ),
            Self::HistoryTooLong(value, max) => write!(
                f,
                "Invalid argument {value}, 'x-recent-history-length' must be at most {max}"
            ),
        }
    }
}

impl From<ByType> for Refusal {
    fn from(why: ByType) -> Self {
        Self::ByExchangeType(why)
    }
}
