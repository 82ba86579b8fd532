//! The packed records of a batch: what each holds and how it is read.

use std::collections::VecDeque;

use amqp::{Reader, WireError, Writer};
use model::queue::{Addressed, Death, Settle};
use model::{Ask, Body, ChannelId, ConnId, ConsumerId, Message, Name, QueueId, RequestId};

use crate::mesh::control::Control;
use crate::mesh::enqueue::Settlement;
use crate::mesh::progress::ProgressMark;

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
pub enum MeshRecord<'a> {
    /// A message for queues of the receiving home.
    Enqueue {
        /// Their ids, eight bytes each.
        queues: QueueIds<'a>,
        /// The message.
        carried: Carried<'a>,
        /// Its source waits until it is durable.
        flush_requested: bool,
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
    /// A message whose queues the receiving shard finds: the stateful exchanges of its vhost are
    /// there.
    Relay(Box<Relayed<'a>>),
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
        /// The request it answers.
        ticket: RequestId,
        /// Messages that stay ready.
        remaining: u32,
        /// To whom, and the home's number.
        to: Addressed,
        /// The message.
        carried: Carried<'a>,
    },
    /// A channel settles deliveries of a queue.
    Settle(Settlement),
    /// Deliveries have left for a connection's socket.
    Credit {
        /// The connection.
        conn: ConnId,
        /// How many bytes of them.
        bytes: u64,
    },
    /// A home asks a channel for permits; answered by [`MeshRecord::Permit`].
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
    Watermark(ProgressMark),
    /// Counted like an enqueue: the answer says that everything in front of it is applied.
    Fence,
    /// A control.
    Control(Control),
}

/// A message whose queues another shard finds.
#[derive(Debug)]
pub struct Relayed<'a> {
    /// Whom it goes back to if it is mandatory and goes nowhere.
    pub publisher: Option<(ConnId, ChannelId)>,
    /// Why it died, if it is a dead letter.
    pub death: Option<Death>,
    /// The vhost.
    pub vhost: Name,
    /// Routing keys beside its own.
    pub keys: Vec<Name>,
    /// The message.
    pub carried: Carried<'a>,
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

pub(super) const ENQUEUE: u8 = 1;
pub(super) const DELIVER: u8 = 2;
pub(super) const GOT: u8 = 3;
pub(super) const SETTLE: u8 = 4;
pub(super) const CREDIT: u8 = 5;
pub(super) const WATERMARK: u8 = 6;
pub(super) const CONTROL: u8 = 7;
pub(super) const MANDATORY: u8 = 8;
pub(super) const RETURNED: u8 = 9;
pub(super) const FENCE: u8 = 10;
pub(super) const ASK: u8 = 11;
pub(super) const PERMIT: u8 = 12;
pub(super) const UNUSED: u8 = 13;
pub(super) const RELAY: u8 = 14;

/// Flag of a message: its body is not in the record.
pub(super) const LARGE: u8 = 1;
/// Flag of a message: its source waits until it is durable.
pub(super) const FLUSH: u8 = 2;

/// Reads a record; `None` if it is a control and none is left.
#[inline(always)]
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    bodies: &mut VecDeque<Body>,
    controls: &mut VecDeque<Control>,
) -> Result<Option<MeshRecord<'a>>, WireError> {
    Ok(Some(match reader.octet()? {
        ENQUEUE => {
            let count = reader.long()? as usize;
            let queues = QueueIds(reader.take(count * 8)?);
            let (flags, carried) = read_flagged(reader, bodies)?;
            MeshRecord::Enqueue { queues, carried, flush_requested: flags & FLUSH != 0 }
        }
        DELIVER => {
            let to = read_address(reader)?;
            MeshRecord::Deliver { to, carried: read_message(reader, bodies)? }
        }
        GOT => {
            let ticket = RequestId(reader.longlong()?);
            let remaining = reader.long()?;
            let to = read_address(reader)?;
            MeshRecord::Got { ticket, remaining, to, carried: read_message(reader, bodies)? }
        }
        SETTLE => read_settle(reader)?,
        CREDIT => {
            MeshRecord::Credit { conn: ConnId(reader.longlong()?), bytes: reader.longlong()? }
        }
        WATERMARK => MeshRecord::Watermark(ProgressMark {
            applied: reader.longlong()?,
            bytes: reader.longlong()?,
            durable: reader.longlong()?,
        }),
        FENCE => MeshRecord::Fence,
        kind @ (MANDATORY | RETURNED) => read_reply(kind, reader, bodies)?,
        kind @ (ASK | PERMIT | UNUSED) => read_permits(kind, reader)?,
        RELAY => read_relay(reader, bodies)?,
        _ => return Ok(controls.pop_front().map(MeshRecord::Control)),
    }))
}

