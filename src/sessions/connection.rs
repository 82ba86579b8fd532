//! One connection: its session kind, its input, its output, its channels and its life cycle.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use model::access::cache::AccessCache;
use model::message::REFERENCE_MIN;
use model::mutant::{self, Mutant};
use model::queue::Addressed;
use model::{Fault, Message, Name, Now, ShardId};

use crate::sessions::channels::Channels;
use crate::sessions::kind::{AfterAnswer, SessionKind};
use crate::sessions::life::Life;
use crate::sessions::output::{ClientOutput, OUTPUT_MARK};

/// Bytes of input behind barriers, and of methods that wait for answers, beyond which a connection
/// is not read.
pub const PARKED_MARK: usize = 256 * 1024;

/// Why a connection is not read: flags.
pub(crate) mod pause {
    /// Its output is not taken.
    pub const OUTPUT: u16 = 1;
    /// It published to a home whose window is full.
    pub const WINDOW: u16 = 2;
    /// It publishes, and memory is short.
    pub const ALARM: u16 = 4;
    /// Too much waits behind its barriers.
    pub const PARKED: u16 = 8;
    /// Partial messages hold too much memory, and others began earlier.
    pub const DRAFTS: u16 = 16;
    /// It waits for an answer that concerns all of it: its login, its vhost.
    pub const ANSWER: u16 = 32;
    /// The client closed it, and not everything of it is released yet.
    pub const CLOSING: u16 = 64;
    /// It waits for two messages that it asked for: they may be large.
    pub const GETS: u16 = 128;
    /// What it asked for goes on in the next turn.
    pub const WORK: u16 = 256;
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnInfo {
    /// The client's address.
    pub peer: SocketAddr,
    /// The listener's address.
    pub local: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub info: ConnInfo,
    pub kind: SessionKind,
    /// The handshake is over: it may publish and consume.
    pub running: bool,
    pub user: Name,
    pub vhost: Name,
    /// What the user may do in the vhost.
    pub access: AccessCache,
    /// Each channel counts at the coordinator.
    pub counts_channels: bool,
    /// Rights of the user changed while the vhost was asked for.
    pub access_changed: bool,
    pub output: ClientOutput,
    pub channels: Channels,
    pub life: Life,
    /// Input that waits until the connection is read again.
    pub input: VecDeque<Bytes>,
    /// Why it is not read: flags of [`pause`].
    pub paused: u16,
    /// A publish goes on in another turn.
    pub publishing: bool,
    /// Has published: a memory alarm stops its input.
    pub publisher: bool,
    /// Was told that it is blocked.
    pub blocked: bool,
    /// Its output or its gate changed since the shell looked.
    pub dirty: bool,
    /// Requests that wait for an answer.
    pub requested: Requested,
    /// Bytes of memory that count for it.
    pub counted: CountedBytes,
    /// Bytes received from the socket.
    pub received_bytes: u64,
    /// Frames received.
    pub received_frames: u64,
}

/// The requests of a connection that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Requested {
    /// Messages asked for.
    gets: u16,
    /// Bytes of the methods.
    pub bytes: usize,
}

/// Bytes of memory that a connection holds, as of the last turn in which it was sent something.
#[derive(Debug, Default)]
pub(crate) struct CountedBytes {
    pub all: usize,
    /// Those of its channels, which are counted less often the more there are.
    channels: usize,
    /// Turns until they are counted again.
    rest: usize,
}

impl Connection {
    pub fn new(info: ConnInfo, now: Now) -> Self {
        Self {
            info,
            kind: SessionKind::Undecided,
            running: false,
            user: Name::default(),
            vhost: Name::default(),
            access: AccessCache::default(),
            counts_channels: false,
            access_changed: false,
            output: ClientOutput::new(now),
            channels: Channels::default(),
            life: Life::new(now),
            input: VecDeque::new(),
            paused: 0,
            publishing: false,
            publisher: false,
            blocked: false,
            dirty: false,
            requested: Requested::default(),
            counted: CountedBytes::default(),
            received_bytes: 0,
            received_frames: 0,
        }
    }

    /// A request begins to wait. Pauses the connection if too much waits.
    pub fn request(&mut self, then: &AfterAnswer) {
        self.requested.bytes += then.held();
        if then.is_get() {
            self.requested.gets += 1;
            if self.requested.gets > 1 && !mutant::active(Mutant::GetsUnlimited) {
                self.paused |= pause::GETS;
            }
        }
        if self.waiting() > PARKED_MARK {
            self.paused |= pause::PARKED;
        }
    }

    /// A request waits no more; the pauses that have ended.
    pub fn requested(&mut self, then: &AfterAnswer) -> u16 {
        self.requested.bytes -= then.held();
        self.requested.gets -= u16::from(then.is_get());
        let gets = if self.requested.gets <= 1 { pause::GETS } else { 0 };
        let parked = if self.waiting() <= PARKED_MARK / 2 { pause::PARKED } else { 0 };
        gets | parked
    }

