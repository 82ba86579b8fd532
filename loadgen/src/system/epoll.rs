//! Readiness of sockets: one level-triggered epoll set with timeouts in nanoseconds.
//!
//! Most wrappers round timeouts to whole milliseconds, which would add to the latencies at a fixed
//! rate.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use crate::system::error::LoadgenError;

const EVENTS_MAX: usize = 128;

/// What a socket is watched for, besides its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Input.
    Input,
    /// Input and room for output.
    Both,
    /// Room for output.
    Output,
    /// Only its end.
    Nothing,
}

/// What a socket is ready for.
#[derive(Debug, Clone, Copy)]
pub struct Readiness {
    /// The key that the socket was added with.
    pub key: usize,
    /// There is something to read: bytes, the end of the stream or an error.
    pub input: bool,
    /// There is room to write.
    pub output: bool,
}

/// An epoll set.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new() -> Result<Self, LoadgenError> {
        epoll::create(CreateFlags::CLOEXEC)
            .map(Self)
            .map_err(LoadgenError::system("cannot create an epoll set"))
    }

    /// Adds a socket under a key that the caller chooses.
    ///
    /// # Errors
    /// The system call fails.
    pub fn add(&self, source: impl AsFd, key: usize, watch: Interest) -> Result<(), LoadgenError> {
        let data = EventData::new_u64(key as u64);
        epoll::add(&self.0, source, data, flags(watch))
            .map_err(LoadgenError::system("cannot watch a socket"))
    }

    /// Changes what a socket is watched for.
    ///
    /// # Errors
    /// The system call fails.
    pub fn modify(
        &self,
        source: impl AsFd,
        key: usize,
        watch: Interest,
    ) -> Result<(), LoadgenError> {
        let data = EventData::new_u64(key as u64);
        epoll::modify(&self.0, source, data, flags(watch))
            .map_err(LoadgenError::system("cannot watch a socket"))
    }

    /// Removes a socket.
    ///
    /// # Errors
    /// The system call fails.
    pub fn remove(&self, source: impl AsFd) -> Result<(), LoadgenError> {
        epoll::delete(&self.0, source)
            .map_err(LoadgenError::system("cannot stop watching a socket"))
    }

    /// Waits until a socket is ready or the time is over (`None`: no limit) and appends the ready
    /// ones. May return early without any.
    ///
    /// # Errors
    /// The system call fails.
    pub fn wait(
        &self,
        nanoseconds: Option<u64>,
        ready: &mut Vec<Readiness>,
    ) -> Result<(), LoadgenError> {
        let timeout = nanoseconds.map(|span| {
            // A span of nanoseconds in 64 bits always fits a timespec.
            Timespec::try_from(Duration::from_nanos(span)).unwrap_or_default()
        });
        let mut room = [MaybeUninit::<Event>::uninit(); EVENTS_MAX];
        let events = match epoll::wait(&self.0, &mut room[..], timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(LoadgenError::system("cannot wait for sockets")(errno)),
        };
        ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            Readiness {
                key: event.data.u64() as usize,
                input: broken || flags.contains(EventFlags::IN),
                output: broken || flags.contains(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

fn flags(watch: Interest) -> EventFlags {
    match watch {
        Interest::Input => EventFlags::IN,
        Interest::Both => EventFlags::IN | EventFlags::OUT,
        Interest::Output => EventFlags::OUT,
        Interest::Nothing => EventFlags::empty(),
    }
}

/// Wakes a thread that waits in [`Epoll::wait`].
#[derive(Debug)]
pub struct EpollWaker(OwnedFd);

impl EpollWaker {
    /// A waker. The thread to be woken adds it to its set.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new() -> Result<Self, LoadgenError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        eventfd(0, flags).map(Self).map_err(LoadgenError::system("cannot create an eventfd"))
    }

    /// What to add to an [`Epoll`].
    #[must_use]
    pub fn source(&self) -> &OwnedFd {
        &self.0
    }

    /// Wakes the thread.
    ///
    /// # Errors
    /// The system call fails.
    pub fn wake(&self) -> Result<(), LoadgenError> {
        match rustix::io::write(&self.0, &1u64.to_ne_bytes()) {
            // A full counter is above zero, so the thread wakes.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(LoadgenError::system("cannot wake a thread")(errno)),
        }
    }

    /// Resets the waker, so that the next wait blocks again.
    ///
    /// # Errors
    /// The system call fails.
    pub fn reset(&self) -> Result<(), LoadgenError> {
        match rustix::io::read(&self.0, &mut [0; 8]) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(LoadgenError::system("cannot reset an eventfd")(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::clock;

    #[test]
    fn waits_for_less_than_a_millisecond() {
        let poll = Epoll::new().unwrap();
        let before = clock::now();
        let mut ready = Vec::new();
        poll.wait(Some(100_000), &mut ready).unwrap();
        assert!(clock::now() - before >= 100_000);
        assert!(ready.is_empty());
        // A system call with whole milliseconds would round each of these up to one. The minimum of
        // many is independent of the load of the machine.
        let waited = (0..200).map(|_| {
            let before = clock::now();
            poll.wait(Some(100_000), &mut ready).unwrap();
            clock::now() - before
        });
        assert!(waited.min().unwrap() < 1_000_000);
    }

    #[test]
    fn a_waker_wakes_until_reset() {
        let (poll, waker) = (Epoll::new().unwrap(), EpollWaker::new().unwrap());
        poll.add(waker.source(), 7, Interest::Input).unwrap();
        waker.wake().unwrap();
        let mut ready = Vec::new();
        poll.wait(None, &mut ready).unwrap();
        assert!(ready[0].key == 7 && ready[0].input);
        waker.reset().unwrap();
        ready.clear();
        poll.wait(Some(0), &mut ready).unwrap();
        assert!(ready.is_empty());
    }
}
