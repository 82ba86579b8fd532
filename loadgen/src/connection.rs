//! One connection while it is being set up: blocking calls, each with a bounded wait.
//!
//! Once set up, a worker takes its parts and drives the socket without blocking.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use amqp::frame::write_method;
use amqp::{Frame, Method, PROTOCOL_HEADER};

use crate::failure::Failure;
use crate::handshake::{FRAME_MAX, Handshake};
use crate::incoming::Incoming;
use crate::uri::Uri;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first channel of every connection, and of most the only one.
pub const CHANNEL: u16 = 1;

/// An open connection with channel 1 open.
#[derive(Debug)]
pub struct Connection {
    /// The socket, still blocking.
    pub stream: TcpStream,
    /// What was received and not taken yet.
    pub incoming: Incoming,
    /// The agreed frame_max, never 0.
    pub frame_max: u32,
    /// The broker's product and version.
    pub product: String,
    /// The agreed seconds between heartbeats, 0 for none.
    pub heartbeat: u16,
}

impl Connection {
    /// Connects, logs in and opens channel 1.
    ///
    /// # Errors
    /// The broker cannot be reached, refuses the login or the vhost, or does not answer.
    pub fn open(uri: &Uri) -> Result<Self, Failure> {
        Self::open_with(uri, 0)
    }

    /// The same with heartbeats at most every `heartbeat` seconds; 0 is none.
    ///
    /// # Errors
    /// See [`Connection::open`].
    pub fn open_with(uri: &Uri, heartbeat: u16) -> Result<Self, Failure> {
        let stream = connect(uri)?;
        let incoming = Incoming::new(FRAME_MAX);
        let product = String::new();
        let mut connection = Self { stream, incoming, frame_max: FRAME_MAX, product, heartbeat };
        connection.handshake(uri)?;
        connection.open_channel()?;
        Ok(connection)
    }

    fn handshake(&mut self, uri: &Uri) -> Result<(), Failure> {
        let mut handshake = Handshake::new(uri, self.heartbeat);
        let mut out = PROTOCOL_HEADER.to_vec();
        let tuned = loop {
            self.send(&out)?;
            out.clear();
            let tuned =
                self.method("to the login", |method| handshake.take(&method, &mut out).map(Some));
            match tuned {
                Ok(Some(tuned)) => break tuned,
                Ok(None) => {}
                Err(Failure::HungUp { .. }) => return Err(hung_up_at_login()),
                Err(failure) => return Err(failure),
            }
        };
        (self.frame_max, self.heartbeat) = (tuned.frame_max, tuned.heartbeat);
        self.product = handshake.product();
        Ok(())
    }

