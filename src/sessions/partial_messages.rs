//! Partial messages: their memory is counted, and beyond a bound only the oldest continues to be
//! read, so that one can always be finished. If it makes no progress while others wait, it is given
//! up.

use std::collections::BTreeMap;

use model::mutant::{self, Mutant};
use model::session::channel::State;
use model::{ConnId, Now};

use crate::sessions::connection::pause;
use crate::sessions::connections::Connections;

/// While others wait, the oldest must bring [`LEAST`] bytes, or its end, in each such time.
const TURN_US: u64 = 10_000_000;
/// So it delays the others for at most five and a half minutes, at 128 MiB.
const LEAST: usize = 4 * 1024 * 1024;

/// The oldest partial message while memory for them is short.
#[derive(Debug, Clone, Copy)]
struct OldestTurn {
    order: u64,
    /// What it held when the turn began.
    bytes: usize,
    until_us: u64,
}

/// The partial messages of a shard that were counted.
#[derive(Debug)]
pub(crate) struct PartialMessages {
    /// Oldest first: the connection and the bytes so far.
    list: BTreeMap<u64, (ConnId, usize)>,
    bytes: usize,
    max: usize,
    own_max: usize,
    next: u64,
    /// Connections may be paused for that.
    waits: bool,
    /// Memory is short because of something else: not even the oldest goes on.
    short: bool,
    turn: Option<OldestTurn>,
}

