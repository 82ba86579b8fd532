//! From octets to methods and publishes: the parse loop, barriers and pauses.

use amqp::Parser;
use bytes::Bytes;
use model::{ConnId, Now};

use super::conn::{Conn, Event, PARKED_MARK, Phase, pause};
use super::machine::{Shard, kept};

/// What the parse loop stopped for.
enum Stop<'a> {
    /// The chunk is used up, or the connection is not to be read on.
    Enough,
    Event(Event<'a>),
    Failure(super::conn::Failure),
}

impl Shard {
    /// Takes what a chunk holds until a pause; says how far it came.
    pub(super) fn run(&mut self, id: ConnId, chunk: &Bytes, now: Now) -> usize {
        let mut at = 0;
        if !self.header(id, chunk, &mut at) {
            return chunk.len();
        }
        let Some(conn) = self.clients.get(id) else {
            return chunk.len();
        };
        let mut parser = std::mem::replace(&mut conn.parser, Parser::new(0));
        self.parse(id, &mut parser, chunk, &mut at, now);
        let Some(conn) = self.clients.get(id) else {
            return chunk.len();
        };
        conn.parser = parser;
        if conn.paused != 0 {
            self.clients.touch(id);
        }
        at
    }

    fn parse(&mut self, id: ConnId, parser: &mut Parser, chunk: &Bytes, at: &mut usize, now: Now) {
        loop {
            let Some(conn) = self.clients.conns.get_mut(&id) else {
                return;
            };
            match advance(conn, parser, chunk, at, &mut self.scratch) {
                Stop::Enough => break,
                Stop::Event(Event::More) => {}
                Stop::Event(Event::Publish { channel }) => self.publish(id, channel, now),
                Stop::Event(Event::Method { channel, method, payload }) => {
                    self.method(id, channel, &method, payload, now);
                }
                Stop::Failure((channel, fault)) => self.fail(id, channel, &fault, now),
            }
        }
        self.count_receiving(id, now);
    }

    /// Takes the protocol header; false when it is another one.
    fn header(&mut self, id: ConnId, chunk: &Bytes, at: &mut usize) -> bool {
        let Some(conn) = self.clients.get(id) else {
            return false;
        };
        if !conn.handshake.header_due() {
            return true;
        }
        match conn.handshake.header(chunk, &mut conn.outbox) {
            Some(taken) => *at += taken,
            None => {
                conn.phase = Phase::Leaving;
                conn.why = Some(other_protocol(chunk).into());
            }
        }
        let alive = conn.phase == Phase::Alive;
        self.clients.touch(id);
        alive
    }

    /// Goes on with connections whose pauses have ended, and with channels whose barriers were
    /// lifted.
    pub(super) fn go_on(&mut self, now: Now) {
        loop {
            let lifted = std::mem::take(&mut self.clients.lifted);
            let resumed = std::mem::take(&mut self.resumed);
            if lifted.is_empty() && resumed.is_empty() {
                return;
            }
            for (id, number) in lifted {
                self.replay(id, number, now);
            }
            for id in resumed {
                self.resume(id, now);
            }
        }
    }

