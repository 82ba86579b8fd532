//! Refusals and broken sequences as RabbitMQ tells them: code, text, and how far they reach. No
//! other file knows a reply text of an error.

use amqp::assembler::SequenceError;
use amqp::frame::{FrameError, Snippet};
use amqp::{Code, WireError};

use crate::erlang::{self, Text};
use crate::excess::Excess;
use crate::refusal::{Kind, Refusal, Resource};

/// A reply text is a short string.
const TEXT_MAX: usize = 255;
/// What the broker calls itself where RabbitMQ names its node.
const NODE: &str = "ringtail";

/// An error that closes a channel or the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The reply code.
    pub code: Code,
    /// The reply text, the code's name included.
    pub text: String,
    /// Class and method id of the method that failed; 0, 0 if none.
    pub method: (u16, u16),
}

impl Fault {
    /// A fault with the code's name in front of the explanation; a text of more than 255 octets
    /// ends in three dots.
    #[must_use]
    pub fn new(code: Code, explanation: &str, method: (u16, u16)) -> Self {
        let mut text = format!("{} - {explanation}", code.name());
        if text.len() > TEXT_MAX {
            text.truncate(text.floor_char_boundary(TEXT_MAX - 3));
            text.push_str("...");
        }
        Self { code, text, method }
    }

    /// Whether the connection ends, not only the channel.
    #[must_use]
    pub fn closes_connection(&self) -> bool {
        self.code.closes_connection()
    }
}

impl From<FrameError> for Fault {
    #[cold]
    fn from(error: FrameError) -> Self {
        let text = match error {
            FrameError::TooLarge { kind, size, max } => {
                let numbers = [size.into(), max.into()];
                quoted(kind, &Snippet::of(&[])).words(": ").tuple("frame_too_large", &numbers)
            }
            FrameError::EndMarker { kind, found, payload } => quoted(kind, &payload)
                .words(": ")
                .tuple("invalid_frame_end_marker", &[found.into()]),
            FrameError::UnknownType { kind, payload } => {
                quoted(kind, &payload).words(": unknown_frame")
            }
        };
        Self::new(Code::FrameError, &text.finish(), (0, 0))
    }
}

fn quoted(kind: u8, payload: &Snippet) -> Text {
    let quantity = if payload.is_all() { "all" } else { "first 16" };
    let text = Text::default().words(&format!("type {kind}, {quantity} octets = "));
    text.binary(payload.octets())
}

impl Fault {
    /// A frame that may not come here: content or a heartbeat on channel 0 or before the handshake
    /// is over, a heartbeat on another channel.
    #[must_use]
    #[cold]
    pub fn unexpected_frame(kind: u8, payload: &[u8]) -> Self {
        let text = quoted(kind, &Snippet::of(payload));
        Self::new(Code::UnexpectedFrame, &text.finish(), (0, 0))
    }

    /// A method frame that cannot be read.
    #[must_use]
    #[cold]
    pub fn unreadable_method(payload: &[u8], error: WireError) -> Self {
        let Some((&[c0, c1, m0, m1], arguments)) = payload.split_first_chunk() else {
            return FrameError::UnknownType { kind: 1, payload: Snippet::of(payload) }.into();
        };
        let id = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
        match error {
            WireError::Truncated | WireError::Trailing => {
                // More of them would be cut from the text.
                let shown = &arguments[..arguments.len().min(256)];
                let text = format!("cannot decode {}", erlang::numbers(shown));
                Self::new(Code::FrameError, &text, id)
            }
            _ => SequenceError::from(error).into(),
        }
    }

    /// A content header that cannot be read, or one that may not come now.
    #[must_use]
    #[cold]
    pub fn unreadable_header(payload: &[u8], error: SequenceError) -> Self {
        /// Class, weight and size of the body.
        const FIXED: usize = 12;
        if payload.len() < FIXED {
            return FrameError::UnknownType { kind: 2, payload: Snippet::of(payload) }.into();
        }
        error.into()
    }
}

impl From<SequenceError> for Fault {
    fn from(error: SequenceError) -> Self {
        let code = match error {
            SequenceError::BodyTooLong => Code::FrameError,
            SequenceError::Wire(WireError::Utf8) => Code::FrameError,
            SequenceError::Wire(WireError::UnknownMethod(..)) => Code::NotImplemented,
            SequenceError::Wire(_) => Code::SyntaxError,
            _ => Code::UnexpectedFrame,
        };
        // Content follows nothing but a publish.
        let method = match error {
            SequenceError::MethodExpected | SequenceError::Wire(_) => (0, 0),
            _ => (60, 40),
        };
        Self::new(code, &error.to_string(), method)
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Exchange => "exchange",
            Kind::Queue => "queue",
        };
        write!(f, "{kind} '{}' in vhost '{}'", self.name, self.vhost)
    }
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Excess::Connections(limit) => {
                write!(f, "connection refused: node connection limit ({limit}) is reached")
            }
            Excess::Channels(limit) => write!(
                f,
                "number of channels opened on node '{NODE}' has reached the maximum allowed limit \
                 of {limit}"
            ),
            Excess::Consumers(limit) => {
                write!(f, "reached maximum ({limit}) of consumers per channel")
            }
            Excess::Queues(name, limit) => {
                write!(
                    f,
                    "cannot declare queue '{name}': queue limit in cluster ({limit}) is reached"
                )
            }
            Excess::Exchanges(what, limit) => {
                write!(f, "cannot declare {what}: exchange limit of {limit} is reached")
            }
        }
    }
}

