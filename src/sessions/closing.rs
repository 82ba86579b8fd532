//! How channels and connections end: every home shard releases what they hold, exclusive queues are
//! deleted, then close-ok is sent (rule 7 of docs/rules.md).

use amqp::Code;
use model::mutant::{self, Mutant};
use model::session::channel::State;
use model::{ChannelId, ConnId, Fault, Now};

use crate::mesh::control::Request;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connection::pause;
use crate::sessions::connections::{ChannelRef, Unfinished};
use crate::sessions::kind::AfterAnswer;
use crate::sessions::life::Phase;
use crate::sessions::state::Sessions;

impl Sessions {
    /// Ends a channel, or the connection if the fault reaches that far.
    pub(super) fn fail(
        &mut self,
        id: ConnId,
        number: u16,
        fault: &Fault,
        broker: &mut impl BrokerAccess,
    ) {
        if number == 0 || fault.closes_connection() {
            self.fail_connection(id, fault, broker);
        } else {
            self.fail_channel(id, number, fault, broker);
        }
    }

    /// Ends a channel with a fault that reaches no farther.
    pub(super) fn fail_channel(
        &mut self,
        id: ConnId,
        number: u16,
        fault: &Fault,
        broker: &mut impl BrokerAccess,
    ) {
        let Some(conn) = self.connections.get(id) else { return };
        conn.tell_confirms(number);
        let open = conn.channels.get(number).filter(|channel| channel.state == State::Open);
        let Some(channel) = open else { return };
        channel.state = State::ClosedByServer;
        // It is released when they are done.
        let settles = channel.settles.is_some();
        let parked = std::mem::take(&mut channel.parked);
        conn.tell_channel_failed(number, fault);
        self.connections.touch(id);
        if !settles {
            self.release(id, number, broker);
        }
        // What is parked is ignored like what is to come, but for a close of the client's own,
        // which is answered.
        if let Some(channel) = self.connections.channel(id, number) {
            channel.parked = parked;
            self.connections.lift(id, number);
        }
    }

    fn fail_connection(&mut self, id: ConnId, fault: &Fault, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(id) else { return };
        let answers = conn.kind.answers(fault);
        match conn.life.phase {
            Phase::Alive => {}
            Phase::ClosedByServer | Phase::Closed if !answers => return self.leave(id),
            _ => return,
        }
        let now = broker.now();
        conn.life.phase = if answers { Phase::ClosedByServer } else { Phase::Leaving };
        conn.life.leave_us = now.monotonic_us + conn.close_ok_us();
        conn.life.why = Some(fault.text.as_str().into());
        conn.paused = 0;
        conn.tell_failed(fault);
        self.connections.touch(id);
        self.let_go(id, broker);
        self.connections.resume(id);
        self.arm(id, now);
    }

    /// Nothing more is read; what waits is written, then the socket goes.
    pub(super) fn leave(&mut self, id: ConnId) {
        if let Some(conn) = self.connections.get(id) {
            conn.life.phase = Phase::Leaving;
            self.connections.touch(id);
        }
    }

    /// The client closes a channel.
    pub(super) fn close_channel(
        &mut self,
        id: ConnId,
        number: u16,
        broker: &mut impl BrokerAccess,
    ) {
        let Some(conn) = self.connections.get(id) else { return };
        conn.tell_confirms(number);
        let Some(channel) = conn.channels.get(number) else { return };
        match std::mem::replace(&mut channel.state, State::ClosedByClient) {
            State::Open => {
                if self.release(id, number, broker) == 0 {
                    self.channel_closed(id, number);
                }
            }
            // Both sides closed it at once.
            State::ClosedByServer => self.channel_closed(id, number),
            State::ClosedByClient => {}
        }
    }

    fn channel_closed(&mut self, id: ConnId, number: u16) {
        if let Some(conn) = self.connections.get(id) {
            conn.channels.remove(number);
            conn.tell_channel_closed(number);
            self.connections.touch(id);
        }
    }

