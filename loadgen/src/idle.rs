//! A connection that does nothing but stay: heartbeats go out and come in.

use amqp::frame::write_heartbeat;
use amqp::{Assembler, Step};

use crate::clock::SECOND;
use crate::connection::{CHANNEL, goodbye};
use crate::failure::Failure;
use crate::incoming::Incoming;
use crate::methods::{Common, common};

/// One idle connection.
#[derive(Debug)]
pub struct Idle {
    every: Option<u64>,
    assembler: Assembler,
    closed: bool,
}

impl Idle {
    /// One that agreed on a heartbeat every so many seconds; 0 is none.
    #[must_use]
    pub fn new(heartbeat: u16) -> Self {
        // Twice as often: one that is late is no reason to be cut off.
        let every = (heartbeat > 0).then(|| u64::from(heartbeat) * SECOND / 2);
        Self { every, assembler: Assembler::default(), closed: false }
    }

    /// Sends a heartbeat. Says when the next is due.
    pub fn beat(&mut self, now: u64, out: &mut Vec<u8>) -> Option<u64> {
        if !self.closed && self.every.is_some() {
            write_heartbeat(out);
        }
        self.every.map(|every| now + every)
    }

    /// Takes all whole frames.
    ///
    /// # Errors
    /// The broker closed or is out of step.
    pub fn take(&mut self, incoming: &mut Incoming, out: &mut Vec<u8>) -> Result<(), Failure> {
        while let Some(frame) = incoming.frame_of(CHANNEL)? {
            if let Some(Step::Method(method)) = self.assembler.frame(frame)?
                && common(&method, CHANNEL, out)? == Common::Closed
            {
                self.closed = true;
            }
        }
        Ok(())
    }

    /// Says goodbye.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        goodbye(CHANNEL, out);
    }

    /// Whether the connection is closed in order.
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
    fn beats_until_it_is_closed() {
        let (mut idle, mut out) = (Idle::new(10), Vec::new());
        assert_eq!(idle.beat(100, &mut out), Some(100 + 5 * SECOND));
        assert_eq!(out.len(), 8, "one empty frame");
        let mut incoming = Incoming::new(4096);
        write_method(&mut out, 0, &Method::ConnectionCloseOk {});
        incoming.room()[..out.len()].copy_from_slice(&out);
        incoming.filled(out.len());
        idle.take(&mut incoming, &mut Vec::new()).unwrap();
        assert!(idle.is_closed());
        assert_eq!(Idle::new(0).beat(100, &mut out), None);
    }
}
