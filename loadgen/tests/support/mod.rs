//! A broker that does what a script says: one queue, one consumer, and a word on every publish.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp::frame::{write_body, write_header, write_method};
use amqp::{Assembler, Frame, Method, Parser, Step, Table};
use serde_json::Value;

/// What the broker does with a message.
pub enum Act {
    /// Sends a body to the consumer.
    Deliver(Vec<u8>),
    /// Leaves the message in the queue.
    Keep,
    /// Returns it as unroutable.
    Return(Vec<u8>),
    /// Refuses it instead of confirming it.
    Nack,
    /// Does nothing at all for a while.
    Pause(Duration),
    /// Closes the channel.
    CloseChannel(u16, &'static str),
    /// Drops the connection.
    HangUp,
}

type Script = Box<dyn FnMut(u64, &[u8]) -> Vec<Act> + Send>;

struct State {
    script: Script,
    published: u64,
    consumer: Option<TcpStream>,
    delivered: u64,
    declared: HashSet<String>,
    kept: u32,
    log: Vec<String>,
}

/// A running broker; it ends with the test's process.
pub struct Broker {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Broker {
    /// Starts a broker; the script gets each message's number (from 0) and body.
    pub fn start(script: impl FnMut(u64, &[u8]) -> Vec<Act> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            script: Box::new(script),
            published: 0,
            consumer: None,
            delivered: 0,
            declared: HashSet::new(),
            kept: 0,
            log: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream.unwrap(), &state));
            }
        });
        Self { port, state }
    }

    /// Runs `loadgen run --json` with these arguments against the broker.
    pub fn run(&self, arguments: &str) -> Output {
        self.run_as("guest:guest", arguments)
    }

    /// The same, with another login.
    pub fn run_as(&self, login: &str, arguments: &str) -> Output {
        let uri = format!("amqp://{login}@127.0.0.1:{}/%2f", self.port);
        Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["run", "--json", "--uri", &uri])
            .args(arguments.split_whitespace())
            .output()
            .unwrap()
    }

    /// The methods received, in order over all connections.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }
}

