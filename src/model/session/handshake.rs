//! From the protocol header to connection.open-ok (spec 2.2.4), with RabbitMQ's limits and errors.
//!
//! ```text
//!  Header --> StartOk --> LoggingIn --> TuneOk --> Open --> Opening --> Running
//! ```

use std::sync::Arc;

use amqp::frame::FRAME_MIN;
use amqp::methods::Method;
use amqp::{Code, PROTOCOL_HEADER, Table, TableWriter, Value};

use crate::outbox::Outbox;
use crate::refusal::fault::Fault;
use crate::secret::Secret;
use crate::topology::spec::Name;

/// The RabbitMQ level this broker is compatible with.
pub const COMPATIBLE_VERSION: &str = "4.2.0";

/// The limits that clients are offered, with RabbitMQ's names and defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Channels per connection; 0: no limit.
    pub channel_max: u16,
    /// Bytes per frame; 0: no limit.
    pub frame_max: u32,
    /// Bytes per frame before tune-ok.
    pub initial_frame_max: u32,
    /// Seconds; 0: no heartbeats.
    pub heartbeat_s: u16,
    /// Milliseconds until connection.open; `u64::MAX`: no limit.
    pub handshake_timeout_ms: u64,
    /// Bytes in a message's body.
    pub max_message_size: u64,
    /// Consumers per channel; `usize::MAX`: no limit.
    pub consumer_max: usize,
    /// The channels of all connections together are limited, so every channel.open is a request to
    /// the coordinator.
    pub counts_channels: bool,
    /// PLAIN is offered.
    pub plain: bool,
    /// AMQPLAIN is offered.
    pub amqplain: bool,
    /// The name of the cluster, as clients are told it.
    pub cluster_name: Arc<str>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channel_max: 2047,
            frame_max: 131_072,
            initial_frame_max: 8192,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            max_message_size: 134_217_728,
            consumer_max: usize::MAX,
            counts_channels: false,
            plain: true,
            amqplain: true,
            cluster_name: "ringtail".into(),
        }
    }
}

/// What client and server agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// How many channels may be open at once, whatever their numbers; 0: no limit.
    pub channel_max: u16,
    /// Bytes per frame; 0: no limit.
    pub frame_max: u32,
    /// Seconds; 0: none.
    pub heartbeat_s: u16,
}

/// The capabilities that the client announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Takes basic.cancel from the server.
    pub consumer_cancel_notify: bool,
    /// Takes connection.blocked.
    pub blocked: bool,
    /// Takes connection.close when the login fails.
    pub authentication_failure_close: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandshakeState {
    Header,
    StartOk,
    LoggingIn,
    TuneOk,
    Open,
    Opening,
    Running,
}

/// What the shard does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the client answers next.
    Wait,
    /// Request a check of this login, then call [`Handshake::logged_in`] or
    /// [`Handshake::refused`].
    Login {
        /// The user.
        user: Name,
        /// The password in clear.
        password: Secret,
    },
    /// tune-ok was accepted: the limits apply.
    Tuned,
    /// Request access to the vhost, then call [`Handshake::opened`].
    Open(Name),
}

/// The handshake of one connection.
#[derive(Debug)]
pub struct Handshake {
    state: HandshakeState,
    limits: Limits,
    negotiated: Negotiated,
    capabilities: Capabilities,
    mechanism: Name,
    header: Vec<u8>,
}

