//! One connection: its input, its output, its channels.

use std::collections::VecDeque;
use std::net::SocketAddr;

use amqp::assembler::SequenceError;
use amqp::frame::{Deliver, write_frame};
use amqp::methods::Method;
use amqp::{Assembler, Code, Frame, Parser, Properties, Step};
use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::queue::Addressed;
use model::session::channel::State;
use model::session::{Channel, Handshake, Limits, Verdict, content};
use model::{ChannelId, Draft, Fault, Message, Name, Now, Outbox, Refusal, ShardId};

use super::home::cost;

/// Octets of output beyond which a connection's input is not read.
pub const OUTPUT_MARK: u64 = 1024 * 1024;
/// Octets of input behind barriers beyond which a connection is not read.
pub const PARKED_MARK: usize = 256 * 1024;
/// The largest body the protocol level takes, as RabbitMQ's.
const BODY_MAX: u64 = 512 * 1024 * 1024;

/// Why a connection is not read: flags.
pub(super) mod pause {
    /// Its output is not taken.
    pub const OUTPUT: u8 = 1;
    /// It published to a home whose window is full.
    pub const WINDOW: u8 = 2;
    /// It publishes, and memory is short.
    pub const ALARM: u8 = 4;
    /// Too much waits behind its barriers.
    pub const PARKED: u8 = 8;
    /// Too much is half received, and others began earlier.
    pub const DRAFTS: u8 = 16;
    /// Its login or its vhost is being decided.
    pub const HANDSHAKE: u8 = 32;
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnInfo {
    /// The client's address.
    pub peer: SocketAddr,
    /// The listener's address.
    pub local: SocketAddr,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Handshake or running.
    Alive,
    /// The client closed it; close-ok is sent when everything of it is let go.
    ClosedByClient,
    /// The server closed it; close-ok is awaited.
    ClosedByServer,
    /// What waits is written, then the socket goes.
    Leaving,
}

/// Deliveries written into the output: their home gets the credit back when they have left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owed {
    until: u64,
    pub home: ShardId,
    pub octets: u64,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub info: ConnInfo,
    pub phase: Phase,
    /// Why the server closed it, for the log.
    pub why: Option<Box<str>>,
    pub handshake: Handshake,
    pub max_message_size: u64,
    pub parser: Parser,
    pub user: Name,
    pub vhost: Name,
    pub outbox: Outbox,
    written: u64,
    owed: VecDeque<Owed>,
    channels: Vec<Option<Box<Channel>>>,
    /// The number of each channel, in the order of ids.
    numbers: Vec<(ChannelId, u16)>,
    /// Input that waits until the connection is read again.
    pub input: VecDeque<Bytes>,
    pub parked: usize,
    /// Channels on which part of a body has arrived.
    pub halves: Vec<u16>,
    pub paused: u8,
    /// Has published: a memory alarm stops its input.
    pub publisher: bool,
    /// Was told connection.blocked.
    pub blocked: bool,
    /// Channels whose commits wait until more output has left.
    pub commits: Vec<ChannelId>,
    /// Declared exclusive queues, which go with it.
    pub owns: bool,
    /// Closed channels that homes have not let go of yet.
    pub releases: usize,
    /// What must be let go before close-ok.
    pub releasing: usize,
    /// Homes that keep flow credit for it.
    pub links: Vec<ShardId>,
    /// Everything it holds was let go, or is being.
    pub let_go: bool,
    pub dirty: bool,
    pub received_us: u64,
    pub sent_us: u64,
    pub opened_us: u64,
    /// When the server stops waiting for close-ok.
    pub leave_us: u64,
    pub timer_us: u64,
}

/// What a frame completed.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A method without content.
    Method { channel: u16, method: Method<'a>, payload: &'a [u8] },
    /// A publish; its message is in the scratch draft.
    Publish { channel: u16 },
    /// Nothing yet.
    More,
}

/// A fault and the channel it happened on.
pub(super) type Failure = (u16, Fault);

