//! A scripted broker: the script decides what happens to each publish. Consumers are numbered in
//! the order of basic.consume. A message rejected with requeue returns to the same consumer.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp::frame::{write_body, write_header, write_method};
use amqp::{Assembler, Frame, Method, Parser, Step, Table};
use serde_json::Value;

/// What the broker does with a message.
pub enum Act {
    /// Delivers a body to the newest consumer.
    Deliver(Vec<u8>),
    /// Delivers a body to a consumer, numbered from 0.
    DeliverTo(usize, Vec<u8>),
    /// Keeps the message in the queue for later consumers.
    Keep,
    /// Returns it as unroutable.
    Return(Vec<u8>),
    /// Nacks it instead of confirming it.
    Nack,
    /// Sleeps.
    Pause(Duration),
    /// Closes the channel.
    CloseChannel(u16, &'static str),
    /// Closes the connection's socket.
    HangUp,
    /// Closes the sockets of all connections.
    Die,
}

type Script = Box<dyn FnMut(u64, &[u8]) -> Vec<Act> + Send>;

struct State {
    script: Script,
    published: u64,
    consumers: Vec<Consumer>,
    streams: Vec<TcpStream>,
    dead: bool,
    declared: HashSet<String>,
    kept: Vec<Vec<u8>>,
    log: Vec<String>,
    requests: Vec<String>,
    heartbeats: u16,
    refused: Option<&'static str>,
}

/// A consumer.
struct Consumer {
    stream: TcpStream,
    channel: u16,
    tag: String,
    delivered: u64,
    unacked: BTreeMap<u64, Vec<u8>>,
}

/// A running broker; it ends with the test's process.
pub struct Broker {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Broker {
    /// Starts a broker. The script gets each message's number (from 0) and body.
    pub fn start(script: impl FnMut(u64, &[u8]) -> Vec<Act> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            script: Box::new(script),
            published: 0,
            consumers: Vec::new(),
            streams: Vec::new(),
            dead: false,
            declared: HashSet::new(),
            kept: Vec::new(),
            log: Vec::new(),
            requests: Vec::new(),
            heartbeats: 0,
            refused: None,
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, stream) = (Arc::clone(&shared), stream.unwrap());
                state.lock().unwrap().streams.push(stream.try_clone().unwrap());
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { port, state }
    }

    /// The broker's URI with a login.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Refuses queues with this argument.
    pub fn refusing(self, argument: &'static str) -> Self {
        self.state.lock().unwrap().refused = Some(argument);
        self
    }

    /// Runs `loadgen run --json` with these arguments against the broker.
    pub fn run(&self, arguments: &str) -> Output {
        self.run_as("guest:guest", arguments)
    }

    /// The same with another login.
    pub fn run_as(&self, login: &str, arguments: &str) -> Output {
        self.command("run", login, arguments)
    }

    /// Runs `loadgen churn --json`.
    pub fn churn(&self, arguments: &str) -> Output {
        self.command("churn", "guest:guest", arguments)
    }

    fn command(&self, command: &str, login: &str, arguments: &str) -> Output {
        let uri = format!("amqp://{login}@127.0.0.1:{}/%2f", self.port);
        Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args([command, "--json", "--uri", &uri])
            .args(arguments.split_whitespace())
            .output()
            .unwrap()
    }

    /// Adds a queue that loadgen did not declare.
    pub fn with_queue(self, name: &str) -> Self {
        self.state.lock().unwrap().declared.insert(name.to_owned());
        self
    }

    /// The exchanges, bindings and rejections received, with their arguments.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// How many heartbeats arrived.
    pub fn heartbeats(&self) -> u16 {
        self.state.lock().unwrap().heartbeats
    }

    /// The methods received on all connections, in order.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }
}

/// The report that loadgen printed.
pub fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr))
    })
}

struct Peer {
    stream: TcpStream,
    assembler: Assembler,
    body: Vec<u8>,
    content: bool,
    confirms: BTreeMap<u16, u64>,
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    stream.set_nodelay(true).unwrap();
    let (confirms, body) = (BTreeMap::new(), Vec::new());
    let mut peer = Peer { stream, assembler: Assembler::default(), body, content: false, confirms };
    let mut header = [0; 8];
    peer.stream.read_exact(&mut header).unwrap();
    assert_eq!(header, amqp::PROTOCOL_HEADER);
    peer.send(0, &START);
    let (mut parser, mut input) = (Parser::new(0), vec![0; 65_536]);
    loop {
        let count = match peer.stream.read(&mut input) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let mut at = 0;
        while let Some(frame) = parser.next(&input[..count], &mut at).unwrap() {
            if !peer.frame(frame, state) {
                // The state holds the stream too, so dropping it does not close it. The peer may be
                // gone already.
                let _gone = peer.stream.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    }
}

const START: Method<'static> = Method::ConnectionStart {
    version_major: 0,
    version_minor: 9,
    server_properties: Table::EMPTY,
    mechanisms: b"PLAIN",
    locales: b"en_US",
};

impl Peer {
    fn send(&mut self, channel: u16, method: &Method<'_>) {
        let mut out = Vec::new();
        write_method(&mut out, channel, method);
        // The peer may have closed the socket.
        let _gone = self.stream.write_all(&out);
    }

