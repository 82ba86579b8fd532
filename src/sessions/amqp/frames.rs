//! From frames to methods and publishes: what each frame means on its channel.

use amqp::assembler::SequenceError;
use amqp::frame::write_frame;
use amqp::methods::Method;
use amqp::{Assembler, Code, Frame, Properties, Step};
use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::session::channel::State;
use model::session::{Channel, content};
use model::{Draft, Fault, Refusal};

use crate::sessions::connection::{Connection, PARKED_MARK, pause};
use crate::sessions::life::Phase;

/// The largest body the protocol level takes, as RabbitMQ's.
const BODY_MAX: u64 = 512 * 1024 * 1024;

/// What a frame completed.
#[derive(Debug)]
pub(crate) enum Completed<'a> {
    /// A method without content.
    Method { channel: u16, method: Method<'a>, payload: &'a [u8] },
    /// A publish; its message is in the scratch draft.
    Publish { channel: u16 },
    /// Nothing yet.
    More,
}

/// A fault and the channel it happened on.
pub(crate) type FrameFault = (u16, Fault);

impl Connection {
    /// Takes a frame on a channel. `replayed`: it was parked before.
    #[inline]
    pub fn frame<'a>(
        &mut self,
        frame: Frame<'a>,
        chunk: &Bytes,
        scratch: &mut Draft,
        replayed: bool,
    ) -> Result<Option<Completed<'a>>, FrameFault> {
        let number = match frame {
            Frame::Method { channel: 0, payload } => return self.method_on_zero(payload),
            Frame::Heartbeat { channel: 0 } => return Ok(None),
            Frame::Method { channel, .. }
            | Frame::Header { channel, .. }
            | Frame::Body { channel, .. }
            | Frame::Heartbeat { channel } => channel,
        };
        if number == 0 || !self.running || matches!(frame, Frame::Heartbeat { .. }) {
            return Err((0, Fault::unexpected_frame(frame.kind(), frame.payload())));
        }
        if self.life.phase != Phase::Alive {
            return Ok(None);
        }
        let Some(channel) = self.channels.get(number) else {
            return unopened(number, frame);
        };
        if !replayed && (channel.barrier.is_some() || !channel.parked.is_empty()) {
            return self.park(number, frame);
        }
        let obeyed = replayed && mutant::active(Mutant::ParkedObeyed);
        let state = if obeyed { State::Open } else { channel.state };
        // A result is as large as a method: each arm returns its own, so that none is copied.
        match (state, frame) {
            (State::Open, Frame::Method { payload, .. }) => method(number, channel, payload),
            (State::Open, Frame::Header { payload, .. }) => {
                let max = self.kind.amqp().map_or(0, |wire| wire.max_message_size);
                match content_header(channel, (max, &self.user), payload, scratch) {
                    Ok(HeaderTaken::Plain) => Ok(None),
                    Ok(HeaderTaken::Last) => Ok(Some(Completed::Publish { channel: number })),
                    Ok(HeaderTaken::Special) => {
                        // Headers may be large: they count before a body comes.
                        self.channels.half(number);
                        Ok(None)
                    }
                    Err(fault) => Err((number, fault)),
                }
            }
            (State::Open, Frame::Body { piece, last, .. }) => {
                if body(channel, (piece, last), chunk, scratch)? {
                    return Ok(Some(Completed::Publish { channel: number }));
                }
                self.channels.half(number);
                Ok(None)
            }
            (_, Frame::Method { payload, .. }) => closing_method(number, payload),
            _ => Ok(None),
        }
    }

    fn method_on_zero<'a>(&self, payload: &'a [u8]) -> Result<Option<Completed<'a>>, FrameFault> {
        match Method::read(payload) {
            Ok(method) => Ok(Some(Completed::Method { channel: 0, method, payload })),
            // Nothing but a close counts any more, and this is none.
            Err(_) if self.life.phase == Phase::Closed => Ok(None),
            Err(error) => Err((0, Fault::unreadable_method(payload, error))),
        }
    }

    fn park<'a>(
        &mut self,
        number: u16,
        frame: Frame<'a>,
    ) -> Result<Option<Completed<'a>>, FrameFault> {
        let Some(channel) = self.channels.get(number) else {
            return Ok(None);
        };
        let before = channel.parked.len();
        write_frame(&mut channel.parked.later, frame);
        let more = channel.parked.len() - before;
        self.channels.parked += more;
        if self.waiting() > PARKED_MARK {
            self.paused |= pause::PARKED;
        }
        Ok(None)
    }
}

