//! A client that speaks AMQP in bytes. It tracks the replies it waits for, and checks at once what
//! its own stream shows (tags, order of replies, prefetch, contents).

use std::collections::VecDeque;

use amqp::frame;
use amqp::{Assembler, Frame, Method, PROTOCOL_HEADER, Parser, Properties, Step, TableWriter};
use amqp::{Value, properties::Basic, table::ArrayWriter};
use fastrand::Rng;

use crate::channel::{Channel, key_at};
use crate::history::{ChannelLog, ConnLog, History, NEVER, What};
use crate::inspect::REASON;
use crate::letters;
use crate::sending::Sending;

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the handshake.
    Greeting,
    /// Channels may be used.
    Open,
    /// connection.close was sent.
    Closing,
    /// Nothing will be sent or read any more.
    Gone,
}

/// How a client treats its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Reads when something is there.
    Reads,
    /// Stopped reading.
    Deaf,
    /// Reads, but sends nothing, not even heartbeats.
    Silent,
}

/// One connection of a client.
#[derive(Debug)]
pub struct Client {
    /// Its place in the history.
    pub conn: usize,
    /// Its state.
    pub stage: Stage,
    /// How it treats its socket.
    pub manner: Manner,
    /// Bytes under way to the broker.
    pub out: Sending,
    /// Frames of each channel that wait to be sent, so that channels interleave.
    unsent: Vec<VecDeque<Vec<u8>>>,
    /// The channels by number, from 1.
    pub channels: Vec<Channel>,
    parser: Parser,
    /// What it answered to tune.
    pub frame_max: u32,
    /// Seconds; 0: off.
    pub heartbeat: u16,
    /// Virtual time of the last bytes sent.
    pub sent_us: u64,
    /// Heartbeat frames read.
    pub heartbeats: u32,
    /// It provoked an error that closes the connection.
    pub offended: bool,
    /// An operator closes its connection.
    pub forced: bool,
    /// Queues that another client should use next: something about them was just confirmed.
    pub hot: Vec<usize>,
    /// When connection.close was sent.
    close_sent: u64,
    /// How many closes were sent and not answered.
    closes: usize,
}

impl Client {
    /// A client that has just connected.
    pub fn new(h: &mut History, rng: &mut Rng, channels: usize) -> Self {
        h.conns.push(ConnLog { ending: NEVER, ended: NEVER });
        let mut out = Sending::default();
        out.end().extend_from_slice(&PROTOCOL_HEADER);
        Self {
            conn: h.conns.len() - 1,
            stage: Stage::Greeting,
            manner: Manner::Reads,
            out,
            unsent: vec![VecDeque::new(); channels],
            channels: (1..=channels as u16).map(Channel::new).collect(),
            parser: Parser::new(0),
            frame_max: if rng.bool() { 131_072 } else { 4096 },
            heartbeat: 0,
            sent_us: 0,
            heartbeats: 0,
            offended: false,
            forced: false,
            hot: Vec::new(),
            close_sent: 0,
            closes: 0,
        }
    }

    /// Queues a method behind the unsent frames of its channel.
    pub fn method(&mut self, at: usize, method: &Method<'_>) {
        let mut frame = Vec::new();
        frame::write_method(&mut frame, self.channels[at].number, method);
        self.unsent[at].push_back(frame);
    }

    /// Queues a header and a body, frame by frame, behind the unsent frames of their channel.
    pub fn content(&mut self, at: usize, properties: &[u8], body: &[u8]) {
        let number = self.channels[at].number;
        let mut header = Vec::new();
        frame::write_header(&mut header, number, body.len() as u64, properties);
        self.unsent[at].push_back(header);
        for piece in body.chunks(frame::payload_max(self.frame_max)) {
            let mut out = Vec::new();
            frame::write_body(&mut out, number, piece, self.frame_max);
            self.unsent[at].push_back(out);
        }
    }

    /// Moves some frames from the channels to the socket, or all of them.
    pub fn pump(&mut self, rng: &mut Rng, all: bool) {
        let mut budget = if all { usize::MAX } else { rng.usize(1..6) };
        while budget > 0 && self.unsent.iter().any(|frames| !frames.is_empty()) {
            let at = rng.usize(..self.unsent.len());
            if let Some(frame) = self.unsent[at].pop_front() {
                self.out.end().extend_from_slice(&frame);
                budget -= 1;
            }
        }
    }

    /// Sends a heartbeat.
    pub fn heartbeat(&mut self) {
        if self.between_frames() {
            frame::write_heartbeat(self.out.end());
        }
    }

