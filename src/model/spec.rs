//! What clients declare: exchanges, queues and bindings as plain values.

use amqp::Table;

use crate::ids::{ConnId, QueueId, ShardId};

/// The name of a vhost, exchange or queue, a routing key, a user.
pub type Name = Box<str>;

/// A field table that outlives the frame it came in; always well formed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Arguments(Box<[u8]>);

impl Arguments {
    /// The table to read from.
    #[must_use]
    pub fn table(&self) -> Table<'_> {
        // Made from a checked table only.
        Table::parse(&self.0).unwrap_or(Table::EMPTY)
    }
}

impl From<Table<'_>> for Arguments {
    fn from(table: Table<'_>) -> Self {
        Self(table.encoded().into())
    }
}

/// The exchange types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// Routes by equality of the key.
    Direct,
    /// Routes to every binding.
    Fanout,
    /// Routes by patterns of dot-separated words.
    Topic,
    /// Routes by the headers property.
    Headers,
}

impl ExchangeKind {
    /// The kind with this name on the wire.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            _ => return None,
        })
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// A declared exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeSpec {
    /// Unique in its vhost.
    pub name: Name,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Cannot be published to by clients.
    pub internal: bool,
    /// The arguments of the declare.
    pub arguments: Arguments,
}

/// A declared queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    /// Never reused, unlike the name. 0 until the coordinator gives it one.
    pub id: QueueId,
    /// Unique in its vhost.
    pub name: Name,
    /// The shard that holds the messages. The asking shard until the coordinator chooses.
    pub home: ShardId,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The connection an exclusive queue belongs to, and goes with.
    pub owner: Option<ConnId>,
    /// The name was made by the server: the queue lives with its connection.
    pub server_named: bool,
    /// The arguments of the declare.
    pub arguments: Arguments,
}

/// What a binding leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// A queue by name.
    Queue(Name),
    /// An exchange by name.
    Exchange(Name),
}

/// A binding; two that are equal are one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The exchange messages come from.
    pub source: Name,
    /// Where they go.
    pub destination: Destination,
    /// The binding's key or pattern.
    pub key: Name,
    /// The headers to match, for a headers exchange; part of the binding's identity.
    pub arguments: Arguments,
}