/// What a content header brought.
enum HeaderTaken {
    /// Nothing that may be large; a body follows.
    Plain,
    /// Properties that may be large; a body follows.
    Special,
    /// The whole message: there is no body.
    Last,
}

#[inline]
fn content_header(
    channel: &mut Channel,
    (max, user): (u64, &str),
    payload: &[u8],
    scratch: &mut Draft,
) -> Result<HeaderTaken, Fault> {
    let step = channel.assembler.header(payload);
    let step = step.map_err(|error| Fault::unreadable_header(payload, error))?;
    let Step::Header { body_size, properties } = step else {
        return Ok(HeaderTaken::Plain);
    };
    if body_size > max.min(BODY_MAX) {
        return Err(too_large(body_size, max));
    }
    // At most BODY_MAX.
    let size = body_size as u32;
    let plain = Properties::parse_plain(properties);
    match plain {
        Some((properties, mode)) => channel.draft.header(properties, mode, 0, size),
        None => special_header(channel, properties, user, size)?,
    }
    if size > 0 {
        return Ok(if plain.is_some() { HeaderTaken::Plain } else { HeaderTaken::Special });
    }
    std::mem::swap(&mut channel.draft, scratch);
    Ok(HeaderTaken::Last)
}

#[cold]
fn too_large(size: u64, max: u64) -> Fault {
    let publish = (60, 40);
    if size <= BODY_MAX {
        return Refusal::MessageTooLarge { size, max }.fault(publish);
    }
    let text = format!("content body size {size} exceeds maximum allowed size {BODY_MAX}");
    Fault::new(Code::FrameError, &text, publish)
}

#[inline]
fn method<'a>(
    number: u16,
    channel: &mut Channel,
    payload: &'a [u8],
) -> Result<Option<Completed<'a>>, FrameFault> {
    let publish = match channel.assembler.publish(payload) {
        Ok(Some(publish)) => publish,
        Ok(None) => return other_method(number, channel, payload),
        Err(error) => return Err((number, unreadable(payload, error))),
    };
    if publish.immediate {
        return Err((number, immediate()));
    }
    channel.mandatory = publish.mandatory;
    channel.draft.begin(publish.exchange, publish.routing_key);
    Ok(None)
}

#[cold]
fn immediate() -> Fault {
    Refusal::NotImplemented("immediate=true".into()).fault((60, 40))
}

/// A method that is no publish.
fn other_method<'a>(
    number: u16,
    channel: &mut Channel,
    payload: &'a [u8],
) -> Result<Option<Completed<'a>>, FrameFault> {
    let step = channel.assembler.method(payload);
    let step = step.map_err(|error| (number, unreadable(payload, error)))?;
    let Step::Method(method) = step else { return Ok(None) };
    if method.has_content() {
        channel.assembler = Assembler::Idle;
    }
    Ok(Some(Completed::Method { channel: number, method, payload }))
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
    if basic.expiration.is_some() {
        channel.draft.expires();
    }
    channel.keys = meaning.keys;
    Ok(())
}

#[inline]
fn body(
    channel: &mut Channel,
    (piece, last): (&[u8], bool),
    chunk: &Bytes,
    scratch: &mut Draft,
) -> Result<bool, FrameFault> {
    let step = channel.assembler.body_piece(piece, last).map_err(|error| (0, error.into()))?;
    channel.draft.body(piece, chunk);
    let complete = matches!(step, Step::Body { complete: true, .. });
    if complete {
        std::mem::swap(&mut channel.draft, scratch);
    }
    Ok(complete)
}

/// On a channel that was closed only close and close-ok count.
fn closing_method(number: u16, payload: &[u8]) -> Result<Option<Completed<'_>>, FrameFault> {
    Ok(match Method::read(payload) {
        Ok(method @ (Method::ChannelClose { .. } | Method::ChannelCloseOk {})) => {
            Some(Completed::Method { channel: number, method, payload })
        }
        _ => None,
    })
}

/// On a number that is no open channel only open counts; a close-ok may be late.
fn unopened(number: u16, frame: Frame<'_>) -> Result<Option<Completed<'_>>, FrameFault> {
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
            Ok(Some(Completed::Method { channel: number, method, payload }))
        }
        Ok(method) => {
            Err((0, Fault::new(Code::ChannelError, "expected 'channel.open'", method.id())))
        }
        Err(error) => Err((0, Fault::unreadable_method(payload, error))),
    }
}
