//! Readiness of sockets: one epoll set, level-triggered, with timeouts in nanoseconds.
//!
//! Whole milliseconds, which most wrappers round to, would show in the latencies of a fixed rate.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use crate::failure::Failure;

const EVENTS_MAX: usize = 128;

/// What a socket is watched for besides input and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Input alone.
    Input,
    /// Input and room for output.
    Both,
    /// Room for output alone.
    Output,
    /// Only its end.
    Nothing,
}

/// What one socket is ready for.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// The key it was added with.
    pub key: usize,
    /// Something to read: octets, the end or an error.
    pub input: bool,
    /// Room to write.
    pub output: bool,
}

/// An epoll set.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new() -> Result<Self, Failure> {
        epoll::create(CreateFlags::CLOEXEC).map(Self).map_err(Failure::system("no epoll"))
    }

    /// Adds a socket under a key of the caller's.
    ///
    /// # Errors
    /// The system refuses.
    pub fn add(&self, source: impl AsFd, key: usize, watch: Watch) -> Result<(), Failure> {
        let data = EventData::new_u64(key as u64);
        epoll::add(&self.0, source, data, flags(watch))
            .map_err(Failure::system("cannot watch a socket"))
    }

    /// Changes what a socket is watched for.
    ///
    /// # Errors
    /// The system refuses.
    pub fn modify(&self, source: impl AsFd, key: usize, watch: Watch) -> Result<(), Failure> {
        let data = EventData::new_u64(key as u64);
        epoll::modify(&self.0, source, data, flags(watch))
            .map_err(Failure::system("cannot watch a socket"))
    }

    /// Takes a socket out.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(&self, source: impl AsFd) -> Result<(), Failure> {
        epoll::delete(&self.0, source).map_err(Failure::system("cannot unwatch a socket"))
    }

    /// Waits until a socket is ready or the time is over (`None`: for ever) and appends what is.
    ///
    /// # Errors
    /// The system refuses.
    pub fn wait(&self, nanoseconds: Option<u64>, ready: &mut Vec<Ready>) -> Result<(), Failure> {
        let timeout = nanoseconds.map(|span| {
            // Durations of a run are far from the limits of a timespec.
            Timespec::try_from(Duration::from_nanos(span)).unwrap_or_default()
        });
        let mut room = [MaybeUninit::<Event>::uninit(); EVENTS_MAX];
        let events = match epoll::wait(&self.0, &mut room[..], timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(Failure::system("cannot wait for sockets")(errno)),
        };
        ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            Ready {
                key: event.data.u64() as usize,
                input: broken || flags.contains(EventFlags::IN),
                output: broken || flags.contains(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

fn flags(watch: Watch) -> EventFlags {
    match watch {
        Watch::Input => EventFlags::IN,
        Watch::Both => EventFlags::IN | EventFlags::OUT,
        Watch::Output => EventFlags::OUT,
        Watch::Nothing => EventFlags::empty(),
    }
}

/// Wakes a thread that waits in [`Poll::wait`].
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// A waker; the thread to be woken adds it to its set.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new() -> Result<Self, Failure> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        eventfd(0, flags).map(Self).map_err(Failure::system("no eventfd"))
    }

    /// What to add to a [`Poll`].
    #[must_use]
    pub fn source(&self) -> &OwnedFd {
        &self.0
    }

    /// Wakes the thread.
    ///
    /// # Errors
    /// The system refuses.
    pub fn wake(&self) -> Result<(), Failure> {
        match rustix::io::write(&self.0, &1u64.to_ne_bytes()) {
            // A full counter is still above zero: the thread wakes.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(Failure::system("cannot wake a thread")(errno)),
        }
    }

    /// Takes back what [`Waker::wake`] did, so that the next wait waits again.
    ///
    /// # Errors
    /// The system refuses.
    pub fn reset(&self) -> Result<(), Failure> {
        match rustix::io::read(&self.0, &mut [0; 8]) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(Failure::system("cannot reset an eventfd")(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn waits_for_less_than_a_millisecond() {
        let poll = Poll::new().unwrap();
        let before = clock::now();
        let mut ready = Vec::new();
        poll.wait(Some(100_000), &mut ready).unwrap();
        assert!(clock::now() - before >= 100_000);
        assert!(ready.is_empty());
        // A system call that counts in milliseconds would round every one of these up to one; the
        // best of many tells, however busy the machine is.
        let waited = (0..200).map(|_| {
            let before = clock::now();
            poll.wait(Some(100_000), &mut ready).unwrap();
            clock::now() - before
        });
        assert!(waited.min().unwrap() < 1_000_000);
    }

    #[test]
    fn a_waker_wakes_until_reset() {
        let (poll, waker) = (Poll::new().unwrap(), Waker::new().unwrap());
        poll.add(waker.source(), 7, Watch::Input).unwrap();
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
