//! The connections of a shard, and the questions they wait for.

use amqp::methods::Method;
use model::queue::Addressed;
use model::session::channel::State;
use model::session::{Candidate, Confirms};
use model::{
    Ask, ChannelId, ConnId, ConsumerId, Map, Message, Name, QueueId, Seed, ShardId, Ticket,
};

use super::conn::Conn;

/// A question that was asked elsewhere, and what to do when it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub conn: ConnId,
    pub number: u16,
    pub channel: ChannelId,
    /// The method's payload, to do it over if the answer asks for that.
    pub method: Vec<u8>,
    pub then: Then,
}

/// What follows an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    Login,
    OpenVhost(Name),
    /// Answer channel.open.
    OpenChannel,
    /// The user may still use the vhost.
    SecretUpdated,
    /// One thing less to let go before close-ok.
    Released,
    /// Do the method over: what it needs is there, or gone, by now.
    Again,
    /// Send a reply that has no content but its name.
    Reply(Reply),
    Declared(Name),
    RepliesDeclared(Name),
    Deleted {
        nowait: bool,
    },
    Consuming {
        consumer: ConsumerId,
        tag: Name,
        nowait: bool,
    },
    Cancelled {
        consumer: ConsumerId,
        nowait: bool,
    },
    Got,
    /// A commit that homes are applying.
    Committed,
    /// Every home limits the channel's consumers.
    Limited,
    Purged {
        nowait: bool,
    },
}

/// Replies without a field; `None` for a nowait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    None,
    QueueBindOk,
    QueueUnbindOk,
    ExchangeBindOk,
    ExchangeUnbindOk,
    ExchangeDeleteOk,
}

impl Reply {
    pub fn method(self) -> Option<Method<'static>> {
        Some(match self {
            Reply::None => return None,
            Reply::QueueBindOk => Method::QueueBindOk {},
            Reply::QueueUnbindOk => Method::QueueUnbindOk {},
            Reply::ExchangeBindOk => Method::ExchangeBindOk {},
            Reply::ExchangeUnbindOk => Method::ExchangeUnbindOk {},
            Reply::ExchangeDeleteOk => Method::ExchangeDeleteOk {},
        })
    }

    pub fn unless(self, nowait: bool) -> Self {
        if nowait { Reply::None } else { self }
    }
}

/// The connections and what they wait for.
#[derive(Debug)]
pub(super) struct Clients {
    pub conns: Map<ConnId, Box<Conn>>,
    pub tickets: Map<Ticket, Waiting>,
    /// Connections whose output or gate changed.
    pub dirty: Vec<ConnId>,
    /// Channels whose barrier was lifted with frames parked behind it.
    pub lifted: Vec<(ConnId, u16)>,
    /// Channels with publishes confirmed that the client was not told of.
    pub telling: Vec<(ConnId, u16)>,
    /// Commits that may go on.
    pub committing: Vec<(ConnId, ChannelId)>,
}

impl Clients {
    pub fn new(seed: Seed) -> Self {
        Self {
            conns: Map::with_hasher(seed),
            tickets: Map::with_hasher(seed),
            dirty: Vec::new(),
            lifted: Vec::new(),
            telling: Vec::new(),
            committing: Vec::new(),
        }
    }

