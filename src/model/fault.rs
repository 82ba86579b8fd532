//! Refusals and broken sequences as RabbitMQ tells them: code, text, and how far they reach. No
//! other file knows a reply text of an error.

use amqp::assembler::SequenceError;
use amqp::frame::FrameError;
use amqp::{Code, WireError};

use crate::refusal::{Kind, Refusal, Resource};

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
    fn from(error: FrameError) -> Self {
        Self::new(Code::FrameError, &error.to_string(), (0, 0))
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
        Self::new(code, &error.to_string(), (0, 0))
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

impl Refusal {
    /// The fault for a refusal of the method with this class and method id.
    #[must_use]
    pub fn fault(&self, method: (u16, u16)) -> Fault {
        Fault::new(self.code(), &self.explanation(), method)
    }

    fn code(&self) -> Code {
        match self {
            Refusal::NotFound(_) | Refusal::NoPreviousQueue => Code::NotFound,
            Refusal::Locked(_) => Code::ResourceLocked,
            Refusal::ReservedName(_)
            | Refusal::DefaultExchange
            | Refusal::SystemExchange(_)
            | Refusal::InternalExchange(_)
            | Refusal::ExclusiveUse(_) => Code::AccessRefused,
            Refusal::InUse(_)
            | Refusal::NotEmpty(_)
            | Refusal::Inequivalent { .. }
            | Refusal::InvalidArgument { .. }
            | Refusal::UnknownExchangeKind(_)
            | Refusal::InvalidXMatch(_)
            | Refusal::UnknownDeliveryTag(_)
            | Refusal::UserId { .. }
            | Refusal::InvalidProperty(_)
            | Refusal::MessageTooLarge { .. } => Code::PreconditionFailed,
            Refusal::NotImplemented(_) => Code::NotImplemented,
            Refusal::ServersMethod => Code::CommandInvalid,
            Refusal::ConsumerTagInUse(_) => Code::NotAllowed,
        }
    }

    fn explanation(&self) -> String {
        match self {
            Refusal::NotFound(what) => format!("no {what}"),
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
            Refusal::InvalidProperty(what) => what.clone(),
            Refusal::ExclusiveUse(what) => format!("{what} in exclusive use"),
        }
    }
}
