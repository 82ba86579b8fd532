//! A connection without traffic: only heartbeats.

use amqp::frame::write_heartbeat;
use amqp::{Assembler, Step};

use crate::client::methods::{CHANNEL, write_close};
use crate::client::methods::{MethodEffect, handle_common};
use crate::client::receive_buffer::ReceiveBuffer;
use crate::system::clock::SECOND;
use crate::system::error::LoadgenError;

/// The only channel of an idle connection.
#[derive(Debug)]
pub struct IdleChannel {
    every: Option<u64>,
    assembler: Assembler,
    closed: bool,
}

impl IdleChannel {
    /// A channel that sends heartbeats for an interval of `heartbeat` seconds; 0 is none.
    #[must_use]
    pub fn new(heartbeat: u16) -> Self {
        // Twice per interval, so that one late heartbeat does not close the connection.
        let every = (heartbeat > 0).then(|| u64::from(heartbeat) * SECOND / 2);
        Self { every, assembler: Assembler::default(), closed: false }
    }

    /// Sends a heartbeat. Returns when the next one is due (ns).
    pub fn beat(&mut self, now: u64, out: &mut Vec<u8>) -> Option<u64> {
        if !self.closed && self.every.is_some() {
            write_heartbeat(out);
        }
        self.every.map(|every| now + every)
    }

    /// Handles all complete frames.
    ///
    /// # Errors
    /// The broker closed the channel or the connection, or broke the protocol.
    pub fn take(
        &mut self,
        incoming: &mut ReceiveBuffer,
        out: &mut Vec<u8>,
    ) -> Result<(), LoadgenError> {
        while let Some(frame) = incoming.frame_of(CHANNEL)? {
            if let Some(Step::Method(method)) = self.assembler.frame(frame)?
                && handle_common(&method, CHANNEL, out)? == MethodEffect::Closed
            {
                self.closed = true;
            }
        }
        Ok(())
    }

    /// Starts an orderly close.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        write_close(CHANNEL, out);
    }

    /// True once the broker has confirmed the close.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp::Method;
    use amqp::frame::write_method;

    #[test]
    fn heartbeats_are_sent_until_the_close() {
        let (mut idle, mut out) = (IdleChannel::new(10), Vec::new());
        assert_eq!(idle.beat(100, &mut out), Some(100 + 5 * SECOND));
        assert_eq!(out.len(), 8, "one empty frame");
        let mut incoming = ReceiveBuffer::new(4096);
        write_method(&mut out, 0, &Method::ConnectionCloseOk {});
        incoming.room()[..out.len()].copy_from_slice(&out);
        incoming.filled(out.len());
        idle.take(&mut incoming, &mut Vec::new()).unwrap();
        assert!(idle.is_closed());
        assert_eq!(IdleChannel::new(0).beat(100, &mut out), None);
    }
}
