//! How channels and connections end: what they hold is let go everywhere before the end is told
//! (rule 7 of ARCHITECTURE.md: every home is told, exclusive queues are deleted, then close-ok).

use amqp::{Code, Method};
use model::mutant::{self, Mutant};
use model::session::channel::State;
use model::{ChannelId, ConnId, ConsumerId, Fault, Map, Now, Refusal, Seed, ShardId};

use super::clients::Then;
use super::conn::Phase;
use super::machine::Shard;
use super::message::{Control, Request};
use super::questions::Call;

/// Channels that homes have not let go of yet.
#[derive(Debug)]
pub(super) struct Releases(Map<ChannelId, Release>);

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

    /// One home has let go; the connection, when that was the last.
    fn one(&mut self, channel: ChannelId) -> Option<ConnId> {
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

impl Shard {
    /// Ends a channel, or the connection if the fault reaches that far.
    pub(super) fn fail(&mut self, id: ConnId, number: u16, fault: &Fault, now: Now) {
        if number == 0 || fault.closes_connection() {
            self.fail_connection(id, fault, now);
        } else {
            self.fail_channel(id, number, fault);
        }
    }

    /// Ends a channel with a fault that reaches no farther.
    pub(super) fn fail_channel(&mut self, id: ConnId, number: u16, fault: &Fault) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        conn.tell_confirms(number);
        let Some(channel) = conn.channel(number).filter(|channel| channel.state == State::Open)
        else {
            return;
        };
        channel.state = State::ClosedByServer;
        let parked = std::mem::take(&mut channel.parked);
        let (class_id, method_id) = fault.method;
        let method = Method::ChannelClose {
            reply_code: fault.code.number(),
            reply_text: &fault.text,
            class_id,
            method_id,
        };
        self.clients.send(id, number, &method);
        self.release(id, number);
        // What is parked is ignored like what is to come, but for a close of the client's own,
        // which is answered.
        if let Some(channel) = self.clients.get(id).and_then(|conn| conn.channel(number)) {
            channel.parked = parked;
            self.clients.lifted.push((id, number));
        }
    }

    fn fail_connection(&mut self, id: ConnId, fault: &Fault, now: Now) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        // After a framing error nothing that follows can be read, not even close-ok.
        let readable = fault.code != Code::FrameError;
        match conn.phase {
            Phase::Alive => {}
            Phase::ClosedByServer if !readable => return self.leave(id),
            _ => return,
        }
        conn.phase = if readable { Phase::ClosedByServer } else { Phase::Leaving };
        conn.leave_us = now.monotonic_us + conn.close_ok_us();
        conn.why = Some(fault.text.as_str().into());
        conn.paused = 0;
        let (class_id, method_id) = fault.method;
        let method = Method::ConnectionClose {
            reply_code: fault.code.number(),
            reply_text: &fault.text,
            class_id,
            method_id,
        };
        self.clients.send(id, 0, &method);
        self.let_go(id);
        self.resumed.push(id);
        self.arm(id, now);
    }

    /// The client closes a channel.
    pub(super) fn close_channel(&mut self, id: ConnId, number: u16) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        conn.tell_confirms(number);
        let Some(channel) = conn.channel(number) else {
            return;
        };
        let state = std::mem::replace(&mut channel.state, State::ClosedByClient);
        if state == State::Open {
            if self.release(id, number) == 0 {
                self.channel_closed(id, number);
            }
        } else if state == State::ClosedByServer {
            // Both sides closed it at once.
            self.channel_closed(id, number);
        }
    }

    /// The client has seen that the server closed a channel.
    pub(super) fn channel_close_ok(&mut self, id: ConnId, number: u16) -> Result<(), Fault> {
        let Some(conn) = self.clients.get(id) else {
            return Ok(());
        };
        match conn.channel(number).map(|channel| channel.state) {
            Some(State::ClosedByServer) => drop(conn.remove_channel(number)),
            Some(State::Open) => return Err(Refusal::ServersMethod.fault((20, 41))),
            _ => {}
        }
        Ok(())
    }

    fn channel_closed(&mut self, id: ConnId, number: u16) {
        if let Some(conn) = self.clients.get(id) {
            conn.remove_channel(number);
            self.clients.send(id, number, &Method::ChannelCloseOk {});
        }
    }

    /// Tells every home that a channel is gone; says how many have yet to answer.
    fn release(&mut self, id: ConnId, number: u16) -> usize {
        let Some(conn) = self.clients.get(id) else {
            return 0;
        };
        let Some(channel) = conn.channel(number) else {
            return 0;
        };
        let (channel_id, homes) = (channel.id, std::mem::take(&mut channel.homes));
        let barrier = channel.barrier.take();
        let parked = std::mem::take(&mut channel.parked).len();
        channel.draft.shrink();
        channel.keys = Vec::new();
        channel.refused = None;
        channel.unacked = model::ledger::Ledger::default();
        let tx = channel.tx.take();
        (channel.limit, channel.limiting) = (None, None);
        let order = std::mem::take(&mut channel.draft_order);
        conn.parked -= parked;
        // A basic.get that waits at its home is dropped there without an answer.
        if let Some(ticket) = barrier {
            self.clients.tickets.remove(&ticket);
        }
        self.received(order);
        if self.limits.counts_channels {
            self.tell_coordinator(Control::ChannelLeft(channel_id));
        }
        if let Some(tx) = tx {
            self.end_transaction(id, number, channel_id, *tx);
        }
        let mut away = 0;
        for home in homes {
            if home == self.me {
                self.channel_gone(channel_id);
            } else {
                self.peers.get(home).out.control(Control::ChannelGone(channel_id));
                away += 1;
            }
        }
        if away > 0 {
            self.releases.0.insert(channel_id, Release { conn: id, homes: away });
            if let Some(conn) = self.clients.get(id) {
                conn.releases += 1;
            }
        }
        if mutant::active(Mutant::CloseOkTooEarly) {
            return 0;
        }
        away
    }

    /// A home has let go of a channel.
    pub(super) fn channel_released(&mut self, channel: ChannelId) {
        let Some(id) = self.releases.one(channel) else {
            return;
        };
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        conn.releases -= 1;
        if conn.phase != Phase::Alive {
            self.released_one(id);
            return;
        }
        if let Some((number, channel)) = conn.channel_by_id(channel)
            && channel.state == State::ClosedByClient
        {
            self.channel_closed(id, number);
        }
    }

    /// The client closes the connection.
    pub(super) fn close_connection(&mut self, id: ConnId) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        conn.phase = Phase::ClosedByClient;
        conn.paused = 0;
        conn.numbers().into_iter().for_each(|number| conn.tell_confirms(number));
        self.let_go(id);
        self.close_ok_if_released(id);
    }

    /// Lets go of everything a connection holds; once.
    pub(super) fn let_go(&mut self, id: ConnId) {
        let Some(conn) = self.clients.get(id).filter(|conn| !conn.let_go) else {
            return;
        };
        conn.let_go = true;
        let counts = conn.handshake.asked_for_vhost();
        conn.end_channels();
        let links = std::mem::take(&mut conn.links);
        let owns = conn.owns && !mutant::active(Mutant::ExclusiveSurvives);
        // Channels that were closing before are among them: their homes have yet to answer too.
        let mut releasing = conn.releases;
        let numbers = self.clients.get(id).map(|conn| conn.numbers()).unwrap_or_default();
        if counts {
            self.tell_coordinator(Control::ConnectionLeft(id));
        }
        // Its credit goes first, so that what comes back from one of its channels does not go to a
        // consumer of another: sent without acknowledgement it would be lost.
        for home in links {
            self.forget_link(id, home);
        }
        for number in numbers {
            releasing += usize::from(self.release(id, number) > 0);
        }
        if owns {
            releasing += 1;
            let call = Call { conn: id, number: 0, channel: ChannelId(0), payload: &[] };
            self.ask(call, Request::ConnectionGone(id), Then::Released);
        }
        if let Some(conn) = self.clients.get(id) {
            conn.releasing = releasing;
            // Somewhere in what a client sent before it heard of the end is its close-ok.
            if conn.phase != Phase::ClosedByServer {
                conn.input.clear();
            }
        }
    }

    fn tell_coordinator(&mut self, control: Control) {
        let coordinator = self.coordinator();
        self.peers.get(coordinator).out.control(control);
    }

    fn forget_link(&mut self, id: ConnId, home: ShardId) {
        if home == self.me {
            self.home.links.remove(&id);
        } else {
            self.peers.get(home).out.control(Control::ConnGone(id));
        }
    }

    /// One thing less that a closing connection holds.
    pub(super) fn released_one(&mut self, id: ConnId) {
        if let Some(conn) = self.clients.get(id) {
            conn.releasing = conn.releasing.saturating_sub(1);
            self.close_ok_if_released(id);
        }
    }

    fn close_ok_if_released(&mut self, id: ConnId) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        if conn.phase == Phase::ClosedByClient && conn.releasing == 0 {
            conn.phase = Phase::Leaving;
            self.clients.send(id, 0, &Method::ConnectionCloseOk {});
        }
    }

    /// A consumer's queue is gone; the client is told if it can take that.
    pub(super) fn consumer_gone(&mut self, id: ConnId, channel: ChannelId, consumer: ConsumerId) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        let notify = conn.handshake.capabilities().consumer_cancel_notify;
        let Some((number, channel)) = conn.channel_by_id(channel) else {
            return;
        };
        let Some(gone) = channel.remove_consumer(consumer) else {
            return;
        };
        if notify && channel.state == State::Open {
            let method = Method::BasicCancel { consumer_tag: &gone.tag, nowait: true };
            self.clients.send(id, number, &method);
        }
    }

    /// A consumer that its queue did not take.
    pub(super) fn forget_consumer(&mut self, id: ConnId, channel: ChannelId, consumer: ConsumerId) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        if let Some((_, channel)) = conn.channel_by_id(channel) {
            channel.remove_consumer(consumer);
        }
    }
}
