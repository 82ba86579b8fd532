//! Waiting with epoll: one loop that waits, reads every socket that is ready, and has its turn.
//!
//! Readiness is level-triggered. A socket that is still full after one read is reported again by
//! the next wait, behind the others that are ready, so one busy client keeps nobody waiting and a
//! short read needs no second one to find that nothing is left.

use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Poller;
use crate::runtime::clock::until;
use crate::runtime::net::client_socket::{ClientRc, End};
use crate::runtime::net::socket::Socket;
use crate::runtime::sys::{self, EpollEvent};
use crate::runtime::turn::Core;
use crate::runtime::wakeup::Wakeup;

/// Sockets that are read before a turn. With a buffer of 64 KiB each it bounds the turn.
const EVENTS: usize = 64;
/// The key of the wake-up; those of clients are places in a vector.
const WAKEUP: u64 = u64::MAX;
/// The key of a client that is not among them.
const NO_KEY: usize = usize::MAX;

/// Waits with epoll.
#[derive(Debug)]
pub struct EpollPoller {
    epoll: OwnedFd,
}

/// A client's socket and what epoll was told of it.
#[derive(Debug)]
pub struct EpollSocket {
    stream: TcpStream,
    /// Its place among the clients.
    key: Cell<usize>,
    /// What is waited for; `None`: epoll does not know the socket.
    interest: Cell<Option<EventFlags>>,
}

impl From<TcpStream> for EpollSocket {
    fn from(stream: TcpStream) -> Self {
        Self { stream, key: Cell::new(NO_KEY), interest: Cell::new(None) }
    }
}

impl AsRawFd for EpollSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl AsFd for EpollSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Socket for EpollSocket {}

impl Poller for EpollPoller {
    type Socket = EpollSocket;

    fn new(cpu: usize) -> Result<Self, String> {
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus)
            .map_err(|why| format!("cannot keep a thread on CPU {cpu}: {why}"))?;
        let epoll = epoll::create(CreateFlags::CLOEXEC);
        let epoll = epoll.map_err(|why| format!("cannot make an epoll: {why}"))?;
        Ok(Self { epoll })
    }

    fn run(self, core: Core<EpollSocket>) -> Result<(), String> {
        let mut serving = Serving { epoll: self.epoll, core, clients: Slots::default() };
        let result = serving.run().map_err(|why| format!("cannot wait with epoll: {why}"))?;
        result.map_or(Ok(()), Err)
    }
}

/// The clients by their keys.
#[derive(Debug, Default)]
struct Slots {
    all: Vec<Option<ClientRc<EpollSocket>>>,
    free: Vec<usize>,
}

impl Slots {
    fn add(&mut self, client: ClientRc<EpollSocket>) -> usize {
        let key = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() - 1
        });
        self.all[key] = Some(client);
        key
    }

    fn get(&self, key: u64) -> Option<ClientRc<EpollSocket>> {
        self.all.get(usize::try_from(key).ok()?)?.clone()
    }

    fn remove(&mut self, key: usize) -> Option<ClientRc<EpollSocket>> {
        let client = self.all.get_mut(key)?.take()?;
        self.free.push(key);
        Some(client)
    }
}

struct Serving {
    epoll: OwnedFd,
    core: Core<EpollSocket>,
    clients: Slots,
}

impl Serving {
    /// Serves until the core is over; `Some`: why it cannot go on.
    fn run(&mut self) -> io::Result<Option<String>> {
        let wakeup = Arc::clone(self.core.wakeup());
        self.wait_for(&wakeup)?;
        let mut events = [sys::NO_EVENT; EVENTS];
        loop {
            self.core.turn();
            if let Some(why) = self.core.broken() {
                return Ok(Some(why.to_owned()));
            }
            if self.core.is_over() {
                return Ok(None);
            }
            self.follow_up();
            let timeout = self.timeout();
            let ready = sys::epoll_wait(self.epoll.as_fd(), &mut events, timeout)?;
            self.core.awake();
            for event in &events[..ready] {
                self.ready(event);
            }
        }
    }

