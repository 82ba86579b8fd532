//! A client that blocks: one connection, one channel, a few methods.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use amqp::frame::{write_body, write_header, write_method};
use amqp::properties::Basic;
use amqp::{Frame, Method, Parser, Properties, Table};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
const FRAME_MAX: u32 = 131_072;

/// A connection. What arrives is kept as the names of methods and the bodies behind them.
pub struct Client {
    stream: TcpStream,
    parser: Parser,
    methods: VecDeque<&'static str>,
    body: Vec<u8>,
}

impl Client {
    /// Connects, sends `first` in front of everything, logs in and opens channel 1.
    pub fn connect(address: SocketAddr, first: &[u8]) -> Self {
        Self::try_connect(address, first).expect("the broker takes one more client")
    }

    /// The same. `None`: the broker closed the socket before it said a word.
    pub fn try_connect(address: SocketAddr, first: &[u8]) -> Option<Self> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        // Byte by byte: a stage may see it in any pieces.
        for byte in first.iter().chain(b"AMQP\0\0\x09\x01") {
            stream.write_all(&[*byte]).ok()?;
        }
        stream.peek(&mut [0]).ok().filter(|&bytes| bytes > 0)?;
        let (methods, body) = (VecDeque::new(), Vec::new());
        let mut client = Self { stream, parser: Parser::new(0), methods, body };
        client.expect("ConnectionStart");
        client.send(0, &start_ok());
        client.expect("ConnectionTune");
        client.send(
            0,
            &Method::ConnectionTuneOk { channel_max: 2047, frame_max: FRAME_MAX, heartbeat: 0 },
        );
        client.send(
            0,
            &Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false },
        );
        client.expect("ConnectionOpenOk");
        client.call(&Method::ChannelOpen { out_of_band: "" }, "ChannelOpenOk");
        Some(client)
    }

    /// Publishes persistent messages of these sizes with confirms to a durable queue, and consumes
    /// them again.
    pub fn round_trip(&mut self, queue: &str, sizes: &[usize]) {
        self.call(&declare(queue), "QueueDeclareOk");
        self.call(&Method::ConfirmSelect { nowait: false }, "ConfirmSelectOk");
        for (number, size) in sizes.iter().enumerate() {
            self.publish(queue, &vec![number as u8; *size]);
            self.expect("BasicAck");
        }
        self.call(&consume(queue), "BasicConsumeOk");
        for (number, size) in sizes.iter().enumerate() {
            self.expect("BasicDeliver");
            assert_eq!(self.body(*size), vec![number as u8; *size]);
        }
    }

    /// Closes the connection in order.
    pub fn close(mut self) {
        let close =
            Method::ConnectionClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        self.send(0, &close);
        self.expect("ConnectionCloseOk");
    }

    fn publish(&mut self, routing_key: &str, body: &[u8]) {
        let (mut bytes, mut properties) = (Vec::new(), Vec::new());
        let publish = Method::BasicPublish {
            ticket: 0,
            exchange: "",
            routing_key,
            mandatory: false,
            immediate: false,
        };
        Basic { delivery_mode: Some(2), ..Basic::default() }.write(&mut properties);
        let properties = Properties::parse(&properties).unwrap().0;
        write_method(&mut bytes, 1, &publish);
        write_header(&mut bytes, 1, body.len() as u64, properties.encoded());
        write_body(&mut bytes, 1, body, FRAME_MAX);
        self.stream.write_all(&bytes).unwrap();
    }

    fn call(&mut self, method: &Method<'_>, answer: &str) {
        self.send(1, method);
        self.expect(answer);
    }

    fn send(&mut self, channel: u16, method: &Method<'_>) {
        let mut bytes = Vec::new();
        write_method(&mut bytes, channel, method);
        self.stream.write_all(&bytes).unwrap();
    }

    fn expect(&mut self, method: &str) {
        loop {
            if let Some(came) = self.methods.pop_front() {
                assert_eq!(came, method);
                return;
            }
            self.read();
        }
    }

    /// The next bytes of bodies.
    fn body(&mut self, size: usize) -> Vec<u8> {
        while self.body.len() < size {
            self.read();
        }
        self.body.drain(..size).collect()
    }

    fn read(&mut self) {
        let mut buffer = [0; 65536];
        let read = self.stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the broker closed the connection");
        let mut at = 0;
        while let Some(frame) = self.parser.next(&buffer[..read], &mut at).unwrap() {
            match frame {
                Frame::Method { payload, .. } => {
                    self.methods.push_back(Method::read(payload).unwrap().name());
                }
                Frame::Body { piece, .. } => self.body.extend_from_slice(piece),
                _ => {}
            }
        }
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

fn declare(queue: &str) -> Method<'_> {
    Method::QueueDeclare {
        ticket: 0,
        queue,
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: Table::EMPTY,
    }
}

fn consume(queue: &str) -> Method<'_> {
    Method::BasicConsume {
        ticket: 0,
        queue,
        consumer_tag: "",
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: false,
        arguments: Table::EMPTY,
    }
}