    fn frame(&mut self, frame: Frame<'_>, state: &Mutex<State>) -> bool {
        match frame {
            Frame::Method { channel, payload } => {
                let Step::Method(method) = self.assembler.method(payload).unwrap() else {
                    unreachable!()
                };
                self.content = method.has_content();
                self.body.clear();
                self.content || self.method(channel, &method, state)
            }
            Frame::Header { payload, .. } => {
                self.assembler.header(payload).unwrap();
                true
            }
            Frame::Body { channel, piece, .. } => {
                let Step::Body { complete, .. } = self.assembler.body(piece).unwrap() else {
                    unreachable!()
                };
                self.body.extend_from_slice(piece);
                !complete || self.publish(channel, state)
            }
            Frame::Heartbeat { .. } => {
                state.lock().unwrap().heartbeats += 1;
                true
            }
        }
    }

    fn method(&mut self, channel: u16, method: &Method<'_>, state: &Mutex<State>) -> bool {
        let mut state = state.lock().unwrap();
        state.log.push(method.name().to_owned());
        match *method {
            Method::ConnectionStartOk { response, .. } if response != b"\0guest\0guest" => {
                let refused = "ACCESS_REFUSED - Login was refused";
                self.send(0, &close(403, refused));
            }
            Method::ConnectionStartOk { .. } => self.send(
                0,
                &Method::ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 1 },
            ),
            Method::ConnectionOpen { .. } => {
                self.send(0, &Method::ConnectionOpenOk { known_hosts: "" });
            }
            Method::ChannelOpen { .. } => {
                self.send(channel, &Method::ChannelOpenOk { channel_id: b"" });
            }
            Method::QueueDeclare { arguments, .. }
                if state.refused.is_some_and(|name| arguments.get(name).is_some()) =>
            {
                self.close_channel(channel, 406, "PRECONDITION_FAILED - invalid arg <here>");
            }
            Method::QueueDeclare { queue, passive, .. } => {
                if !passive {
                    state.declared.insert(queue.to_owned());
                }
                self.declared(channel, queue, &state);
            }
            Method::QueueDelete { queue, .. } => {
                state.declared.remove(queue);
                self.send(channel, &Method::QueueDeleteOk { message_count: 0 });
            }
            Method::BasicQos { .. } => self.send(channel, &Method::BasicQosOk {}),
            Method::BasicConsume { consumer_tag, .. } => {
                state.consumers.push(Consumer {
                    stream: self.stream.try_clone().unwrap(),
                    channel,
                    tag: consumer_tag.to_owned(),
                    delivered: 0,
                    unacked: BTreeMap::new(),
                });
                self.send(channel, &Method::BasicConsumeOk { consumer_tag });
                let last = state.consumers.len() - 1;
                for body in std::mem::take(&mut state.kept) {
                    state.consumers[last].deliver(&body, false);
                }
            }
            Method::BasicCancel { consumer_tag, .. } => {
                self.send(channel, &Method::BasicCancelOk { consumer_tag });
            }
            Method::ConfirmSelect { .. } => {
                self.confirms.insert(channel, 0);
                self.send(channel, &Method::ConfirmSelectOk {});
            }
            Method::TxSelect {} => self.send(channel, &Method::TxSelectOk {}),
            Method::TxCommit {} => self.send(channel, &Method::TxCommitOk {}),
            Method::ChannelClose { .. } => self.send(channel, &Method::ChannelCloseOk {}),
            Method::ConnectionClose { .. } => {
                self.send(0, &Method::ConnectionCloseOk {});
                return false;
            }
            _ => self.topology(channel, method, &mut state),
        }
        true
    }

    /// Handles exchanges, bindings and rejections.
    fn topology(&mut self, channel: u16, method: &Method<'_>, state: &mut State) {
        match *method {
            Method::BasicNack { delivery_tag, multiple, requeue } => {
                let who = (self.stream.peer_addr().unwrap(), channel);
                state.refused(who, delivery_tag, multiple, requeue);
            }
            Method::ExchangeDeclare { exchange, kind, passive, .. } => {
                if passive && !state.declared.contains(exchange) {
                    self.not_found(channel, "NOT_FOUND - no exchange");
                } else {
                    state.declared.insert(exchange.to_owned());
                    state.requests.push(format!("exchange {exchange} {kind}"));
                    self.send(channel, &Method::ExchangeDeclareOk {});
                }
            }
            Method::ExchangeDelete { .. } => self.send(channel, &Method::ExchangeDeleteOk {}),
            Method::QueueBind { queue, routing_key, arguments, .. } => {
                let header = arguments.get("key").and_then(|key| key.as_str().map(str::to_owned));
                let header = header.map_or(String::new(), |key| format!(" header {key}"));
                state.requests.push(format!("bind {queue} {routing_key}{header}"));
                self.send(channel, &Method::QueueBindOk {});
            }
            Method::QueueUnbind { .. } => self.send(channel, &Method::QueueUnbindOk {}),
            // Acks need no action here.
            _ => {}
        }
    }