    /// Ends a pause; the connection is read on when there is no other. What is parked goes on all
    /// the same: nothing else would ever make it less.
    pub(super) fn unpause(&mut self, id: ConnId, reason: u8) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        if conn.paused & reason == 0 {
            return;
        }
        conn.paused &= !reason;
        if conn.paused & !pause::PARKED == 0 {
            self.resumed.push(id);
        }
    }

    /// Takes the input that waited.
    fn resume(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        // It was not read: what it did not send meanwhile is not held against it.
        conn.received_us = now.monotonic_us;
        for number in conn.numbers() {
            self.replay(id, number, now);
        }
        while let Some(conn) = self.clients.get(id).filter(|conn| conn.paused == 0)
            && let Some(chunk) = conn.input.pop_front()
        {
            let at = self.run(id, &chunk, now);
            if at < chunk.len()
                && let Some(conn) = self.clients.get(id)
            {
                conn.input.push_front(kept(chunk.slice(at..)));
            }
        }
        self.clients.touch(id);
    }

    /// Takes the frames that were parked behind a barrier, up to the next one.
    fn replay(&mut self, id: ConnId, number: u16, now: Now) {
        loop {
            let Some(conn) = self.clients.get(id) else {
                return;
            };
            let Some(channel) = conn.channel(number) else {
                break;
            };
            if channel.barrier.is_some()
                || channel.parked.is_empty()
                || conn.paused & !pause::PARKED != 0
            {
                break;
            }
            let Some(channel) = conn.channel(number) else {
                break;
            };
            let bytes = channel.parked.take();
            conn.parked -= bytes.len();
            let at = self.replay_some(id, number, &bytes, now);
            let Some(conn) = self.clients.get(id) else {
                return;
            };
            let Some(channel) = conn.channel(number) else {
                break;
            };
            channel.parked.replaying = bytes.slice(at..);
            conn.parked += bytes.len() - at;
        }
        let parked = self.clients.get(id).map_or(0, |conn| conn.parked);
        if parked <= PARKED_MARK / 2 {
            self.unpause(id, pause::PARKED);
        }
    }

    fn replay_some(&mut self, id: ConnId, number: u16, bytes: &Bytes, now: Now) -> usize {
        let mut parser = Parser::new(0);
        let mut at = 0;
        let channel_id = self.clients.get(id).and_then(|conn| Some(conn.channel(number)?.id));
        loop {
            let Some(conn) = self.clients.conns.get_mut(&id) else {
                return at;
            };
            let stopped = conn.paused & !pause::PARKED != 0;
            let Some(channel) = conn.channel(number) else {
                return bytes.len();
            };
            if Some(channel.id) != channel_id {
                return bytes.len();
            }
            if channel.barrier.is_some() || stopped {
                return at;
            }
            let Ok(Some(frame)) = parser.next(bytes, &mut at) else {
                return bytes.len();
            };
            match conn.frame(frame, bytes, &mut self.scratch, true) {
                Ok(None | Some(Event::More)) => {}
                Ok(Some(Event::Publish { channel })) => self.publish(id, channel, now),
                Ok(Some(Event::Method { channel, method, payload })) => {
                    self.method(id, channel, &method, payload, now);
                }
                Err((channel, fault)) => self.fail(id, channel, &fault, now),
            }
        }
    }
}

/// What a client speaks that does not begin with the header of AMQP 0-9-1.
fn other_protocol(octets: &[u8]) -> &'static str {
    match octets {
        [0x16, 3, ..] => "a TLS client on a port without TLS",
        octets if octets.starts_with(b"GET ") => "an HTTP request on a port for AMQP",
        octets if octets.starts_with(b"AMQP") => "the client speaks another version of AMQP",
        _ => "the client did not start with the header of AMQP",
    }
}

/// Takes frames until one completes something. Frames that lie whole in the chunk, which are nearly
/// all, need the parser's own memory for nothing, so they are taken in one go.
#[inline]
fn advance<'a>(
    conn: &mut Conn,
    parser: &'a mut Parser,
    chunk: &'a Bytes,
    at: &mut usize,
    scratch: &mut model::Draft,
) -> Stop<'a> {
    if !conn.handshake.running() {
        parser.set_frame_max(conn.frame_max());
    }
    if matches!(conn.phase, Phase::ClosedByClient | Phase::Leaving) {
        *at = chunk.len(); // Nothing counts that comes behind the end.
        return Stop::Enough;
    }
    if conn.paused != 0 {
        return Stop::Enough;
    }
    while let Some(frame) = parser.whole(chunk, at) {
        match conn.frame(frame, chunk, scratch, false) {
            Ok(None) if conn.paused == 0 => {}
            Ok(None) => return Stop::Enough,
            Ok(Some(event)) => return Stop::Event(event),
            Err(failure) => return Stop::Failure(failure),
        }
    }
    match parser.next(chunk, at) {
        Err(error) => Stop::Failure((0, error.into())),
        Ok(None) => Stop::Enough,
        Ok(Some(frame)) => match conn.frame(frame, chunk, scratch, false) {
            Ok(event) => Stop::Event(event.unwrap_or(Event::More)),
            Err(failure) => Stop::Failure(failure),
        },
    }
}