impl Conn {
    pub fn new(info: ConnInfo, limits: Limits, now: Now) -> Self {
        let handshake = Handshake::new(limits);
        let us = now.monotonic_us;
        Self {
            info,
            phase: Phase::Alive,
            why: None,
            parser: Parser::new(handshake.negotiated().frame_max),
            handshake,
            max_message_size: limits.max_message_size,
            user: Name::default(),
            vhost: Name::default(),
            outbox: Outbox::default(),
            written: 0,
            owed: VecDeque::new(),
            channels: Vec::new(),
            numbers: Vec::new(),
            input: VecDeque::new(),
            parked: 0,
            halves: Vec::new(),
            paused: 0,
            publisher: false,
            blocked: false,
            commits: Vec::new(),
            owns: false,
            releases: 0,
            releasing: 0,
            links: Vec::new(),
            let_go: false,
            dirty: false,
            received_us: us,
            sent_us: us,
            opened_us: us,
            leave_us: u64::MAX,
            timer_us: u64::MAX,
        }
    }

    pub fn frame_max(&self) -> u32 {
        self.handshake.negotiated().frame_max
    }

    #[inline]
    pub fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number))?.as_deref_mut()
    }

    /// The channel with this identity and its number.
    #[inline]
    pub fn channel_by_id(&mut self, id: ChannelId) -> Option<(u16, &mut Channel)> {
        let at = self.numbers.binary_search_by_key(&id, |(other, _)| *other).ok()?;
        let number = self.numbers.get(at)?.1;
        Some((number, self.channel(number)?))
    }

    pub fn add_channel(&mut self, number: u16, id: ChannelId) {
        let at = usize::from(number);
        if self.channels.len() <= at {
            self.channels.resize_with(at + 1, || None);
        }
        self.channels[at] = Some(Box::new(Channel::new(id)));
        self.numbers.push((id, number));
    }

    pub fn remove_channel(&mut self, number: u16) -> Option<Box<Channel>> {
        let channel = self.channels.get_mut(usize::from(number))?.take()?;
        self.parked -= channel.parked.len();
        self.numbers.retain(|(id, _)| *id != channel.id);
        Some(channel)
    }

    /// Nothing more is sent on any channel.
    pub fn end_channels(&mut self) {
        let open = self.channels.iter_mut().flatten();
        open.filter(|channel| channel.state == State::Open)
            .for_each(|channel| channel.state = State::ClosedByServer);
    }

    /// The numbers of the channels there are.
    pub fn numbers(&self) -> Vec<u16> {
        self.numbers.iter().map(|(_, number)| *number).collect()
    }

    /// Octets of output that have not left for the socket.
    pub fn unsent(&self) -> u64 {
        self.outbox.produced() - self.written
    }

    /// A delivery from `home` is at the end of the output.
    #[inline]
    pub fn owe(&mut self, home: ShardId, octets: u64) {
        const TOGETHER: u64 = 16 * 1024;
        let until = self.outbox.produced();
        match self.owed.back_mut() {
            Some(last) if last.home == home && last.octets < TOGETHER => {
                last.until = until;
                last.octets += octets;
            }
            _ => self.owed.push_back(Owed { until, home, octets }),
        }
    }

    pub fn wrote(&mut self, octets: usize) {
        self.written += octets as u64;
    }

    /// Credit to return now that more output has left.
    pub fn paid(&mut self) -> Option<Owed> {
        let written = self.written;
        self.owed.pop_front_if(|first| first.until <= written)
    }

    /// Takes a frame on a channel. `replayed`: it was parked before.
    #[inline]
    pub fn frame<'a>(
        &mut self,
        frame: Frame<'a>,
        chunk: &Bytes,
        scratch: &mut Draft,
        replayed: bool,
    ) -> Result<Option<Event<'a>>, Failure> {
        let number = match frame {
            Frame::Method { channel: 0, payload } => return self.method_on_zero(payload),
            Frame::Heartbeat { channel: 0 } => return Ok(None),
            Frame::Method { channel, .. }
            | Frame::Header { channel, .. }
            | Frame::Body { channel, .. }
            | Frame::Heartbeat { channel } => channel,
        };
        if number == 0 || !self.handshake.running() || matches!(frame, Frame::Heartbeat { .. }) {
            return Err((0, Fault::unexpected_frame(frame.kind(), frame.payload())));
        }
        if self.phase != Phase::Alive {
            return Ok(None);
        }
        let Some(channel) = self.channels.get_mut(usize::from(number)).and_then(Option::as_mut)
        else {
            return unopened(number, frame);
        };
        let waits = channel.barrier.is_some() || !channel.parked.is_empty();
        if waits && !replayed {
            return self.park(number, frame);
        }
        let obeyed = replayed && mutant::active(Mutant::ParkedObeyed);
        let state = if obeyed { State::Open } else { channel.state };
        let result = match (state, frame) {
            (State::Open, Frame::Method { payload, .. }) => method(number, channel, payload),
            (State::Open, Frame::Header { payload, .. }) => self.header(number, payload, scratch),
            (State::Open, Frame::Body { piece, last, .. }) => {
                if body(channel, (piece, last), chunk, scratch)? {
                    return Ok(Some(Event::Publish { channel: number }));
                }
                half(&mut self.halves, number);
                Ok(None)
            }
            (_, Frame::Method { payload, .. }) => closing_method(number, payload),
            _ => Ok(None),
        };
        result.map_err(|fault| (number, fault))
    }

    /// Writes a delivery from `home`; false when nobody takes it any more.
    #[inline]
    pub fn deliver(&mut self, home: ShardId, to: Addressed, message: Message<'_>) -> bool {
        let frame_max = self.frame_max();
        let Some((number, channel)) = open_channel(&self.numbers, &mut self.channels, to.channel)
        else {
            return false;
        };
        channel.arrived(to.number);
        if channel.consumer(to.consumer).is_none() {
            return false;
        }
        let delivery_tag = channel.deliver(to.queue, home, to.number);
        let Some(consumer) = channel.consumer(to.consumer) else {
            return false;
        };
        let deliver = Deliver {
            consumer_tag: consumer.tag.as_bytes(),
            delivery_tag,
            redelivered: to.redelivered,
            exchange: message.exchange_octets(),
            routing_key: message.routing_key_octets(),
        };
        self.outbox.deliver(number, &deliver);
        self.outbox.content(number, message, frame_max);
        self.owe(home, cost(message));
        true
    }

    /// Writes a message that basic.get found.
    pub fn got(&mut self, home: ShardId, remaining: u32, to: Addressed, message: Message<'_>) {
        let frame_max = self.frame_max();
        let Some((number, channel)) = open_channel(&self.numbers, &mut self.channels, to.channel)
        else {
            return;
        };
        channel.got(to.number);
        let method = Method::BasicGetOk {
            delivery_tag: channel.deliver(to.queue, home, to.number),
            redelivered: to.redelivered,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            message_count: remaining,
        };
        self.outbox.method(number, &method);
        self.outbox.content(number, message, frame_max);
        self.pause_over_mark();
    }

    /// Returns a message that nobody takes.
    pub fn give_back(&mut self, number: u16, message: Message<'_>) {
        let frame_max = self.frame_max();
        let method = Method::BasicReturn {
            reply_code: 312,
            reply_text: "NO_ROUTE",
            exchange: message.exchange(),
            routing_key: message.routing_key(),
        };
        self.outbox.method(number, &method);
        self.outbox.content(number, message, frame_max);
        self.pause_over_mark();
    }

    /// Stops reading a connection that does not take its output; at once where a client's methods
    /// make output without flow credit, since a chunk may hold thousands of them.
    pub fn pause_over_mark(&mut self) {
        if self.unsent() > OUTPUT_MARK {
            self.paused |= pause::OUTPUT;
        }
    }

    /// Tells which publishes of a channel are confirmed.
    pub fn tell_confirms(&mut self, number: u16) {
        let channel = self.channels.get_mut(usize::from(number)).and_then(Option::as_mut);
        // Behind channel.close nothing of the channel may follow.
        let open = channel.filter(|channel| channel.state == State::Open);
        let Some(confirms) = open.and_then(|channel| channel.confirms.as_mut()) else {
            return;
        };
        let outbox = &mut self.outbox;
        confirms.tell(|verdict, delivery_tag, multiple| {
            let method = match verdict {
                Verdict::Ack => Method::BasicAck { delivery_tag, multiple },
                Verdict::Nack => Method::BasicNack { delivery_tag, multiple, requeue: false },
            };
            outbox.method(number, &method);
        });
    }

    fn method_on_zero<'a>(&self, payload: &'a [u8]) -> Result<Option<Event<'a>>, Failure> {
        match Method::read(payload) {
            Ok(method) => Ok(Some(Event::Method { channel: 0, method, payload })),
            Err(error) => Err((0, Fault::unreadable_method(payload, error))),
        }
    }

    fn park<'a>(&mut self, number: u16, frame: Frame<'a>) -> Result<Option<Event<'a>>, Failure> {
        let Some(channel) = self.channel(number) else {
            return Ok(None);
        };
        let before = channel.parked.len();
        write_frame(&mut channel.parked.later, frame);
        let more = channel.parked.len() - before;
        self.parked += more;
        if self.parked > PARKED_MARK {
            self.paused |= pause::PARKED;
        }
        Ok(None)
    }

    #[inline]
    fn header<'a>(
        &mut self,
        number: u16,
        payload: &'a [u8],
        scratch: &mut Draft,
    ) -> Result<Option<Event<'a>>, Fault> {
        let max = self.max_message_size;
        let Some(channel) = self.channels.get_mut(usize::from(number)).and_then(Option::as_mut)
        else {
            return Ok(None);
        };
        let step = channel.assembler.header(payload);
        let step = step.map_err(|error| Fault::unreadable_header(payload, error))?;
        let Step::Header { body_size, properties } = step else {
            return Ok(None);
        };
        let publish = (60, 40);
        if body_size > BODY_MAX {
            let text =
                format!("content body size {body_size} exceeds maximum allowed size {BODY_MAX}");
            return Err(Fault::new(Code::FrameError, &text, publish));
        }
        if body_size > max {
            return Err(Refusal::MessageTooLarge { size: body_size, max }.fault(publish));
        }
        // At most BODY_MAX.
        let size = body_size as u32;
        match Properties::parse_plain(properties) {
            Some((properties, mode)) => channel.draft.header(properties, mode, 0, size),
            None => {
                special_header(channel, properties, &self.user, size)?;
                // Headers may be large: they count before a body comes.
                half(&mut self.halves, number);
            }
        }
        if body_size > 0 {
            return Ok(None);
        }
        std::mem::swap(&mut channel.draft, scratch);
        Ok(Some(Event::Publish { channel: number }))
    }
}

