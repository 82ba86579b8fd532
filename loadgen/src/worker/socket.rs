//! A non-blocking socket and the bytes that wait to be written to it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::client::receive_buffer::ReceiveBuffer;
use crate::publish::batch::PublishBatch;
use crate::system::error::LoadgenError;

/// A socket and its buffers.
#[derive(Debug)]
pub struct ClientSocket {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes received and not parsed yet.
    pub incoming: ReceiveBuffer,
    /// Encoded methods to be written after the pending publishes.
    pub out: Vec<u8>,
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteResult {
    /// Everything was written.
    All,
    /// The socket is full.
    Blocked,
    /// The peer has closed the socket. The reason may still be in the receive buffer.
    Broken,
}

impl ClientSocket {
    /// Takes a blocking socket over from the setup.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub fn new(stream: TcpStream, incoming: ReceiveBuffer) -> Result<Self, LoadgenError> {
        stream
            .set_nonblocking(true)
            .map_err(LoadgenError::io("cannot make a socket non-blocking"))?;
        Ok(Self { stream, incoming, out: Vec::new() })
    }

    /// Reads once. Returns true if bytes arrived.
    ///
    /// # Errors
    /// The peer has closed the socket, or the read fails.
    pub fn receive(&mut self) -> Result<bool, LoadgenError> {
        match self.stream.read(self.incoming.room()) {
            Ok(0) => Err(HUNG_UP),
            Ok(count) => {
                self.incoming.filled(count);
                Ok(true)
            }
            Err(source) => match source.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(false),
                ErrorKind::ConnectionReset => Err(HUNG_UP),
                _ => Err(LoadgenError::System { what: "cannot read from the broker", source }),
            },
        }
    }

    /// Writes what is pending. Publishes go first, since one of them may be half written.
    ///
    /// # Errors
    /// The write fails for another reason than a closed socket.
    pub fn write(
        &mut self,
        publishes: Option<&mut PublishBatch>,
    ) -> Result<WriteResult, LoadgenError> {
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
        Ok(WriteResult::All)
    }
}

const HUNG_UP: LoadgenError = LoadgenError::HungUp { when: "in the middle of the run", hint: "" };

/// Writes once; the inner error tells why nothing could be written.
fn write_some(
    stream: &mut TcpStream,
    bytes: &[u8],
) -> Result<Result<usize, WriteResult>, LoadgenError> {
    match stream.write(bytes) {
        Ok(count) => Ok(Ok(count)),
        Err(source) => match source.kind() {
            ErrorKind::Interrupted => Ok(Ok(0)),
            ErrorKind::WouldBlock => Ok(Err(WriteResult::Blocked)),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Ok(Err(WriteResult::Broken)),
            _ => Err(LoadgenError::System { what: "cannot write to the broker", source }),
        },
    }
}
