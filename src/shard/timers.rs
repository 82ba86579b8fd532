//! Deadlines of connections: handshake, heartbeats both ways, the end of a close.

use std::cmp::{Ordering, Reverse};

use model::mutant::{self, Mutant};
use model::{ConnId, Now};

use super::conn::{Conn, Phase};
use super::machine::Shard;

/// When a connection is to be looked at; the earliest comes first out of a heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
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

/// What is due on a connection.
enum Action {
    Nothing,
    Heartbeat,
    GiveUp,
}

/// How long a client may take to answer connection.close, as RabbitMQ's CLOSING_TIMEOUT.
const CLOSE_OK_US: u64 = 30_000_000;

impl Conn {
    /// How long its close-ok is waited for: no longer than it may be silent.
    pub fn close_ok_us(&self) -> u64 {
        match self.heartbeat_us() {
            0 => CLOSE_OK_US,
            interval => interval.min(CLOSE_OK_US),
        }
    }

    fn heartbeat_us(&self) -> u64 {
        u64::from(self.handshake.negotiated().heartbeat_s) * 1_000_000
    }

    /// Nothing was heard for between two and three intervals.
    fn silent_at(&self) -> u64 {
        let interval = self.heartbeat_us();
        // Nothing can be heard on a socket that is not read.
        let paused = self.paused != 0 && !mutant::active(Mutant::PausedDropped);
        if interval == 0 || paused {
            return u64::MAX;
        }
        self.received_us + interval * 5 / 2
    }

    fn heartbeat_at(&self) -> u64 {
        match self.heartbeat_us() {
            0 => u64::MAX,
            interval => self.sent_us + interval / 2,
        }
    }

    fn deadline(&self, handshake_us: u64) -> u64 {
        match self.phase {
            Phase::Alive if !self.handshake.running() => {
                self.opened_us.saturating_add(handshake_us)
            }
            Phase::Alive => self.silent_at().min(self.heartbeat_at()),
            Phase::ClosedByServer => self.leave_us,
            Phase::ClosedByClient | Phase::Leaving => u64::MAX,
        }
    }

    /// What the client did not do in time.
    fn late(&self) -> &'static str {
        match self.phase {
            Phase::Alive if !self.handshake.running() => "handshake_timeout",
            Phase::Alive => "missed heartbeats from client",
            _ => "the client did not answer connection.close",
        }
    }

    fn due(&self, handshake_us: u64, now: Now) -> Action {
        let us = now.monotonic_us;
        if self.deadline(handshake_us) > us {
            return Action::Nothing;
        }
        let running = self.phase == Phase::Alive && self.handshake.running();
        if running && self.silent_at() > us { Action::Heartbeat } else { Action::GiveUp }
    }
}

impl Shard {
    /// Sets a connection's timer if that is earlier than what is set.
    pub(super) fn arm(&mut self, id: ConnId, now: Now) {
        let handshake_us = self.limits.handshake_timeout_ms.saturating_mul(1000);
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        let at_us = conn.deadline(handshake_us).max(now.monotonic_us);
        if at_us < conn.timer_us {
            conn.timer_us = at_us;
            self.timers.push(Due { at_us, conn: id });
        }
    }

    /// When [`Shard::tick`] is to be called next, on the monotonic clock.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        let receiving = self.receiving_turn.map(|turn| turn.until_us);
        let timer = self.timers.peek().map(|due| due.at_us);
        [timer, receiving, self.store.deadline_us()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        // A connection whose pause ended in this turn is read first: it was silent because it was
        // not read.
        self.go_on(now);
        self.end_receiving_turn(now);
        while let Some(due) = self.timers.peek().copied()
            && due.at_us <= now.monotonic_us
        {
            self.timers.pop();
            let Some(conn) = self.clients.get(due.conn) else {
                continue;
            };
            if conn.timer_us != due.at_us {
                continue;
            }
            conn.timer_us = u64::MAX;
            self.fire(due.conn, now);
            self.rearm(due.conn, now);
        }
    }

    /// The next look is at least a little later, whatever stands.
    fn rearm(&mut self, id: ConnId, now: Now) {
        const LEAST_US: u64 = 1000;
        let later = Now { monotonic_us: now.monotonic_us + LEAST_US, ..now };
        let paused_again_us = 1_000_000;
        self.arm(id, later);
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        // A paused connection without heartbeats to send is looked at again when it is read.
        if conn.timer_us == u64::MAX && conn.paused != 0 {
            conn.timer_us = now.monotonic_us + paused_again_us;
            self.timers.push(Due { at_us: conn.timer_us, conn: id });
        }
    }

    fn fire(&mut self, id: ConnId, now: Now) {
        let handshake_us = self.limits.handshake_timeout_ms.saturating_mul(1000);
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        match conn.due(handshake_us, now) {
            Action::Nothing => {}
            Action::Heartbeat if mutant::active(Mutant::NoHeartbeats) => {
                conn.sent_us = now.monotonic_us;
            }
            Action::Heartbeat => {
                amqp::frame::write_heartbeat(conn.outbox.buffer());
                conn.sent_us = now.monotonic_us;
                self.clients.touch(id);
            }
            // Nobody is listening, so nothing is said.
            Action::GiveUp => {
                let late = conn.late();
                conn.why.get_or_insert_with(|| late.into());
                conn.phase = Phase::Leaving;
                conn.paused = 0;
                self.let_go(id);
                self.clients.touch(id);
            }
        }
    }
}