/// The open channel with this identity, found without borrowing the rest of the connection.
#[inline]
fn open_channel<'c>(
    numbers: &[(ChannelId, u16)],
    channels: &'c mut [Option<Box<Channel>>],
    id: ChannelId,
) -> Option<(u16, &'c mut Channel)> {
    let at = numbers.binary_search_by_key(&id, |(other, _)| *other).ok()?;
    let number = numbers.get(at)?.1;
    let channel = channels.get_mut(usize::from(number))?.as_deref_mut()?;
    (channel.state == State::Open).then_some((number, channel))
}

#[inline]
fn method<'a>(
    number: u16,
    channel: &mut Channel,
    payload: &'a [u8],
) -> Result<Option<Event<'a>>, Fault> {
    let Some(publish) =
        channel.assembler.publish(payload).map_err(|error| unreadable(payload, error))?
    else {
        return other_method(number, channel, payload);
    };
    if publish.immediate {
        return Err(Refusal::NotImplemented("immediate=true".into()).fault((60, 40)));
    }
    channel.mandatory = publish.mandatory;
    channel.draft.begin(publish.exchange, publish.routing_key);
    Ok(None)
}

/// A method that is no publish.
fn other_method<'a>(
    number: u16,
    channel: &mut Channel,
    payload: &'a [u8],
) -> Result<Option<Event<'a>>, Fault> {
    let step = channel.assembler.method(payload).map_err(|error| unreadable(payload, error))?;
    let Step::Method(method) = step else { return Ok(None) };
    if method.has_content() {
        channel.assembler = Assembler::Idle;
    }
    Ok(Some(Event::Method { channel: number, method, payload }))
}

