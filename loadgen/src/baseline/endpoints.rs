//! Peers for one half of the load: a sink that discards publishes and a source that generates
//! deliveries. They show what the generator alone can do on this machine.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::messages::stamp::{STAMP, Stamp};
use crate::system::clock;
use crate::system::error::LoadgenError;

const BUFFER: usize = 256 * 1024;

/// Reads and discards until the peer closes. Returns the number of bytes read.
///
/// # Errors
/// The socket fails.
pub fn sink(mut from: TcpStream) -> Result<u64, LoadgenError> {
    let (mut bytes, mut count) = (vec![0; BUFFER], 0);
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(count),
            Ok(more) => count += more as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_gone(&error) => return Ok(count),
            Err(error) => return Err(LoadgenError::io("the sink cannot read")(error)),
        }
    }
}

/// A delivery that a source repeats.
#[derive(Debug, Clone)]
pub struct RepeatedDelivery {
    /// All its bytes.
    pub deliver: Vec<u8>,
    /// The offset of its stamp.
    pub stamp_at: usize,
}

/// Writes deliveries, each with its own stamp, until `stop` (ns) or until the peer closes.
///
/// # Errors
/// The socket fails.
pub fn source(
    mut to: TcpStream,
    pattern: &RepeatedDelivery,
    stop: u64,
) -> Result<(), LoadgenError> {
    let len = pattern.deliver.len();
    let mut bytes = pattern.deliver.repeat((BUFFER / len).max(1));
    let mut sequence = 0;
    loop {
        let intended = clock::now();
        if intended >= stop {
            // The peer closes first.
            return sink(to).map(|_| ());
        }
        for deliver in bytes.chunks_exact_mut(len) {
            let stamp = Stamp { intended, producer: 0, sequence };
            deliver[pattern.stamp_at..pattern.stamp_at + STAMP].copy_from_slice(&stamp.write());
            sequence += 1;
        }
        match to.write_all(&bytes) {
            Err(error) if is_gone(&error) => return Ok(()),
            written => written.map_err(LoadgenError::io("the source cannot write"))?,
        }
    }
}

/// Both ends of a TCP connection over the loopback interface.
///
/// # Errors
/// A socket cannot be created or connected.
pub fn loopback() -> Result<(TcpStream, TcpStream), LoadgenError> {
    let failed = LoadgenError::io("cannot connect over the loopback");
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
