//! What one endpoint sends another at the end of a turn: packed records, large bodies by reference,
//! and controls, in one order.
//!
//! The buffers of a batch go back to its sender once it has been read, so a message that crosses
//! cores costs no allocation and no shared count, unless its body is a large one.

use std::collections::VecDeque;

use amqp::{Reader, WireError, Writer};
use model::queue::{Addressed, Settle};
use model::{Ask, Body, ChannelId, ConnId, ConsumerId, Message, QueueId, Ticket};

use super::message::Control;

/// Records for one peer, in order.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<u8>,
    bodies: VecDeque<Body>,
    controls: VecDeque<Control>,
}

/// A message as it crosses: its record, and its body if that is not in the record.
#[derive(Debug)]
pub struct Carried<'a> {
    record: &'a [u8],
    body: Option<Body>,
}

impl Carried<'_> {
    /// The message.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        Message::new(self.record, self.body.as_ref())
    }
}

/// One record, read.
#[derive(Debug)]
pub enum Record<'a> {
    /// A message for queues of the receiving home.
    Enqueue {
        /// Their ids, eight octets each.
        queues: QueueIds<'a>,
        /// The message.
        carried: Carried<'a>,
        /// Its source waits until it is durable.
        urgent: bool,
    },
    /// A mandatory message for a reply consumer of the receiving home.
    Mandatory {
        /// The consumer's queue.
        queue: QueueId,
        /// Where it goes if the consumer is gone.
        publisher: (ConnId, ChannelId),
        /// The message.
        carried: Carried<'a>,
    },
    /// A mandatory message comes back: its consumer is gone.
    Returned {
        /// Whom it came from.
        publisher: (ConnId, ChannelId),
        /// The message.
        carried: Carried<'a>,
    },
    /// A message for a consumer of the receiving shard.
    Deliver {
        /// To whom, and the home's number.
        to: Addressed,
        /// The message.
        carried: Carried<'a>,
    },
    /// A message for a basic.get of the receiving shard.
    Got {
        /// The question.
        ticket: Ticket,
        /// Messages that stay ready.
        remaining: u32,
        /// To whom, and the home's number.
        to: Addressed,
        /// The message.
        carried: Carried<'a>,
    },
    /// A channel settles deliveries of a queue.
    Settle {
        /// The queue.
        queue: QueueId,
        /// The channel.
        channel: ChannelId,
        /// The home's number.
        number: u64,
        /// All up to the number, not only that one.
        up_to: bool,
        /// What becomes of them.
        how: Settle,
    },
    /// Deliveries have left for a connection's socket.
    Credit {
        /// The connection.
        conn: ConnId,
        /// How many octets of them.
        octets: u64,
    },
    /// A home asks a channel for permits; answered by [`Record::Permit`].
    Ask(QueueId, Ask),
    /// A channel's answer: so many, or none until more are told.
    Permit(QueueId, Ask),
    /// A home has no use for permits of a channel.
    Unused {
        /// The connection.
        conn: ConnId,
        /// The channel.
        channel: ChannelId,
        /// How many.
        count: u32,
    },
    /// How far a home is with what the receiver sent it to enqueue.
    Watermark(Watermark),
    /// Counted like an enqueue: the answer says that everything in front of it is applied.
    Fence,
    /// A control.
    Control(Control),
}

/// The progress of one home for one source, counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watermark {
    /// Enqueues applied.
    pub applied: u64,
    /// Octets of those.
    pub octets: u64,
    /// Enqueues whose persistent messages are on disk where that is asked for.
    pub durable: u64,
}

/// A list of queue ids in a record.
#[derive(Debug, Clone, Copy)]
pub struct QueueIds<'a>(&'a [u8]);

impl QueueIds<'_> {
    /// How many there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.0.len() / 8
    }

    /// The ids.
    pub fn iter(&self) -> impl Iterator<Item = QueueId> {
        let (ids, _) = self.0.as_chunks::<8>();
        ids.iter().map(|id| QueueId(u64::from_be_bytes(*id)))
    }
}

const ENQUEUE: u8 = 1;
const DELIVER: u8 = 2;
const GOT: u8 = 3;
const SETTLE: u8 = 4;
const CREDIT: u8 = 5;
const WATERMARK: u8 = 6;
const CONTROL: u8 = 7;
const MANDATORY: u8 = 8;
const RETURNED: u8 = 9;
const FENCE: u8 = 10;
const ASK: u8 = 11;
const PERMIT: u8 = 12;
const UNUSED: u8 = 13;

/// Flags of a message: its body is not in the record; its source waits until it is durable.
const LARGE: u8 = 1;
const URGENT: u8 = 2;