#[cold]
fn unreadable(payload: &[u8], error: SequenceError) -> Fault {
    match error {
        SequenceError::Wire(error) => Fault::unreadable_method(payload, error),
        error => error.into(),
    }
}

/// Takes properties that may mean something to the broker.
fn special_header(
    channel: &mut Channel,
    properties: &[u8],
    user: &str,
    body_size: u32,
) -> Result<(), Fault> {
    let (properties, basic) = Properties::parse(properties).map_err(SequenceError::from)?;
    let meaning = content::meaning((properties, &basic), user, channel.replies.as_ref());
    let meaning = meaning.unwrap_or_else(|refusal| {
        channel.refused = Some(Box::new(refusal));
        content::Meaning::default()
    });
    let (mode, priority) = (basic.delivery_mode.unwrap_or(0), basic.priority.unwrap_or(0));
    let rewritten = meaning.rewritten.as_deref().map(Properties::checked_before);
    channel.draft.header(rewritten.unwrap_or(properties), mode, priority, body_size);
    channel.keys = meaning.keys;
    Ok(())
}

/// The message on this channel is half received.
#[inline]
fn half(halves: &mut Vec<u16>, number: u16) {
    if !halves.contains(&number) {
        halves.push(number);
    }
}

#[inline]
fn body(
    channel: &mut Channel,
    (piece, last): (&[u8], bool),
    chunk: &Bytes,
    scratch: &mut Draft,
) -> Result<bool, Failure> {
    let step = channel.assembler.body_piece(piece, last).map_err(|error| (0, error.into()))?;
    channel.draft.body(piece, chunk);
    let complete = matches!(step, Step::Body { complete: true, .. });
    if complete {
        std::mem::swap(&mut channel.draft, scratch);
    }
    Ok(complete)
}

