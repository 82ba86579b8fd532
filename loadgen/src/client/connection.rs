//! A connection during the setup: blocking calls with a timeout.
//!
//! After the setup a worker takes the socket and the receive buffer and drives them without
//! blocking.

use crate::client::methods::{CHANNEL, CLOSE};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use amqp::frame::write_method;
use amqp::{Frame, Method, PROTOCOL_HEADER};

use crate::client::handshake::{ClientHandshake, FRAME_MAX};
use crate::client::receive_buffer::ReceiveBuffer;
use crate::client::uri::AmqpUri;
use crate::system::error::LoadgenError;

/// How long the broker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// An open connection with channel 1 open.
#[derive(Debug)]
pub struct ClientConnection {
    /// The socket, in blocking mode.
    pub stream: TcpStream,
    /// Bytes received and not parsed yet.
    pub incoming: ReceiveBuffer,
    /// The negotiated frame_max, never 0.
    pub frame_max: u32,
    /// The broker's product and version.
    pub product: String,
    /// The negotiated heartbeat interval in seconds, 0 for none.
    pub heartbeat: u16,
}

impl ClientConnection {
    /// Connects, logs in and opens channel 1.
    ///
    /// # Errors
    /// The broker cannot be reached, refuses the login or the vhost, or does not answer.
    pub fn open(uri: &AmqpUri) -> Result<Self, LoadgenError> {
        Self::open_with(uri, 0)
    }

    /// The same with a heartbeat interval of at most `heartbeat` seconds; 0 is none.
    ///
    /// # Errors
    /// See [`ClientConnection::open`].
    pub fn open_with(uri: &AmqpUri, heartbeat: u16) -> Result<Self, LoadgenError> {
        let stream = connect(uri)?;
        let incoming = ReceiveBuffer::new(FRAME_MAX);
        let product = String::new();
        let mut connection = Self { stream, incoming, frame_max: FRAME_MAX, product, heartbeat };
        connection.handshake(uri)?;
        connection.open_channel()?;
        Ok(connection)
    }

    fn handshake(&mut self, uri: &AmqpUri) -> Result<(), LoadgenError> {
        let mut handshake = ClientHandshake::new(uri, self.heartbeat);
        let mut out = PROTOCOL_HEADER.to_vec();
        let tuned = loop {
            self.send(&out)?;
            out.clear();
            let tuned =
                self.method("to the login", |method| handshake.take(&method, &mut out).map(Some));
            match tuned {
                Ok(Some(tuned)) => break tuned,
                Ok(None) => {}
                Err(LoadgenError::HungUp { .. }) => return Err(hung_up_at_login()),
                Err(failure) => return Err(failure),
            }
        };
        (self.frame_max, self.heartbeat) = (tuned.frame_max, tuned.heartbeat);
        self.product = handshake.product();
        Ok(())
    }

    /// Opens channel 1, for the first time or after the broker has closed it.
    ///
    /// # Errors
    /// See [`ClientConnection::call`].
    pub fn open_channel(&mut self) -> Result<(), LoadgenError> {
        self.open_channel_at(CHANNEL)
    }

    /// Opens another channel.
    ///
    /// # Errors
    /// See [`ClientConnection::call`].
    pub fn open_channel_at(&mut self, channel: u16) -> Result<(), LoadgenError> {
        let open = Method::ChannelOpen { out_of_band: "" };
        self.call_on(channel, &open, "to channel.open", |method| {
            matches!(method, Method::ChannelOpenOk { .. }).then_some(())
        })
    }

    /// Closes channel 1.
    ///
    /// # Errors
    /// See [`ClientConnection::call`].
    pub fn close_channel(&mut self) -> Result<(), LoadgenError> {
        let close =
            Method::ChannelClose { reply_code: 200, reply_text: "done", class_id: 0, method_id: 0 };
        self.call(&close, "to channel.close", |method| {
            matches!(method, Method::ChannelCloseOk {}).then_some(())
        })
    }

