//! The queues this shard is home of, and the flow credit of the connections they deliver to.

use model::mutant::{self, Mutant};
use model::queue::{Delivery, Outlet, Queue, Settle, Spilled};
use model::{
    Ask, ChannelId, ConnId, ConsumerSpec, Map, Message, Name, QueueId, QueueSpec, Refusal,
    Resource, Seed, ShardId, Stored, Ticket,
};

use super::clients::Clients;
use super::message::{Control, QueueAnswer};
use super::peers::Peers;
use crate::store::Store;

/// Octets of deliveries that a home may have on the way to one connection.
pub const CREDIT_OCTETS: i64 = 256 * 1024;

/// Octets that a message needs around its own.
const AROUND: u64 = 64;

/// What a message counts in windows and credits: its octets and what goes around them.
#[inline]
pub(super) fn cost(message: Message<'_>) -> u64 {
    let body = message.large_body().map_or(0, |_| message.body_len());
    (message.record().len() + body) as u64 + AROUND
}

/// What a message counts that goes to so many queues of one home: each has a record of its own.
#[inline]
pub(super) fn cost_of_copies(message: Message<'_>, queues: usize) -> u64 {
    let more = queues.saturating_sub(1) as u64;
    cost(message) + more * (message.record().len() as u64 + AROUND)
}

/// A queue with its names.
#[derive(Debug)]
pub(super) struct Kept {
    pub queue: Queue,
    pub vhost: Name,
    pub name: Name,
}

impl Kept {
    pub fn resource(&self) -> Resource {
        Resource::queue(&self.vhost, &self.name)
    }
}

/// The flow credit of one connection.
#[derive(Debug)]
pub(super) struct Link {
    octets: i64,
    /// Queues with consumers that wait for credit.
    stalled: Vec<QueueId>,
}

impl Link {
    fn stall(&mut self, queue: QueueId) {
        if self.stalled.last() == Some(&queue) {
            return;
        }
        if self.stalled.len() == self.stalled.capacity() {
            // Before it grows: consumers may come and go while there is no credit.
            self.stalled.sort_unstable();
            self.stalled.dedup();
        }
        self.stalled.push(queue);
    }
}

/// The queues of a shard.
#[derive(Debug)]
pub(super) struct Home {
    pub queues: Map<QueueId, Kept>,
    pub links: Map<ConnId, Link>,
    /// Which queues hold something of a channel.
    pub channels: Map<ChannelId, Vec<QueueId>>,
    /// Octets of memory the queues hold.
    pub pinned: usize,
    /// What became of the message that enters queues now.
    pub became: Became,
    seed: Seed,
}

/// What became of a message that was to enter queues, beside entering them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Became(u8);

impl Became {
    const LOGGED: u8 = 1;
    const REFUSED: u8 = 2;

    /// Nothing that concerns anybody.
    #[inline]
    pub fn nothing(self) -> bool {
        self.0 == 0
    }

    /// A queue has logged it, or written it through.
    pub fn logged(self) -> bool {
        self.0 & Self::LOGGED != 0
    }

    /// A queue is out of service and refused it.
    pub fn refused(self) -> bool {
        self.0 & Self::REFUSED != 0
    }
}

/// What queues do to the rest of the shard.
pub(super) struct Door<'a> {
    pub me: ShardId,
    pub clients: &'a mut Clients,
    pub peers: &'a mut Peers,
    pub links: &'a mut Map<ConnId, Link>,
    pub store: &'a mut Store,
    pub became: &'a mut Became,
}

