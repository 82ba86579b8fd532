//! The rest of the broker as the sessions of this shard see it. What they do to a queue is sent to
//! the queue if it is here, else to its home.

use model::mutant::{self, Mutant};
use model::{
    Arguments, Ask, ChannelId, ConnId, ConsumerSpec, Message, Name, Now, QueueId, QueueSpec,
    RequestId, ShardId, WorkBudget,
};

use crate::mesh::control::{Control, QueueAnswer, QueueRequest, Request};
use crate::mesh::enqueue::Awaiting;
use crate::mesh::enqueue::Settlement;
use crate::mesh::peers::Peers;
use crate::queues::Queues;
use crate::sessions::{BrokerAccess, Connections, Published, Publisher, QueueAt, RelayRoute};
use crate::shard::intake::Intake;
use crate::shard::letters::{DeadLetters, Relays};
use crate::shard::queue_output::RoutedOutput;

/// The queues of this shard and the way to all others, at one moment.
pub(crate) struct ShardBroker<'a> {
    pub me: ShardId,
    pub queues: &'a mut Queues,
    pub peers: &'a mut Peers,
    pub intake: &'a mut Intake,
    pub letters: &'a mut DeadLetters,
    pub relays: &'a mut Relays,
    pub now: Now,
}

impl ShardBroker<'_> {
    /// The queues of this shard, and where what leaves them goes.
    #[inline(always)]
    pub fn home<'b>(
        &'b mut self,
        connections: &'b mut Connections,
    ) -> (&'b mut Queues, RoutedOutput<'b>) {
        (self.queues, RoutedOutput { me: self.me, connections, peers: self.peers })
    }

    /// Tells another shard.
    fn tell(&mut self, to: ShardId, control: Control) {
        self.peers.get(to).out.control(control);
    }

    fn tell_coordinator(&mut self, control: Control) {
        self.tell(self.peers.coordinator(), control);
    }

    fn await_home(&mut self, to: Publisher, (home, enqueue): (ShardId, u64), durable: bool) {
        let Publisher { conn, channel, .. } = to;
        let awaiting = Awaiting { enqueue, conn, channel, publish: 0 };
        let durable = durable && !mutant::active(Mutant::CommitOkBeforeDurable);
        self.peers.get(home).wait(awaiting, durable);
    }

    /// A source waits until its settles are durable; the fence itself is counted by the caller.
    pub fn fence(&mut self, source: ShardId) {
        self.queues.fence();
        self.peers.get(source).progress.logged();
    }
}