impl Batch {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Octets of packed records; bodies by reference are not counted.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.records.len()
    }

    /// Octets of memory that it keeps alive, bodies by reference included.
    #[must_use]
    pub fn held(&self) -> usize {
        self.records.len() + self.bodies.iter().map(Body::len).sum::<usize>()
    }

    /// Forgets what was read; buffers of ordinary size are kept.
    pub fn clear(&mut self) {
        const KEPT: usize = 1024 * 1024;
        self.records.clear();
        self.records.shrink_to(KEPT);
        self.bodies.clear();
        self.controls.clear();
    }

    /// Adds a message for queues of the home this batch goes to; `urgent` if the source waits until
    /// it is durable.
    #[inline]
    pub fn enqueue(
        &mut self,
        queues: impl ExactSizeIterator<Item = QueueId>,
        message: Message<'_>,
        urgent: bool,
    ) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(ENQUEUE);
        writer.long(queues.len() as u32);
        queues.for_each(|queue| writer.longlong(queue.0));
        self.flagged(message, if urgent { URGENT } else { 0 });
    }

    /// Adds a mandatory message for a reply consumer.
    pub fn mandatory(
        &mut self,
        queue: QueueId,
        publisher: (ConnId, ChannelId),
        message: Message<'_>,
    ) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(MANDATORY);
        writer.longlong(queue.0);
        write_publisher(&mut writer, publisher);
        self.message(message);
    }

    /// Adds a mandatory message that goes back.
    pub fn returned(&mut self, publisher: (ConnId, ChannelId), message: Message<'_>) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(RETURNED);
        write_publisher(&mut writer, publisher);
        self.message(message);
    }

    /// Adds a delivery.
    pub fn deliver(&mut self, to: Addressed, message: Message<'_>) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(DELIVER);
        write_address(&mut writer, to);
        self.message(message);
    }

    /// Adds the answer to a basic.get.
    pub fn got(&mut self, ticket: Ticket, remaining: u32, to: Addressed, message: Message<'_>) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(GOT);
        writer.longlong(ticket.0);
        writer.long(remaining);
        write_address(&mut writer, to);
        self.message(message);
    }

    /// Adds a settle.
    pub fn settle(
        &mut self,
        queue: QueueId,
        channel: ChannelId,
        number: u64,
        up_to: bool,
        how: Settle,
    ) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(SETTLE);
        writer.longlong(queue.0);
        writer.longlong(channel.0);
        writer.longlong(number);
        writer.octet(u8::from(up_to));
        writer.octet(how as u8);
    }

    /// Adds credit that returns to a home.
    pub fn credit(&mut self, conn: ConnId, octets: u64) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(CREDIT);
        writer.longlong(conn.0);
        writer.longlong(octets);
    }

    /// Adds a home's question for permits.
    pub fn ask(&mut self, queue: QueueId, ask: Ask) {
        self.records.push(ASK);
        write_ask(&mut Writer::new(&mut self.records), queue, ask);
    }

    /// Adds a channel's answer to [`Record::Ask`]; `permit.count` permits.
    pub fn permit(&mut self, queue: QueueId, permit: Ask) {
        self.records.push(PERMIT);
        write_ask(&mut Writer::new(&mut self.records), queue, permit);
    }

    /// Adds permits that a home has no use for.
    pub fn unused(&mut self, conn: ConnId, channel: ChannelId, count: u32) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(UNUSED);
        writer.longlong(conn.0);
        writer.longlong(channel.0);
        writer.long(count);
    }

    /// Adds a home's progress.
    pub fn watermark(&mut self, mark: Watermark) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(WATERMARK);
        writer.longlong(mark.applied);
        writer.longlong(mark.octets);
        writer.longlong(mark.durable);
    }

    /// Adds a fence.
    pub fn fence(&mut self) {
        self.records.push(FENCE);
    }

    /// Adds a control.
    pub fn control(&mut self, control: Control) {
        self.records.push(CONTROL);
        self.controls.push_back(control);
    }

    fn message(&mut self, message: Message<'_>) {
        self.flagged(message, 0);
    }

    #[inline]
    fn flagged(&mut self, message: Message<'_>, flags: u8) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(flags | u8::from(message.large_body().is_some()));
        writer.longstr(message.record());
        self.bodies.extend(message.large_body().cloned());
    }

    /// The record at `at`, which moves behind it. `None` at the end.
    pub fn next(&mut self, at: &mut usize) -> Option<Record<'_>> {
        let rest = self.records.get(*at..)?;
        if rest.is_empty() {
            return None;
        }
        let mut reader = Reader::new(rest);
        let record = read(&mut reader, &mut self.bodies, &mut self.controls);
        debug_assert!(record.is_ok(), "a batch reads as it was written");
        *at += rest.len() - reader.rest().len();
        record.ok().flatten()
    }
}

