//! What two cores carry between them when nobody looks at the octets: from memory into a socket,
//! out of the socket and forgotten, in both directions at once.
//!
//! ```text
//!   generator's core                                relay's core
//!   memory ----write----> | socket | ----read----> forgotten: 64 KiB at a time
//!   forgotten <---read--- | socket | <---write---- memory: for each octet that came, as many as
//!                                                  the relay would make of it
//! ```
//!
//! The relay and its generator do exactly these system calls, on the same cores, with buffers of
//! the same sizes: each octet is written once and read once, and each core does both. A single
//! stream would be no equal, for there one core only writes and the other only reads. What the
//! relay lacks of this pair is what it costs to make, copy and count messages.

use std::fmt::{self, Display, Formatter};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use serde::Serialize;

use crate::clock::{self, MILLISECOND, SECOND};
use crate::ends::loopback;
use crate::failure::Failure;
use crate::interrupt;
use crate::poll::{Poll, Ready, Watch};
use crate::run::WRITE;
use crate::threads;

/// What the generator reads at once from a busy connection.
const READ: usize = 256 * 1024;
/// What the relay reads at once.
const RELAY_READ: usize = 64 * 1024;
/// How long the sockets may take to grow their buffers (ns); that is not measured.
const WARM_UP: u64 = 200 * MILLISECOND;
const TO: usize = 0;
const FROM: usize = 1;

/// How large a message is on its two ways, with all that frames it (octets).
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    /// From the generator to the relay.
    pub publish: usize,
    /// And back.
    pub deliver: usize,
}

/// Where the two ends run; `None` is anywhere.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// The generator's CPU.
    pub near: Option<usize>,
    /// The relay's.
    pub far: Option<usize>,
}

/// The relay beside the pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Beside {
    /// Megabytes (10^6 octets) a second that the pair carried, both directions together.
    pub pair_megabytes: f64,
    /// The same of the relay, frames included.
    pub relay_megabytes: f64,
    /// What part of the pair's rate the relay has.
    pub share: f64,
}

impl Beside {
    /// Of a relay with so many messages a second, and of pairs before and behind it.
    #[must_use]
    pub fn new(messages: f64, lengths: Lengths, pairs: [f64; 2]) -> Self {
        let relay_megabytes = messages * (lengths.publish + lengths.deliver) as f64 / 1e6;
        let pair_megabytes = (pairs[0] + pairs[1]) / 2.0;
        let share = if pair_megabytes > 0.0 { relay_megabytes / pair_megabytes } else { 0.0 };
        Self { pair_megabytes, relay_megabytes, share }
    }
}

impl Display for Beside {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { pair_megabytes, relay_megabytes, share } = self;
        writeln!(
            f,
            "octets with their frames, both ways: {relay_megabytes:.0} MB/s, {:.0} % of the \
             {pair_megabytes:.0} MB/s of a bare pair of sockets",
            100.0 * share
        )
    }
}

/// Runs a pair for so long (ns, after a short warm-up). Returns megabytes a second, both directions
/// together.
///
/// # Errors
/// The system refuses a socket, a thread or a CPU.
pub fn measure(lengths: Lengths, cores: Cores, time: u64) -> Result<f64, Failure> {
    let (to, far_from) = loopback()?;
    let (from, far_to) = loopback()?;
    let far = spawn(cores.far, move || forget_and_write(far_from, far_to, lengths))?;
    let near = spawn(cores.near, move || Near::new(to, from, lengths)?.run(time))?;
    let rate = join(near);
    // The near end has closed its sockets, well or not: the far end comes to its own.
    join(far)?;
    let both = (lengths.publish + lengths.deliver) as f64 / lengths.deliver as f64;
    rate.map(|received| received * both / 1e6)
}

type Thread<T> = std::thread::JoinHandle<Result<T, Failure>>;

fn spawn<T: Send + 'static>(
    cpu: Option<usize>,
    body: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<Thread<T>, Failure> {
    let pinned = move || threads::prepare(cpu).and_then(|()| body());
    let builder = std::thread::Builder::new().name("pair".to_owned());
    builder.spawn(pinned).map_err(Failure::io("cannot start a thread"))
}

fn join<T>(thread: Thread<T>) -> Result<T, Failure> {
    thread.join().map_err(|_| {
        Failure::Settings("an end of the pair panicked; this is a fault of loadgen".to_owned())
    })?
}

/// The generator's end.
struct Near {
    poll: Poll,
    to: TcpStream,
    from: TcpStream,
    memory: Vec<u8>,
    written: usize,
    room: Vec<u8>,
    blocked: bool,
    received: u64,
}

