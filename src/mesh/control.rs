//! All that may cross cores, as one closed enum and the packed records beside it.
//!
//! A shard keeps one outbound [`Batch`](crate::mesh::batch::Batch) per peer. What happens per
//! message is a packed record in it; what happens per operation of a client is a [`Control`]. Order
//! per source and destination is first in, first out, over both.

use std::net::IpAddr;

use crate::mesh::enqueue::FinishedEnqueue;
use model::access::command::{AdminAnswer, AdminCommand};
use model::access::state::UserInVhost;
use model::access::{Access, Rights};
use model::queue::{Overdue, Unfit};
use model::topology::Change;
use model::topology::spec::Name;
use model::{
    Arguments, Binding, ChannelId, ConnId, ConsumerId, ConsumerSpec, ExchangeSpec, QueueId,
    QueueSpec, Refusal, RequestId, Secret,
};

/// What crosses cores once per operation.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Control {
    // A shard to the coordinator.
    /// A request; answered by [`Control::Answer`] with the same id.
    Ask(RequestId, Request),
    /// The shard has applied all changes up to this version.
    Applied(u64),
    /// Queues: the queue exists here now.
    Created(QueueId),
    /// Queues: the queue is frozen for good, with so many ready messages; or why it is not.
    Frozen(QueueId, Result<u32, Refusal>),
    /// Queues: the auto-delete queue's last consumer went; it is frozen already.
    Unused(QueueId),
    /// Queues: what [`Control::Reconfigure`] said is obeyed.
    Reconfigured(QueueId),
    /// Bytes of memory pinned on the shard.
    Memory(u64),
    /// The connection, which had asked for a vhost, counts no longer.
    ConnectionLeft(ConnId),
    /// The channel, for which [`Request::OpenChannel`] had asked or which [`Self::ChannelsOpen`]
    /// had told of, counts no longer.
    ChannelLeft(ChannelId),
    /// These channels of a user are open and count, each until [`Self::ChannelLeft`].
    ChannelsOpen(Name, Vec<ChannelId>),

    // The coordinator to a shard.
    /// The answer to [`Control::Ask`].
    Answer(RequestId, Answer),
    /// Apply the change; answered by [`Control::Applied`].
    Apply(u64, Change),
    /// Every shard has applied all changes up to this version.
    Settled(u64),
    /// Queues: create the queue; answered by [`Control::Created`].
    Create(Name, QueueSpec),
    /// Queues: freeze the queue unless a condition forbids it; answered by [`Control::Frozen`].
    Freeze {
        /// The queue.
        queue: QueueId,
        /// Not if it has consumers.
        if_unused: bool,
        /// Not if it has ready messages.
        if_empty: bool,
    },
    /// Queues: these arguments, merged with policies, are in force for the queue; answered by
    /// [`Control::Reconfigured`], even if the queue is gone.
    Reconfigure(QueueId, Arguments),
    /// Queues: no shard knows the queue any more; give up what it holds.
    Drop(QueueId),
    /// What is short in the broker.
    Alarm(Alarms),

    // A channel's shard to a queue's home, and back.
    /// A request to a queue; answered by [`Control::QueueAnswer`] with the same id.
    QueueAsk(RequestId, QueueId, QueueRequest),
    /// The answer to [`Control::QueueAsk`]. A message that basic.get found comes as a record
    /// instead.
    QueueAnswer(RequestId, QueueAnswer),
    /// The channel is gone: requeue its unacknowledged messages, remove its consumers; answered by
    /// [`Control::ChannelReleased`].
    ChannelGone(ChannelId),
    /// The home holds nothing of the channel any more.
    ChannelReleased(ChannelId),
    /// The consumers of the channel share a limit from now on (`true`), or no more; answered by
    /// [`Control::Limited`]. Permits that came before it were used or have come back by then.
    Limit(ConnId, ChannelId, bool),
    /// The home has done that.
    Limited(ConnId, ChannelId),
    /// The connection is gone: its flow credit here can be forgotten.
    ConnGone(ConnId),
    /// A queue has a message that the channel cannot be sent.
    Unfit(Unfit),
    /// The channel has not settled a delivery in time: it is to be closed, unless it has settled
    /// it meanwhile.
    Overdue(Overdue),
    /// The connection takes nothing of a large message, and others wait for its place: it is to be
    /// given up.
    Stuck(ConnId),
    /// The consumer was cancelled by the server: its queue is gone.
    ConsumerGone(ConnId, ChannelId, ConsumerId),
    /// A queue of the home is out of service and refused the enqueue of this number, counted from 1
    /// over all that the shard has sent there. It comes in front of the watermark that covers it.
    Refused(u64),
    /// The home holds the enqueue of this number, counted like that of [`Control::Refused`]. It
    /// comes in front of the watermark that passes it, which does not confirm it.
    Held(u64),
    /// Enqueues that the home held have ended.
    Finished(Vec<FinishedEnqueue>),
    /// The broker stops and no connection of the shard is left: nothing of one follows.
    Left,
}