/// The report that a run printed.
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
    confirms: Option<u64>,
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    stream.set_nodelay(true).unwrap();
    let (confirms, body) = (None, Vec::new());
    let mut peer = Peer { stream, assembler: Assembler::default(), body, content: false, confirms };
    let mut header = [0; 8];
    peer.stream.read_exact(&mut header).unwrap();
    assert_eq!(header, amqp::PROTOCOL_HEADER);
    peer.say(0, &START);
    let (mut parser, mut input) = (Parser::new(0), vec![0; 65_536]);
    loop {
        let count = match peer.stream.read(&mut input) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let mut at = 0;
        while let Some(frame) = parser.next(&input[..count], &mut at).unwrap() {
            if !peer.frame(frame, state) {
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
    fn say(&mut self, channel: u16, method: &Method<'_>) {
        let mut out = Vec::new();
        write_method(&mut out, channel, method);
        // A peer that hangs up is not the broker's fault.
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
            Frame::Body { piece, .. } => {
                let Step::Body { complete, .. } = self.assembler.body(piece).unwrap() else {
                    unreachable!()
                };
                self.body.extend_from_slice(piece);
                !complete || self.publish(state)
            }
            Frame::Heartbeat { .. } => true,
        }
    }

    fn method(&mut self, channel: u16, method: &Method<'_>, state: &Mutex<State>) -> bool {
        let mut state = state.lock().unwrap();
        state.log.push(method.name().to_owned());
        match *method {
            Method::ConnectionStartOk { response, .. } if response != b"\0guest\0guest" => {
                let refused = "ACCESS_REFUSED - Login was refused";
                self.say(0, &close(403, refused));
            }
            Method::ConnectionStartOk { .. } => self.say(
                0,
                &Method::ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 },
            ),
            Method::ConnectionOpen { .. } => {
                self.say(0, &Method::ConnectionOpenOk { known_hosts: "" });
            }
            Method::ChannelOpen { .. } => {
                self.say(channel, &Method::ChannelOpenOk { channel_id: b"" });
            }
            Method::QueueDeclare { queue, passive, .. } => {
                if !passive {
                    state.declared.insert(queue.to_owned());
                }
                self.declared(channel, queue, &state);
            }
            Method::QueueDelete { .. } => {
                self.say(channel, &Method::QueueDeleteOk { message_count: 0 });
            }
            Method::BasicQos { .. } => self.say(channel, &Method::BasicQosOk {}),
            Method::BasicConsume { consumer_tag, .. } => {
                state.consumer = Some(self.stream.try_clone().unwrap());
                self.say(channel, &Method::BasicConsumeOk { consumer_tag });
            }
            Method::BasicCancel { consumer_tag, .. } => {
                self.say(channel, &Method::BasicCancelOk { consumer_tag });
            }
            Method::ConfirmSelect { .. } => {
                self.confirms = Some(0);
                self.say(channel, &Method::ConfirmSelectOk {});
            }
            Method::ConnectionClose { .. } => {
                self.say(0, &Method::ConnectionCloseOk {});
                return false;
            }
            _ => {}
        }
        true
    }

    fn declared(&mut self, channel: u16, queue: &str, state: &State) {
        if state.declared.contains(queue) {
            let message_count = state.kept;
            let ok = Method::QueueDeclareOk { queue, message_count, consumer_count: 0 };
            self.say(channel, &ok);
        } else {
            let reply_text = "NOT_FOUND - no queue";
            let close =
                Method::ChannelClose { reply_code: 404, reply_text, class_id: 50, method_id: 10 };
            self.say(channel, &close);
        }
    }

    fn publish(&mut self, state: &Mutex<State>) -> bool {
        let mut state = state.lock().unwrap();
        let number = state.published;
        state.published += 1;
        let acts = (state.script)(number, &self.body);
        let mut nacked = false;
        for act in acts {
            match act {
                Act::Deliver(body) => state.deliver(&body),
                Act::Keep => state.kept += 1,
                Act::Return(body) => self.give_back(&body),
                Act::Nack => nacked = true,
                Act::Pause(time) => std::thread::sleep(time),
                Act::CloseChannel(reply_code, reply_text) => {
                    let (class_id, method_id) = (60, 40);
                    let close =
                        Method::ChannelClose { reply_code, reply_text, class_id, method_id };
                    self.say(1, &close);
                }
                Act::HangUp => return false,
            }
        }
        if let Some(tag) = &mut self.confirms {
            *tag += 1;
            let (delivery_tag, multiple) = (*tag, false);
            if nacked {
                self.say(1, &Method::BasicNack { delivery_tag, multiple, requeue: false });
            } else {
                self.say(1, &Method::BasicAck { delivery_tag, multiple });
            }
        }
        true
    }

    fn give_back(&mut self, body: &[u8]) {
        let mut out = Vec::new();
        let (reply_code, reply_text) = (312, "NO_ROUTE");
        let returned =
            Method::BasicReturn { reply_code, reply_text, exchange: "", routing_key: "q" };
        write_method(&mut out, 1, &returned);
        write_content(&mut out, body);
        self.stream.write_all(&out).unwrap();
    }
}

impl State {
    fn deliver(&mut self, body: &[u8]) {
        self.delivered += 1;
        let mut out = Vec::new();
        let deliver = Method::BasicDeliver {
            consumer_tag: "loadgen",
            delivery_tag: self.delivered,
            redelivered: false,
            exchange: "",
            routing_key: "q",
        };
        write_method(&mut out, 1, &deliver);
        write_content(&mut out, body);
        self.consumer.as_mut().unwrap().write_all(&out).unwrap();
    }
}

fn write_content(out: &mut Vec<u8>, body: &[u8]) {
    write_header(out, 1, body.len() as u64, &[0, 0]);
    write_body(out, 1, body, 131_072);
}

fn close(reply_code: u16, reply_text: &'static str) -> Method<'static> {
    Method::ConnectionClose { reply_code, reply_text, class_id: 0, method_id: 0 }
}
