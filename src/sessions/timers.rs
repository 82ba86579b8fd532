//! Deadlines of connections: handshake, heartbeats both ways, how long a close may take.

use amqp::Code;
use model::mutant::{self, Mutant};
use model::{ConnId, Fault, Now};

use crate::sessions::broker::BrokerAccess;
use crate::sessions::connection::Connection;
use crate::sessions::life::{Doubt, Phase};
use crate::sessions::state::Sessions;

/// What is due on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimerAction {
    Nothing,
    Heartbeat,
    /// The time of a delayed login has come.
    Login,
    GiveUp,
}

/// How long a client may take to answer connection.close, or to end its socket after close-ok, as
/// RabbitMQ's CLOSING_TIMEOUT.
const CLOSE_OK_US: u64 = 30_000_000;
/// How long a client is doubted, at most, before it is given up.
const DOUBT_US: u64 = 500_000;
/// Turns in which it is doubted.
const DOUBT_TURNS: u64 = 3;
/// Sockets that a turn reads at least, if so many are ready.
const SOCKETS_A_TURN: usize = 64;

impl Connection {
    /// How long its close-ok or the end of its socket is waited for, in microseconds: no longer
    /// than it may be silent.
    pub(super) fn close_ok_us(&self) -> u64 {
        match self.kind.heartbeat_us() {
            0 => CLOSE_OK_US,
            interval => interval.min(CLOSE_OK_US),
        }
    }

    /// Nothing was heard for between two and three intervals.
    fn silent_at(&self) -> u64 {
        let interval = self.kind.heartbeat_us();
        // Nothing can be heard on a socket that is not read.
        let paused = self.paused != 0 && !mutant::active(Mutant::PausedDropped);
        if interval == 0 || paused {
            return u64::MAX;
        }
        self.life.received_us + interval * 5 / 2
    }

    fn heartbeat_at(&self) -> u64 {
        match self.kind.heartbeat_us() {
            0 => u64::MAX,
            interval => self.output.sent_us + interval / 2,
        }
    }

    fn login_at(&self) -> u64 {
        self.life.login.as_ref().map_or(u64::MAX, |login| login.at_us)
    }

    fn deadline(&self, handshake_us: u64) -> u64 {
        let doubted_us = self.life.doubt.map_or(0, |doubt| doubt.until_us);
        self.time_is_over_at(handshake_us).max(doubted_us)
    }

    fn time_is_over_at(&self, handshake_us: u64) -> u64 {
        let handshake_at = self.life.opened_us.saturating_add(handshake_us);
        match self.life.phase {
            Phase::Alive if !self.running => handshake_at.min(self.login_at()),
            // Who never logged in is not kept longer by closing.
            Phase::Closed if !self.running => handshake_at.min(self.life.leave_us),
            Phase::Alive => self.silent_at().min(self.heartbeat_at()),
            Phase::ClosedByServer | Phase::Closed => self.life.leave_us,
            Phase::ClosedByClient | Phase::Leaving => u64::MAX,
        }
    }

    /// What the client did not do in time; `None` if it closed the connection itself.
    fn late(&self) -> Option<&'static str> {
        match self.life.phase {
            Phase::Closed => None,
            Phase::Alive if !self.running => Some("handshake_timeout"),
            Phase::Alive => Some("missed heartbeats from client"),
            _ => Some("the client did not answer connection.close"),
        }
    }

    fn due(&self, handshake_us: u64, now: Now) -> TimerAction {
        let us = now.monotonic_us;
        if self.time_is_over_at(handshake_us) > us {
            return TimerAction::Nothing;
        }
        match (self.life.phase, self.running) {
            (Phase::Alive, true) if self.silent_at() > us => TimerAction::Heartbeat,
            (Phase::Alive, false) if self.login_at() <= us => TimerAction::Login,
            _ => TimerAction::GiveUp,
        }
    }
}

impl Connection {
    /// Whether it is waited for something that the client may have sent in time.
    fn may_have_sent(&self) -> bool {
        match self.life.phase {
            Phase::Alive => true,
            Phase::ClosedByServer => self.running,
            // Who was refused, or was told close-ok, has nothing more to say.
            Phase::ClosedByClient | Phase::Closed | Phase::Leaving => false,
        }
    }

    /// Whether the broker may be late, and the client not. After a long turn, or when the process
    /// was stopped, sockets are read before a client is given up: for a while, and for some turns,
    /// since each reads a bounded number of them. `turns`: how many there were, and connections.
    fn doubts(&mut self, (turns, connections): (u64, usize), now: Now) -> bool {
        let us = now.monotonic_us;
        let doubt = *self.life.doubt.get_or_insert_with(|| {
            let interval = self.kind.heartbeat_us();
            let most = if interval == 0 { DOUBT_US } else { interval / 4 };
            let until_turn = turns + DOUBT_TURNS + (connections / SOCKETS_A_TURN) as u64;
            Doubt { until_us: us + most.min(DOUBT_US), until_turn }
        });
        let judged_early = mutant::active(Mutant::LateJudged);
        !judged_early && (us < doubt.until_us || turns < doubt.until_turn)
    }
}