    #[inline]
    pub fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&id).map(Box::as_mut)
    }

    /// Marks a connection whose output or gate changed.
    pub fn touch(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Sends a method on a channel.
    pub fn send(&mut self, id: ConnId, number: u16, method: &Method<'_>) {
        if let Some(conn) = self.get(id) {
            conn.outbox.method(number, method);
            self.touch(id);
        }
    }

    /// Writes a delivery from `home` into its connection's output; false when there is nobody to
    /// take it any more.
    #[inline]
    pub fn deliver(&mut self, home: ShardId, to: Addressed, message: Message<'_>) -> bool {
        let Some(conn) = self.conns.get_mut(&to.conn) else {
            return false;
        };
        let delivered = conn.deliver(home, to, message);
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(to.conn);
        }
        delivered
    }

    /// Writes the answer to a basic.get into its connection's output.
    pub fn got(
        &mut self,
        home: ShardId,
        ticket: Ticket,
        remaining: u32,
        to: Addressed,
        message: Message<'_>,
    ) {
        if let Some(waiting) = self.answered(ticket)
            && let Some(conn) = self.get(waiting.conn)
        {
            conn.got(home, remaining, to, message);
            self.touch(waiting.conn);
        }
    }

    /// Returns a message that another shard could give to nobody.
    pub fn returned(&mut self, id: ConnId, channel: ChannelId, message: Message<'_>) {
        let Some(conn) = self.get(id) else { return };
        let Some((number, channel)) = conn.channel_by_id(channel) else { return };
        if channel.state == State::Open {
            conn.give_back(number, message);
            self.touch(id);
        }
    }

    /// Tells a basic.get that there is no message.
    pub fn empty(&mut self, ticket: Ticket) {
        if let Some(waiting) = self.answered(ticket) {
            self.send(waiting.conn, waiting.number, &Method::BasicGetEmpty { cluster_id: "" });
        }
    }

    /// Permits for a consumer that could be sent messages from a queue of `home`.
    pub fn permits(&mut self, home: ShardId, queue: QueueId, ask: Ask) -> u32 {
        let Ask { conn, channel, consumer, slot, count } = ask;
        let channel = self.get(conn).and_then(|conn| conn.channel_by_id(channel));
        let candidate = Candidate { home, queue, consumer, slot, count };
        channel.map_or(0, |(_, channel)| channel.ask(candidate))
    }

    /// Takes a question off the list and lifts the barrier it put up. `None` if whoever asked is
    /// gone, or its channel is.
    pub fn answered(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.tickets.remove(&ticket)?;
        if waiting.number == 0 {
            return self.conns.contains_key(&waiting.conn).then_some(waiting);
        }
        // A connection that let go of everything is not to begin anything again.
        let conn = self.get(waiting.conn).filter(|conn| !conn.let_go)?;
        let (_, channel) = conn.channel_by_id(waiting.channel)?;
        if channel.state != State::Open {
            return None;
        }
        if channel.barrier == Some(ticket) {
            channel.barrier = None;
            if !channel.parked.is_empty() {
                self.lifted.push((waiting.conn, waiting.number));
            }
        }
        Some(waiting)
    }

    /// The number of the publish a channel in confirm mode is making.
    pub fn next_publish(&mut self, id: ConnId, number: u16) -> u64 {
        let channel = self.get(id).and_then(|conn| conn.channel(number));
        channel.and_then(|channel| channel.confirms.as_ref()).map_or(0, Confirms::next)
    }

    /// A publish is confirmed by one of its homes, or that home has what a commit waits for.
    pub fn confirm(&mut self, id: ConnId, channel: ChannelId, publish: u64) {
        let channel_id = channel;
        let Some(conn) = self.get(id) else { return };
        let Some((number, channel)) = conn.channel_by_id(channel) else {
            return;
        };
        let Some(confirms) = channel.confirms.as_mut() else {
            if channel.tx.as_mut().is_some_and(|tx| tx.answered()) {
                self.committing.push((id, channel_id));
            }
            return;
        };
        let due = confirms.due();
        confirms.confirm(publish);
        if !due && confirms.due() {
            self.telling.push((id, number));
        }
    }

    /// A queue has refused a publish, or one of a commit.
    pub fn refuse(&mut self, id: ConnId, channel: ChannelId, publish: u64) {
        let Some((_, channel)) = self.get(id).and_then(|conn| conn.channel_by_id(channel)) else {
            return;
        };
        if let Some(confirms) = channel.confirms.as_mut() {
            confirms.refuse(publish);
        } else if let Some(commit) = channel.tx.as_mut().and_then(|tx| tx.commit.as_mut()) {
            commit.refused = true;
        }
    }

    /// Tells clients which of their publishes are confirmed.
    pub fn tell_confirms(&mut self) {
        for (id, number) in std::mem::take(&mut self.telling) {
            if let Some(conn) = self.get(id) {
                conn.tell_confirms(number);
                self.touch(id);
            }
        }
    }
}
