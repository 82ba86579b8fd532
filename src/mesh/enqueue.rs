//! What both ends of an enqueue count and tell: its cost, its outcome, and the settle that ends it.

use model::queue::Settle;
use model::{Body, ChannelId, ConnId, Message, QueueId};

/// Bytes that a message needs around its own.
const OVERHEAD: u64 = 64;

/// What a message counts in windows and credits: its bytes and [`OVERHEAD`].
#[inline]
pub(crate) fn cost(message: Message<'_>) -> u64 {
    let body = message.large_body().map_or(0, Body::len);
    (message.record().len() + body) as u64 + OVERHEAD
}

/// The cost of a message that enters so many queues of one home: each keeps its own record.
#[inline]
pub(crate) fn cost_of_copies(message: Message<'_>, queues: usize) -> u64 {
    let more = queues.saturating_sub(1) as u64;
    cost(message) + more * (message.record().len() as u64 + OVERHEAD)
}

/// What happened to a message that was to enter queues, beside entering them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EnqueueOutcome(u8);

impl EnqueueOutcome {
    const LOGGED: u8 = 1;
    const REFUSED: u8 = 2;
    const HELD: u8 = 4;

    /// True if it was neither logged nor refused nor held.
    #[inline]
    pub fn is_plain(self) -> bool {
        self.0 == 0
    }

    /// A queue has logged it, or written it to its segment.
    pub fn logged(self) -> bool {
        self.0 & Self::LOGGED != 0
    }

    /// A queue is out of service and refused it.
    pub fn refused(self) -> bool {
        self.0 & Self::REFUSED != 0
    }

    /// A queue holds it: it is applied later. Classic queues hold nothing.
    #[inline]
    pub fn held(self) -> bool {
        cfg!(feature = "second-kinds") && self.0 & Self::HELD != 0
    }

    /// Adds that a queue holds it.
    pub fn hold(&mut self) {
        self.0 |= Self::HELD;
    }

    /// Adds that a queue logged it.
    pub fn log(&mut self) {
        self.0 |= Self::LOGGED;
    }

    /// Adds that a queue refused it.
    pub fn refuse(&mut self) {
        self.0 |= Self::REFUSED;
    }
}

/// A channel settles deliveries of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// The queue.
    pub queue: QueueId,
    /// The channel.
    pub channel: ChannelId,
    /// The home's number.
    pub number: u64,
    /// All up to the number, not only that one.
    pub up_to: bool,
    /// What becomes of them.
    pub how: Settle,
}

/// A publish, a commit or a dead letter that waits for an enqueue to be applied or durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Awaiting {
    /// The enqueue at that home.
    pub enqueue: u64,
    pub conn: ConnId,
    pub channel: ChannelId,
    /// The number of the publish on its channel; 0 for a commit.
    pub publish: u64,
}

impl Awaiting {
    /// Who a dead letter is for: ids of connections begin at 1.
    const NOBODY: ConnId = ConnId(0);

    /// A dead letter with this number, which is not 0, waits for its enqueue.
    pub fn dead_letter(enqueue: u64, letter: u64) -> Self {
        Self { enqueue, conn: Self::NOBODY, channel: ChannelId(0), publish: letter }
    }

    /// Whether it is a dead letter; then `publish` is its number.
    #[inline]
    pub fn is_dead_letter(&self) -> bool {
        self.conn == Self::NOBODY
    }
}

/// An enqueue that was held and has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FinishedEnqueue {
    /// Counted from 1 over all that the source has sent to the home.
    pub number: u64,
    /// A queue of the home refused it.
    pub refused: bool,
}
