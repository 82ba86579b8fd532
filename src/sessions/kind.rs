//! The kinds of session, chosen by a connection's first byte: what every kind can write, and what
//! it remembers of a request that waits for its answer. There is no trait: a new kind needs an arm
//! in every method here, and arms of `_` do nothing for it.

use model::queue::Addressed;
use model::session::{Limits, Negotiated};
use model::{Fault, Message, ShardId};

use crate::sessions::amqp::output as amqp_output;
use crate::sessions::amqp::pending::{MethodStep, PendingMethod};
use crate::sessions::amqp::wire::Wire;
use crate::sessions::channels::Channels;
#[cfg(feature = "second-kinds")]
use crate::sessions::line::wire::{self as line_output, LineWire, PendingLine};
use crate::sessions::output::ClientOutput;

/// What a connection speaks, and the state of that protocol.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a connection is boxed, and nearly all are AMQP")]
pub(crate) enum SessionKind {
    /// Nothing has arrived.
    Undecided,
    /// AMQP 0-9-1.
    Amqp(Wire),
    /// A line protocol that proves the seam between session kinds.
    #[cfg(feature = "second-kinds")]
    Line(LineWire),
}

/// What follows the answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterAnswer {
    /// One thing less to release before the end of the connection is told.
    Released,
    /// A method of AMQP 0-9-1 goes on.
    Method(PendingMethod),
    /// A line goes on.
    #[cfg(feature = "second-kinds")]
    Line(PendingLine),
}

impl AfterAnswer {
    /// Whether the answer is a message.
    pub fn is_get(&self) -> bool {
        matches!(self, Self::Method(method) if method.step == MethodStep::Got)
    }

    /// Bytes that it holds until then.
    pub fn held(&self) -> usize {
        match self {
            Self::Method(method) => method.payload.len(),
            _ => 0,
        }
    }
}

type Parts<'a> = (&'a mut ClientOutput, &'a mut Channels);

impl SessionKind {
    /// The kind of a connection that begins with this byte.
    pub fn choose(first: u8, limits: &Limits) -> Self {
        match first {
            #[cfg(feature = "second-kinds")]
            b'P' | b'S' | b'Q' => Self::Line(LineWire::default()),
            // Clients of any other protocol get the protocol header of AMQP.
            _ => Self::Amqp(Wire::new(limits)),
        }
    }

    /// The state of AMQP 0-9-1, if the connection speaks that.
    #[inline]
    pub fn amqp(&mut self) -> Option<&mut Wire> {
        match self {
            Self::Amqp(wire) => Some(wire),
            _ => None,
        }
    }

    /// True if the coordinator counts the connection in its vhost.
    pub fn counted(&self) -> bool {
        match self {
            Self::Undecided => false,
            Self::Amqp(wire) => wire.handshake.asked_for_vhost(),
            #[cfg(feature = "second-kinds")]
            Self::Line(wire) => wire.asked,
        }
    }

    /// Bytes of encoded properties that the connection can be sent.
    pub fn properties_max(&self) -> usize {
        match self {
            Self::Amqp(wire) => wire.properties_max(),
            _ => usize::MAX,
        }
    }

    /// What both sides agreed on; without a protocol that agrees on anything: no limit.
    pub fn negotiated(&self) -> Negotiated {
        match self {
            Self::Amqp(wire) => wire.handshake.negotiated(),
            _ => Negotiated { channel_max: 0, frame_max: 0, heartbeat_s: 0 },
        }
    }

    /// The mechanism of its login, if there is one.
    pub fn mechanism(&self) -> &str {
        match self {
            Self::Amqp(wire) => wire.handshake.mechanism(),
            _ => "",
        }
    }

    /// The interval of heartbeats in microseconds; 0: none.
    pub fn heartbeat_us(&self) -> u64 {
        match self {
            Self::Amqp(wire) => u64::from(wire.handshake.negotiated().heartbeat_s) * 1_000_000,
            _ => 0,
        }
    }