impl Outlet for Door<'_> {
    #[inline]
    fn open(&mut self, queue: QueueId, conn: ConnId) -> bool {
        let Some(link) = self.links.get_mut(&conn) else {
            return false;
        };
        if link.octets > 0 || mutant::active(Mutant::CreditIgnored) {
            return true;
        }
        link.stall(queue);
        false
    }

    fn ask(&mut self, queue: QueueId, ask: Ask) -> Option<u32> {
        let there = ask.conn.origin();
        if there == self.me {
            // Who is asked here gets one at a time: consumers take turns.
            return Some(self.clients.permits(self.me, queue, Ask { count: 1, ..ask }));
        }
        self.peers.get(there).out.ask(queue, ask);
        None
    }

    #[inline]
    fn deliver(&mut self, Delivery { to, message }: Delivery<'_>) {
        if let Some(link) = self.links.get_mut(&to.conn) {
            link.octets -= cost(message) as i64;
        }
        let there = to.conn.origin();
        if there == self.me {
            self.clients.deliver(self.me, to, message);
        } else {
            self.peers.get(there).out.deliver(to, message);
        }
    }

    fn got(&mut self, ticket: Ticket, remaining: u32, Delivery { to, message }: Delivery<'_>) {
        let there = ticket.origin();
        if there == self.me {
            self.clients.got(self.me, ticket, remaining, to, message);
        } else {
            self.peers.get(there).out.got(ticket, remaining, to, message);
        }
    }

    fn empty(&mut self, ticket: Ticket) {
        if ticket.origin() == self.me {
            self.clients.empty(ticket);
        } else {
            let answer = Control::QueueAnswer(ticket, QueueAnswer::Empty);
            self.peers.get(ticket.origin()).out.control(answer);
        }
    }

    fn refuse(&mut self) {
        self.became.0 |= Became::REFUSED;
    }

    fn log(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> Stored {
        self.became.0 |= Became::LOGGED;
        self.store.log(queue, seq, message)
    }

    fn write_through(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> bool {
        let taken = self.store.write_through(queue, seq, message);
        self.became.0 |= if taken { Became::LOGGED } else { 0 };
        taken
    }

    fn log_again(&mut self, queue: QueueId, seq: u64, old: Stored, message: Message<'_>) -> Stored {
        self.store.log_again(queue, seq, old, message)
    }

    fn settled(&mut self, queue: QueueId, seq: u64, stored: Stored) {
        self.store.settled(queue, seq, stored);
    }

    fn let_go(&mut self, stored: Stored) {
        self.store.let_go(stored);
    }

    fn spill(&mut self, queue: QueueId, spilled: Spilled<'_>) {
        self.store.spill(queue, spilled);
    }

    fn fetch(&mut self, queue: QueueId) {
        self.store.fetch(queue);
    }

    fn purge(&mut self, queue: QueueId) {
        self.store.purge(queue);
    }
}

impl Home {
    pub fn new(seed: Seed) -> Self {
        Self {
            queues: Map::with_hasher(seed),
            links: Map::with_hasher(seed),
            channels: Map::with_hasher(seed),
            pinned: 0,
            became: Became::default(),
            seed,
        }
    }

    pub fn create(&mut self, vhost: Name, spec: QueueSpec) {
        // An exclusive queue does not outlive its connection.
        let durable = spec.durable && spec.owner.is_none();
        let queue = Queue::new(spec.id, durable, spec.auto_delete, self.seed);
        self.pinned += queue.pinned();
        let kept = Kept { queue, vhost, name: spec.name };
        self.queues.insert(spec.id, kept);
    }

    /// Freezes a queue unless a condition forbids it; its ready messages.
    pub fn freeze(&mut self, id: QueueId, if_unused: bool, if_empty: bool) -> Result<u32, Refusal> {
        let Some(kept) = self.queues.get_mut(&id) else {
            return Ok(0);
        };
        let ready = kept.queue.ready();
        if kept.queue.frozen() {
            return Ok(ready);
        }
        let (no_unused, no_empty) =
            (mutant::active(Mutant::IfUnusedIgnored), mutant::active(Mutant::IfEmptyIgnored));
        // Both may be true of one queue; RabbitMQ tells this one.
        if if_empty && !no_empty && ready > 0 {
            return Err(Refusal::NotEmpty(kept.resource()));
        }
        if if_unused && !no_unused && !kept.queue.consumers().is_empty() {
            return Err(Refusal::InUse(kept.resource()));
        }
        kept.queue.freeze();
        Ok(ready)
    }

    /// Gives a queue up; its consumers, who are to be told.
    pub fn drop_queue(&mut self, id: QueueId) -> Vec<ConsumerSpec> {
        let Some(kept) = self.queues.remove(&id) else {
            return Vec::new();
        };
        self.pinned -= kept.queue.pinned();
        kept.queue.consumers().iter().cloned().collect()
    }

    /// Works on a queue and keeps count of its memory. `None`: there is no such queue.
    #[inline]
    pub fn with<R>(
        &mut self,
        id: QueueId,
        door: (ShardId, &mut Clients, &mut Peers, &mut Store),
        work: impl FnOnce(&mut Queue, &mut Door<'_>) -> R,
    ) -> Option<R> {
        let kept = self.queues.get_mut(&id)?;
        let before = kept.queue.pinned();
        let (me, clients, peers, store) = door;
        let (links, became) = (&mut self.links, &mut self.became);
        let mut door = Door { me, clients, peers, links, store, became };
        let result = work(&mut kept.queue, &mut door);
        self.pinned = self.pinned + kept.queue.pinned() - before;
        Some(result)
    }

    /// Remembers that the queue may hold something of the channel.
    pub fn involve(&mut self, channel: ChannelId, queue: QueueId) {
        let queues = self.channels.entry(channel).or_default();
        if queues.contains(&queue) {
            return;
        }
        if queues.len() == queues.capacity() {
            // Before it grows: queues come and go during the life of a channel.
            queues.retain(|queue| self.queues.contains_key(queue));
        }
        queues.push(queue);
    }

    /// Opens flow credit for a connection unless it has some.
    pub fn link(&mut self, conn: ConnId) {
        let fresh = || Link { octets: CREDIT_OCTETS, stalled: Vec::new() };
        self.links.entry(conn).or_insert_with(fresh);
    }

    /// Returns credit; the queues that may go on.
    pub fn credit(&mut self, conn: ConnId, octets: u64) -> Vec<QueueId> {
        let Some(link) = self.links.get_mut(&conn) else {
            return Vec::new();
        };
        // Never more than what was taken, which was below i64::MAX.
        link.octets += octets as i64;
        if link.octets >= CREDIT_OCTETS / 2 {
            std::mem::take(&mut link.stalled)
        } else {
            Vec::new()
        }
    }
}

/// A settle as it came from a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settlement {
    pub queue: QueueId,
    pub channel: ChannelId,
    pub number: u64,
    pub up_to: bool,
    pub how: Settle,
}

/// Applies a settle to a queue and lets the queue go on.
pub(super) fn settle(queue: &mut Queue, door: &mut Door<'_>, what: Settlement) {
    if what.up_to {
        queue.settle_up_to(what.channel, what.number, what.how, door);
    } else {
        queue.settle(what.channel, what.number, what.how, door);
    }
    queue.dispatch(door);
}

#[cfg(test)]
mod tests {
    use model::Arguments;

    use super::*;

    #[test]
    fn a_connection_without_credit_remembers_each_queue_a_few_times() {
        let mut link = Link { octets: 0, stalled: Vec::new() };
        for n in 0..10_000 {
            link.stall(QueueId(n % 3));
        }
        assert!(link.stalled.len() < 20 && link.stalled.contains(&QueueId(2)), "{link:?}");
    }

    #[test]
    fn a_channel_does_not_remember_queues_that_are_gone() {
        let mut home = Home::new(Seed::new(1));
        let spec = |id| QueueSpec {
            id: QueueId(id),
            name: Name::default(),
            home: ShardId(0),
            durable: false,
            auto_delete: false,
            owner: None,
            server_named: false,
            arguments: Arguments::default(),
        };
        home.create(Name::default(), spec(0));
        home.involve(ChannelId(1), QueueId(0));
        for id in 1..1000 {
            home.create(Name::default(), spec(id));
            home.involve(ChannelId(1), QueueId(id));
            home.involve(ChannelId(1), QueueId(id));
            home.drop_queue(QueueId(id));
        }
        let queues = &home.channels[&ChannelId(1)];
        assert!(queues.len() < 10 && queues.contains(&QueueId(0)), "{queues:?}");
    }
}
