//! A client that blocks: one connection, any channels.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use amqp::frame::{write_body, write_header, write_method};
use amqp::{Frame, Method, Parser, Table};

use crate::broker::PATIENCE;

const FRAME_MAX: u32 = 131_072;

/// A connection. What arrives is kept as methods; bodies are dropped.
pub struct Client {
    stream: TcpStream,
    parser: Parser,
    methods: VecDeque<Vec<u8>>,
    /// Bytes and frames that arrived.
    pub received: (u64, u64),
    /// Bytes and frames that were sent.
    pub sent: (u64, u64),
}

impl Client {
    /// Connects, logs in and opens channel 1.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let parser = Parser::new(0);
        let (methods, received, sent) = (VecDeque::new(), (0, 0), (0, 0));
        let mut client = Self { stream, parser, methods, received, sent };
        client.write(b"AMQP\0\0\x09\x01", 0);
        client.expect("ConnectionStart");
        client.send(0, &start_ok());
        client.expect("ConnectionTune");
        let tune =
            Method::ConnectionTuneOk { channel_max: 2047, frame_max: FRAME_MAX, heartbeat: 0 };
        client.send(0, &tune);
        let open = Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
        client.send(0, &open);
        client.expect("ConnectionOpenOk");
        client.open(1);
        client
    }

    pub fn open(&mut self, channel: u16) {
        self.call(channel, &Method::ChannelOpen { out_of_band: "" }, "ChannelOpenOk");
    }

    /// Its end of the socket.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    pub fn declare(&mut self, queue: &str) {
        self.declare_with(queue, false, false);
    }

    pub fn declare_with(&mut self, queue: &str, exclusive: bool, nowait: bool) {
        let declare = Method::QueueDeclare {
            ticket: 0,
            queue,
            passive: false,
            durable: false,
            exclusive,
            auto_delete: false,
            nowait,
            arguments: Table::EMPTY,
        };
        if nowait {
            self.send(1, &declare);
        } else {
            self.call(1, &declare, "QueueDeclareOk");
        }
    }

    /// Publishes on a channel without waiting.
    pub fn publish(&mut self, channel: u16, (exchange, key): (&str, &str), mandatory: bool) {
        let publish = Method::BasicPublish {
            ticket: 0,
            exchange,
            routing_key: key,
            mandatory,
            immediate: false,
        };
        let mut bytes = Vec::new();
        write_method(&mut bytes, channel, &publish);
        write_header(&mut bytes, channel, 4, &[0, 0]);
        write_body(&mut bytes, channel, b"body", FRAME_MAX);
        self.write(&bytes, 3);
    }

    pub fn consume(&mut self, channel: u16, queue: &str, tag: &str, no_ack: bool) {
        let consume = Method::BasicConsume {
            ticket: 0,
            queue,
            consumer_tag: tag,
            no_local: false,
            no_ack,
            exclusive: false,
            nowait: false,
            arguments: Table::EMPTY,
        };
        self.call(channel, &consume, "BasicConsumeOk");
    }

    pub fn get(&mut self, channel: u16, queue: &str, no_ack: bool, answer: &str) {
        self.call(channel, &Method::BasicGet { ticket: 0, queue, no_ack }, answer);
    }

    /// A method that is answered by that one.
    pub fn call(&mut self, channel: u16, method: &Method<'_>, answer: &str) -> Vec<u8> {
        self.send(channel, method);
        self.expect(answer)
    }

    pub fn send(&mut self, channel: u16, method: &Method<'_>) {
        let mut bytes = Vec::new();
        write_method(&mut bytes, channel, method);
        self.write(&bytes, 1);
    }

    fn write(&mut self, bytes: &[u8], frames: u64) {
        self.stream.write_all(bytes).unwrap();
        self.sent = (self.sent.0 + bytes.len() as u64, self.sent.1 + frames);
    }

    /// Waits for a method and returns it.
    pub fn expect(&mut self, name: &str) -> Vec<u8> {
        loop {
            if let Some(payload) = self.methods.pop_front() {
                assert_eq!(Method::read(&payload).unwrap().name(), name);
                return payload;
            }
            assert!(self.read(), "the broker closed the connection instead of {name}");
        }
    }

    /// Reads what is there; false at the end of the stream.
    pub fn read(&mut self) -> bool {
        let mut buffer = [0; 65536];
        let read = self.stream.read(&mut buffer).unwrap_or(0);
        self.received.0 += read as u64;
        let mut at = 0;
        while let Some(frame) = self.parser.next(&buffer[..read], &mut at).unwrap() {
            self.received.1 += u64::from(!matches!(frame, Frame::Body { last: false, .. }));
            if let Frame::Method { payload, .. } = frame {
                self.methods.push_back(payload.to_vec());
            }
        }
        read > 0
    }
}

fn start_ok() -> Method<'static> {
    Method::ConnectionStartOk {
        client_properties: Table::EMPTY,
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    }
}