impl PartialMessages {
    /// All may hold `max` bytes, and those of the connection that goes on `own_max`.
    pub fn new(max: usize, own_max: usize) -> Self {
        let list = BTreeMap::new();
        Self { list, bytes: 0, max, own_max, next: 1, waits: false, short: false, turn: None }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Bytes of memory that they hold.
    pub fn pinned(&self) -> usize {
        if mutant::active(Mutant::PartialUncounted) {
            return 0;
        }
        self.bytes
    }

    /// When [`Self::overdue`] is to be asked, in microseconds of the monotonic clock.
    pub fn deadline_us(&self) -> Option<u64> {
        self.turn.map(|turn| turn.until_us)
    }

    /// Looks how the oldest gets on, at the end of a turn.
    #[inline]
    pub fn watch(&mut self, now: Now) {
        if self.bytes <= self.max || self.short {
            self.turn = None;
            return;
        }
        let Some((&order, &(_, bytes))) = self.list.first_key_value() else {
            return;
        };
        let goes_on = |turn: &OldestTurn| turn.order != order || bytes >= turn.bytes + LEAST;
        if self.turn.as_ref().is_none_or(goes_on) {
            let until_us = now.monotonic_us + TURN_US;
            self.turn = Some(OldestTurn { order, bytes, until_us });
        }
    }

    /// The broker's memory is short (`alarm`), and this shard holds so many bytes of `others`. What
    /// is partial waits as publishers do, unless it is itself much of what has to become less.
    #[inline]
    pub fn memory_is_short(&mut self, alarm: bool, others: usize, connections: &mut Connections) {
        let short = alarm && others >= 2 * self.bytes;
        if std::mem::replace(&mut self.short, short) && !short {
            self.go_on(connections);
        }
    }

    /// True if the oldest has had its time.
    pub fn turn_is_over(&self, now: Now) -> bool {
        self.turn.is_some_and(|turn| turn.until_us <= now.monotonic_us)
    }

    /// Ends the turn of the oldest. The channel that has to be given up, if it kept others waiting
    /// and the broker let it go on.
    pub fn end_turn(&mut self, connections: &mut Connections) -> Option<(ConnId, u16)> {
        let turn = self.turn.take()?;
        let owner = self.list.get(&turn.order)?.0;
        let waits = |conn: &ConnId| {
            connections.get(*conn).is_some_and(|conn| conn.paused & pause::DRAFTS != 0)
        };
        let mut owners = self.list.values().map(|(conn, _)| conn);
        if !owners.any(waits) {
            return None;
        }
        if connections.get(owner)?.paused & (pause::ALARM | pause::WINDOW) != 0 {
            return None;
        }
        Some((owner, receiver(connections, owner, turn.order)?))
    }

    /// Counts the memory of a connection's partial messages after a chunk. Returns the channels to
    /// close because the connection holds too much.
    #[inline]
    pub fn count(&mut self, connections: &mut Connections, id: ConnId) -> Vec<u16> {
        let Some(conn) = connections
            .get(id)
            .filter(|conn| !conn.channels.halves.is_empty() && !conn.life.let_go)
        else {
            return Vec::new();
        };
        for number in std::mem::take(&mut conn.channels.halves) {
            self.count_half(connections, id, number);
        }
        if self.bytes <= self.max && !self.short {
            return Vec::new();
        }
        let oldest = self.list.first_key_value().map(|(_, (conn, _))| *conn);
        if oldest == Some(id) && !self.short && !mutant::active(Mutant::OldestStopped) {
            return self.youngest(connections, id);
        }
        // One that holds nothing any more has nothing to wait for, and nobody would wake it.
        if self.list.values().any(|(conn, _)| *conn == id) {
            connections.pause(id, pause::DRAFTS);
            self.waits = true;
            connections.touch(id);
        }
        Vec::new()
    }

    /// Beside the oldest message a connection may send others on its other channels: those that it
    /// began last are given up once all of them together hold too much for one connection.
    fn youngest(&self, connections: &mut Connections, id: ConnId) -> Vec<u16> {
        let own = self.list.iter().filter(|(_, (conn, _))| *conn == id);
        let mut own: Vec<(u64, usize)> = own.map(|(order, (_, bytes))| (*order, *bytes)).collect();
        let mut bytes: usize = own.iter().map(|(_, bytes)| bytes).sum();
        let mut given_up = Vec::new();
        while own.len() > 1
            && bytes > self.own_max
            && let Some((order, freed)) = own.pop()
        {
            bytes -= freed;
            given_up.extend(receiver(connections, id, order));
        }
        given_up
    }

    fn count_half(&mut self, connections: &mut Connections, id: ConnId, number: u16) {
        let Some(channel) = connections.channel(id, number) else {
            return;
        };
        // One that was completed, or given up, by the rest of the chunk holds nothing.
        if channel.assembler == amqp::Assembler::Idle || channel.state != State::Open {
            return;
        }
        if channel.draft_order == 0 {
            channel.draft_order = self.next;
            self.next += 1;
        }
        let (order, pinned) = (channel.draft_order, channel.half());
        let entry = self.list.entry(order).or_insert((id, 0));
        self.bytes += pinned - entry.1;
        entry.1 = pinned;
    }

    /// A message is whole, or given up: others may go on.
    pub fn finished(&mut self, connections: &mut Connections, order: u64) {
        let Some((owner, bytes)) = self.list.remove(&order) else {
            return;
        };
        self.bytes -= bytes;
        if !self.waits {
            return;
        }
        connections.unpause(owner, pause::DRAFTS);
        if !self.short {
            self.go_on(connections);
        }
    }

    /// Those that wait go on, or the oldest of them.
    #[cold]
    fn go_on(&mut self, connections: &mut Connections) {
        let all = self.bytes <= self.max;
        self.waits = !all;
        let how_many = if all { self.list.len() } else { 1 };
        for (conn, _) in self.list.values().take(how_many) {
            connections.unpause(*conn, pause::DRAFTS);
        }
    }
}

/// The channel that receives a message.
fn receiver(connections: &mut Connections, id: ConnId, order: u64) -> Option<u16> {
    let channels = &mut connections.get(id)?.channels;
    let mut numbers = channels.numbers().into_iter();
    numbers.find(|number| channels.get(*number).is_some_and(|found| found.draft_order == order))
}