    /// Tells every home that a channel is gone; says how many have yet to answer.
    fn release(&mut self, id: ConnId, number: u16, broker: &mut impl BrokerAccess) -> usize {
        let Some(conn) = self.connections.get(id) else { return 0 };
        let Some(channel) = conn.channels.get(number) else { return 0 };
        let (channel_id, homes) = (channel.id, std::mem::take(&mut channel.homes));
        let barrier = channel.barrier.take();
        let counts = std::mem::take(&mut channel.counts);
        let parked = std::mem::take(&mut channel.parked).len();
        channel.draft.shrink();
        channel.keys = Vec::new();
        channel.refused = None;
        channel.unacked = model::session::Unacked::default();
        let tx = channel.tx.take();
        (channel.limit, channel.limiting) = (None, None);
        let order = std::mem::take(&mut channel.draft_order);
        conn.channels.parked -= parked;
        // A basic.get that waits at its home is dropped there without an answer.
        if let Some(ticket) = barrier {
            self.connections.forget_request(ticket);
        }
        self.partial.finished(&mut self.connections, order);
        if counts {
            broker.channel_left(channel_id);
        }
        if let Some(tx) = tx {
            let at = ChannelRef { conn: id, number, channel: channel_id };
            self.end_transaction(at, *tx, broker);
        }
        let mut away = 0;
        for home in homes {
            let done = broker.channel_gone(&mut self.connections, home, channel_id);
            away += usize::from(!done);
        }
        if away > 0 {
            self.releases.add(channel_id, id, away);
            if let Some(conn) = self.connections.get(id) {
                conn.life.releases += 1;
            }
        }
        if mutant::active(Mutant::CloseOkTooEarly) {
            return 0;
        }
        away
    }

    /// A home shard has released a channel.
    pub fn channel_released(&mut self, channel: ChannelId, now: Now) {
        let Some(id) = self.releases.one(channel) else { return };
        let Some(conn) = self.connections.get(id) else { return };
        conn.life.releases -= 1;
        if conn.life.phase != Phase::Alive {
            self.released_one(id, now);
            return;
        }
        if let Some((number, channel)) = conn.channels.by_id(channel)
            && channel.state == State::ClosedByClient
        {
            self.channel_closed(id, number);
        }
    }

    /// The client closes the connection. What it sends behind that waits until close-ok.
    pub(super) fn close_connection(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(id) else { return };
        conn.life.phase = Phase::ClosedByClient;
        conn.paused = pause::CLOSING;
        conn.channels.numbers().into_iter().for_each(|number| conn.tell_confirms(number));
        self.let_go(id, broker);
        self.close_ok_if_released(id, broker.now());
    }

    /// Releases everything that a connection holds; once.
    pub(super) fn let_go(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(id).filter(|conn| !conn.life.let_go) else {
            return;
        };
        conn.life.let_go = true;
        let counted = conn.kind.counted();
        conn.channels.end_all();
        let homes = std::mem::take(&mut conn.life.homes);
        let owns = conn.life.owns_queues && !mutant::active(Mutant::ExclusiveSurvives);
        // Channels that were closing before are among them: their homes have yet to answer too.
        conn.life.releasing = conn.life.releases + 1;
        conn.life.to_release = conn.channels.numbers().into();
        conn.life.owns_queues = owns;
        // Of what a client sent before it heard of the end, close and close-ok count.
        if conn.life.phase == Phase::Leaving {
            conn.input.clear();
        }
        if counted {
            broker.connection_left(id);
        }
        // Its credit goes first, so that what comes back from one of its channels does not go to a
        // consumer of another: sent without acknowledgement it would be lost.
        for home in homes {
            broker.forget_connection(home, id);
        }
        self.go_on_releasing(id, broker);
    }

    /// Releases the channels of a connection that lets everything go, as many as the turn's work
    /// allows.
    pub(super) fn go_on_releasing(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        while let Some(conn) = self.connections.get(id)
            && let Some(number) = conn.life.to_release.front().copied()
        {
            if broker.work().is_spent() && !mutant::active(Mutant::TeardownUncut) {
                return self.connections.go_on_later(Unfinished::Release(id));
            }
            broker.work().spend(1);
            if !self.publish_is_done(id, broker) || !self.settles_are_done(id, number, broker) {
                // It is among what goes on later.
                return self.connections.go_on_later(Unfinished::Release(id));
            }
            let releasing = usize::from(self.release(id, number, broker) > 0);
            if let Some(conn) = self.connections.get(id) {
                conn.life.to_release.pop_front();
                conn.life.releasing += releasing;
            }
        }
        self.channels_released(id, broker);
    }

