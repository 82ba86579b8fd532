//! Methods that wait for the answer to a request.

use amqp::Method;
use model::{ConsumerId, Name};

use crate::mesh::control::LoginAttempt;

/// A method that waits, and how it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingMethod {
    /// Its encoded form, to do it over if the answer asks for that. Empty on channel 0.
    pub payload: Vec<u8>,
    pub step: MethodStep,
}

impl PendingMethod {
    /// Class and method id.
    pub fn id(&self) -> (u16, u16) {
        Method::read(&self.payload).map_or((0, 0), |method| method.id())
    }
}

/// What a method does with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MethodStep {
    /// The login, in case it has to be asked for again.
    Login(Box<LoginAttempt>),
    OpenVhost(Name),
    /// Answer channel.open.
    OpenChannel,
    /// The user may still use the vhost.
    SecretUpdated,
    /// Do the method over: it is known whether the user may.
    Permitted,
    /// Go on with the publish: it is known whether the user may.
    PublishPermitted,
    /// Do the method over: what it needs is there, or gone, by now.
    Again,
    /// Send a reply that has no content but its name.
    Reply(PlainReply),
    Declared(Name),
    RepliesDeclared(Name),
    Deleted {
        nowait: bool,
    },
    Consuming {
        consumer: ConsumerId,
        tag: Name,
        nowait: bool,
    },
    Cancelled {
        consumer: ConsumerId,
        nowait: bool,
    },
    Got,
    /// A commit that homes are applying.
    Committed,
    /// Every home limits the channel's consumers.
    Limited,
    Purged {
        nowait: bool,
    },
}

/// Replies without a field; `None` for a nowait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainReply {
    None,
    QueueBindOk,
    QueueUnbindOk,
    ExchangeBindOk,
    ExchangeUnbindOk,
    ExchangeDeleteOk,
}

impl PlainReply {
    pub fn method(self) -> Option<Method<'static>> {
        Some(match self {
            Self::None => return None,
            Self::QueueBindOk => Method::QueueBindOk {},
            Self::QueueUnbindOk => Method::QueueUnbindOk {},
            Self::ExchangeBindOk => Method::ExchangeBindOk {},
            Self::ExchangeUnbindOk => Method::ExchangeUnbindOk {},
            Self::ExchangeDeleteOk => Method::ExchangeDeleteOk {},
        })
    }

    pub fn unless(self, nowait: bool) -> Self {
        if nowait { Self::None } else { self }
    }
}