impl Near {
    fn new(to: TcpStream, from: TcpStream, lengths: Lengths) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        for socket in [&to, &from] {
            socket.set_nonblocking(true).map_err(Failure::io("cannot prepare a socket"))?;
        }
        poll.add(&to, TO, Watch::Input)?;
        poll.add(&from, FROM, Watch::Input)?;
        let memory = vec![0; (WRITE / lengths.publish).max(1) * lengths.publish];
        let (written, room, blocked, received) = (0, vec![0; READ], false, 0);
        Ok(Self { poll, to, from, memory, written, room, blocked, received })
    }

    /// Octets received a second.
    fn run(mut self, time: u64) -> Result<f64, Failure> {
        let begin = clock::now() + WARM_UP;
        let (mut since, mut ready) = (None, Vec::new());
        loop {
            let now = clock::now();
            if since.is_none() && now >= begin {
                since = Some((now, self.received));
            }
            if now >= begin + time || interrupt::came() {
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

    /// One buffer, or as much of it as there is room for.
    fn write(&mut self) -> Result<(), Failure> {
        while !self.blocked {
            match self.to.write(&self.memory[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    self.poll.modify(&self.to, TO, Watch::Both)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::io("the pair cannot write")(error)),
            }
            if self.written == self.memory.len() {
                self.written = 0;
                return Ok(());
            }
        }
        Ok(())
    }

    fn serve(&mut self, event: &Ready) -> Result<(), Failure> {
        if event.key == TO && event.output && self.blocked {
            self.blocked = false;
            self.poll.modify(&self.to, TO, Watch::Input)?;
        }
        if event.key == FROM && event.input {
            match self.from.read(&mut self.room) {
                Ok(count) => self.received += count as u64,
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(Failure::io("the pair cannot read")(error)),
            }
        }
        Ok(())
    }
}

/// The relay's end: reads and writes like it, until the near end hangs up.
fn forget_and_write(from: TcpStream, to: TcpStream, lengths: Lengths) -> Result<(), Failure> {
    let failed = Failure::io("cannot prepare a socket");
    from.set_nonblocking(true).map_err(&failed)?;
    to.set_nonblocking(true).map_err(&failed)?;
    let poll = Poll::new()?;
    poll.add(&from, FROM, Watch::Input)?;
    let mut room = vec![0; RELAY_READ.max(lengths.publish)];
    let copies = room.len() / lengths.publish + 1;
    let memory = vec![0; copies * lengths.deliver];
    let (mut far, mut came) = (Far { poll, from, to, ready: Vec::new() }, 0);
    loop {
        far.wait()?;
        match far.from.read(&mut room) {
            Ok(0) => return Ok(()),
            Ok(count) => came += count,
            Err(error) if is_transient(&error) => continue,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(Failure::io("the pair cannot read")(error)),
        }
        let whole = came / lengths.publish;
        came -= whole * lengths.publish;
        if !far.write(&memory[..whole * lengths.deliver])? {
            return Ok(());
        }
    }
}

struct Far {
    poll: Poll,
    from: TcpStream,
    to: TcpStream,
    ready: Vec<Ready>,
}

impl Far {
    /// Says whether the near end is still there.
    fn write(&mut self, mut octets: &[u8]) -> Result<bool, Failure> {
        while !octets.is_empty() {
            match self.to.write(octets) {
                Ok(count) => octets = &octets[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_room()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => return Ok(false),
                Err(error) => return Err(Failure::io("the pair cannot write")(error)),
            }
        }
        Ok(true)
    }

    fn wait(&mut self) -> Result<(), Failure> {
        self.ready.clear();
        self.poll.wait(None, &mut self.ready)
    }

    fn wait_for_room(&mut self) -> Result<(), Failure> {
        self.poll.remove(&self.from)?;
        self.poll.add(&self.to, TO, Watch::Output)?;
        self.wait()?;
        self.poll.remove(&self.to)?;
        self.poll.add(&self.from, FROM, Watch::Input)
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
    fn octets_go_both_ways() {
        let cores = Cores { near: None, far: None };
        for (publish, deliver) in [(70, 90), (300_000, 300_030)] {
            let rate = measure(Lengths { publish, deliver }, cores, 50 * MILLISECOND).unwrap();
            assert!(rate > 1.0, "{rate} MB/s");
        }
    }

    #[test]
    fn a_share_is_of_octets_both_ways() {
        let lengths = Lengths { publish: 40, deliver: 60 };
        let beside = Beside::new(1e6, lengths, [150.0, 250.0]);
        assert_eq!((beside.relay_megabytes, beside.share), (100.0, 0.5));
        assert_eq!(Beside::new(1.0, lengths, [0.0, 0.0]).share, 0.0);
    }
}