    #[inline]
    pub fn deliver(
        &mut self,
        (output, channels): Parts<'_>,
        home: ShardId,
        to: Addressed,
        message: Message<'_>,
    ) -> bool {
        match self {
            Self::Undecided => false,
            Self::Amqp(wire) => amqp_output::deliver(wire, (output, channels), home, to, message),
            #[cfg(feature = "second-kinds")]
            Self::Line(wire) => wire.deliver((output, channels), home, to, message),
        }
    }

    pub fn got(
        &mut self,
        (output, channels): Parts<'_>,
        (home, remaining): (ShardId, u32),
        to: Addressed,
        message: Message<'_>,
    ) {
        if let Self::Amqp(wire) = self {
            amqp_output::got(wire, (output, channels), (home, remaining), to, message);
        }
    }

    pub fn got_nothing(&mut self, output: &mut ClientOutput, number: u16) {
        if let Self::Amqp(_) = self {
            amqp_output::got_nothing(output, number);
        }
    }

    pub fn give_back(
        &mut self,
        output: &mut ClientOutput,
        number: u16,
        message: Message<'_>,
        publish: Option<u64>,
    ) -> bool {
        match self {
            Self::Amqp(wire) => amqp_output::give_back(wire, output, number, message, publish),
            _ => true,
        }
    }

    pub fn tell_confirms(&mut self, (output, channels): Parts<'_>, number: u16) {
        if let Self::Amqp(_) = self {
            amqp_output::tell_confirms(output, channels, number);
        }
    }

    pub fn tell_cancelled(&mut self, output: &mut ClientOutput, number: u16, tag: &str) -> bool {
        match self {
            Self::Undecided => false,
            Self::Amqp(wire) => amqp_output::tell_cancelled(wire, output, number, tag),
            #[cfg(feature = "second-kinds")]
            Self::Line(_) => line_output::tell_cancelled(output, tag),
        }
    }

    pub fn tell_channel_failed(&mut self, output: &mut ClientOutput, number: u16, fault: &Fault) {
        match self {
            Self::Undecided => {}
            Self::Amqp(_) => amqp_output::tell_channel_failed(output, number, fault),
            #[cfg(feature = "second-kinds")]
            Self::Line(_) => line_output::tell_failed(output, fault),
        }
    }

    pub fn tell_channel_closed(&mut self, output: &mut ClientOutput, number: u16) {
        if let Self::Amqp(_) = self {
            amqp_output::tell_channel_closed(output, number);
        }
    }

    /// True if the client is to answer when the server closes the connection for this reason.
    pub fn answers(&self, fault: &Fault) -> bool {
        matches!(self, Self::Amqp(_)) && amqp_output::answers(fault)
    }

    /// Says why the server closes the connection.
    pub fn tell_failed(&mut self, output: &mut ClientOutput, fault: &Fault) {
        match self {
            Self::Undecided => {}
            Self::Amqp(_) => amqp_output::tell_failed(output, fault),
            #[cfg(feature = "second-kinds")]
            Self::Line(_) => line_output::tell_failed(output, fault),
        }
    }

    pub fn tell_closed(&mut self, output: &mut ClientOutput) {
        match self {
            Self::Undecided => {}
            Self::Amqp(_) => amqp_output::tell_closed(output),
            #[cfg(feature = "second-kinds")]
            Self::Line(_) => line_output::tell_closed(output),
        }
    }

    pub fn tell_blocked(&mut self, output: &mut ClientOutput, reason: &str) -> bool {
        match self {
            Self::Amqp(wire) => amqp_output::tell_blocked(wire, output, reason),
            _ => false,
        }
    }

    pub fn tell_unblocked(&mut self, output: &mut ClientOutput) {
        if let Self::Amqp(_) = self {
            amqp_output::tell_unblocked(output);
        }
    }

    pub fn heartbeat(&mut self, output: &mut ClientOutput) {
        if let Self::Amqp(_) = self {
            amqp_output::heartbeat(output);
        }
    }
}