fn read<'a>(
    reader: &mut Reader<'a>,
    bodies: &mut VecDeque<Body>,
    controls: &mut VecDeque<Control>,
) -> Result<Option<Record<'a>>, WireError> {
    Ok(Some(match reader.octet()? {
        ENQUEUE => {
            let count = reader.long()? as usize;
            let queues = QueueIds(reader.take(count * 8)?);
            let (flags, carried) = read_flagged(reader, bodies)?;
            Record::Enqueue { queues, carried, urgent: flags & URGENT != 0 }
        }
        DELIVER => {
            let to = read_address(reader)?;
            Record::Deliver { to, carried: read_message(reader, bodies)? }
        }
        GOT => {
            let ticket = Ticket(reader.longlong()?);
            let remaining = reader.long()?;
            let to = read_address(reader)?;
            Record::Got { ticket, remaining, to, carried: read_message(reader, bodies)? }
        }
        SETTLE => read_settle(reader)?,
        CREDIT => Record::Credit { conn: ConnId(reader.longlong()?), octets: reader.longlong()? },
        WATERMARK => Record::Watermark(Watermark {
            applied: reader.longlong()?,
            octets: reader.longlong()?,
            durable: reader.longlong()?,
        }),
        FENCE => Record::Fence,
        kind @ (MANDATORY | RETURNED) => read_reply(kind, reader, bodies)?,
        kind @ (ASK | PERMIT | UNUSED) => read_permits(kind, reader)?,
        _ => return Ok(controls.pop_front().map(Record::Control)),
    }))
}

fn read_settle<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, WireError> {
    Ok(Record::Settle {
        queue: QueueId(reader.longlong()?),
        channel: ChannelId(reader.longlong()?),
        number: reader.longlong()?,
        up_to: reader.octet()? == 1,
        how: match reader.octet()? {
            0 => Settle::Ack,
            1 => Settle::Requeue,
            _ => Settle::Drop,
        },
    })
}

#[cold]
fn read_reply<'a>(
    kind: u8,
    reader: &mut Reader<'a>,
    bodies: &mut VecDeque<Body>,
) -> Result<Record<'a>, WireError> {
    let queue = if kind == MANDATORY { QueueId(reader.longlong()?) } else { QueueId(0) };
    let publisher = read_publisher(reader)?;
    let carried = read_message(reader, bodies)?;
    Ok(match kind {
        MANDATORY => Record::Mandatory { queue, publisher, carried },
        _ => Record::Returned { publisher, carried },
    })
}

#[inline(always)]
fn read_message<'a>(
    reader: &mut Reader<'a>,
    bodies: &mut VecDeque<Body>,
) -> Result<Carried<'a>, WireError> {
    Ok(read_flagged(reader, bodies)?.1)
}

#[inline(always)]
fn read_flagged<'a>(
    reader: &mut Reader<'a>,
    bodies: &mut VecDeque<Body>,
) -> Result<(u8, Carried<'a>), WireError> {
    let flags = reader.octet()?;
    let record = reader.longstr()?;
    let body = if flags & LARGE != 0 { bodies.pop_front() } else { None };
    Ok((flags, Carried { record, body }))
}

fn write_publisher(writer: &mut Writer<'_>, (conn, channel): (ConnId, ChannelId)) {
    writer.longlong(conn.0);
    writer.longlong(channel.0);
}

fn read_publisher(reader: &mut Reader<'_>) -> Result<(ConnId, ChannelId), WireError> {
    Ok((ConnId(reader.longlong()?), ChannelId(reader.longlong()?)))
}

/// Apart from the records of plain messages, which are not to pay for these.
#[cold]
fn read_permits<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Record<'a>, WireError> {
    Ok(match kind {
        ASK => {
            let (queue, ask) = read_ask(reader)?;
            Record::Ask(queue, ask)
        }
        PERMIT => {
            let (queue, permit) = read_ask(reader)?;
            Record::Permit(queue, permit)
        }
        _ => Record::Unused {
            conn: ConnId(reader.longlong()?),
            channel: ChannelId(reader.longlong()?),
            count: reader.long()?,
        },
    })
}

fn write_ask(writer: &mut Writer<'_>, queue: QueueId, ask: Ask) {
    writer.longlong(queue.0);
    writer.longlong(ask.conn.0);
    writer.longlong(ask.channel.0);
    writer.longlong(ask.consumer.0);
    writer.longlong(ask.slot as u64);
    writer.long(ask.count);
}

fn read_ask(reader: &mut Reader<'_>) -> Result<(QueueId, Ask), WireError> {
    let queue = QueueId(reader.longlong()?);
    let ask = Ask {
        conn: ConnId(reader.longlong()?),
        channel: ChannelId(reader.longlong()?),
        consumer: ConsumerId(reader.longlong()?),
        slot: reader.longlong()? as usize,
        count: reader.long()?,
    };
    Ok((queue, ask))
}

fn write_address(writer: &mut Writer<'_>, to: Addressed) {
    writer.longlong(to.conn.0);
    writer.longlong(to.channel.0);
    writer.longlong(to.consumer.0);
    writer.longlong(to.queue.0);
    writer.longlong(to.number);
    writer.octet(u8::from(to.redelivered));
}

fn read_address(reader: &mut Reader<'_>) -> Result<Addressed, WireError> {
    Ok(Addressed {
        conn: ConnId(reader.longlong()?),
        channel: ChannelId(reader.longlong()?),
        consumer: ConsumerId(reader.longlong()?),
        queue: QueueId(reader.longlong()?),
        number: reader.longlong()?,
        redelivered: reader.octet()? == 1,
    })
}
