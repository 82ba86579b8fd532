//! Errors as RabbitMQ reports them: reply code, reply text, and whether channel or connection
//! closes. Texts of exchange types are in `exchange_types.rs`; the values that some texts tell are
//! printed where they are compared.

use amqp::assembler::SequenceError;
use amqp::frame::{FrameError, Snippet};
use amqp::{Code, WireError};

use crate::access::Access;
use crate::refusal::erlang::{self, Text};
use crate::refusal::{Kind, Refusal, Resource};
use crate::session::arguments::ARGUMENTS_MAX;

/// A reply text is a short string.
const TEXT_MAX: usize = 255;

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
    /// A fault with the code's name in front of the explanation; a text of more than 255 bytes
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

    /// Whether it closes the connection, not only the channel.
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
    /// A frame that is not allowed here: content on channel 0 or before the handshake is over, or a
    /// heartbeat on another channel than 0.
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
                // The text is cut at this length anyway.
                let shown = &arguments[..arguments.len().min(256)];
                let text = format!("cannot decode {}", erlang::numbers(shown));
                Self::new(Code::FrameError, &text, id)
            }
            _ => SequenceError::from(error).into(),
        }
    }

    /// A content header that cannot be read, or one out of sequence.
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

fn message_too_large(size: u64, max: u64) -> String {
    format!("message size {size} is larger than configured max size {max}")
}

fn header_too_large(size: usize, frame_max: u32) -> String {
    format!(
        "a message's header needs a frame of {size} octets, which is larger than the negotiated \
         frame_max ({frame_max})"
    )
}

fn no_right(access: &Access, vhost: &str, user: &str) -> String {
    let Access { right, kind, name, topic } = access;
    let (right, name, vhost) = (right.name(), name.clone(), vhost.into());
    match topic {
        None => {
            let what = Resource { kind: *kind, name, vhost };
            format!("{right} access to {what} refused for user '{user}'")
        }
        Some(key) => format!(
            "{right} access to topic '{key}' in exchange '{name}' in vhost '{vhost}' refused for \
             user '{user}'"
        ),
    }
}

fn too_late(channel: u16, timeout_ms: u64) -> String {
    format!(
        "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_ms} \
         ms. This timeout value can be configured, see consumers doc guide to learn more"
    )
}

fn arguments_too_large(size: usize) -> String {
    format!("arguments of {size} bytes are larger than the limit of {ARGUMENTS_MAX}")
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
            | Refusal::NoRight(_)
            | Refusal::ExclusiveUse(_) => Code::AccessRefused,
            Refusal::InUse(_)
            | Refusal::NotEmpty(_)
            | Refusal::Inequivalent { .. }
            | Refusal::InvalidArgument { .. }
            | Refusal::InvalidArgumentType { .. }
            | Refusal::ArgumentOfOtherKind(..)
            | Refusal::UnknownExchangeKind(_)
            | Refusal::InvalidXMatch(_)
            | Refusal::ByExchangeType(_)
            | Refusal::UnknownDeliveryTag(_)
            | Refusal::UserId { .. }
            | Refusal::MessageTooLarge { .. }
            | Refusal::HeaderTooLarge { .. }
            | Refusal::ArgumentsTooLarge { .. }
            | Refusal::NotTransactional
            | Refusal::ConfirmToTx
            | Refusal::TxToConfirm
            | Refusal::NoRoom
            | Refusal::CommittedInPart
            | Refusal::TransactionTooLarge { .. }
            | Refusal::InvalidExpiration(..)
            | Refusal::InvalidRoutingHeader(..)
            | Refusal::UnacceptableRoutingKeys(_)
            | Refusal::DeliveryTimeout { .. }
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
            // RabbitMQ's text for a queue whose process cannot be restarted.
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
                invalid(resource, argument, why)
            }
            Refusal::InvalidArgumentType { resource, argument, kind } => {
                format!("invalid type '{kind}' for arg '{argument}' in {resource}")
            }
            Refusal::ArgumentOfOtherKind(resource, argument) => of_other_kind(resource, argument),
            Refusal::ReservedName(what) => {
                let kind = if what.kind == Kind::Queue { "queue" } else { "exchange" };
                format!("{kind} name '{}' contains reserved prefix 'amq.*'", what.name)
            }
            Refusal::DefaultExchange => "operation not permitted on the default exchange".into(),
            Refusal::SystemExchange(what) => format!("deletion of system {what} not allowed"),
            Refusal::InternalExchange(what) => format!("cannot publish to internal {what}"),
            Refusal::UnknownExchangeKind(kind) => format!("unknown exchange type '{kind}'"),
            Refusal::InvalidXMatch(what) | Refusal::NotImplemented(what) => what.clone(),
            Refusal::ByExchangeType(why) => why.to_string(),
            Refusal::ServersMethod => "unimplemented method".into(),
            Refusal::NoPreviousQueue => "no previously declared queue".into(),
            Refusal::UnknownDeliveryTag(tag) => format!("unknown delivery tag {tag}"),
            Refusal::ConsumerTagInUse(tag) => format!("attempt to reuse consumer tag '{tag}'"),
            Refusal::MessageTooLarge { size, max } => message_too_large(*size, *max),
            Refusal::ArgumentsTooLarge { size } => arguments_too_large(*size),
            Refusal::HeaderTooLarge { size, frame_max } => header_too_large(*size, *frame_max),
            Refusal::UserId { claimed, user } => {
                format!("user_id property set to '{claimed}' but authenticated user was '{user}'")
            }
            Refusal::NoRight(what) => no_right(&what.0, &what.1, &what.2),
            Refusal::Excess(excess) => excess.to_string(),
            Refusal::NotTransactional => "channel is not transactional".into(),
            Refusal::ConfirmToTx => "cannot switch from confirm to tx mode".into(),
            Refusal::TxToConfirm => "cannot switch from tx to confirm mode".into(),
            Refusal::NoRoom => "the disk is full".into(),
            Refusal::CommittedInPart => "partial tx completion".into(),
            Refusal::TransactionTooLarge { max } => {
                format!("transaction holds more than {max} bytes")
            }
            Refusal::InvalidExpiration(value, why) => {
                format!("invalid expiration '{value}': {why}")
            }
            Refusal::InvalidRoutingHeader(header, kind) => {
                format!("invalid message: {{unacceptable_type_in_header,\"{header}\",{kind}}}")
            }
            Refusal::UnacceptableRoutingKeys(why) => format!("invalid message: {why}"),
            Refusal::DeliveryTimeout { channel, timeout_ms } => too_late(*channel, *timeout_ms),
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

fn invalid(resource: &Resource, argument: &str, why: &str) -> String {
    format!("invalid arg '{argument}' for {resource}: {why}")
}

fn of_other_kind(resource: &Resource, argument: &str) -> String {
    format!("invalid arg '{argument}' for {resource} of queue type rabbit_classic_queue")
}