    /// Edge-triggered: each wake-up is reported once, and nobody has to read the counter.
    fn wait_for(&self, wakeup: &Wakeup) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::ET;
        Ok(epoll::add(&self.epoll, wakeup, EventData::new_u64(WAKEUP), flags)?)
    }

    /// How long the thread may sleep. It announces the sleep.
    fn timeout(&mut self) -> Option<Duration> {
        let busy = self.core.turn_requested() || self.core.unfinished();
        if busy || !self.core.may_sleep() {
            return Some(Duration::ZERO);
        }
        let now = self.core.clock();
        self.core.deadline_us().map(|deadline| match deadline <= now.monotonic_us {
            true => Duration::ZERO,
            false => until(deadline, now),
        })
    }

    fn ready(&mut self, event: &EpollEvent) {
        let (key, flags) = (event.u64, EventFlags::from_bits_retain(event.events));
        let Some(client) = self.clients.get(key) else {
            return; // The wake-up: the turn finds out what for.
        };
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if client.blocked.get()
            && (broken || flags.contains(EventFlags::OUT))
            && let Err(error) = self.core.write_more(&client)
        {
            return self.end(&client, End::Error(error.kind()));
        }
        if client.reads() && (broken || flags.contains(EventFlags::IN)) {
            self.read(&client);
        } else if broken {
            // It would be reported for ever. Reading will find it, once the client is read again.
            return self.forget(&client);
        }
        let wanted = wanted(&client);
        self.tell(&client, wanted);
    }

    fn read(&mut self, client: &ClientRc<EpollSocket>) {
        match client.socket.receive(&mut self.core.buffer) {
            Ok(0) => self.end(client, End::Peer),
            Ok(bytes) => self.core.received(client, bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.end(client, End::Error(error.kind())),
        }
    }

    /// Does what the turn left for the poller.
    fn follow_up(&mut self) {
        for client in self.core.clients.take_added() {
            let key = self.clients.add(ClientRc::clone(&client));
            client.socket.key.set(key);
            self.tell(&client, EventFlags::IN);
        }
        for client in self.core.clients.take_changed() {
            match client.failed() {
                Some(end) => self.end(&client, end),
                None => self.widen(&client),
            }
        }
    }

    fn end(&mut self, client: &ClientRc<EpollSocket>, end: End) {
        // It may have failed twice. The kernel forgets the socket when it is closed.
        if self.clients.remove(client.socket.key.replace(NO_KEY)).is_some() {
            self.core.closed(client, end);
        }
    }

    /// Has epoll wait for more of a client. What is to be waited for no longer, because the client
    /// is paused, mostly is wanted again before anything arrives; so epoll is told when it does.
    fn widen(&mut self, client: &ClientRc<EpollSocket>) {
        let wanted = wanted(client);
        if !client.socket.interest.get().is_some_and(|known| known.contains(wanted)) {
            self.tell(client, wanted);
        }
    }

    /// Tells epoll what to wait for, if that changed.
    fn tell(&mut self, client: &ClientRc<EpollSocket>, wanted: EventFlags) {
        let socket = &client.socket;
        if socket.key.get() == NO_KEY {
            return;
        }
        let before = socket.interest.replace(Some(wanted));
        let data = EventData::new_u64(socket.key.get() as u64);
        let told = match before {
            Some(before) if before == wanted => return,
            Some(_) => epoll::modify(&self.epoll, socket, data, wanted),
            None => epoll::add(&self.epoll, socket, data, wanted),
        };
        if let Err(error) = told {
            // No memory for one more.
            self.end(client, End::Error(io::Error::from(error).kind()));
        }
    }

    fn forget(&self, client: &ClientRc<EpollSocket>) {
        if client.socket.interest.take().is_some() {
            // The only failures are those of a socket that epoll does not know.
            let _ = epoll::delete(&self.epoll, &client.socket);
        }
    }
}

/// What to wait for. A paused client is not read.
fn wanted(client: &ClientRc<EpollSocket>) -> EventFlags {
    let mut wanted = EventFlags::empty();
    wanted.set(EventFlags::IN, client.reads());
    wanted.set(EventFlags::OUT, client.blocked.get());
    wanted
}