impl Handshake {
    /// A connection just accepted.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let frame_max = limits.initial_frame_max;
        let negotiated = Negotiated { channel_max: 0, frame_max, heartbeat_s: 0 };
        Self {
            state: HandshakeState::Header,
            limits,
            negotiated,
            capabilities: Capabilities::default(),
            mechanism: Name::default(),
            header: Vec::new(),
        }
    }

    /// The limits negotiated so far.
    #[must_use]
    pub fn negotiated(&self) -> Negotiated {
        self.negotiated
    }

    /// What the client can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Whether connection.open-ok was sent.
    #[must_use]
    pub fn running(&self) -> bool {
        self.state == HandshakeState::Running
    }

    /// Whether connection.open was received.
    #[must_use]
    pub fn asked_for_vhost(&self) -> bool {
        matches!(self.state, HandshakeState::Opening | HandshakeState::Running)
    }

    /// The mechanism that the client chose.
    #[must_use]
    pub fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// Whether the protocol header has not arrived yet.
    #[must_use]
    pub fn header_due(&self) -> bool {
        self.state == HandshakeState::Header
    }

    /// Takes bytes of the protocol header from `input` and returns how many. A complete header is
    /// answered with connection.start. `None` for another header: it is answered with ours, and the
    /// caller closes the socket.
    pub fn header(&mut self, input: &[u8], out: &mut Outbox) -> Option<usize> {
        let taken = input.len().min(PROTOCOL_HEADER.len() - self.header.len());
        self.header.extend_from_slice(&input[..taken]);
        let alike = |header: &[u8; 8]| header.starts_with(&self.header);
        // AMQP 0-9 has the header 1 1 0 9. It is close enough to 0-9-1; RabbitMQ accepts it too.
        if !alike(&PROTOCOL_HEADER) && !alike(b"AMQP\x01\x01\x00\x09") {
            out.buffer().extend_from_slice(&PROTOCOL_HEADER);
            return None;
        }
        if self.header.len() == PROTOCOL_HEADER.len() {
            start(&self.limits, out);
            self.state = HandshakeState::StartOk;
        }
        Some(taken)
    }

    /// Takes a method on channel 0 before the connection is open.
    ///
    /// # Errors
    /// A fault that closes the connection.
    pub fn method(&mut self, method: &Method<'_>) -> Result<Next, Fault> {
        match (self.state, *method) {
            (
                HandshakeState::StartOk,
                Method::ConnectionStartOk { client_properties, mechanism, response, .. },
            ) => self.start_ok(client_properties, mechanism, response),
            (
                HandshakeState::TuneOk,
                Method::ConnectionTuneOk { channel_max, frame_max, heartbeat },
            ) => self.tune_ok(channel_max, frame_max, heartbeat, method.id()),
            (HandshakeState::Open, Method::ConnectionOpen { virtual_host, .. }) => {
                self.state = HandshakeState::Opening;
                Ok(Next::Open(virtual_host.into()))
            }
            _ => Err(self.unexpected(method.id())),
        }
    }

    fn unexpected(&self, method: (u16, u16)) -> Fault {
        let state = match self.state {
            HandshakeState::Header | HandshakeState::StartOk => "starting",
            HandshakeState::LoggingIn => "securing",
            HandshakeState::TuneOk => "tuning",
            HandshakeState::Open | HandshakeState::Opening => "opening",
            HandshakeState::Running => "running",
        };
        let text = format!("unexpected method in connection state {state}");
        Fault::new(Code::ChannelError, &text, method)
    }

    fn start_ok(
        &mut self,
        properties: Table<'_>,
        mechanism: &str,
        response: &[u8],
    ) -> Result<Next, Fault> {
        self.capabilities = capabilities(properties);
        self.mechanism = mechanism.into();
        let fault = |code, text: &str| Fault::new(code, text, (10, 11));
        let Limits { plain: plain_offered, amqplain: amqplain_offered, .. } = self.limits;
        let login = match mechanism {
            "PLAIN" if plain_offered => plain(response),
            "AMQPLAIN" if amqplain_offered => amqplain(response),
            "PLAIN" | "AMQPLAIN" => {
                let text = format!("invalid authentication mechanism '{mechanism}'");
                return Err(fault(Code::CommandInvalid, &text));
            }
            other => {
                let text = format!("unknown authentication mechanism '{other}'");
                return Err(fault(Code::CommandInvalid, &text));
            }
        };
        let text = format!("invalid {mechanism} response");
        let (user, password) = login.ok_or_else(|| fault(Code::SyntaxError, &text))?;
        self.state = HandshakeState::LoggingIn;
        Ok(Next::Login { user: user.into(), password: password.into() })
    }

    /// The login is right: offers limits.
    pub fn logged_in(&mut self, out: &mut Outbox) {
        let Limits { channel_max, frame_max, heartbeat_s: heartbeat, .. } = self.limits;
        out.method(0, &Method::ConnectionTune { channel_max, frame_max, heartbeat });
        self.state = HandshakeState::TuneOk;
    }

    /// The login is wrong.
    #[must_use]
    pub fn refused(&self) -> Fault {
        let text = format!(
            "Login was refused using authentication mechanism {}. For details see the broker \
             logfile.",
            self.mechanism
        );
        Fault::new(Code::AccessRefused, &text, (0, 0))
    }

    fn tune_ok(
        &mut self,
        channel_max: u16,
        frame_max: u32,
        heartbeat_s: u16,
        method: (u16, u16),
    ) -> Result<Next, Fault> {
        let limits = &self.limits;
        let check = |name, value, min, max| negotiable(name, value, min, max, method);
        check("channel_max", u32::from(channel_max), 1, u32::from(limits.channel_max))?;
        check("frame_max", frame_max, FRAME_MIN, limits.frame_max)?;
        self.negotiated = Negotiated { channel_max, frame_max, heartbeat_s };
        self.state = HandshakeState::Open;
        Ok(Next::Tuned)
    }

    /// The vhost is open.
    pub fn opened(&mut self, out: &mut Outbox) {
        out.method(0, &Method::ConnectionOpenOk { known_hosts: "" });
        self.state = HandshakeState::Running;
    }
}