    /// All channels of a connection are released here: its exclusive queues go.
    fn channels_released(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(id) else { return };
        if conn.life.owns_queues {
            conn.life.releasing += 1;
            let at = ChannelRef::connection(id);
            self.ask(at, Request::ConnectionGone(id), AfterAnswer::Released, broker);
        }
        let Some(conn) = self.connections.get(id) else { return };
        if conn.life.gone {
            self.connections.remove(id);
        } else {
            self.released_one(id, broker.now());
        }
    }

    /// Goes on with what a channel settles before it is released; false if that is not done.
    fn settles_are_done(
        &mut self,
        id: ConnId,
        number: u16,
        broker: &mut impl BrokerAccess,
    ) -> bool {
        let Some(channel) = self.connections.channel(id, number) else { return true };
        let Some(settles) = channel.settles.take() else { return true };
        let at = ChannelRef { conn: id, number, channel: channel.id };
        self.go_on_settling(at, *settles, broker);
        self.connections.channel(id, number).is_none_or(|channel| channel.settles.is_none())
    }

    /// Goes on with the settles of a channel. When they are done its connection is read again, or
    /// the channel is released if it was closed meanwhile.
    pub(super) fn go_on_with_settles(&mut self, at: ChannelRef, broker: &mut impl BrokerAccess) {
        let ChannelRef { conn: id, number, channel } = at;
        let let_go = self.connections.get(id).is_none_or(|conn| conn.life.let_go);
        let known = self.connections.channel(id, number).is_some_and(|found| found.id == channel);
        if let_go || !known || !self.settles_are_done(id, number, broker) {
            return;
        }
        let open = self.connections.channel(id, number).map(|found| found.state == State::Open);
        if open == Some(false) {
            self.release(id, number, broker);
        }
        self.connections.unpause(id, pause::WORK);
    }

    /// One thing less that a closing connection holds.
    pub(super) fn released_one(&mut self, id: ConnId, now: Now) {
        if let Some(conn) = self.connections.get(id) {
            conn.life.releasing = conn.life.releasing.saturating_sub(1);
            self.close_ok_if_released(id, now);
        }
    }

    fn close_ok_if_released(&mut self, id: ConnId, now: Now) {
        let stopping = self.stopping;
        let Some(conn) = self.connections.get(id) else { return };
        if conn.life.phase != Phase::ClosedByClient || conn.life.releasing > 0 {
            return;
        }
        // A client takes the end of its socket for a failure while it has yet to read close-ok.
        conn.life.phase = if stopping { Phase::Leaving } else { Phase::Closed };
        conn.life.leave_us = now.monotonic_us + conn.close_ok_us();
        conn.tell_closed();
        self.connections.touch(id);
        self.arm(id, now);
        self.connections.unpause(id, pause::CLOSING);
    }

    /// Answers a close of the client's on a connection that is closed already.
    pub(super) fn close_again(&mut self, id: ConnId) {
        let stopping = self.stopping;
        let Some(conn) = self.connections.get(id) else { return };
        conn.tell_closed();
        if !stopping {
            conn.pause_over_mark();
        }
        self.connections.touch(id);
        if stopping {
            self.leave(id);
        }
    }

    /// Closes every connection because the broker goes down.
    pub fn shutdown(&mut self, broker: &mut impl BrokerAccess) {
        self.stopping = true;
        let text = "broker forced connection closure with reason 'shutdown'";
        let fault = Fault::new(Code::ConnectionForced, text, (0, 0));
        for id in self.connections.ids() {
            let Some(conn) = self.connections.get(id) else { continue };
            if conn.running && conn.life.phase != Phase::Closed {
                self.fail(id, 0, &fault, broker);
            } else {
                self.leave(id);
            }
        }
    }
}
