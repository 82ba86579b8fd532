//! The two halves of a broker that does nothing: one that swallows publishes, one that makes up
//! deliveries. They show what the generator itself can do on this machine. And the connection
//! between such an end and the generator's.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::account::{STAMP, Stamp};
use crate::clock;
use crate::failure::Failure;

const BUFFER: usize = 256 * 1024;

/// Reads and forgets until the peer hangs up. Says how many octets came.
///
/// # Errors
/// The socket fails.
pub fn sink(mut from: TcpStream) -> Result<u64, Failure> {
    let (mut octets, mut count) = (vec![0; BUFFER], 0);
    loop {
        match from.read(&mut octets) {
            Ok(0) => return Ok(count),
            Ok(more) => count += more as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_gone(&error) => return Ok(count),
            Err(error) => return Err(Failure::io("the sink cannot read")(error)),
        }
    }
}

/// A delivery as a source repeats it.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// All its octets.
    pub deliver: Vec<u8>,
    /// Where the stamp stands.
    pub stamp_at: usize,
}

/// Writes deliveries, each with its own stamp, until `stop` (ns) or until the peer hangs up.
///
/// # Errors
/// The socket fails.
pub fn source(mut to: TcpStream, pattern: &Pattern, stop: u64) -> Result<(), Failure> {
    let len = pattern.deliver.len();
    let mut octets = pattern.deliver.repeat((BUFFER / len).max(1));
    let mut sequence = 0;
    loop {
        let intended = clock::now();
        if intended >= stop {
            // The peer is the first to go.
            return sink(to).map(|_| ());
        }
        for deliver in octets.chunks_exact_mut(len) {
            let stamp = Stamp { intended, producer: 0, sequence };
            deliver[pattern.stamp_at..pattern.stamp_at + STAMP].copy_from_slice(&stamp.write());
            sequence += 1;
        }
        match to.write_all(&octets) {
            Err(error) if is_gone(&error) => return Ok(()),
            written => written.map_err(Failure::io("the source cannot write"))?,
        }
    }
}

/// Two ends of one TCP connection over the loopback.
///
/// # Errors
/// The system refuses.
pub fn loopback() -> Result<(TcpStream, TcpStream), Failure> {
    let failed = Failure::io("cannot connect over the loopback");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(&failed)?;
    let near = TcpStream::connect(listener.local_addr().map_err(&failed)?).map_err(&failed)?;
    let (far, _) = listener.accept().map_err(&failed)?;
    for socket in [&near, &far] {
        socket.set_nodelay(true).map_err(&failed)?;
    }
    Ok((near, far))
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}
