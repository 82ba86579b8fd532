//! Checks what a client gets: it must be well formed and in an order that the protocol allows,
//! whatever the client has sent.

use std::collections::BTreeMap;

use amqp::{Assembler, Frame, Method, Parser, Step};

/// Methods that only a server sends.
const SERVERS: [&str; 28] = [
    "ConnectionStart",
    "ConnectionTune",
    "ConnectionOpenOk",
    "ConnectionClose",
    "ConnectionCloseOk",
    "ConnectionBlocked",
    "ConnectionUnblocked",
    "ConnectionUpdateSecretOk",
    "ChannelOpenOk",
    "ChannelFlowOk",
    "ChannelClose",
    "ChannelCloseOk",
    "ExchangeDeclareOk",
    "ExchangeDeleteOk",
    "ExchangeBindOk",
    "ExchangeUnbindOk",
    "QueueDeclareOk",
    "QueueBindOk",
    "QueueUnbindOk",
    "QueuePurgeOk",
    "QueueDeleteOk",
    "BasicQosOk",
    "BasicConsumeOk",
    "BasicCancelOk",
    "BasicReturn",
    "BasicDeliver",
    "BasicGetOk",
    "BasicGetEmpty",
];
const SERVERS_MORE: [&str; 9] = [
    "BasicAck",
    "BasicNack",
    "BasicCancel",
    "BasicRecoverOk",
    "ConfirmSelectOk",
    "TxSelectOk",
    "TxCommitOk",
    "TxRollbackOk",
    "ConnectionSecure",
];

/// One thing that a client got.
pub enum Seen<'a> {
    Method(Method<'a>),
    /// A piece of a body; whether the body ends with it.
    Body(&'a [u8], bool),
}

/// The monitor of one client.
pub struct Monitor {
    parser: Parser,
    channels: BTreeMap<u16, (Assembler, u64)>,
    /// The first bytes, until they are known to be a protocol header or a frame.
    first: Vec<u8>,
    /// Seen connection.open-ok.
    pub running: bool,
    /// Seen connection.close.
    pub closed: bool,
    /// Seen connection.close-ok.
    pub close_ok: bool,
    /// Seen a protocol header, since the server refused that of the client, or another protocol.
    pub refused: bool,
}

impl Monitor {
    pub fn new() -> Self {
        Self {
            parser: Parser::new(131_072),
            channels: BTreeMap::new(),
            first: Vec::new(),
            running: false,
            closed: false,
            close_ok: false,
            refused: false,
        }
    }

    /// Whether the server ended the connection as the protocol wants it.
    pub fn goodbye(&self) -> bool {
        self.closed || self.close_ok || self.refused
    }

    /// Takes bytes; calls `each` for every method and piece of a body, with its channel.
    pub fn read(&mut self, bytes: &[u8], mut each: impl FnMut(u16, Seen<'_>)) {
        if bytes.is_empty() || self.header(bytes) {
            return;
        }
        let mut parser = std::mem::replace(&mut self.parser, Parser::new(0));
        let mut at = 0;
        while let Some(frame) = parser.next(bytes, &mut at).unwrap() {
            self.frame(frame, &mut each);
        }
        self.parser = parser;
    }

    /// A protocol header instead of frames, or an answer of the line protocol that only builds
    /// with second kinds speak, to bytes that happen to begin like it.
    fn header(&mut self, bytes: &[u8]) -> bool {
        if self.first.len() < 4 {
            self.first.extend(bytes.iter().take(4 - self.first.len()));
        }
        let line = cfg!(feature = "second-kinds")
            && matches!(self.first.first(), Some(b'B' | b'E' | b'M' | b'O'));
        self.refused |= line || self.first == b"AMQP";
        assert!(line || !self.refused || bytes.len() <= 8);
        self.refused
    }

    fn frame(&mut self, frame: Frame<'_>, each: &mut impl FnMut(u16, Seen<'_>)) {
        let number = match frame {
            Frame::Heartbeat { channel } => return assert_eq!(channel, 0),
            Frame::Method { channel, .. }
            | Frame::Header { channel, .. }
            | Frame::Body { channel, .. } => channel,
        };
        assert!(!self.close_ok || number == 0, "behind close-ok: {frame:?}");
        let channel = self.channels.entry(number).or_default();
        match channel.0.frame(frame).unwrap() {
            Some(Step::Method(method)) => {
                self.method(number, &method);
                each(number, Seen::Method(method));
            }
            Some(Step::Body { piece, complete }) => each(number, Seen::Body(piece, complete)),
            Some(Step::Header { body_size: 0, .. }) => each(number, Seen::Body(&[], true)),
            _ => {}
        }
    }

    fn method(&mut self, number: u16, method: &Method<'_>) {
        let name = method.name();
        assert!(SERVERS.contains(&name) || SERVERS_MORE.contains(&name), "{method:?}");
        assert_eq!(number == 0, name.starts_with("Connection"), "{method:?}");
        let ends = self.closed || self.close_ok;
        assert!(!ends || name == "ConnectionCloseOk", "behind close: {method:?}");
        match *method {
            Method::ConnectionOpenOk { .. } => self.running = true,
            Method::ConnectionCloseOk {} => self.close_ok = true,
            Method::ConnectionClose { reply_code, reply_text, .. } => {
                self.closed = true;
                words(reply_code, reply_text);
            }
            Method::ChannelClose { reply_code, reply_text, .. } => words(reply_code, reply_text),
            Method::ChannelOpenOk { .. } => self.tag(number, None),
            Method::BasicDeliver { delivery_tag, .. } | Method::BasicGetOk { delivery_tag, .. } => {
                self.tag(number, Some(delivery_tag));
            }
            _ => {}
        }
    }

    /// Delivery tags count up by one, from the opening of their channel on.
    fn tag(&mut self, number: u16, tag: Option<u64>) {
        let last = &mut self.channels.entry(number).or_default().1;
        *last = tag.map_or(0, |_| *last + 1);
        assert_eq!(tag.unwrap_or_default(), *last, "delivery tags of channel {number}");
    }
}

/// A close says why, as RabbitMQ does: the code's name, a dash, and an explanation.
fn words(code: u16, text: &str) {
    assert!((311..=541).contains(&code), "{code} {text}");
    let (name, why) = text.split_once(" - ").unwrap();
    assert!(name.chars().all(|char| char.is_ascii_uppercase() || char == '_'), "{text}");
    assert!(!why.is_empty(), "{text}");
}
