//! The opening handshake as a pure state machine: methods in, methods out (spec 2.2.4).
//!
//! ```text
//!   server: start          tune                      open-ok
//!   client:       start-ok      tune-ok + open              -> open
//! ```

use amqp::frame::write_method;
use amqp::{Method, Table, TableWriter, Value};

use crate::client::uri::AmqpUri;
use crate::system::error::LoadgenError;

/// The largest frame this client asks for, in bytes.
pub const FRAME_MAX: u32 = 131_072;

/// The limits that client and broker have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunedLimits {
    /// The largest frame in bytes, framing included; never 0.
    pub frame_max: u32,
    /// Seconds between heartbeats, 0 for none.
    pub heartbeat: u16,
}

/// The handshake of one connection.
#[derive(Debug)]
pub struct ClientHandshake<'a> {
    uri: &'a AmqpUri,
    frame_max: u32,
    heartbeat: u16,
    product: String,
}

impl<'a> ClientHandshake<'a> {
    /// Starts after the protocol header was sent. Most connections use no heartbeats (0), so that
    /// the broker does not close them while their thread is busy.
    #[must_use]
    pub fn new(uri: &'a AmqpUri, heartbeat: u16) -> Self {
        Self { uri, frame_max: FRAME_MAX, heartbeat, product: String::new() }
    }

    /// Handles a method of the server and appends the answer. `Some` once the connection is open.
    ///
    /// # Errors
    /// The broker refused the client or sent an unexpected method.
    pub fn take(
        &mut self,
        method: &Method<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<TunedLimits>, LoadgenError> {
        match *method {
            Method::ConnectionStart { mechanisms, server_properties, .. } => {
                self.product = product(&server_properties);
                self.start_ok(mechanisms, out)?;
            }
            Method::ConnectionTune { channel_max, frame_max, heartbeat } => {
                if heartbeat > 0 {
                    self.heartbeat = self.heartbeat.min(heartbeat);
                }
                self.tune_ok(channel_max, frame_max, out);
            }
            Method::ConnectionOpenOk { .. } => {
                return Ok(Some(TunedLimits {
                    frame_max: self.frame_max,
                    heartbeat: self.heartbeat,
                }));
            }
            Method::ConnectionClose { reply_code, reply_text, .. } => {
                return Err(LoadgenError::closed("connection", reply_code, reply_text));
            }
            ref other => {
                let name = other.name();
                return Err(LoadgenError::Protocol(format!(
                    "unexpected {name} during the handshake"
                )));
            }
        }
        Ok(None)
    }

    /// The product and version that the server announced.
    #[must_use]
    pub fn product(self) -> String {
        self.product
    }

    fn start_ok(&self, mechanisms: &[u8], out: &mut Vec<u8>) -> Result<(), LoadgenError> {
        if !mechanisms.split(|&byte| byte == b' ').any(|name| name == b"PLAIN") {
            let offered = String::from_utf8_lossy(mechanisms);
            return Err(LoadgenError::Protocol(format!(
                "it offers the login mechanisms {offered}, but not PLAIN"
            )));
        }
        // With the first, a failed login is answered by a close with a text. The second asks for
        // connection.blocked.
        let capabilities = TableWriter::new()
            .with("authentication_failure_close", Value::Bool(true))
            .with("connection.blocked", Value::Bool(true))
            .with("publisher_confirms", Value::Bool(true))
            .with("basic.nack", Value::Bool(true))
            .with("consumer_cancel_notify", Value::Bool(true));
        let client_properties = TableWriter::new()
            .with("product", Value::LongString(b"loadgen"))
            .with("version", Value::LongString(env!("CARGO_PKG_VERSION").as_bytes()))
            .with("capabilities", Value::Table(capabilities.table()));
        let response = format!("\0{}\0{}", self.uri.user, self.uri.password);
        let start_ok = Method::ConnectionStartOk {
            client_properties: client_properties.table(),
            mechanism: "PLAIN",
            response: response.as_bytes(),
            locale: "en_US",
        };
        write_method(out, 0, &start_ok);
        Ok(())
    }

    fn tune_ok(&mut self, channel_max: u16, frame_max: u32, out: &mut Vec<u8>) {
        if frame_max != 0 {
            self.frame_max = frame_max.min(FRAME_MAX);
        }
        let (frame_max, heartbeat) = (self.frame_max, self.heartbeat);
        write_method(out, 0, &Method::ConnectionTuneOk { channel_max, frame_max, heartbeat });
        let virtual_host = &self.uri.vhost;
        let open = Method::ConnectionOpen { virtual_host, capabilities: "", insist: false };
        write_method(out, 0, &open);
    }
}

/// Ringtail announces the RabbitMQ version it is compatible with, and its own in
/// `ringtail_version`.
fn product(properties: &Table<'_>) -> String {
    let texts = ["product", "version", "ringtail_version"].map(|key| match properties.get(key) {
        Some(Value::LongString(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    });
    let [product, version, own] = texts;
    let version = if own.is_empty() { version } else { own };
    format!("{product} {version}").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::receive_buffer::ReceiveBuffer;
    use amqp::Frame;

    fn uri() -> AmqpUri {
        "amqp://me:secret@h/prod".parse().unwrap()
    }

    fn methods(bytes: &[u8]) -> Vec<String> {
        let mut incoming = ReceiveBuffer::new(0x10000);
        incoming.room()[..bytes.len()].copy_from_slice(bytes);
        incoming.filled(bytes.len());
        let mut names = Vec::new();
        while let Some(frame) = incoming.frame().unwrap() {
            let Frame::Method { channel: 0, payload } = frame else { panic!("{frame:?}") };
            names.push(format!("{:?}", Method::read(payload).unwrap()));
        }
        names
    }

    #[test]
    fn opens_with_the_smaller_frame_max() {
        let (uri, mut out) = (uri(), Vec::new());
        let mut handshake = ClientHandshake::new(&uri, 0);
        let properties = TableWriter::new()
            .with("product", Value::LongString(b"Broker"))
            .with("version", Value::LongString(b"1.2"));
        let start = Method::ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: properties.table(),
            mechanisms: b"AMQPLAIN PLAIN",
            locales: b"en_US",
        };
        assert_eq!(handshake.take(&start, &mut out).unwrap(), None);
        let tune = Method::ConnectionTune { channel_max: 2047, frame_max: 8192, heartbeat: 60 };
        assert_eq!(handshake.take(&tune, &mut out).unwrap(), None);
        let sent = methods(&out);
        assert!(sent[0].contains("PLAIN"), "{sent:?}");
        assert!(sent[1].contains("channel_max: 2047, frame_max: 8192, heartbeat: 0"), "{sent:?}");
        assert!(sent[2].contains("\"prod\""), "{sent:?}");
        let open_ok = Method::ConnectionOpenOk { known_hosts: "" };
        let tuned = handshake.take(&open_ok, &mut out).unwrap();
        assert_eq!(tuned, Some(TunedLimits { frame_max: 8192, heartbeat: 0 }));
        assert_eq!(handshake.product(), "Broker 1.2");
    }

    #[test]
    fn a_refusal_keeps_code_and_text() {
        let uri = uri();
        let close = Method::ConnectionClose {
            reply_code: 403,
            reply_text: "ACCESS_REFUSED - no",
            class_id: 0,
            method_id: 0,
        };
        let refused = ClientHandshake::new(&uri, 0).take(&close, &mut Vec::new()).unwrap_err();
        assert!(refused.to_string().contains("403 ACCESS_REFUSED - no"));
    }
}