impl Refusal {
    /// The fault for a refusal of the method with this class and method id.
    #[must_use]
    pub fn fault(&self, method: (u16, u16)) -> Fault {
        Fault::new(self.code(), &self.explanation(), method)
    }

    fn code(&self) -> Code {
        match self {
            Refusal::NotFound(_) | Refusal::Broken(_) | Refusal::NoPreviousQueue => Code::NotFound,
            Refusal::Locked(_) => Code::ResourceLocked,
            Refusal::ReservedName(_)
            | Refusal::DefaultExchange
            | Refusal::SystemExchange(_)
            | Refusal::InternalExchange(_)
            | Refusal::ReplyQueueBinding
            | Refusal::ExclusiveUse(_) => Code::AccessRefused,
            Refusal::InUse(_)
            | Refusal::NotEmpty(_)
            | Refusal::Inequivalent { .. }
            | Refusal::InvalidArgument { .. }
            | Refusal::InvalidArgumentType { .. }
            | Refusal::UnknownExchangeKind(_)
            | Refusal::InvalidXMatch(_)
            | Refusal::UnknownDeliveryTag(_)
            | Refusal::UserId { .. }
            | Refusal::MessageTooLarge { .. }
            | Refusal::NotTransactional
            | Refusal::ConfirmToTx
            | Refusal::TxToConfirm
            | Refusal::NoRoom
            | Refusal::CommittedInPart
            | Refusal::TransactionTooLarge { .. }
            | Refusal::InvalidExpiration(..)
            | Refusal::InvalidRoutingHeader(..)
            | Refusal::NoReplyConsumer
            | Refusal::SecondReplyConsumer
            | Refusal::ReplyConsumerAcknowledges => Code::PreconditionFailed,
            Refusal::NotImplemented(_) => Code::NotImplemented,
            Refusal::ServersMethod => Code::CommandInvalid,
            Refusal::ConsumerTagInUse(_) => Code::NotAllowed,
            Refusal::Excess(excess) if excess.closes_connection() => Code::NotAllowed,
            Refusal::Excess(_) => Code::PreconditionFailed,
        }
    }

    fn explanation(&self) -> String {
        match self {
            Refusal::NotFound(what) => format!("no {what}"),
            // What RabbitMQ says of a queue whose process cannot go on.
            Refusal::Broken(what) => format!("{what} has crashed and failed to restart"),
            Refusal::Locked(what) => format!(
                "cannot obtain exclusive access to locked {what}. It could be originally declared \
                 on another connection or the exclusive property value does not match that of the \
                 original declaration."
            ),
            Refusal::InUse(what) => format!("{what} in use"),
            Refusal::NotEmpty(what) => format!("{what} not empty"),
            Refusal::Inequivalent { resource, property, received, current } => format!(
                "inequivalent arg '{property}' for {resource}: received {received} but current is \
                 {current}"
            ),
            Refusal::InvalidArgument { resource, argument, why } => {
                format!("invalid arg '{argument}' for {resource}: {why}")
            }
            Refusal::InvalidArgumentType { resource, argument, kind } => {
                format!("invalid type '{kind}' for arg '{argument}' in {resource}")
            }
            Refusal::ReservedName(what) => {
                let kind = if what.kind == Kind::Queue { "queue" } else { "exchange" };
                format!("{kind} name '{}' contains reserved prefix 'amq.*'", what.name)
            }
            Refusal::DefaultExchange => "operation not permitted on the default exchange".into(),
            Refusal::SystemExchange(what) => format!("deletion of system {what} not allowed"),
            Refusal::InternalExchange(what) => format!("cannot publish to internal {what}"),
            Refusal::UnknownExchangeKind(kind) => format!("unknown exchange type '{kind}'"),
            Refusal::InvalidXMatch(what) => what.clone(),
            Refusal::NotImplemented(what) => what.clone(),
            Refusal::ServersMethod => "unimplemented method".into(),
            Refusal::NoPreviousQueue => "no previously declared queue".into(),
            Refusal::UnknownDeliveryTag(tag) => format!("unknown delivery tag {tag}"),
            Refusal::ConsumerTagInUse(tag) => format!("attempt to reuse consumer tag '{tag}'"),
            Refusal::MessageTooLarge { size, max } => {
                format!("message size {size} is larger than configured max size {max}")
            }
            Refusal::UserId { claimed, user } => {
                format!("user_id property set to '{claimed}' but authenticated user was '{user}'")
            }
            Refusal::Excess(excess) => excess.to_string(),
            Refusal::NotTransactional => "channel is not transactional".into(),
            Refusal::ConfirmToTx => "cannot switch from confirm to tx mode".into(),
            Refusal::TxToConfirm => "cannot switch from tx to confirm mode".into(),
            Refusal::NoRoom => "the disk is full".into(),
            Refusal::CommittedInPart => "partial tx completion".into(),
            Refusal::TransactionTooLarge { max } => {
                format!("transaction holds more than {max} octets")
            }
            Refusal::InvalidExpiration(value, why) => {
                format!("invalid expiration '{value}': {why}")
            }
            Refusal::InvalidRoutingHeader(header, kind) => {
                format!("invalid message: {{unacceptable_type_in_header,\"{header}\",{kind}}}")
            }
            Refusal::NoReplyConsumer => "fast reply consumer does not exist".into(),
            Refusal::SecondReplyConsumer => "reply consumer already set".into(),
            Refusal::ReplyConsumerAcknowledges => "reply consumer cannot acknowledge".into(),
            Refusal::ReplyQueueBinding => {
                "cannot bind or unbind to a volatile (direct reply-to) queue".into()
            }
            Refusal::ExclusiveUse(what) => format!("{what} in exclusive use"),
        }
    }
}