/// What is short: while anything is, publishers have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Alarms {
    /// The broker pins more memory than it may.
    pub memory: bool,
    /// Too little is free on the disk.
    pub disk: bool,
}

impl Alarms {
    /// Whether anything is short.
    #[must_use]
    pub fn any(self) -> bool {
        self.memory || self.disk
    }

    /// What clients are told, in RabbitMQ's words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match (self.memory, self.disk) {
            (true, true) => "low on disk & memory",
            (false, true) => "low on disk",
            _ => "low on memory",
        }
    }
}

/// What a shard asks the coordinator. Names that do not exist are refused; the coordinator's view
/// is the truth, the shard's copy may be older.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Request {
    /// May this user log in?
    Login(LoginAttempt),
    /// May the user open the vhost? From then on the connection counts until
    /// [`Control::ConnectionLeft`].
    OpenVhost {
        /// The connection.
        conn: ConnId,
        /// The user's name.
        user: Name,
        /// The vhost.
        vhost: Name,
    },
    /// May the user do these in the vhost? Answered by [`Answer::Permitted`].
    Permit(UserInVhost, Vec<Access>),
    /// Change users, vhosts, rights, limits or policies.
    Admin(Box<AdminCommand>),
    /// May there be another channel? It counts in any case, until [`Control::ChannelLeft`].
    OpenChannel {
        /// The channel.
        channel: ChannelId,
        /// Its user.
        user: Name,
    },
    /// Create the exchange unless it exists; then [`Answer::Done`] all the same, and the asking
    /// shard compares the two.
    DeclareExchange(Name, ExchangeSpec),
    /// Delete the exchange.
    DeleteExchange {
        /// The vhost.
        vhost: Name,
        /// The exchange.
        name: Name,
        /// Not if it is the source of a binding.
        if_unused: bool,
    },
    /// Create the queue unless it exists; then [`Answer::Done`] all the same, and the asking shard
    /// compares the two. While a queue of that name is being deleted the request waits for the end
    /// of that. `id` and `home` in the spec are chosen by the coordinator.
    DeclareQueue(Name, QueueSpec),
    /// Delete the queue.
    DeleteQueue {
        /// The vhost.
        vhost: Name,
        /// The queue.
        name: Name,
        /// Not if it has consumers.
        if_unused: bool,
        /// Not if it has ready messages.
        if_empty: bool,
        /// Who asks: another connection's exclusive queue is refused.
        conn: ConnId,
    },
    /// Create the binding unless it exists.
    Bind(Name, Binding, ConnId),
    /// Remove the binding if it exists.
    Unbind(Name, Binding, ConnId),
    /// The home said that the queue is frozen: answer when its deletion is applied everywhere.
    AwaitDeleted(QueueId),
    /// Answer when all changes decided so far are applied everywhere.
    Sync,
    /// The connection is gone: delete its exclusive queues.
    ConnectionGone(ConnId),
}