fn read_settle<'a>(reader: &mut Reader<'a>) -> Result<MeshRecord<'a>, WireError> {
    Ok(MeshRecord::Settle(Settlement {
        queue: QueueId(reader.longlong()?),
        channel: ChannelId(reader.longlong()?),
        number: reader.longlong()?,
        up_to: reader.octet()? == 1,
        how: match reader.octet()? {
            0 => Settle::Ack,
            1 => Settle::Requeue,
            _ => Settle::Drop,
        },
    }))
}

#[cold]
fn read_reply<'a>(
    kind: u8,
    reader: &mut Reader<'a>,
    bodies: &mut VecDeque<Body>,
) -> Result<MeshRecord<'a>, WireError> {
    let queue = if kind == MANDATORY { QueueId(reader.longlong()?) } else { QueueId(0) };
    let publisher = read_publisher(reader)?;
    let carried = read_message(reader, bodies)?;
    Ok(match kind {
        MANDATORY => MeshRecord::Mandatory { queue, publisher, carried },
        _ => MeshRecord::Returned { publisher, carried },
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

pub(super) fn write_publisher(writer: &mut Writer<'_>, (conn, channel): (ConnId, ChannelId)) {
    writer.longlong(conn.0);
    writer.longlong(channel.0);
}

fn read_publisher(reader: &mut Reader<'_>) -> Result<(ConnId, ChannelId), WireError> {
    Ok((ConnId(reader.longlong()?), ChannelId(reader.longlong()?)))
}

/// Kept out of line so the path of plain messages stays small.
#[cold]
fn read_permits<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<MeshRecord<'a>, WireError> {
    Ok(match kind {
        ASK => {
            let (queue, ask) = read_ask(reader)?;
            MeshRecord::Ask(queue, ask)
        }
        PERMIT => {
            let (queue, permit) = read_ask(reader)?;
            MeshRecord::Permit(queue, permit)
        }
        _ => MeshRecord::Unused {
            conn: ConnId(reader.longlong()?),
            channel: ChannelId(reader.longlong()?),
            count: reader.long()?,
        },
    })
}

/// Writes what stands in front of a relayed message.
pub(super) fn write_relay(
    writer: &mut Writer<'_>,
    publisher: Option<(ConnId, ChannelId)>,
    death: Option<Death>,
    (vhost, keys): (&str, &[Name]),
) {
    // Ids begin at 1.
    write_publisher(writer, publisher.unwrap_or_default());
    writer.octet(match death {
        None => 0,
        Some(Death::Rejected) => 1,
        Some(Death::Expired) => 2,
        Some(Death::MaxLength) => 3,
    });
    writer.longstr(vhost.as_bytes());
    writer.long(keys.len() as u32);
    keys.iter().for_each(|key| writer.longstr(key.as_bytes()));
}

#[cold]
fn read_relay<'a>(
    reader: &mut Reader<'a>,
    bodies: &mut VecDeque<Body>,
) -> Result<MeshRecord<'a>, WireError> {
    let publisher = Some(read_publisher(reader)?).filter(|publisher| publisher.0 != ConnId(0));
    let death = match reader.octet()? {
        1 => Some(Death::Rejected),
        2 => Some(Death::Expired),
        3 => Some(Death::MaxLength),
        _ => None,
    };
    let vhost = read_name(reader)?;
    let keys = (0..reader.long()?).map(|_| read_name(reader)).collect::<Result<_, _>>()?;
    let carried = read_message(reader, bodies)?;
    Ok(MeshRecord::Relay(Box::new(Relayed { publisher, death, vhost, keys, carried })))
}

fn read_name(reader: &mut Reader<'_>) -> Result<Name, WireError> {
    std::str::from_utf8(reader.longstr()?).map(Name::from).map_err(|_| WireError::Utf8)
}

pub(super) fn write_ask(writer: &mut Writer<'_>, queue: QueueId, ask: Ask) {
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

pub(super) fn write_address(writer: &mut Writer<'_>, to: Addressed) {
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