    /// Bytes of frames that wait for answers: to their own methods, or to others in front of them.
    pub fn waiting(&self) -> usize {
        let requested =
            if mutant::active(Mutant::QuestionsUncounted) { 0 } else { self.requested.bytes };
        self.channels.parked + requested
    }

    /// Counts its memory; returns how much it was before.
    #[inline]
    pub fn count(&mut self) -> usize {
        /// Channels that are counted in one turn on average.
        const CHANNELS: usize = 8;
        if self.counted.rest == 0 {
            self.counted.channels = self.channels.pinned();
            self.counted.rest = self.channels.len() / CHANNELS;
        } else {
            self.counted.rest -= 1;
        }
        let mut input = self.input.iter().map(Bytes::len).sum::<usize>();
        if mutant::active(Mutant::InputUncounted) {
            input = 0;
        }
        let output = if mutant::active(Mutant::OutputUncounted) { 0 } else { self.output.pinned() };
        let bytes = output + self.counted.channels + self.waiting() + input;
        std::mem::replace(&mut self.counted.all, size_of::<Self>() + bytes)
    }

    /// Keeps input until the connection is read again; `rest` is in front of what waits.
    pub fn keep_front(&mut self, rest: Bytes) {
        self.input.push_front(compact(rest));
    }

    /// Keeps input until the connection is read again, behind what waits.
    pub fn keep_back(&mut self, chunk: Bytes) {
        self.input.push_back(compact(chunk));
    }

    /// Writes a delivery from `home`; false when nobody takes it any more.
    #[inline]
    pub fn deliver(&mut self, home: ShardId, to: Addressed, message: Message<'_>) -> bool {
        self.kind.deliver((&mut self.output, &mut self.channels), home, to, message)
    }

    /// Writes a message that a get found.
    pub fn got(&mut self, home: ShardId, remaining: u32, to: Addressed, message: Message<'_>) {
        let parts = (&mut self.output, &mut self.channels);
        self.kind.got(parts, (home, remaining), to, message);
        self.pause_over_mark();
    }

    /// Tells a get that there is no message.
    pub fn got_nothing(&mut self, number: u16) {
        if let Some(channel) = self.channels.get(number) {
            channel.counted.get_empty += 1;
        }
        self.kind.got_nothing(&mut self.output, number);
    }

    /// Returns a message that nobody takes; false if the client cannot be sent it. `publish`: its
    /// number on a channel in confirm mode.
    #[must_use]
    pub fn give_back(&mut self, number: u16, message: Message<'_>, publish: Option<u64>) -> bool {
        let returned = self.kind.give_back(&mut self.output, number, message, publish);
        self.pause_over_mark();
        returned
    }

    /// Stops reading a connection that does not take its output; at once where a client's methods
    /// make output without flow credit, since a chunk may hold thousands of them.
    pub fn pause_over_mark(&mut self) {
        if self.output.unsent() > OUTPUT_MARK {
            self.paused |= pause::OUTPUT;
        }
    }

    /// Tells which publishes of a channel are confirmed.
    pub fn tell_confirms(&mut self, number: u16) {
        self.kind.tell_confirms((&mut self.output, &mut self.channels), number);
    }

    /// Tells the client that the server cancelled a consumer; false if it cannot take that.
    pub fn tell_cancelled(&mut self, number: u16, tag: &str) -> bool {
        self.kind.tell_cancelled(&mut self.output, number, tag)
    }

    /// Tells the client that the server closes a channel.
    pub fn tell_channel_failed(&mut self, number: u16, fault: &Fault) {
        self.kind.tell_channel_failed(&mut self.output, number, fault);
    }

    /// Tells the client that the channel it closed is closed.
    pub fn tell_channel_closed(&mut self, number: u16) {
        self.kind.tell_channel_closed(&mut self.output, number);
    }

    /// Tells the client that the server closes the connection.
    pub fn tell_failed(&mut self, fault: &Fault) {
        self.kind.tell_failed(&mut self.output, fault);
    }

    /// Tells the client that the connection it closed is closed.
    pub fn tell_closed(&mut self) {
        self.kind.tell_closed(&mut self.output);
    }

    /// Tells the client that it is not read for now, and why; once.
    pub fn tell_blocked(&mut self, reason: &str) -> bool {
        let told = !self.blocked && self.kind.tell_blocked(&mut self.output, reason);
        self.blocked |= told;
        told
    }

    /// Tells the client that it is read again, if it was told otherwise.
    pub fn tell_unblocked(&mut self) -> bool {
        let told = std::mem::take(&mut self.blocked);
        if told {
            self.kind.tell_unblocked(&mut self.output);
        }
        told
    }

    /// Writes a heartbeat.
    pub fn heartbeat(&mut self) {
        self.kind.heartbeat(&mut self.output);
    }
}

/// Input that waits for a while: a short rest must not pin the buffer it was read into.
fn compact(rest: Bytes) -> Bytes {
    if rest.len() < REFERENCE_MIN { Bytes::copy_from_slice(&rest) } else { rest }
}
