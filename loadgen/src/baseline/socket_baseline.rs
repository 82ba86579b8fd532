//! What two cores carry between them without looking at the bytes: written from memory into a
//! socket, read from the socket and discarded, in both directions at once.
//!
//! ```text
//!   generator's core                                relay's core
//!   memory ----write----> | socket | ----read----> discarded: 64 KiB at a time
//!   discarded <---read--- | socket | <---write---- memory: as many bytes as the relay
//!                                                  would write for those it read
//! ```
//!
//! The relay and its generator make the same system calls, on the same cores, with buffers of the
//! same sizes: each byte is written once and read once, and each core does both. A single stream
//! would not be comparable, since one core would only write and the other only read. The difference
//! between relay and baseline is the cost to make, copy and count messages.

use crate::report::baselines::MessageLengths;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::baseline::endpoints::loopback;
use crate::publish::batch::WRITE;
use crate::system::clock::{self, MILLISECOND, SECOND};
use crate::system::epoll::{Epoll, Interest, Readiness};
use crate::system::error::LoadgenError;
use crate::system::interrupt;
use crate::system::threads;

/// The generator's read size for a busy connection (bytes).
const READ: usize = 256 * 1024;
/// The relay's read size (bytes).
const RELAY_READ: usize = 64 * 1024;
/// The time for the sockets to grow their buffers (ns), not measured.
const WARM_UP: u64 = 200 * MILLISECOND;
const TO: usize = 0;
const FROM: usize = 1;

/// The CPUs of both ends; `None` is not pinned.
#[derive(Debug, Clone, Copy)]
pub struct PinnedCores {
    /// The generator's CPU.
    pub generator: Option<usize>,
    /// The relay's CPU.
    pub relay: Option<usize>,
}

/// Runs the baseline for `time` ns after a warm-up. Returns megabytes per second, both directions
/// together.
///
/// # Errors
/// A socket, a thread or a CPU cannot be used.
pub fn measure(
    lengths: MessageLengths,
    cores: PinnedCores,
    time: u64,
) -> Result<f64, LoadgenError> {
    let (to, far_from) = loopback()?;
    let (from, far_to) = loopback()?;
    let relay = spawn(cores.relay, move || forget_and_write(far_from, far_to, lengths))?;
    let generator =
        spawn(cores.generator, move || GeneratorEnd::new(to, from, lengths)?.run(time))?;
    let rate = join(generator);
    // The generator's end has closed its sockets, even after an error: that ends the relay's end.
    join(relay)?;
    let both = (lengths.publish + lengths.deliver) as f64 / lengths.deliver as f64;
    rate.map(|received| received * both / 1e6)
}

type BaselineThread<T> = std::thread::JoinHandle<Result<T, LoadgenError>>;

fn spawn<T: Send + 'static>(
    cpu: Option<usize>,
    body: impl FnOnce() -> Result<T, LoadgenError> + Send + 'static,
) -> Result<BaselineThread<T>, LoadgenError> {
    let pinned = move || threads::prepare(cpu).and_then(|()| body());
    let builder = std::thread::Builder::new().name("socket-baseline".to_owned());
    builder.spawn(pinned).map_err(LoadgenError::io("cannot start a thread"))
}

fn join<T>(thread: BaselineThread<T>) -> Result<T, LoadgenError> {
    thread.join().map_err(|_| {
        LoadgenError::Settings(
            "a thread of the socket baseline panicked; this is a bug in loadgen".to_owned(),
        )
    })?
}

/// The generator's end.
struct GeneratorEnd {
    poll: Epoll,
    to: TcpStream,
    from: TcpStream,
    memory: Vec<u8>,
    written: usize,
    room: Vec<u8>,
    blocked: bool,
    received: u64,
}

impl GeneratorEnd {
    fn new(to: TcpStream, from: TcpStream, lengths: MessageLengths) -> Result<Self, LoadgenError> {
        let poll = Epoll::new()?;
        for socket in [&to, &from] {
            socket.set_nonblocking(true).map_err(LoadgenError::io("cannot prepare a socket"))?;
        }
        poll.add(&to, TO, Interest::Input)?;
        poll.add(&from, FROM, Interest::Input)?;
        let memory = vec![0; (WRITE / lengths.publish).max(1) * lengths.publish];
        let (written, room, blocked, received) = (0, vec![0; READ], false, 0);
        Ok(Self { poll, to, from, memory, written, room, blocked, received })
    }

