//! From bytes to methods and publishes: the parse loop, barriers and pauses.

use amqp::Parser;
use bytes::Bytes;
use model::ConnId;

use crate::sessions::amqp::frames::{Completed, FrameFault};
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connection::{Connection, PARKED_MARK, pause};
use crate::sessions::life::Phase;
use crate::sessions::state::Sessions;

/// What the parse loop stopped for.
enum Stopped<'a> {
    /// The chunk is used up, or the connection is not to be read on.
    Enough,
    Completed(Completed<'a>),
    Fault(FrameFault),
}

impl Sessions {
    /// Takes what a chunk holds until a pause; says how far it came.
    pub(in crate::sessions) fn run_amqp(
        &mut self,
        id: ConnId,
        chunk: &Bytes,
        broker: &mut impl BrokerAccess,
    ) -> usize {
        let mut at = 0;
        if !self.protocol_header(id, chunk, &mut at) {
            return chunk.len();
        }
        let wire = self.connections.get(id).and_then(|conn| conn.kind.amqp());
        let Some(wire) = wire else { return chunk.len() };
        let mut parser = std::mem::replace(&mut wire.parser, Parser::new(0));
        self.parse(id, &mut parser, chunk, &mut at, broker);
        let Some(conn) = self.connections.get(id) else { return chunk.len() };
        if let Some(wire) = conn.kind.amqp() {
            wire.parser = parser;
        }
        if conn.paused != 0 {
            self.connections.touch(id);
        }
        at
    }

    fn parse(
        &mut self,
        id: ConnId,
        parser: &mut Parser,
        chunk: &Bytes,
        at: &mut usize,
        broker: &mut impl BrokerAccess,
    ) {
        loop {
            let Some(conn) = self.connections.conns.get_mut(&id) else {
                return;
            };
            match advance(conn, parser, chunk, at, &mut self.scratch) {
                Stopped::Enough => break,
                Stopped::Completed(Completed::More) => {}
                Stopped::Completed(Completed::Publish { channel }) => {
                    self.publish(id, channel, broker)
                }
                Stopped::Completed(Completed::Method { channel, method, payload }) => {
                    self.method(id, channel, &method, payload, broker);
                    self.rest_if_spent(id, broker);
                }
                Stopped::Fault((channel, fault)) => self.fail(id, channel, &fault, broker),
            }
        }
        self.count_partial(id, broker);
    }

    /// Takes the protocol header; false when it is another one.
    fn protocol_header(&mut self, id: ConnId, chunk: &Bytes, at: &mut usize) -> bool {
        let Some(conn) = self.connections.get(id) else { return false };
        let Some(wire) = conn.kind.amqp() else { return false };
        if !wire.handshake.header_due() {
            return true;
        }
        match wire.handshake.header(chunk, &mut conn.output.outbox) {
            Some(taken) => *at += taken,
            None => {
                conn.life.phase = Phase::Leaving;
                conn.life.why = Some(other_protocol(chunk).into());
            }
        }
        let alive = conn.life.phase == Phase::Alive;
        self.connections.touch(id);
        alive
    }

    /// Takes the frames that were parked behind a barrier, up to the next one.
    pub(in crate::sessions) fn replay(
        &mut self,
        id: ConnId,
        number: u16,
        broker: &mut impl BrokerAccess,
    ) {
        while let Some(bytes) = self.take_parked(id, number) {
            let at = self.replay_some(id, number, &bytes, broker);
            let Some(conn) = self.connections.get(id) else { return };
            let Some(channel) = conn.channels.get(number) else { break };
            channel.parked.replaying = bytes.slice(at..);
            conn.channels.parked += bytes.len() - at;
        }
        let parked = self.connections.get(id).map_or(0, |conn| conn.waiting());
        if parked <= PARKED_MARK / 2 {
            self.connections.unpause(id, pause::PARKED);
        }
    }