    /// A frame is never cut here, so a heartbeat may go between any two.
    fn between_frames(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Asks for an orderly end of the connection.
    pub fn close(&mut self, h: &mut History, rng: &mut Rng) {
        self.pump(rng, true);
        self.close_sent = h.step();
        h.note(|| format!("conn {} sends connection.close", self.conn));
        h.conns[self.conn].ending = self.close_sent;
        for channel in &mut self.channels {
            channel.ending(h, self.close_sent);
        }
        let close =
            Method::ConnectionClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        // Some client libraries close once more while they wait; each close is answered.
        self.closes = 1 + self.conn % 2;
        (0..self.closes).for_each(|_| frame::write_method(self.out.end(), 0, &close));
        self.stage = Stage::Closing;
    }

    /// The socket is gone: the client closed it, or saw the end of the stream.
    pub fn vanish(&mut self, h: &mut History) {
        if self.stage == Stage::Gone {
            return;
        }
        let now = h.step();
        h.note(|| format!("conn {} vanishes", self.conn));
        h.conns[self.conn].ending = h.conns[self.conn].ending.min(now);
        for channel in &mut self.channels {
            channel.over(h, 0, now);
        }
        self.stage = Stage::Gone;
    }

    /// The server ended the stream.
    pub fn end_of_stream(&mut self, h: &mut History) {
        if self.stage == Stage::Gone {
            return;
        }
        if self.forced {
            h.fail(|| format!("conn {} was dropped by an operator and not told", self.conn));
        }
        // A client that is still in its handshake when the virtual time jumps is too late.
        let excused = self.manner == Manner::Silent || self.stage == Stage::Greeting;
        if !excused && !self.offended {
            h.fail(|| format!("conn {} was dropped by the server without a cause", self.conn));
        }
        self.vanish(h);
    }

    /// Bytes arrived from the broker.
    pub fn read(&mut self, bytes: &[u8], h: &mut History) {
        let mut parser = std::mem::replace(&mut self.parser, Parser::new(0));
        let mut at = 0;
        while h.failure.is_none() && self.stage != Stage::Gone {
            match parser.next(bytes, &mut at) {
                Ok(Some(frame)) => self.frame(frame, h),
                Ok(None) => break,
                Err(error) => h.fail(|| format!("the server sent a broken frame: {error}")),
            }
        }
        self.parser = parser;
        if self.stage != Stage::Greeting {
            self.parser.set_frame_max(self.frame_max);
        }
    }

    fn frame(&mut self, frame: Frame<'_>, h: &mut History) {
        h.step();
        let (number, step) = match frame {
            Frame::Heartbeat { .. } => {
                self.heartbeats += 1;
                return;
            }
            Frame::Method { channel, payload } => {
                (channel, self.assembler(channel).method(payload))
            }
            Frame::Header { channel, payload } => {
                (channel, self.assembler(channel).header(payload))
            }
            Frame::Body { channel, piece, .. } => (channel, self.assembler(channel).body(piece)),
        };
        let step: Step<'_> = match step {
            Ok(step) => step,
            Err(error) => {
                return h.fail(|| format!("the server's frames are out of sequence: {error}"));
            }
        };
        match (number, step) {
            (0, Step::Method(method)) => self.connection_method(method, h),
            (_, Step::Method(method)) => self.channel_method(usize::from(number) - 1, method, h),
            (_, Step::Header { body_size, properties }) => {
                let channel = &mut self.channels[usize::from(number) - 1];
                channel.header(body_size, properties, h, &mut self.hot);
            }
            (_, Step::Body { piece, complete }) => {
                let channel = &mut self.channels[usize::from(number) - 1];
                channel.body(piece, complete, h, &mut self.hot);
            }
        }
    }

    fn assembler(&mut self, number: u16) -> &mut Assembler {
        let at = usize::from(number.max(1)) - 1;
        // A channel that the client never opened shows up as an unexpected method.
        let at = at.min(self.channels.len() - 1);
        &mut self.channels[at].assembler
    }

    fn connection_method(&mut self, method: Method<'_>, h: &mut History) {
        match method {
            Method::ConnectionStart { .. } => self.start_ok(),
            Method::ConnectionTune { .. } => self.tune_ok(),
            Method::ConnectionOpenOk { .. } => self.stage = Stage::Open,
            Method::ConnectionCloseOk {} => self.close_ok(h),
            Method::ConnectionClose { reply_code, reply_text, .. } => {
                let forced = format!("CONNECTION_FORCED - {REASON}");
                let cause = !self.forced || (reply_code == 320 && reply_text == forced);
                if !self.offended || !cause {
                    h.fail(|| format!("closed without a cause: {reply_code} {reply_text}"));
                }
                frame::write_method(self.out.end(), 0, &Method::ConnectionCloseOk {});
                self.vanish(h);
            }
            Method::ConnectionBlocked { .. } | Method::ConnectionUnblocked {} => {}
            other => h.fail(|| format!("unexpected {}", other.name())),
        }
    }