    /// Sends a method on channel 1 and waits for the answer that `pick` accepts. Other methods are
    /// skipped.
    ///
    /// # Errors
    /// The broker closes the channel or the connection, hangs up or does not answer. A
    /// channel.close is answered, so that the channel can be opened again.
    pub fn call<T>(
        &mut self,
        method: &Method<'_>,
        waiting_for: &'static str,
        pick: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, LoadgenError> {
        self.call_on(CHANNEL, method, waiting_for, pick)
    }

    /// The same on any channel.
    ///
    /// # Errors
    /// See [`ClientConnection::call`].
    pub fn call_on<T>(
        &mut self,
        channel: u16,
        method: &Method<'_>,
        waiting_for: &'static str,
        mut pick: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, LoadgenError> {
        let mut out = Vec::new();
        write_method(&mut out, channel, method);
        self.send(&out)?;
        let answer = self.method(waiting_for, |method| match method {
            Method::ConnectionClose { reply_code, reply_text, .. } => {
                Err(LoadgenError::closed("connection", reply_code, reply_text))
            }
            Method::ChannelClose { reply_code, reply_text, .. } => {
                Err(LoadgenError::closed("channel", reply_code, reply_text))
            }
            _ => Ok(pick(&method)),
        });
        if let Err(LoadgenError::Closed { what: "channel", .. }) = answer {
            self.send_method(channel, &Method::ChannelCloseOk {})?;
        }
        answer
    }

    /// Closes the connection and waits for the answer.
    ///
    /// # Errors
    /// The broker hung up or does not answer.
    pub fn close(mut self) -> Result<(), LoadgenError> {
        self.send_method(0, &CLOSE)?;
        self.method("to connection.close", |method| {
            Ok(matches!(method, Method::ConnectionCloseOk {}).then_some(()))
        })
    }

    fn send_method(&mut self, channel: u16, method: &Method<'_>) -> Result<(), LoadgenError> {
        let mut out = Vec::new();
        write_method(&mut out, channel, method);
        self.send(&out)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), LoadgenError> {
        self.stream.write_all(bytes).map_err(|source| match source.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                hung_up("before the request was sent")
            }
            _ => LoadgenError::System { what: "cannot write to the broker", source },
        })
    }

    /// Reads methods until `pick` accepts one.
    fn method<T>(
        &mut self,
        waiting_for: &'static str,
        mut pick: impl FnMut(Method<'_>) -> Result<Option<T>, LoadgenError>,
    ) -> Result<T, LoadgenError> {
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

    fn receive(&mut self, waiting_for: &'static str) -> Result<(), LoadgenError> {
        match self.stream.read(self.incoming.room()) {
            Ok(0) => Err(hung_up("instead of answering")),
            Ok(count) => {
                self.incoming.filled(count);
                Ok(())
            }
            Err(source) => match source.kind() {
                ErrorKind::Interrupted => Ok(()),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    Err(LoadgenError::Silent { waiting_for, seconds: ANSWER_TIMEOUT.as_secs() })
                }
                ErrorKind::ConnectionReset => Err(hung_up("instead of answering")),
                _ => Err(LoadgenError::System { what: "cannot read from the broker", source }),
            },
        }
    }
}

fn hung_up(when: &'static str) -> LoadgenError {
    LoadgenError::HungUp { when, hint: "" }
}

/// Brokers without authentication_failure_close only close the socket.
fn hung_up_at_login() -> LoadgenError {
    LoadgenError::HungUp { when: "at the login", hint: ". Check user, password and vhost in --uri" }
}

fn connect(uri: &AmqpUri) -> Result<TcpStream, LoadgenError> {
    let address = format!("{}:{}", uri.host, uri.port);
    let unreachable = |source| LoadgenError::Unreachable { address: address.clone(), source };
    let mut last = None;
    for candidate in (uri.host.as_str(), uri.port).to_socket_addrs().map_err(unreachable)? {
        match TcpStream::connect_timeout(&candidate, ANSWER_TIMEOUT) {
            Ok(stream) => return prepare(stream).map_err(unreachable),
            Err(error) => last = Some(error),
        }
    }
    Err(unreachable(last.unwrap_or_else(|| ErrorKind::NotFound.into())))
}

fn prepare(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}
