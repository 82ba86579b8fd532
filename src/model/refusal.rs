//! Why the broker refuses: typed, without a code or a text. [`crate::fault`] alone turns a refusal
//! into what RabbitMQ would say.

use crate::excess::Excess;
use crate::spec::Name;

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
}

/// The name of an exchange or a queue and the vhost it is, or would be, in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Exchange or queue.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Its vhost.
    pub vhost: Name,
}

impl Resource {
    /// A queue's name.
    #[must_use]
    pub fn queue(vhost: &str, name: &str) -> Self {
        Self { kind: Kind::Queue, name: name.into(), vhost: vhost.into() }
    }

    /// An exchange's name.
    #[must_use]
    pub fn exchange(vhost: &str, name: &str) -> Self {
        Self { kind: Kind::Exchange, name: name.into(), vhost: vhost.into() }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The object does not exist.
    NotFound(Resource),
    /// What the queue has on the disk cannot be read.
    Broken(Resource),
    /// The queue belongs to another connection.
    Locked(Resource),
    /// if-unused, but it is used.
    InUse(Resource),
    /// if-empty, but it holds messages.
    NotEmpty(Resource),
    /// Redeclared with another property or argument; the values as RabbitMQ prints them.
    Inequivalent {
        /// The object.
        resource: Resource,
        /// The property or argument that differs.
        property: Name,
        /// What the client sent.
        received: String,
        /// What is there.
        current: String,
    },
    /// An argument RabbitMQ knows with a value it refuses, or one not built yet.
    InvalidArgument {
        /// The object.
        resource: Resource,
        /// The argument.
        argument: Name,
        /// What is wrong with it.
        why: String,
    },
    /// An argument of a type that it cannot have.
    InvalidArgumentType {
        /// The object.
        resource: Resource,
        /// The argument.
        argument: &'static str,
        /// RabbitMQ's name for the type it has.
        kind: &'static str,
    },
    /// The name begins with `amq.`.
    ReservedName(Resource),
    /// An operation on the default exchange.
    DefaultExchange,
    /// The deletion of an exchange that every vhost has.
    SystemExchange(Resource),
    /// A publish to an internal exchange.
    InternalExchange(Resource),
    /// The exchange type does not exist.
    UnknownExchangeKind(Name),
    /// A headers binding whose x-match is none of those there are.
    InvalidXMatch(String),
    /// A method or a flag that is not built; the text names it.
    NotImplemented(String),
    /// A method that only a server sends.
    ServersMethod,
    /// An empty queue name, and none declared on the channel before.
    NoPreviousQueue,
    /// A delivery tag that is not outstanding on the channel.
    UnknownDeliveryTag(u64),
    /// The consumer tag is taken on the channel.
    ConsumerTagInUse(Name),
    /// The body is larger than the configured maximum.
    MessageTooLarge {
        /// The announced size.
        size: u64,
        /// The configured maximum.
        max: u64,
    },
    /// The user-id property is not the user who is logged in.
    UserId {
        /// The property.
        claimed: Name,
        /// The user.
        user: Name,
    },
    /// A limit that somebody set is reached.
    Excess(Excess),
    /// tx.commit or tx.rollback on a channel that is not in tx mode.
    NotTransactional,
    /// tx.select on a channel in confirm mode.
    ConfirmToTx,
    /// confirm.select on a channel in tx mode.
    TxToConfirm,
    /// The disk has no room for what is declared and deleted, and too much waits for it.
    NoRoom,
    /// A queue refused a publish of the transaction.
    CommittedInPart,
    /// A transaction would hold more octets of memory than it may.
    TransactionTooLarge {
        /// What it may hold.
        max: usize,
    },
    /// An expiration that is no number of milliseconds, or one while they are not built; and why.
    InvalidExpiration(Name, String),
    /// CC or BCC, but no array: the header, and RabbitMQ's name for the type it has.
    InvalidRoutingHeader(&'static str, &'static str),
    /// A reply is asked for over direct reply-to, and nobody would consume it.
    NoReplyConsumer,
    /// The channel has a reply consumer already.
    SecondReplyConsumer,
    /// A reply consumer that wants to acknowledge.
    ReplyConsumerAcknowledges,
    /// A binding to the queue of a reply consumer.
    ReplyQueueBinding,
    /// The queue has an exclusive consumer, or has consumers and one wants to be exclusive.
    ExclusiveUse(Resource),
}