    fn start_ok(&mut self) {
        let capabilities = TableWriter::new().with("consumer_cancel_notify", Value::Bool(true));
        let table = TableWriter::new().with("capabilities", Value::Table(capabilities.table()));
        let method = Method::ConnectionStartOk {
            client_properties: table.table(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        frame::write_method(self.out.end(), 0, &method);
    }

    fn tune_ok(&mut self) {
        let (frame_max, heartbeat) = (self.frame_max, self.heartbeat);
        let tune = Method::ConnectionTuneOk { channel_max: 2047, frame_max, heartbeat };
        frame::write_method(self.out.end(), 0, &tune);
        let open = Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
        frame::write_method(self.out.end(), 0, &open);
    }

    /// All requests before the close were carried out, unless they were still queued.
    fn close_ok(&mut self, h: &mut History) {
        if self.stage != Stage::Closing {
            return h.fail(|| "connection.close-ok without a close".into());
        }
        self.closes -= 1;
        if self.closes > 0 {
            return;
        }
        h.note(|| format!("conn {} reads connection.close-ok", self.conn));
        h.conns[self.conn].ended = h.time;
        for channel in &mut self.channels {
            let first = channel.log.map_or(usize::MAX, |log| h.first_barrier(log));
            channel.over(h, first, self.close_sent);
            if let Some(log) = channel.log {
                h.channels[log].ended = h.time;
            }
        }
        self.stage = Stage::Gone;
    }

    fn channel_method(&mut self, at: usize, method: Method<'_>, h: &mut History) {
        if at >= self.channels.len() {
            return h.fail(|| format!("{} on a channel never opened", method.name()));
        }
        let closing = self.stage == Stage::Closing;
        if closing && !matches!(method, Method::ChannelClose { .. }) {
            return;
        }
        if let Method::ChannelClose { reply_code, reply_text, class_id, method_id } = method {
            let cause = (reply_code, class_id, method_id);
            self.channels[at].closed_by_server(cause, reply_text, h);
            if closing {
                return;
            }
            // Queued frames are still sent: the server has to ignore them.
            return self.method(at, &Method::ChannelCloseOk {});
        }
        self.channels[at].method(method, h, &mut self.hot);
    }

    /// Opens the channel in this slot.
    pub fn open_channel(&mut self, at: usize, h: &mut History) {
        h.channels.push(ChannelLog {
            conn: self.conn,
            ending: NEVER,
            ended: NEVER,
            loose: Vec::new(),
            seq: 0,
        });
        let log = h.channels.len() - 1;
        let number = self.channels[at].number;
        self.channels[at] = Channel::new(number);
        self.channels[at].log = Some(log);
        self.channels[at].open = true;
        self.ask(at, What::Open, &Method::ChannelOpen { out_of_band: "" }, h);
    }

    /// Sends a method that will be answered.
    pub fn ask(&mut self, at: usize, what: What, method: &Method<'_>, h: &mut History) -> usize {
        let op = h.sent(self.channels[at].log.unwrap_or_default(), what, false);
        self.channels[at].waiting.push_back(op);
        self.method(at, method);
        op
    }

    /// Sends a method that will not be answered.
    pub fn tell(&mut self, at: usize, what: What, method: &Method<'_>, h: &mut History) -> usize {
        let op = h.sent(self.channels[at].log.unwrap_or_default(), what, true);
        self.method(at, method);
        op
    }

    /// Whether the client waits for nothing.
    pub fn owed(&self) -> Option<String> {
        match self.stage {
            Stage::Greeting | Stage::Closing => Some(format!("{:?}", self.stage)),
            Stage::Gone => None,
            Stage::Open => self.channels.iter().find_map(Channel::owed),
        }
    }
}

/// The properties of a message, as its publisher sends them or as they must arrive.
pub fn properties(h: &History, message: usize, sent: bool) -> Vec<u8> {
    let log = &h.messages[message];
    let id = message.to_string();
    let mut headers = crate::names::headers("", log.headers);
    if let Some((key, hidden)) = log.also.filter(|(_, hidden)| sent || !hidden) {
        let key = Value::LongString(key_at(h, message, key).as_bytes());
        let list = ArrayWriter::new().with(key);
        headers = headers.with(if hidden { "BCC" } else { "CC" }, Value::Array(list.array()));
    }
    let some = log.headers != 0 || log.also.is_some();
    let expiration = log.expiration_ms.map(|ms| ms.to_string());
    let basic = Basic {
        message_id: Some(&id),
        expiration: expiration.as_deref(),
        delivery_mode: log.persistent.then_some(2),
        priority: crate::names::priority_of(message),
        headers: some.then(|| headers.table()),
        ..Basic::default()
    };
    let mut out = Vec::new();
    basic.write(&mut out);
    out
}

/// The message that these properties belong to.
pub fn message_of(h: &History, encoded: &[u8]) -> Option<usize> {
    let (_, basic) = Properties::parse(encoded).ok()?;
    let message = basic.message_id?.parse().ok()?;
    if basic.headers.is_some_and(|headers| headers.get("x-death").is_some()) {
        return letters::letter_of(h, &basic, message);
    }
    (message < h.messages.len() && properties(h, message, false) == encoded).then_some(message)
}
