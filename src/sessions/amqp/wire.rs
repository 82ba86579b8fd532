//! The state of AMQP 0-9-1 on one connection.

use amqp::Parser;
use model::session::{Handshake, Limits};

/// The state of AMQP 0-9-1 on one connection.
#[derive(Debug)]
pub(crate) struct Wire {
    pub handshake: Handshake,
    pub parser: Parser,
    /// The largest body a client may publish, in bytes.
    pub max_message_size: u64,
}

impl Wire {
    pub fn new(limits: &Limits) -> Self {
        let handshake = Handshake::new(limits.clone());
        Self {
            parser: Parser::new(handshake.negotiated().frame_max),
            handshake,
            max_message_size: limits.max_message_size,
        }
    }

    /// Bytes of encoded properties that one frame carries.
    pub fn properties_max(&self) -> usize {
        amqp::frame::properties_max(self.frame_max())
    }

    pub fn frame_max(&self) -> u32 {
        self.handshake.negotiated().frame_max
    }
}