    /// Runs for `time` ns after the warm-up. Returns the bytes received per second.
    fn run(mut self, time: u64) -> Result<f64, LoadgenError> {
        let begin = clock::now() + WARM_UP;
        let (mut since, mut ready) = (None, Vec::new());
        loop {
            let now = clock::now();
            if since.is_none() && now >= begin {
                since = Some((now, self.received));
            }
            if now >= begin + time || interrupt::is_requested() {
                let (since, before) = since.unwrap_or((now, self.received));
                let seconds = now.saturating_sub(since).max(1) as f64 / SECOND as f64;
                return Ok((self.received - before) as f64 / seconds);
            }
            self.write()?;
            ready.clear();
            self.poll.wait(Some(if self.blocked { MILLISECOND } else { 0 }), &mut ready)?;
            for event in &ready {
                self.serve(event)?;
            }
        }
    }

    /// Writes the rest of the buffer, or as much as the socket takes.
    fn write(&mut self) -> Result<(), LoadgenError> {
        while !self.blocked {
            match self.to.write(&self.memory[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    self.poll.modify(&self.to, TO, Interest::Both)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(LoadgenError::io("the socket baseline cannot write")(error));
                }
            }
            if self.written == self.memory.len() {
                self.written = 0;
                return Ok(());
            }
        }
        Ok(())
    }

    fn serve(&mut self, event: &Readiness) -> Result<(), LoadgenError> {
        if event.key == TO && event.output && self.blocked {
            self.blocked = false;
            self.poll.modify(&self.to, TO, Interest::Input)?;
        }
        if event.key == FROM && event.input {
            match self.from.read(&mut self.room) {
                Ok(count) => self.received += count as u64,
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    return Err(LoadgenError::io("the socket baseline cannot read")(error));
                }
            }
        }
        Ok(())
    }
}

/// The relay's end: reads and writes like the relay until the generator's end closes.
fn forget_and_write(
    from: TcpStream,
    to: TcpStream,
    lengths: MessageLengths,
) -> Result<(), LoadgenError> {
    let failed = LoadgenError::io("cannot prepare a socket");
    from.set_nonblocking(true).map_err(&failed)?;
    to.set_nonblocking(true).map_err(&failed)?;
    let poll = Epoll::new()?;
    poll.add(&from, FROM, Interest::Input)?;
    let mut room = vec![0; RELAY_READ.max(lengths.publish)];
    let copies = room.len() / lengths.publish + 1;
    let memory = vec![0; copies * lengths.deliver];
    let (mut relay, mut came) = (RelayEnd { poll, from, to, ready: Vec::new() }, 0);
    loop {
        relay.wait()?;
        match relay.from.read(&mut room) {
            Ok(0) => return Ok(()),
            Ok(count) => came += count,
            Err(error) if is_transient(&error) => continue,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(LoadgenError::io("the socket baseline cannot read")(error)),
        }
        let whole = came / lengths.publish;
        came -= whole * lengths.publish;
        if !relay.write(&memory[..whole * lengths.deliver])? {
            return Ok(());
        }
    }
}

struct RelayEnd {
    poll: Epoll,
    from: TcpStream,
    to: TcpStream,
    ready: Vec<Readiness>,
}

impl RelayEnd {
    /// Returns false once the generator's end is gone.
    fn write(&mut self, mut bytes: &[u8]) -> Result<bool, LoadgenError> {
        while !bytes.is_empty() {
            match self.to.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_room()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => return Ok(false),
                Err(error) => {
                    return Err(LoadgenError::io("the socket baseline cannot write")(error));
                }
            }
        }
        Ok(true)
    }

    fn wait(&mut self) -> Result<(), LoadgenError> {
        self.ready.clear();
        self.poll.wait(None, &mut self.ready)
    }

    fn wait_for_room(&mut self) -> Result<(), LoadgenError> {
        self.poll.remove(&self.from)?;
        self.poll.add(&self.to, TO, Interest::Output)?;
        self.wait()?;
        self.poll.remove(&self.to)?;
        self.poll.add(&self.from, FROM, Interest::Input)
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

    #[test]
    fn bytes_flow_in_both_directions() {
        let cores = PinnedCores { generator: None, relay: None };
        for (publish, deliver) in [(70, 90), (300_000, 300_030)] {
            let rate =
                measure(MessageLengths { publish, deliver }, cores, 50 * MILLISECOND).unwrap();
            assert!(rate > 1.0, "{rate} MB/s");
        }
    }
}
