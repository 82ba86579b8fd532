//! What clients declare: exchanges, queues and bindings as plain values.

use amqp::Table;

use crate::ids::{ConnId, QueueId, ShardId};

/// The name of a vhost, exchange or queue, a routing key, a user.
pub type Name = Box<str>;

/// Whether a name has a CR or an LF in it. No declared exchange or queue has.
#[must_use]
pub fn has_line_end(name: &str) -> bool {
    name.bytes().any(|byte| matches!(byte, b'\r' | b'\n'))
}

/// The name of an exchange or queue that a client means: CR and LF are dropped, so that a line of
/// the log stays one. RabbitMQ drops them where a name is declared, bound or deleted, and finds
/// nothing by such a name elsewhere; here a name means the same everywhere.
#[must_use]
pub fn clean(name: &str) -> Name {
    if !has_line_end(name) {
        return name.into();
    }
    name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect::<String>().into()
}

/// A field table that outlives the frame it came in; always well formed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Arguments(Box<[u8]>);

impl Arguments {
    /// Bytes of the encoded table.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The table to read from.
    #[must_use]
    pub fn table(&self) -> Table<'_> {
        // Made from a checked table only.
        Table::parse(&self.0).unwrap_or(Table::EMPTY)
    }

    /// Bytes of the encoded table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no arguments.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
    /// Routes to one binding, by a hash; bindings have weights.
    ConsistentHash,
    /// Routes to one binding, by a hash.
    ModulusHash,
    /// Routes to one binding, by chance.
    Random,
    /// Routes to one queue of this node, by chance.
    LocalRandom,
    /// Routes to every binding, and gives its last messages to a new one.
    RecentHistory,
    /// Routes to every binding, but each value of a header once.
    Deduplication,
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
            "x-consistent-hash" => Self::ConsistentHash,
            "x-modulus-hash" => Self::ModulusHash,
            "x-random" => Self::Random,
            "x-local-random" => Self::LocalRandom,
            "x-recent-history" => Self::RecentHistory,
            "x-message-deduplication" => Self::Deduplication,
            _ => return None,
        })
    }

    /// True if what it does depends on what passed it before.
    #[must_use]
    pub fn is_stateful(self) -> bool {
        matches!(self, Self::RecentHistory | Self::Deduplication)
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
            Self::RecentHistory => "x-recent-history",
            Self::Deduplication => "x-message-deduplication",
        }
    }
}

/// A declared exchange.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
