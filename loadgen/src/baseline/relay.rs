//! FROZEN: results of different dates are compared with this relay. Do not change what it executes;
//! a better idea is a second relay beside it.
//!
//! One thread, one epoll set, two sockets, buffers of 64 KiB (or of one message, if that is more):
//!
//! ```text
//!   publisher --read--> | publish | publish | publ.. |     16+ bytes of each body are copied
//!                              |         |
//!   consumer <--write-- | deliver | deliver |             all other bytes are there already
//! ```
//!
//! One read takes what is available. For each whole publish in the buffer one deliver is written,
//! all of them with one write. Nothing is parsed, routed, counted, allocated or looked up, so no
//! broker that moves the same bytes through plain sockets on one core can be much faster. Delivery
//! tags stay as encoded. While the consumer's socket is full, the publisher's is not read.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::system::epoll::{Epoll, Interest, Readiness};
use crate::system::error::LoadgenError;

/// The size of the buffers in bytes.
const BUFFER: usize = 64 * 1024;
const PUBLISHER: usize = 0;
const CONSUMER: usize = 1;

/// The encoding of a message before and after the relay. Both end with the same bytes.
#[derive(Debug, Clone)]
pub struct RelayFrames {
    /// The length of a whole publish in bytes.
    pub publish: usize,
    /// A whole delivery.
    pub deliver: Vec<u8>,
    /// How many bytes at the end are copied: from the first byte of the body on.
    pub tail: usize,
}

/// Relays until the publisher closes its socket.
///
/// # Errors
/// A socket fails.
pub fn relay(
    publisher: TcpStream,
    consumer: TcpStream,
    shape: &RelayFrames,
) -> Result<(), LoadgenError> {
    let poll = Epoll::new()?;
    for socket in [&publisher, &consumer] {
        socket.set_nonblocking(true).map_err(LoadgenError::io("cannot prepare a socket"))?;
    }
    poll.add(&publisher, PUBLISHER, Interest::Input)?;
    let copies = BUFFER.max(shape.publish) / shape.publish + 1;
    let mut relay = Relay {
        poll,
        ready: Vec::new(),
        publisher,
        consumer,
        input: vec![0; BUFFER.max(shape.publish)],
        filled: 0,
        output: shape.deliver.repeat(copies),
    };
    while relay.turn(shape)? {}
    Ok(())
}

struct Relay {
    poll: Epoll,
    ready: Vec<Readiness>,
    publisher: TcpStream,
    consumer: TcpStream,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
}

impl Relay {
    /// Waits, reads once and writes the deliveries. Returns false once a peer is gone.
    fn turn(&mut self, shape: &RelayFrames) -> Result<bool, LoadgenError> {
        self.wait()?;
        match self.publisher.read(&mut self.input[self.filled..]) {
            Ok(0) => return Ok(false),
            Ok(count) => self.filled += count,
            Err(error) if is_transient(&error) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(LoadgenError::io("the relay cannot read")(error)),
        }
        let len = self.convert(shape);
        self.write(len)
    }

    /// Copies the bodies of all whole publishes into deliveries and keeps the rest. Returns the
    /// length of these deliveries in bytes.
    fn convert(&mut self, shape: &RelayFrames) -> usize {
        let whole = self.filled / shape.publish;
        let publishes = self.input.chunks_exact(shape.publish).take(whole);
        let delivers = self.output.chunks_exact_mut(shape.deliver.len());
        for (publish, deliver) in publishes.zip(delivers) {
            let (from, to) = (publish.len() - shape.tail, deliver.len() - shape.tail);
            deliver[to..].copy_from_slice(&publish[from..]);
        }
        self.input.copy_within(whole * shape.publish..self.filled, 0);
        self.filled -= whole * shape.publish;
        whole * shape.deliver.len()
    }

    fn write(&mut self, len: usize) -> Result<bool, LoadgenError> {
        let mut at = 0;
        while at < len {
            match self.consumer.write(&self.output[at..len]) {
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_room()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => return Ok(false),
                Err(error) => return Err(LoadgenError::io("the relay cannot write")(error)),
            }
        }
        Ok(true)
    }

    /// Waits for the one socket that is watched.
    fn wait(&mut self) -> Result<(), LoadgenError> {
        self.ready.clear();
        self.poll.wait(None, &mut self.ready)
    }

    fn wait_for_room(&mut self) -> Result<(), LoadgenError> {
        self.poll.remove(&self.publisher)?;
        self.poll.add(&self.consumer, CONSUMER, Interest::Output)?;
        self.wait()?;
        self.poll.remove(&self.consumer)?;
        self.poll.add(&self.publisher, PUBLISHER, Interest::Input)
    }
}

fn is_transient(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn bodies_arrive_in_the_frames_of_a_delivery_whatever_the_reads() {
        let ((mut publisher, from), (to, mut consumer)) = (pair(), pair());
        let shape = RelayFrames { publish: 5, deliver: b"Deliver-xx".to_vec(), tail: 2 };
        let thread = std::thread::spawn(move || relay(from, to, &shape));
        let count = 50_000u32;
        let stream: Vec<u8> = (0..count).flat_map(|n| [b'p', b'u', b'b', n as u8, 7]).collect();
        let writer = std::thread::spawn(move || {
            for part in stream.chunks(7777) {
                publisher.write_all(part).unwrap();
            }
        });
        for n in 0..count {
            let mut deliver = [0; 10];
            consumer.read_exact(&mut deliver).unwrap();
            assert_eq!(deliver[..8], *b"Deliver-");
            assert_eq!(deliver[8..], [n as u8, 7]);
        }
        writer.join().unwrap();
        thread.join().unwrap().unwrap();
    }
}