    /// Opens channel 1, the first time or after the broker has closed it.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub fn open_channel(&mut self) -> Result<(), Failure> {
        self.open_channel_at(CHANNEL)
    }

    /// Opens one more channel.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub fn open_channel_at(&mut self, channel: u16) -> Result<(), Failure> {
        let open = Method::ChannelOpen { out_of_band: "" };
        self.call_on(channel, &open, "to channel.open", |method| {
            matches!(method, Method::ChannelOpenOk { .. }).then_some(())
        })
    }

    /// Closes channel 1.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub fn close_channel(&mut self) -> Result<(), Failure> {
        let close =
            Method::ChannelClose { reply_code: 200, reply_text: "done", class_id: 0, method_id: 0 };
        self.call(&close, "to channel.close", |method| {
            matches!(method, Method::ChannelCloseOk {}).then_some(())
        })
    }

    /// Sends a method on channel 1 and waits for the answer that `pick` accepts; others are passed
    /// over.
    ///
    /// # Errors
    /// The broker closes the channel or the connection, hangs up or does not answer. A closed
    /// channel is acknowledged, so that it can be opened again.
    pub fn call<T>(
        &mut self,
        method: &Method<'_>,
        waiting_for: &'static str,
        pick: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, Failure> {
        self.call_on(CHANNEL, method, waiting_for, pick)
    }

    /// The same on any channel.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub fn call_on<T>(
        &mut self,
        channel: u16,
        method: &Method<'_>,
        waiting_for: &'static str,
        mut pick: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut out = Vec::new();
        write_method(&mut out, channel, method);
        self.send(&out)?;
        let answer = self.method(waiting_for, |method| match method {
            Method::ConnectionClose { reply_code, reply_text, .. } => {
                Err(Failure::closed("connection", reply_code, reply_text))
            }
            Method::ChannelClose { reply_code, reply_text, .. } => {
                Err(Failure::closed("channel", reply_code, reply_text))
            }
            _ => Ok(pick(&method)),
        });
        if let Err(Failure::Closed { what: "channel", .. }) = answer {
            self.send_method(channel, &Method::ChannelCloseOk {})?;
        }
        answer
    }

    /// Says goodbye and waits for the answer.
    ///
    /// # Errors
    /// The broker hung up or does not answer.
    pub fn close(mut self) -> Result<(), Failure> {
        self.send_method(0, &CLOSE)?;
        self.method("to connection.close", |method| {
            Ok(matches!(method, Method::ConnectionCloseOk {}).then_some(()))
        })
    }

    fn send_method(&mut self, channel: u16, method: &Method<'_>) -> Result<(), Failure> {
        let mut out = Vec::new();
        write_method(&mut out, channel, method);
        self.send(&out)
    }

    fn send(&mut self, octets: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(octets).map_err(|source| match source.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => hung_up("before it was asked"),
            _ => Failure::System { what: "cannot write to the broker", source },
        })
    }

    /// Reads methods until `pick` says which one was awaited.
    fn method<T>(
        &mut self,
        waiting_for: &'static str,
        mut pick: impl FnMut(Method<'_>) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        loop {
            while let Some(frame) = self.incoming.frame()? {
                if let Frame::Method { payload, .. } = frame
                    && let Some(answer) = pick(Method::read(payload)?)?
                {
                    return Ok(answer);
                }
            }
            self.receive(waiting_for)?;
        }
    }

    fn receive(&mut self, waiting_for: &'static str) -> Result<(), Failure> {
        match self.stream.read(self.incoming.room()) {
            Ok(0) => Err(hung_up("instead of answering")),
            Ok(count) => {
                self.incoming.filled(count);
                Ok(())
            }
            Err(source) => match source.kind() {
                ErrorKind::Interrupted => Ok(()),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    Err(Failure::Silent { waiting_for, seconds: PATIENCE.as_secs() })
                }
                ErrorKind::ConnectionReset => Err(hung_up("instead of answering")),
                _ => Err(Failure::System { what: "cannot read from the broker", source }),
            },
        }
    }
}

/// An orderly end of a connection.
pub const CLOSE: Method<'static> = Method::ConnectionClose {
    reply_code: 200,
    reply_text: "the run is over",
    class_id: 0,
    method_id: 0,
};

/// Ends a channel in order: the first with its connection, others alone.
pub fn goodbye(channel: u16, out: &mut Vec<u8>) {
    if channel == CHANNEL {
        return write_method(out, 0, &CLOSE);
    }
    let (reply_code, reply_text) = (200, "the run is over");
    let close = Method::ChannelClose { reply_code, reply_text, class_id: 0, method_id: 0 };
    write_method(out, channel, &close);
}

fn hung_up(when: &'static str) -> Failure {
    Failure::HungUp { when, hint: "" }
}

/// Brokers without authentication_failure_close just hang up.
fn hung_up_at_login() -> Failure {
    Failure::HungUp { when: "at the login", hint: ". Check user, password and vhost in --uri" }
}

fn connect(uri: &Uri) -> Result<TcpStream, Failure> {
    let address = format!("{}:{}", uri.host, uri.port);
    let unreachable = |source| Failure::Unreachable { address: address.clone(), source };
    let mut last = None;
    for candidate in (uri.host.as_str(), uri.port).to_socket_addrs().map_err(unreachable)? {
        match TcpStream::connect_timeout(&candidate, PATIENCE) {
            Ok(stream) => return prepare(stream).map_err(unreachable),
            Err(error) => last = Some(error),
        }
    }
    Err(unreachable(last.unwrap_or_else(|| ErrorKind::NotFound.into())))
}

fn prepare(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
