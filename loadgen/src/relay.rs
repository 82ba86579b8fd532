//! FROZEN: the yardstick. Results of other days are compared with this relay, so it is not made
//! faster, slower or more clever; a better idea is a new relay beside it.
//!
//! One thread, one epoll set, two sockets, buffers of 64 KiB (or of one message, if that is more):
//!
//! ```text
//!   publisher --read--> | publish | publish | publ.. |     16+ octets of body each
//!                             |         |                  are copied, nothing else
//!   consumer <--write-- | deliver | deliver |             all other octets stand there before
//! ```
//!
//! One read takes what is there; for each whole publish in the buffer one deliver is written, all
//! of them with one write. Nothing is parsed, routed, counted, allocated or looked up, so no broker
//! that moves the same octets through plain sockets on one core can be much faster. Delivery tags
//! stay as encoded. While the consumer's socket is full the publisher's is not read.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::failure::Failure;
use crate::poll::{Poll, Ready, Watch};

/// The size of the buffers.
const BUFFER: usize = 64 * 1024;
const PUBLISHER: usize = 0;
const CONSUMER: usize = 1;

/// A message as it comes and as it goes; both end with the same octets.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Octets of a whole publish.
    pub publish: usize,
    /// A whole delivery.
    pub deliver: Vec<u8>,
    /// How many octets at the end are copied: the body's payload and all behind it.
    pub tail: usize,
}

/// Relays until the publisher hangs up.
///
/// # Errors
/// A socket fails.
pub fn relay(publisher: TcpStream, consumer: TcpStream, shape: &Shape) -> Result<(), Failure> {
    let poll = Poll::new()?;
    for socket in [&publisher, &consumer] {
        socket.set_nonblocking(true).map_err(Failure::io("cannot prepare a socket"))?;
    }
    poll.add(&publisher, PUBLISHER, Watch::Input)?;
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
    poll: Poll,
    ready: Vec<Ready>,
    publisher: TcpStream,
    consumer: TcpStream,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
}

impl Relay {
    /// Waits, reads once, writes what that makes. Says whether the publisher is still there.
    fn turn(&mut self, shape: &Shape) -> Result<bool, Failure> {
        self.wait()?;
        match self.publisher.read(&mut self.input[self.filled..]) {
            Ok(0) => return Ok(false),
            Ok(count) => self.filled += count,
            Err(error) if is_transient(&error) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(Failure::io("the relay cannot read")(error)),
        }
        let len = self.convert(shape);
        self.write(len)
    }

    /// Copies the bodies of all whole publishes into deliveries; keeps the rest. Returns how many
    /// octets of deliveries there are.
    fn convert(&mut self, shape: &Shape) -> usize {
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

    fn write(&mut self, len: usize) -> Result<bool, Failure> {
        let mut at = 0;
        while at < len {
            match self.consumer.write(&self.output[at..len]) {
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_room()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => return Ok(false),
                Err(error) => return Err(Failure::io("the relay cannot write")(error)),
            }
        }
        Ok(true)
    }

    /// Waits for the one socket that is watched.
    fn wait(&mut self) -> Result<(), Failure> {
        self.ready.clear();
        self.poll.wait(None, &mut self.ready)
    }

    fn wait_for_room(&mut self) -> Result<(), Failure> {
        self.poll.remove(&self.publisher)?;
        self.poll.add(&self.consumer, CONSUMER, Watch::Output)?;
        self.wait()?;
        self.poll.remove(&self.consumer)?;
        self.poll.add(&self.publisher, PUBLISHER, Watch::Input)
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
        let shape = Shape { publish: 5, deliver: b"Deliver-xx".to_vec(), tail: 2 };
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