    fn declared(&mut self, channel: u16, queue: &str, state: &State) {
        if state.declared.contains(queue) {
            let message_count = state.kept.len() as u32;
            let ok = Method::QueueDeclareOk { queue, message_count, consumer_count: 0 };
            self.send(channel, &ok);
        } else {
            self.not_found(channel, "NOT_FOUND - no queue");
        }
    }

    fn not_found(&mut self, channel: u16, reply_text: &str) {
        self.close_channel(channel, 404, reply_text);
    }

    fn close_channel(&mut self, channel: u16, reply_code: u16, reply_text: &str) {
        let (class_id, method_id) = (50, 10);
        let close = Method::ChannelClose { reply_code, reply_text, class_id, method_id };
        self.send(channel, &close);
    }

    fn publish(&mut self, channel: u16, state: &Mutex<State>) -> bool {
        let mut state = state.lock().unwrap();
        if state.dead {
            return false;
        }
        let number = state.published;
        state.published += 1;
        let acts = (state.script)(number, &self.body);
        let mut nacked = false;
        for act in acts {
            match act {
                Act::Deliver(body) => {
                    let last = state.consumers.len() - 1;
                    state.consumers[last].deliver(&body, false);
                }
                Act::DeliverTo(consumer, body) => state.consumers[consumer].deliver(&body, false),
                Act::Keep => state.kept.push(self.body.clone()),
                Act::Return(body) => self.return_message(channel, &body),
                Act::Nack => nacked = true,
                Act::Pause(time) => std::thread::sleep(time),
                Act::CloseChannel(reply_code, reply_text) => {
                    let (class_id, method_id) = (60, 40);
                    let close =
                        Method::ChannelClose { reply_code, reply_text, class_id, method_id };
                    self.send(channel, &close);
                }
                Act::HangUp => return false,
                Act::Die => {
                    state.dead = true;
                    for stream in &state.streams {
                        // The stream may be closed already.
                        let _gone = stream.shutdown(std::net::Shutdown::Both);
                    }
                    return false;
                }
            }
        }
        if let Some(tag) = self.confirms.get_mut(&channel) {
            *tag += 1;
            let (delivery_tag, multiple) = (*tag, false);
            if nacked {
                self.send(channel, &Method::BasicNack { delivery_tag, multiple, requeue: false });
            } else {
                self.send(channel, &Method::BasicAck { delivery_tag, multiple });
            }
        }
        true
    }

    fn return_message(&mut self, channel: u16, body: &[u8]) {
        let mut out = Vec::new();
        let (reply_code, reply_text) = (312, "NO_ROUTE");
        let returned =
            Method::BasicReturn { reply_code, reply_text, exchange: "", routing_key: "q" };
        write_method(&mut out, channel, &returned);
        write_content(&mut out, channel, body);
        self.stream.write_all(&out).unwrap();
    }
}

impl State {
    fn refused(&mut self, who: (SocketAddr, u16), tag: u64, multiple: bool, requeue: bool) {
        self.requests.push(format!("nack {tag} {multiple} {requeue}"));
        let mut all = self.consumers.iter_mut();
        let consumer =
            all.find(|one| (one.stream.peer_addr().unwrap(), one.channel) == who).unwrap();
        let first = if multiple { 0 } else { tag };
        let tags: Vec<u64> = consumer.unacked.range(first..=tag).map(|(tag, _)| *tag).collect();
        for tag in tags {
            let body = consumer.unacked.remove(&tag).unwrap();
            if requeue {
                consumer.deliver(&body, true);
            }
        }
    }
}

impl Consumer {
    fn deliver(&mut self, body: &[u8], redelivered: bool) {
        self.delivered += 1;
        let mut out = Vec::new();
        let deliver = Method::BasicDeliver {
            consumer_tag: &self.tag,
            delivery_tag: self.delivered,
            redelivered,
            exchange: "",
            routing_key: "q",
        };
        write_method(&mut out, self.channel, &deliver);
        write_content(&mut out, self.channel, body);
        self.unacked.insert(self.delivered, body.to_vec());
        // The consumer may be gone.
        let _gone = self.stream.write_all(&out);
    }
}

fn write_content(out: &mut Vec<u8>, channel: u16, body: &[u8]) {
    write_header(out, channel, body.len() as u64, &[0, 0]);
    write_body(out, channel, body, 131_072);
}

fn close(reply_code: u16, reply_text: &'static str) -> Method<'static> {
    Method::ConnectionClose { reply_code, reply_text, class_id: 0, method_id: 0 }
}
