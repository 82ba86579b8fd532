//! Why the broker refuses a request, as types without codes and texts. Only
//! [`crate::refusal::fault`] turns a refusal into RabbitMQ's code and text.

pub mod erlang;
pub mod excess;
pub mod exchange_types;
pub mod fault;

use amqp::{Table, Value};

use crate::access::Access;
use crate::refusal::excess::Excess;
use crate::refusal::exchange_types::ByType;
use crate::topology::spec::Name;

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
}

/// The name of an exchange or a queue and the vhost it is, or would be, in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

    /// Checks an argument of it that is a long string, if it is there.
    pub(crate) fn long_string(
        &self,
        table: Table<'_>,
        argument: &'static str,
    ) -> Result<(), Refusal> {
        match table.get(argument) {
            None | Some(Value::LongString(_)) => Ok(()),
            Some(other) => Err(Refusal::InvalidArgumentType {
                resource: self.clone(),
                argument,
                kind: other.type_name(),
            }),
        }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The object does not exist.
    NotFound(Resource),
    /// The queue is out of service: its messages on disk cannot be read.
    Broken(Resource),
    /// The queue belongs to another connection.
    Locked(Resource),
    /// if-unused, but it is in use.
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
    /// An argument of RabbitMQ with a value that it refuses, or one that is not built.
    InvalidArgument {
        /// The object.
        resource: Resource,
        /// The argument.
        argument: Name,
        /// What is wrong with the value.
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
    /// An argument of RabbitMQ that the kind of the queue does not have.
    ArgumentOfOtherKind(Resource, Name),
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
    /// What the type of the exchange does not take.
    ByExchangeType(ByType),
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
    /// The user-id property is not the user that is logged in.
    UserId {
        /// The property.
        claimed: Name,
        /// The user.
        user: Name,
    },
    /// The user lacks a right: what it wanted, the vhost and the user.
    NoRight(Box<(Access, Name, Name)>),
    /// A configured limit is reached.
    Excess(Excess),
    /// tx.commit or tx.rollback on a channel that is not in tx mode.
    NotTransactional,
    /// tx.select on a channel in confirm mode.
    ConfirmToTx,
    /// confirm.select on a channel in tx mode.
    TxToConfirm,
    /// The disk is full and too many changes of the topology wait for it.
    NoRoom,
    /// A queue refused a publish of the transaction.
    CommittedInPart,
    /// The transaction would hold more memory than it may.
    TransactionTooLarge {
        /// The most bytes it may hold.
        max: usize,
    },
    /// Arguments of a declare, a binding or a consumer that encode to more bytes than they may.
    ArgumentsTooLarge {
        /// Bytes of the encoded table.
        size: usize,
    },
    /// A message's header fits into no frame of the connection it is to be sent to.
    HeaderTooLarge {
        /// Octets of the frame that it would need.
        size: usize,
        /// The negotiated limit.
        frame_max: u32,
    },
    /// An expiration that is not a number of milliseconds, or any, since none is built; and why.
    InvalidExpiration(Name, String),
    /// A CC or BCC that is not an array: the header, and RabbitMQ's name of its type.
    InvalidRoutingHeader(&'static str, &'static str),
    /// CC and BCC have too many routing keys, or one that is too long: which of the two.
    UnacceptableRoutingKeys(String),
    /// A publish asks for a direct reply, but the channel has no reply consumer.
    NoReplyConsumer,
    /// The channel has not settled a delivery in time.
    DeliveryTimeout {
        /// The number of the channel.
        channel: u16,
        /// The time that it had, in milliseconds.
        timeout_ms: u64,
    },
    /// The channel has a reply consumer already.
    SecondReplyConsumer,
    /// A reply consumer that wants to acknowledge.
    ReplyConsumerAcknowledges,
    /// A binding to the queue of a reply consumer.
    ReplyQueueBinding,
    /// The queue has an exclusive consumer, or has consumers and one wants to be exclusive.
    ExclusiveUse(Resource),
}
