//! The connections of a shard, the requests they wait for, and what is to be done next for them.

use std::collections::{BTreeSet, VecDeque};

use model::mutant::{self, Mutant};
use model::queue::{Addressed, Overdue, Unfit, Way};
use model::session::channel::State;
use model::session::{Candidate, Channel, Confirms};
use model::{Ask, ChannelId, ConnId, ConsumerId, Map, Message, QueueId, RequestId, Seed, ShardId};

use crate::sessions::connection::{Connection, pause};
use crate::sessions::kind::AfterAnswer;

/// A channel of a connection, or the connection itself with number 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelRef {
    pub conn: ConnId,
    pub number: u16,
    pub channel: ChannelId,
}

impl ChannelRef {
    /// The connection itself.
    pub fn connection(conn: ConnId) -> Self {
        Self { conn, number: 0, channel: ChannelId(0) }
    }
}

/// What a publish needs to know of its channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher {
    pub conn: ConnId,
    pub number: u16,
    pub channel: ChannelId,
    /// In confirm mode.
    pub confirms: bool,
    /// In tx mode: what it publishes is held until its commit, which waits until it is durable.
    pub tx: bool,
    pub mandatory: bool,
}

/// A request to the coordinator or a queue that waits for its answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PendingRequest {
    pub at: ChannelRef,
    pub then: AfterAnswer,
}

/// The connections and what they wait for.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(super) conns: Map<ConnId, Box<Connection>>,
    /// Their ids in order, for lists.
    pub(super) order: BTreeSet<ConnId>,
    pending: Map<RequestId, PendingRequest>,
    /// Connections whose output or gate changed.
    dirty: Vec<ConnId>,
    /// Channels whose barrier was lifted with frames parked behind it.
    lifted: Vec<(ConnId, u16)>,
    /// Connections that may be read again.
    resumed: Vec<ConnId>,
    /// Channels that are to be closed because of a message they cannot be sent.
    unfit: Vec<Unfit>,
    /// Deliveries that were not settled in time.
    overdue: Vec<Overdue>,
    /// Connections that take nothing while others wait.
    stuck: Vec<ConnId>,
    /// Channels with publishes confirmed that the client was not told of.
    telling: Vec<(ConnId, u16)>,
    /// Commits that may go on.
    committing: Vec<(ConnId, ChannelId)>,
    /// Bytes of memory that count for all of them.
    counted: usize,
    /// What goes on when the turn has work to spare.
    unfinished: VecDeque<Unfinished>,
}

/// What clients asked for and is more than the work of one turn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unfinished {
    /// A channel settles many deliveries. Its connection is not read.
    Settles(ChannelRef),
    /// A connection releases its channels.
    Release(ConnId),
    /// A publish is being routed or sent to its queues. Its connection is not read.
    Publish(ConnId),
    /// A connection is read again.
    Read(ConnId),
    /// Transactions that are over are published or dropped.
    Transactions,
}

/// Channels and connections that may go on.
#[derive(Debug, Default)]
pub(super) struct GoingOn {
    pub lifted: Vec<(ConnId, u16)>,
    pub resumed: Vec<ConnId>,
    pub unfit: Vec<Unfit>,
    pub overdue: Vec<Overdue>,
    pub stuck: Vec<ConnId>,
}

impl GoingOn {
    pub fn is_empty(&self) -> bool {
        let closing = !self.unfit.is_empty() || !self.overdue.is_empty() || !self.stuck.is_empty();
        self.lifted.is_empty() && self.resumed.is_empty() && !closing
    }
}

impl Connections {
    pub fn new(seed: Seed) -> Self {
        Self {
            conns: Map::with_hasher(seed),
            order: BTreeSet::new(),
            pending: Map::with_hasher(seed),
            dirty: Vec::new(),
            lifted: Vec::new(),
            resumed: Vec::new(),
            unfit: Vec::new(),
            overdue: Vec::new(),
            stuck: Vec::new(),
            telling: Vec::new(),
            committing: Vec::new(),
            unfinished: VecDeque::new(),
            counted: 0,
        }
    }

    /// Adds a connection.
    pub fn add(&mut self, id: ConnId, conn: Connection) {
        self.conns.insert(id, Box::new(conn));
        self.order.insert(id);
    }

    /// Removes a connection.
    pub fn remove(&mut self, id: ConnId) {
        let conn = self.conns.remove(&id);
        if !mutant::active(Mutant::ConnectionKept) {
            self.counted -= conn.map_or(0, |conn| conn.counted.all);
        }
        self.order.remove(&id);
    }