/// What the coordinator answers, after every shard has applied what it decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It is done, or was so already.
    Done,
    /// The queue is deleted; it had so many ready messages.
    Deleted(u32),
    /// The login is right.
    LoggedIn,
    /// The login is wrong. The client is to be told so after this time, and not earlier.
    LoginRefused {
        /// Why, for the log.
        why: LoginRefusal,
        /// Microseconds.
        wait_us: u64,
    },
    /// The login was not looked at, since too many from that address failed: ask again after this
    /// time.
    LoginTooEarly {
        /// Microseconds.
        wait_us: u64,
    },
    /// The vhost is open.
    Opened {
        /// What the user may do in it.
        rights: Rights,
        /// Each channel is to be asked for.
        counts_channels: bool,
    },
    /// What the user may do of what was asked.
    Permitted(Vec<(Access, bool)>),
    /// The answer to [`Request::Admin`].
    Admin(AdminAnswer),
    /// The vhost does not exist.
    NoVhost,
    /// The user may not open the vhost.
    VhostRefused,
    /// It cannot be done.
    Refused(Refusal),
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A user who wants to log in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoginAttempt {
    /// The user's name.
    pub user: Name,
    /// The password in clear.
    pub password: Secret,
    /// The client's address.
    pub from: IpAddr,
}

/// Why a login is wrong. Clients are not told, but the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoginRefusal {
    /// There is no such user, or the password is another.
    Credentials,
    /// The user may log in from this host only.
    NotLocal,
}

/// What a channel's shard asks a queue's home.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum QueueRequest {
    /// How many messages and consumers?
    Count,
    /// Add a consumer.
    Consume(ConsumerSpec),
    /// Remove a consumer.
    Cancel(ConsumerId),
    /// One message, now.
    Get {
        /// Who gets it.
        conn: ConnId,
        /// Who gets it.
        channel: ChannelId,
        /// Acknowledged by being sent.
        no_ack: bool,
        /// Bytes of encoded properties that one frame to the connection carries.
        properties_max: usize,
    },
    /// Drop the ready messages.
    Purge,
}

impl Control {
    /// True for what a shard tells the coordinator that neither depends on what is decided nor
    /// changes it, so that it may overtake: logins, counts, memory.
    #[must_use]
    pub fn is_independent(&self) -> bool {
        match self {
            Self::Memory(_)
            | Self::ConnectionLeft(_)
            | Self::ChannelLeft(_)
            | Self::ChannelsOpen(..) => true,
            Self::Ask(_, request) => matches!(
                request,
                Request::Login(_) | Request::OpenVhost { .. } | Request::OpenChannel { .. }
            ),
            _ => false,
        }
    }

    /// Bytes of the durable fact that a request may lead to, or a few less.
    #[must_use]
    pub fn fact_bytes(&self) -> usize {
        let Self::Ask(_, request) = self else { return 0 };
        match request {
            Request::DeclareQueue(_, spec) => spec.arguments.bytes(),
            Request::DeclareExchange(_, spec) => spec.arguments.bytes(),
            Request::Bind(_, binding, _) | Request::Unbind(_, binding, _) => {
                binding.arguments.bytes()
            }
            _ => 0,
        }
    }
}

/// What a queue's home answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum QueueAnswer {
    /// Ready messages and consumers.
    Counts(u32, u32),
    /// The consumer is there; deliveries follow.
    Consuming,
    /// The consumer is gone; no delivery follows.
    Cancelled,
    /// No message is ready.
    Empty,
    /// So many messages were dropped.
    Purged(u32),
    /// The queue is being deleted, or is no more: look again when that is applied.
    Frozen(QueueId),
    /// It cannot be done.
    Refused(Refusal),
}