impl Sessions {
    fn handshake_us(&self) -> u64 {
        self.limits.handshake_timeout_ms.saturating_mul(1000)
    }

    /// Sets a connection's timer if that is earlier than what is set.
    pub(super) fn arm(&mut self, id: ConnId, now: Now) {
        let handshake_us = self.handshake_us();
        let Some(conn) = self.connections.get(id) else { return };
        let at_us = conn.deadline(handshake_us).max(now.monotonic_us);
        if at_us < conn.life.timer_us {
            conn.life.timer_us = at_us;
            self.timers.set(at_us, id);
        }
    }

    /// When [`Self::tick`] is to be called next, in microseconds of the monotonic clock.
    pub fn next_deadline_us(&self) -> Option<u64> {
        [self.timers.next_us(), self.partial.deadline_us()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, broker: &mut impl BrokerAccess) {
        // A connection whose pause ended in this turn is read first: it was silent because it was
        // not read.
        self.go_on(broker);
        self.end_partial_turn(broker);
        let now = broker.now();
        while let Some((at_us, id)) = self.timers.due(now) {
            let Some(conn) = self.connections.get(id) else { continue };
            if conn.life.timer_us != at_us {
                continue;
            }
            conn.life.timer_us = u64::MAX;
            self.fire(id, broker);
            self.rearm(id, now);
        }
    }

    /// Gives up the oldest partial message if it made too little progress in its time.
    fn end_partial_turn(&mut self, broker: &mut impl BrokerAccess) {
        if !self.partial.turn_is_over(broker.now()) {
            return;
        }
        if let Some((owner, number)) = self.partial.end_turn(&mut self.connections) {
            let text = "message was not finished while others were waiting for memory";
            let fault = Fault::new(Code::ContentTooLarge, text, (60, 40));
            self.fail(owner, number, &fault, broker);
        }
        self.partial.watch(broker.now());
    }

    /// Counts the memory of a connection's partial messages after a chunk.
    #[inline]
    pub(super) fn count_partial(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        for number in self.partial.count(&mut self.connections, id) {
            let text = "too much is half received on the channels of the connection";
            let fault = Fault::new(Code::ContentTooLarge, text, (60, 40));
            self.fail(id, number, &fault, broker);
        }
    }

    /// The next look is at least a little later, whatever stands.
    fn rearm(&mut self, id: ConnId, now: Now) {
        const LEAST_US: u64 = 1000;
        let later = Now { monotonic_us: now.monotonic_us + LEAST_US, ..now };
        let paused_again_us = 1_000_000;
        self.arm(id, later);
        let Some(conn) = self.connections.get(id) else { return };
        // A paused connection without heartbeats to send is looked at again when it is read.
        if conn.life.timer_us == u64::MAX && conn.paused != 0 {
            conn.life.timer_us = now.monotonic_us + paused_again_us;
            self.timers.set(conn.life.timer_us, id);
        }
    }

    fn fire(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        let (now, handshake_us) = (broker.now(), self.handshake_us());
        let turns = (self.turns, self.connections.conns.len());
        let Some(conn) = self.connections.get(id) else { return };
        let action = conn.due(handshake_us, now);
        if action != TimerAction::GiveUp {
            conn.life.doubt = None;
        } else if conn.may_have_sent() && conn.doubts(turns, now) {
            return;
        }
        match action {
            TimerAction::Nothing => {}
            TimerAction::Heartbeat if mutant::active(Mutant::NoHeartbeats) => {
                conn.output.sent_us = now.monotonic_us;
            }
            TimerAction::Heartbeat => {
                conn.heartbeat();
                conn.output.sent_us = now.monotonic_us;
                self.connections.touch(id);
            }
            TimerAction::Login => self.login_due(id, broker),
            TimerAction::GiveUp => {
                let late = conn.late();
                self.give_up(id, late, broker);
            }
        }
    }

    /// Ends a connection that has taken nothing of a large message while others waited.
    pub(super) fn end_stuck(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        let alive = self.connections.get(id).is_some_and(|conn| conn.life.phase == Phase::Alive);
        if alive {
            let why = "takes nothing of a large message while others are waiting";
            self.give_up(id, Some(why), broker);
        }
    }

    /// Nobody is listening, so nothing is said.
    fn give_up(&mut self, id: ConnId, why: Option<&str>, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(id) else { return };
        conn.life.why = conn.life.why.take().or(why.map(Into::into));
        conn.life.phase = Phase::Leaving;
        conn.paused = 0;
        self.let_go(id, broker);
        self.connections.touch(id);
    }
}
