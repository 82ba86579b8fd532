//! A socket that does not block, with what waits to be written to it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::failure::Failure;
use crate::incoming::Incoming;
use crate::publishes::Publishes;

/// A socket and its buffers.
#[derive(Debug)]
pub struct Socket {
    /// The socket.
    pub stream: TcpStream,
    /// What was received and not taken yet.
    pub incoming: Incoming,
    /// Methods to be written, behind the publishes that are being written.
    pub out: Vec<u8>,
}

/// How far a write came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All is with the system.
    All,
    /// The system has no room now.
    Blocked,
    /// The peer is gone; why may still be in the receive buffer.
    Broken,
}

impl Socket {
    /// Takes over a socket from its set-up.
    ///
    /// # Errors
    /// The system refuses to make it non-blocking.
    pub fn new(stream: TcpStream, incoming: Incoming) -> Result<Self, Failure> {
        stream.set_nonblocking(true).map_err(Failure::io("cannot make a socket non-blocking"))?;
        Ok(Self { stream, incoming, out: Vec::new() })
    }

    /// Reads once. Says whether anything came.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn receive(&mut self) -> Result<bool, Failure> {
        match self.stream.read(self.incoming.room()) {
            Ok(0) => Err(HUNG_UP),
            Ok(count) => {
                self.incoming.filled(count);
                Ok(true)
            }
            Err(source) => match source.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(false),
                ErrorKind::ConnectionReset => Err(HUNG_UP),
                _ => Err(Failure::System { what: "cannot read from the broker", source }),
            },
        }
    }

    /// Writes what is pending: the publishes first, since they may be half out.
    ///
    /// # Errors
    /// The system refuses for another reason than a peer that is gone.
    pub fn write(&mut self, publishes: Option<&mut Publishes>) -> Result<Written, Failure> {
        if let Some(publishes) = publishes {
            while !publishes.pending().is_empty() {
                match write_some(&mut self.stream, publishes.pending())? {
                    Ok(count) => publishes.advance(count),
                    Err(stopped) => return Ok(stopped),
                }
            }
        }
        while !self.out.is_empty() {
            match write_some(&mut self.stream, &self.out)? {
                Ok(count) => drop(self.out.drain(..count)),
                Err(stopped) => return Ok(stopped),
            }
        }
        Ok(Written::All)
    }
}

const HUNG_UP: Failure = Failure::HungUp { when: "in the middle of the run", hint: "" };

/// Writes once; the inner error is why nothing could be written.
fn write_some(stream: &mut TcpStream, octets: &[u8]) -> Result<Result<usize, Written>, Failure> {
    match stream.write(octets) {
        Ok(count) => Ok(Ok(count)),
        Err(source) => match source.kind() {
            ErrorKind::Interrupted => Ok(Ok(0)),
            ErrorKind::WouldBlock => Ok(Err(Written::Blocked)),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Ok(Err(Written::Broken)),
            _ => Err(Failure::System { what: "cannot write to the broker", source }),
        },
    }
}