/// A client's value must be between the protocol's minimum and the offer; 0 means no limit.
fn negotiable(name: &str, value: u32, min: u32, max: u32, method: (u16, u16)) -> Result<(), Fault> {
    let text = if max != 0 && value == 0 {
        format!("negotiated {name} = 0 (no limit) is higher than the maximum allowed value ({max})")
    } else if max != 0 && value > max {
        format!("negotiated {name} = {value} is higher than the maximum allowed value ({max})")
    } else if value != 0 && value < min {
        format!("negotiated {name} = {value} is lower than the minimum allowed value ({min})")
    } else {
        return Ok(());
    };
    Err(Fault::new(Code::NotAllowed, &text, method))
}

/// RFC 4616: user and password, each after a NUL. Like RabbitMQ, it accepts no authorisation
/// identity and no further NUL.
fn plain(response: &[u8]) -> Option<(&str, &[u8])> {
    let mut parts = response.strip_prefix(&[0])?.split(|byte| *byte == 0);
    let (user, password) = (parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some((std::str::from_utf8(user).ok()?, password))
}

/// RabbitMQ's AMQPLAIN: the content of a table with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<(&str, &[u8])> {
    let table = Table::parse(response).ok()?;
    let Some(Value::LongString(password)) = table.get("PASSWORD") else {
        return None;
    };
    Some((table.get("LOGIN")?.as_str()?, password))
}

fn capabilities(properties: Table<'_>) -> Capabilities {
    let Some(Value::Table(table)) = properties.get("capabilities") else {
        return Capabilities::default();
    };
    let has = |key| table.get(key) == Some(Value::Bool(true));
    Capabilities {
        consumer_cancel_notify: has("consumer_cancel_notify"),
        blocked: has("connection.blocked"),
        authentication_failure_close: has("authentication_failure_close"),
    }
}

fn start(limits: &Limits, out: &mut Outbox) {
    let mechanisms: &[u8] = match (limits.plain, limits.amqplain) {
        (true, true) => b"PLAIN AMQPLAIN",
        (true, false) => b"PLAIN",
        (false, true) => b"AMQPLAIN",
        (false, false) => b"",
    };
    let yes = Value::Bool(true);
    let capabilities = TableWriter::new()
        .with("publisher_confirms", yes)
        .with("exchange_exchange_bindings", yes)
        .with("basic.nack", yes)
        .with("consumer_cancel_notify", yes)
        .with("connection.blocked", yes)
        .with("consumer_priorities", yes)
        .with("authentication_failure_close", yes)
        .with("per_consumer_qos", yes)
        .with("direct_reply_to", yes);
    let text = |text: &'static str| Value::LongString(text.as_bytes());
    let properties = TableWriter::new()
        .with("capabilities", Value::Table(capabilities.table()))
        .with("cluster_name", Value::LongString(limits.cluster_name.as_bytes()))
        .with("copyright", text("The Ringtail authors"))
        .with("information", text("Licensed under Apache-2.0 or MIT, at your choice"))
        .with("platform", text("Rust"))
        .with("product", text("Ringtail"))
        .with("ringtail_version", text(env!("CARGO_PKG_VERSION")))
        .with("version", text(COMPATIBLE_VERSION));
    let method = Method::ConnectionStart {
        version_major: 0,
        version_minor: 9,
        server_properties: properties.table(),
        mechanisms,
        locales: b"en_US",
    };
    out.method(0, &method);
}