    /// What is parked on a channel, if it may go on now.
    fn take_parked(&mut self, id: ConnId, number: u16) -> Option<Bytes> {
        let conn = self.connections.get(id)?;
        let stopped = conn.paused & !pause::PARKED != 0;
        let channel = conn.channels.get(number)?;
        if channel.barrier.is_some() || channel.parked.is_empty() || stopped {
            return None;
        }
        let bytes = channel.parked.take();
        conn.channels.parked -= bytes.len();
        Some(bytes)
    }

    /// Takes parked frames up to the next barrier; says how far it came.
    fn replay_some(
        &mut self,
        id: ConnId,
        number: u16,
        bytes: &Bytes,
        broker: &mut impl BrokerAccess,
    ) -> usize {
        let mut parser = Parser::new(0);
        let mut at = 0;
        let channel_id = self.connections.channel(id, number).map(|channel| channel.id);
        loop {
            let Some(conn) = self.connections.get(id) else { return at };
            let stopped = conn.paused & !pause::PARKED != 0;
            let Some(channel) = conn.channels.get(number) else { return bytes.len() };
            if Some(channel.id) != channel_id {
                return bytes.len();
            }
            if channel.barrier.is_some() || stopped {
                return at;
            }
            let Ok(Some(frame)) = parser.next(bytes, &mut at) else { return bytes.len() };
            match conn.frame(frame, bytes, &mut self.scratch, true) {
                Ok(None | Some(Completed::More)) => {}
                Ok(Some(Completed::Publish { channel })) => self.publish(id, channel, broker),
                Ok(Some(Completed::Method { channel, method, payload })) => {
                    self.method(id, channel, &method, payload, broker);
                    self.rest_if_spent(id, broker);
                }
                Err((channel, fault)) => self.fail(id, channel, &fault, broker),
            }
        }
    }
}

/// What a client speaks that does not begin with the header of AMQP 0-9-1.
fn other_protocol(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x16, 3, ..] => "a TLS client on a port without TLS",
        bytes if bytes.starts_with(b"GET ") => "an HTTP request on a port for AMQP",
        bytes if bytes.starts_with(b"AMQP") => "the client speaks another version of AMQP",
        _ => "the client did not start with the header of AMQP",
    }
}

/// Takes frames until one completes something. Frames that lie whole in the chunk, which are nearly
/// all, need the parser's own memory for nothing, so they are taken in one go.
#[inline]
fn advance<'a>(
    conn: &mut Connection,
    parser: &'a mut Parser,
    chunk: &'a Bytes,
    at: &mut usize,
    scratch: &mut model::Draft,
) -> Stopped<'a> {
    if !conn.running
        && let Some(wire) = conn.kind.amqp()
    {
        parser.set_frame_max(wire.frame_max());
    }
    if conn.life.phase == Phase::Leaving {
        *at = chunk.len(); // Nothing counts that comes behind the end.
        return Stopped::Enough;
    }
    if conn.paused != 0 {
        return Stopped::Enough;
    }
    while let Some(frame) = parser.whole(chunk, at) {
        conn.received_frames += 1;
        match conn.frame(frame, chunk, scratch, false) {
            Ok(None) if conn.paused == 0 => {}
            Ok(None) => return Stopped::Enough,
            // Built anew: to move the event copies as many bytes as the largest method has.
            Ok(Some(Completed::Publish { channel })) => {
                return Stopped::Completed(Completed::Publish { channel });
            }
            Ok(Some(event)) => return Stopped::Completed(event),
            Err(failure) => return Stopped::Fault(failure),
        }
    }
    match parser.next(chunk, at) {
        Err(error) => Stopped::Fault((0, error.into())),
        Ok(None) => Stopped::Enough,
        Ok(Some(frame)) => {
            conn.received_frames += 1;
            match conn.frame(frame, chunk, scratch, false) {
                Ok(event) => Stopped::Completed(event.unwrap_or(Completed::More)),
                Err(failure) => Stopped::Fault(failure),
            }
        }
    }
}