/// On a channel that was closed only close and close-ok count.
fn closing_method(number: u16, payload: &[u8]) -> Result<Option<Event<'_>>, Fault> {
    Ok(match Method::read(payload) {
        Ok(method @ (Method::ChannelClose { .. } | Method::ChannelCloseOk {})) => {
            Some(Event::Method { channel: number, method, payload })
        }
        _ => None,
    })
}

/// On a number that is no open channel only open counts; a close-ok may be late.
fn unopened(number: u16, frame: Frame<'_>) -> Result<Option<Event<'_>>, Failure> {
    let payload = match frame {
        Frame::Method { payload, .. } => payload,
        Frame::Header { payload, .. } => {
            return Err((0, Fault::unreadable_header(payload, SequenceError::MethodExpected)));
        }
        _ => return Err((0, SequenceError::MethodExpected.into())),
    };
    match Method::read(payload) {
        Ok(Method::ChannelCloseOk {}) => Ok(None),
        Ok(method @ Method::ChannelOpen { .. }) => {
            Ok(Some(Event::Method { channel: number, method, payload }))
        }
        Ok(method) => {
            Err((0, Fault::new(Code::ChannelError, "expected 'channel.open'", method.id())))
        }
        Err(error) => Err((0, Fault::unreadable_method(payload, error))),
    }
}
