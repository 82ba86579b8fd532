//! What sessions ask of the rest of the broker: queues, here or on other shards, and the
//! coordinator. Sessions do not know which it is; the shard implements this.

use model::{
    Ask, ChannelId, ConnId, ConsumerSpec, Message, Name, Now, QueueId, RequestId, ShardId,
    WorkBudget,
};

use crate::mesh::control::{QueueAnswer, QueueRequest, Request};
use crate::mesh::enqueue::Settlement;
use crate::sessions::connections::{Connections, Publisher};

/// What happened to a publish that was sent to its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Published {
    /// Homes that its confirm waits for.
    pub waits: u16,
    /// A queue of this shard refused it.
    pub refused: bool,
}

/// Where a message goes that comes to stateful exchanges, and what its route depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelayRoute<'a> {
    pub vhost: &'a str,
    /// Keys beside the message's own.
    pub keys: &'a [Name],
    /// The shard where the stateful exchanges of the vhost are.
    pub home: ShardId,
}

/// A queue and its home.
pub(crate) type QueueAt = (QueueId, ShardId);

/// The rest of the broker, as sessions see it at one moment. Where effects may come back into a
/// connection of this shard at once, a method takes all [`Connections`].
pub(crate) trait BrokerAccess {
    /// The time.
    fn now(&self) -> Now;

    /// What is left of the turn's work.
    fn work(&mut self) -> &mut WorkBudget;

    /// Sends a message to its queues; it may sort them.
    fn publish(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        message: Message<'_>,
        queues: &mut [QueueAt],
    ) -> Published;

    /// Sends a message to another shard that finds its queues.
    fn relay(
        &mut self,
        connections: &mut Connections,
        publisher: Publisher,
        route: RelayRoute<'_>,
        message: Message<'_>,
    ) -> Published;

    /// True if a commit may send its next message to these queues now; else
    /// [`Connections::committing`] is told when.
    fn has_room(&mut self, publisher: Publisher, queues: &[QueueAt]) -> bool;

    /// The commit waits until the home has applied all that was sent to it; `persistent`: until it
    /// is durable. False if there is nothing to wait for.
    fn await_published(&mut self, publisher: Publisher, home: ShardId, persistent: bool) -> bool;

    /// The commit waits until the home has applied the settles that were sent to it; `durable`:
    /// until they are durable.
    fn await_settled(&mut self, publisher: Publisher, home: ShardId, durable: bool);

    /// Settles deliveries.
    fn settle(&mut self, connections: &mut Connections, home: ShardId, what: Settlement);

    /// Returns flow credit for deliveries that have left for the socket.
    fn return_credit(
        &mut self,
        connections: &mut Connections,
        home: ShardId,
        conn: ConnId,
        bytes: u64,
    );

    /// Gives a consumer permits. How many come back at once, since they are of no use.
    fn permit(&mut self, connections: &mut Connections, to: QueueAt, permit: Ask) -> u32;

    /// The consumers of the channel share a limit from now on, or no more. False if the home
    /// answers later.
    fn limit(
        &mut self,
        connections: &mut Connections,
        home: ShardId,
        of: (ConnId, ChannelId),
        limited: bool,
    ) -> bool;

    /// Asks the coordinator.
    fn ask(&mut self, ticket: RequestId, request: Request);

    /// Asks a queue. `None`: the answer comes later. [`Self::serve`] follows the answer.
    fn ask_queue(
        &mut self,
        connections: &mut Connections,
        ticket: RequestId,
        queue: QueueAt,
        request: QueueRequest,
    ) -> Option<QueueAnswer>;

    /// Lets a queue of this shard go on once its answer is written.
    fn serve(&mut self, connections: &mut Connections, queue: QueueAt);

    /// Creates the queue of a direct reply-to consumer on this shard.
    fn add_reply_consumer(
        &mut self,
        connections: &mut Connections,
        queue: QueueId,
        names: (Name, Name),
        consumer: ConsumerSpec,
    );

    /// Deletes the queue of a direct reply-to consumer.
    fn remove_reply_consumer(&mut self, connections: &mut Connections, queue: QueueId);

    /// The channel is gone: the home requeues what it has not settled. False if the home answers
    /// later.
    fn channel_gone(
        &mut self,
        connections: &mut Connections,
        home: ShardId,
        channel: ChannelId,
    ) -> bool;

    /// The connection is gone: the home forgets its flow credit.
    fn forget_connection(&mut self, home: ShardId, conn: ConnId);

    /// These channels of a user are open and count at the coordinator.
    fn channels_open(&mut self, user: Name, channels: Vec<ChannelId>);

    /// The channel, which counted at the coordinator, counts no longer.
    fn channel_left(&mut self, channel: ChannelId);

    /// The connection, which had asked for a vhost, counts no longer.
    fn connection_left(&mut self, conn: ConnId);
}