    #[inline]
    pub fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.conns.get_mut(&id).map(Box::as_mut)
    }

    #[inline]
    pub fn channel(&mut self, id: ConnId, number: u16) -> Option<&mut Channel> {
        self.get(id)?.channels.get(number)
    }

    /// The channel of a method that is being obeyed. It is there: nothing that a method does
    /// removes its own channel before it has returned.
    #[inline]
    pub fn present(&mut self, at: ChannelRef) -> Option<&mut Channel> {
        let found = self.channel(at.conn, at.number);
        debug_assert!(found.is_some(), "{at:?} is gone while its method is obeyed");
        found
    }

    /// The channel with this identity and its number.
    #[inline]
    pub fn channel_by_id(&mut self, id: ConnId, channel: ChannelId) -> Option<(u16, &mut Channel)> {
        self.get(id)?.channels.by_id(channel)
    }

    /// The ids of all connections, in order.
    pub fn ids(&self) -> Vec<ConnId> {
        self.order.iter().copied().collect()
    }

    /// Marks a connection whose output or gate changed.
    #[inline]
    pub fn touch(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(id);
        }
    }

    /// The next connection whose output or gate changed.
    pub fn next_dirty(&mut self) -> Option<ConnId> {
        let id = self.dirty.pop()?;
        if let Some(conn) = self.get(id) {
            conn.dirty = false;
        }
        Some(id)
    }

    /// Notes when output was made, stops reading connections that do not take theirs, and counts
    /// what they hold.
    pub fn mark_sent(&mut self, now_us: u64) {
        for id in &self.dirty {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.output.sent_us = now_us;
                conn.pause_over_mark();
                let before = conn.count();
                self.counted = self.counted + conn.counted.all - before;
            }
        }
    }

    /// So many bytes of the connection's output have left.
    pub fn wrote(&mut self, id: ConnId, bytes: usize) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.output.wrote(bytes);
            let left = bytes.min(conn.counted.all);
            conn.counted.all -= left;
            self.counted -= left;
        }
    }

    /// Bytes of memory that all connections hold, as of the ends of their last turns.
    pub fn pinned(&self) -> usize {
        self.counted
    }

    /// Stops reading a connection; false if it was not read for this reason already.
    pub fn pause(&mut self, id: ConnId, reason: u16) -> bool {
        let Some(conn) = self.get(id) else { return false };
        let fresh = conn.paused & reason == 0;
        conn.paused |= reason;
        fresh
    }

    /// Ends a pause; the connection is read on when there is no other. What is parked goes on all
    /// the same: nothing else would ever make it less.
    pub fn unpause(&mut self, id: ConnId, reason: u16) {
        let Some(conn) = self.get(id) else { return };
        if conn.paused & reason == 0 {
            return;
        }
        conn.paused &= !reason;
        if conn.paused & !pause::PARKED == 0 {
            self.resumed.push(id);
        }
    }

    /// The connection goes on whatever it was paused for.
    pub fn resume(&mut self, id: ConnId) {
        self.resumed.push(id);
    }

    /// Frames parked on a channel may go on.
    pub fn lift(&mut self, id: ConnId, number: u16) {
        self.lifted.push((id, number));
    }

    pub(super) fn take_going_on(&mut self) -> GoingOn {
        GoingOn {
            lifted: std::mem::take(&mut self.lifted),
            resumed: std::mem::take(&mut self.resumed),
            unfit: std::mem::take(&mut self.unfit),
            overdue: std::mem::take(&mut self.overdue),
            stuck: std::mem::take(&mut self.stuck),
        }
    }

    /// Commits may go on.
    pub fn commit_on(&mut self, commits: impl IntoIterator<Item = (ConnId, ChannelId)>) {
        self.committing.extend(commits);
    }

    pub(super) fn take_committing(&mut self) -> Vec<(ConnId, ChannelId)> {
        std::mem::take(&mut self.committing)
    }

    /// Something goes on in another turn. What a client waits for stops its input.
    #[cold]
    pub(super) fn go_on_later(&mut self, what: Unfinished) {
        let paused = match what {
            Unfinished::Settles(at) => Some(at.conn),
            Unfinished::Publish(id) | Unfinished::Read(id) => Some(id),
            Unfinished::Release(_) | Unfinished::Transactions => None,
        };
        if let Some(id) = paused
            && self.pause(id, pause::WORK)
        {
            self.touch(id);
        }
        self.unfinished.push_back(what);
    }

    /// A connection is read on in the next turn.
    #[cold]
    pub(super) fn read_later(&mut self, id: ConnId) {
        let reads = self.get(id).is_some_and(|conn| conn.paused & pause::WORK == 0);
        if reads {
            self.go_on_later(Unfinished::Read(id));
        }
    }

    /// A connection is read on, unless its publish goes on.
    pub(super) fn end_work(&mut self, id: ConnId) {
        if self.get(id).is_some_and(|conn| !conn.publishing) {
            self.unpause(id, pause::WORK);
        }
    }

    /// A publish of a channel in confirm mode is sent in pieces.
    pub(super) fn begin_confirm(&mut self, publisher: Publisher) {
        let channel = self.channel(publisher.conn, publisher.number);
        if let Some(confirms) = channel.and_then(|channel| channel.confirms.as_mut()) {
            confirms.begin();
        }
    }

    /// So many homes more have to confirm it.
    pub(super) fn add_confirms(&mut self, publisher: Publisher, waits: u16) {
        let channel = self.channel(publisher.conn, publisher.number);
        if let Some(confirms) = channel.and_then(|channel| channel.confirms.as_mut()) {
            confirms.add(waits);
        }
    }

    /// It is sent as a whole.
    pub(super) fn end_confirm(&mut self, publisher: Publisher, refused: bool) {
        let Publisher { conn: id, number, .. } = publisher;
        let channel = self.channel(id, number);
        let Some(confirms) = channel.and_then(|channel| channel.confirms.as_mut()) else {
            return;
        };
        let due = confirms.due();
        if refused {
            confirms.refuse(confirms.next());
        }
        confirms.end();
        if !due && confirms.due() {
            self.telling.push((id, number));
        }
    }

    pub(super) fn next_unfinished(&mut self) -> Option<Unfinished> {
        self.unfinished.pop_front()
    }

    /// True if there is something to do in another turn although nothing happens until then.
    pub fn unfinished(&self) -> bool {
        let goes_on =
            !self.resumed.is_empty() || !self.committing.is_empty() || !self.stuck.is_empty();
        goes_on || !self.unfinished.is_empty()
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

    /// Writes the answer to a get into its connection's output.
    pub fn got(
        &mut self,
        home: ShardId,
        ticket: RequestId,
        remaining: u32,
        to: Addressed,
        message: Message<'_>,
    ) {
        if let Some(PendingRequest { at, .. }) = self.answered(ticket)
            && let Some(conn) = self.get(at.conn)
        {
            conn.got(home, remaining, to, message);
            self.touch(at.conn);
        }
    }

    /// Tells a get that there is no message.
    pub fn got_nothing(&mut self, ticket: RequestId) {
        if let Some(PendingRequest { at, .. }) = self.answered(ticket)
            && let Some(conn) = self.get(at.conn)
        {
            conn.got_nothing(at.number);
            self.touch(at.conn);
        }
    }

    /// Returns a message that its publisher's shard could give to nobody; false if the client
    /// cannot be sent it, and the channel is to be closed.
    pub fn give_back(&mut self, publisher: Publisher, message: Message<'_>) -> bool {
        let publish = publisher.confirms.then(|| self.next_publish(publisher));
        let Publisher { conn, number, channel, .. } = publisher;
        self.give_back_to(ChannelRef { conn, number, channel }, message, publish)
    }

    fn give_back_to(&mut self, to: ChannelRef, message: Message<'_>, publish: Option<u64>) -> bool {
        let ChannelRef { conn: id, number, channel } = to;
        let Some(conn) = self.get(id) else { return true };
        let returned = conn.give_back(number, message, publish);
        if returned {
            self.touch(id);
        } else {
            let properties = message.properties().encoded().len();
            self.unfit.push(Unfit { conn: id, channel, way: Way::Return, properties });
        }
        returned
    }

    /// Returns a message that another shard could give to nobody.
    pub fn returned(&mut self, id: ConnId, channel: ChannelId, message: Message<'_>) {
        let Some(conn) = self.get(id) else { return };
        let Some((number, _)) = conn.channels.open_by_id(channel) else { return };
        self.give_back_to(ChannelRef { conn: id, number, channel }, message, None);
    }

    /// A channel cannot be sent a message; it is to be closed.
    pub fn cannot_take(&mut self, unfit: Unfit) {
        self.unfit.push(unfit);
    }

    /// A channel has not settled a delivery in time.
    pub fn too_slow(&mut self, overdue: Overdue) {
        self.overdue.push(overdue);
    }

    /// A connection takes nothing of a large message, and others wait for its place.
    pub fn stuck(&mut self, id: ConnId) {
        self.stuck.push(id);
    }

    /// A consumer's queue is gone; the client is told if it can take that.
    pub fn consumer_gone(&mut self, id: ConnId, channel: ChannelId, consumer: ConsumerId) {
        let Some(conn) = self.get(id) else { return };
        let Some((number, channel)) = conn.channels.by_id(channel) else { return };
        let Some(gone) = channel.remove_consumer(consumer) else { return };
        let open = channel.state == State::Open;
        if open && conn.tell_cancelled(number, &gone.tag) {
            self.touch(id);
        }
    }

    /// Permits for a consumer that could be sent messages from a queue of `home`.
    pub fn permits(&mut self, home: ShardId, queue: QueueId, ask: Ask) -> u32 {
        let Ask { conn, channel, consumer, slot, count } = ask;
        let channel = self.channel_by_id(conn, channel);
        let candidate = Candidate { home, queue, consumer, slot, count };
        channel.map_or(0, |(_, channel)| channel.ask(candidate))
    }

    /// Permits that a home had no use for. The number of their channel, if it has a limit.
    pub fn take_back(&mut self, id: ConnId, channel: ChannelId, count: u32) -> Option<u16> {
        let (number, channel) = self.channel_by_id(id, channel)?;
        channel.limit.as_mut()?.returned(count);
        Some(number)
    }

    /// Remembers a request.
    pub fn wait(&mut self, ticket: RequestId, at: ChannelRef, then: AfterAnswer) {
        if let Some(conn) = self.get(at.conn) {
            conn.request(&then);
            // It may be paused now, and what waits counts as its memory.
            self.touch(at.conn);
        }
        self.pending.insert(ticket, PendingRequest { at, then });
    }

    /// Nobody waits for the answer any more.
    pub fn forget_request(&mut self, ticket: RequestId) {
        self.take_request(ticket);
    }

    fn take_request(&mut self, ticket: RequestId) -> Option<PendingRequest> {
        let request = self.pending.remove(&ticket)?;
        if let Some(conn) = self.get(request.at.conn) {
            let ended = conn.requested(&request.then) & conn.paused;
            if ended != 0 {
                self.unpause(request.at.conn, ended);
            }
        }
        Some(request)
    }

    /// How many requests wait.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes a request off the list and lifts its barrier. `None` if its connection or channel is
    /// gone.
    pub fn answered(&mut self, ticket: RequestId) -> Option<PendingRequest> {
        let request = self.take_request(ticket)?;
        let ChannelRef { conn: id, number, channel } = request.at;
        if number == 0 {
            return self.conns.contains_key(&id).then_some(request);
        }
        // A connection that has released everything must not begin anything again.
        let conn = self.get(id).filter(|conn| !conn.life.let_go)?;
        let (_, channel) = conn.channels.open_by_id(channel)?;
        if channel.barrier == Some(ticket) {
            channel.barrier = None;
            if !channel.parked.is_empty() {
                self.lifted.push((id, number));
            }
        }
        Some(request)
    }

    /// The number of the publish that a channel in confirm mode is making.
    #[inline]
    pub fn next_publish(&mut self, publisher: Publisher) -> u64 {
        let channel = self.channel(publisher.conn, publisher.number);
        channel.and_then(|channel| channel.confirms.as_ref()).map_or(0, Confirms::next)
    }

    /// Counts a publish of a channel in confirm mode.
    #[inline]
    pub fn count_confirm(&mut self, publisher: Publisher, waits: u16, refused: bool) {
        let Publisher { conn: id, number, .. } = publisher;
        let channel = self.channel(id, number);
        let Some(confirms) = channel.and_then(|channel| channel.confirms.as_mut()) else {
            return;
        };
        let due = confirms.due();
        let publish = confirms.publish(waits);
        if refused {
            confirms.refuse(publish);
        }
        if !due && confirms.due() {
            self.telling.push((id, number));
        }
    }

    /// A publish is confirmed by one of its homes, or that home has what a commit waits for.
    pub fn confirm(&mut self, id: ConnId, channel: ChannelId, publish: u64) {
        let channel_id = channel;
        let Some((number, channel)) = self.channel_by_id(id, channel) else {
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
        let Some((_, channel)) = self.channel_by_id(id, channel) else { return };
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