impl BrokerAccess for ShardBroker<'_> {
    #[inline]
    fn now(&self) -> Now {
        self.now
    }

    #[inline]
    fn work(&mut self) -> &mut WorkBudget {
        self.queues.budget()
    }

    #[inline(always)]
    fn publish(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        message: Message<'_>,
        queues: &mut [QueueAt],
    ) -> Published {
        self.send(connections, publisher, message, queues)
    }

    fn relay(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        route: RelayRoute<'_>,
        message: Message<'_>,
    ) -> Published {
        self.relay_publish(connections, publisher, route, message)
    }

    fn has_room(&mut self, publisher: Publisher, queues: &[QueueAt]) -> bool {
        let commit = (publisher.conn, publisher.channel);
        let copied = queues.len() > 1 && self.intake.copied_enough();
        if copied || self.queues.budget().is_spent() && !mutant::active(Mutant::CommitUncut) {
            self.intake.later.push(commit);
            return false;
        }
        for (_, home) in queues {
            let here = *home == self.me;
            let full = if here { self.intake.backpressure } else { self.peers.full(*home) };
            if full {
                self.peers.get(*home).commits.push(commit);
                return false;
            }
        }
        true
    }

    fn await_published(&mut self, publisher: Publisher, home: ShardId, persistent: bool) -> bool {
        // Unless it is held, what is not persistent was applied here at once.
        let here = home == self.me;
        let peer = self.peers.get(home);
        let enqueue = peer.sent();
        let waits = !here || persistent || peer.holds_any();
        // A commit that took several turns may have its answer already; no other comes.
        let waits = waits && !peer.has_answered(enqueue, persistent);
        if waits {
            self.await_home(publisher, (home, enqueue), persistent);
        }
        waits
    }

    fn await_settled(&mut self, publisher: Publisher, home: ShardId, durable: bool) {
        if home == self.me {
            self.fence(home);
        } else {
            self.peers.get(home).out.fence();
        }
        let fence = self.peers.get(home).send(0);
        self.await_home(publisher, (home, fence), durable);
    }

    fn settle(&mut self, connections: &mut Connections, home: ShardId, what: Settlement) {
        if home == self.me {
            let (queues, mut output) = self.home(connections);
            queues.settle(what, &mut output);
        } else {
            self.peers.get(home).out.settle(what);
        }
    }

    fn return_credit(
        &mut self,
        connections: &mut Connections,
        home: ShardId,
        conn: ConnId,
        bytes: u64,
    ) {
        if home == self.me {
            let (queues, mut output) = self.home(connections);
            queues.return_credit(conn, bytes, &mut output);
        } else if !mutant::active(Mutant::CreditNotReturned) {
            self.peers.get(home).out.credit(conn, bytes);
        }
    }

    fn permit(
        &mut self,
        connections: &mut Connections,
        (queue, home): QueueAt,
        permit: Ask,
    ) -> u32 {
        if home == self.me {
            let (queues, mut output) = self.home(connections);
            return queues.permitted(queue, permit, &mut output);
        }
        self.peers.get(home).out.permit(queue, permit);
        0
    }

    fn limit(
        &mut self,
        connections: &mut Connections,
        home: ShardId,
        (conn, channel): (ConnId, ChannelId),
        limited: bool,
    ) -> bool {
        if home == self.me {
            let (queues, mut output) = self.home(connections);
            return queues.limit((conn, channel), limited, &mut output);
        }
        self.tell(home, Control::Limit(conn, channel, limited));
        false
    }

    fn ask(&mut self, ticket: RequestId, request: Request) {
        self.tell_coordinator(Control::Ask(ticket, request));
    }

    fn ask_queue(
        &mut self,
        connections: &mut Connections,
        ticket: RequestId,
        (queue, home): QueueAt,
        request: QueueRequest,
    ) -> Option<QueueAnswer> {
        if home == self.me {
            let (queues, mut output) = self.home(connections);
            return queues.request(ticket, queue, request, &mut output);
        }
        self.tell(home, Control::QueueAsk(ticket, queue, request));
        None
    }

    fn serve(&mut self, connections: &mut Connections, (queue, home): QueueAt) {
        if home == self.me {
            let (queues, mut output) = self.home(connections);
            queues.dispatch(queue, &mut output);
        }
    }

    fn add_reply_consumer(
        &mut self,
        connections: &mut Connections,
        queue: QueueId,
        (vhost, name): (Name, Name),
        consumer: ConsumerSpec,
    ) {
        let spec = reply_queue(queue, self.me, name);
        let (queues, mut output) = self.home(connections);
        queues.create(vhost, spec, &mut output);
        queues.consume(queue, consumer, &mut output);
    }

    fn remove_reply_consumer(&mut self, connections: &mut Connections, queue: QueueId) {
        let (queues, mut output) = self.home(connections);
        queues.delete(queue, &mut output);
    }

    fn channel_gone(
        &mut self,
        connections: &mut Connections,
        home: ShardId,
        channel: ChannelId,
    ) -> bool {
        if home == self.me {
            let (queues, mut output) = self.home(connections);
            return queues.channel_gone(channel, &mut output);
        }
        self.tell(home, Control::ChannelGone(channel));
        false
    }

    fn forget_connection(&mut self, home: ShardId, conn: ConnId) {
        if home == self.me {
            self.queues.forget_connection(conn);
        } else {
            self.tell(home, Control::ConnGone(conn));
        }
    }

    fn channels_open(&mut self, user: Name, channels: Vec<ChannelId>) {
        self.tell_coordinator(Control::ChannelsOpen(user, channels));
    }

    fn channel_left(&mut self, channel: ChannelId) {
        self.tell_coordinator(Control::ChannelLeft(channel));
    }

    fn connection_left(&mut self, conn: ConnId) {
        self.tell_coordinator(Control::ConnectionLeft(conn));
    }
}

fn reply_queue(id: QueueId, home: ShardId, name: Name) -> QueueSpec {
    QueueSpec {
        id,
        name,
        home,
        durable: false,
        auto_delete: false,
        owner: None,
        server_named: true,
        arguments: Arguments::default(),
    }
}
