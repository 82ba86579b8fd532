//! The life cycle of connections: how far each is, what is to be released before close-ok is sent,
//! and when each is to be looked at.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use model::{ChannelId, ConnId, Map, Now, Seed, ShardId};

use crate::mesh::control::LoginAttempt;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Handshake or running.
    Alive,
    /// The client closed it; close-ok is sent when everything of it is released.
    ClosedByClient,
    /// The server closed it; close-ok is awaited.
    ClosedByServer,
    /// close-ok has been sent; the client is to end the socket.
    Closed,
    /// What waits is written, then the socket goes.
    Leaving,
}

/// The life of one connection. Times are microseconds of the monotonic clock.
#[derive(Debug)]
pub(crate) struct Life {
    pub phase: Phase,
    /// Why the server closed it, for the log.
    pub why: Option<Box<str>>,
    /// Declared exclusive queues, which go with it.
    pub owns_queues: bool,
    /// Homes that keep flow credit for it.
    pub homes: Vec<ShardId>,
    /// Closed channels that home shards have not released yet.
    pub releases: usize,
    /// What must be released before close-ok.
    pub releasing: usize,
    /// Everything it holds was let go, or is being.
    pub let_go: bool,
    /// Channels that are still to be released, once everything is given up.
    pub to_release: VecDeque<u16>,
    /// Its socket is gone: it is forgotten when its channels are released.
    pub gone: bool,
    /// The login that waits for its time.
    pub login: Option<Box<DelayedLogin>>,
    pub opened_us: u64,
    /// The same in milliseconds since 1970.
    pub opened_ms: u64,
    /// When something was last received.
    pub received_us: u64,
    /// When the server stops waiting for close-ok, or for the end of the socket.
    pub leave_us: u64,
    /// When it is looked at next.
    pub timer_us: u64,
    /// Its time is over, but what it sent may not have been read yet.
    pub doubt: Option<Doubt>,
}

impl Life {
    pub fn new(now: Now) -> Self {
        Self {
            phase: Phase::Alive,
            why: None,
            owns_queues: false,
            homes: Vec::new(),
            releases: 0,
            releasing: 0,
            let_go: false,
            to_release: VecDeque::new(),
            gone: false,
            login: None,
            opened_us: now.monotonic_us,
            opened_ms: now.wall_ms,
            received_us: now.monotonic_us,
            leave_us: u64::MAX,
            timer_us: u64::MAX,
            doubt: None,
        }
    }

    /// Remembers that a home keeps flow credit for the connection.
    pub fn involve(&mut self, home: ShardId) {
        if !self.homes.contains(&home) {
            self.homes.push(home);
        }
    }
}

/// A client whose time is over: the broker may be late, and has not read what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// The doubt lasts at least until then.
    pub until_us: u64,
    /// It lasts at least until the shard has had so many turns.
    pub until_turn: u64,
}

/// A login of a source from which others failed: see `coordinator/login_pace.rs`.
#[derive(Debug)]
pub(crate) struct DelayedLogin {
    pub at_us: u64,
    pub step: DelayedStep,
}

/// What is done when the time has come.
#[derive(Debug)]
pub(crate) enum DelayedStep {
    /// Ask the coordinator again.
    Ask(LoginAttempt),
    /// Tell the client that the login is refused.
    Refuse,
}

/// Channels that home shards have not released yet.
#[derive(Debug)]
pub(crate) struct Releases(Map<ChannelId, Release>);

#[derive(Debug, Clone, Copy)]
struct Release {
    conn: ConnId,
    homes: usize,
}

impl Releases {
    pub fn new(seed: Seed) -> Self {
        Self(Map::with_hasher(seed))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// This many home shards have not released the channel yet.
    pub fn add(&mut self, channel: ChannelId, conn: ConnId, homes: usize) {
        self.0.insert(channel, Release { conn, homes });
    }

    /// One home has let go; the connection, when that was the last.
    pub fn one(&mut self, channel: ChannelId) -> Option<ConnId> {
        let release = self.0.get_mut(&channel)?;
        release.homes -= 1;
        let conn = release.conn;
        if release.homes > 0 {
            return None;
        }
        self.0.remove(&channel);
        Some(conn)
    }
}

/// When a connection is to be looked at; the earliest comes first out of a heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    at_us: u64,
    conn: ConnId,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        Reverse((self.at_us, self.conn)).cmp(&Reverse((other.at_us, other.conn)))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The timers of all connections.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Due>);

impl Timers {
    pub fn set(&mut self, at_us: u64, conn: ConnId) {
        self.0.push(Due { at_us, conn });
    }

    /// The earliest.
    pub fn next_us(&self) -> Option<u64> {
        self.0.peek().map(|due| due.at_us)
    }

    /// A timer that is due, with the time it was set for.
    pub fn due(&mut self, now: Now) -> Option<(u64, ConnId)> {
        if self.next_us()? > now.monotonic_us {
            return None;
        }
        self.0.pop().map(|due| (due.at_us, due.conn))
    }
}
