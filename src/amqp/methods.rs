//! Every method of AMQP 0-9-1 with RabbitMQ's extensions, as one table.

use std::fmt;

use crate::octets::{Reader, WireError, Writer};
use crate::table::Table;

macro_rules! field {
    (octet) => { u8 };
    (short) => { u16 };
    (long) => { u32 };
    (longlong) => { u64 };
    (bit) => { bool };
    (shortstr) => { &'a str };
    (longstr) => { &'a [u8] };
    (table) => { Table<'a> };
}

/// A row of the table: the names of the arguments with the names of their types.
#[cfg(test)]
pub(crate) struct Row {
    pub(crate) id: (u16, u16),
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static [(&'static str, &'static str)],
}

macro_rules! methods {
    ($($class:literal $method:literal $name:ident { $($field:ident: $kind:ident),* })*) => {
        /// A method and its arguments, borrowed from the frame that carried it.
        #[derive(Clone, Copy, PartialEq)]
        #[expect(missing_docs, reason = "names and arguments are those of the specification")]
        pub enum Method<'a> { $($name { $($field: field!($kind)),* }),* }

        impl fmt::Debug for Method<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Method::$name { $($field),* } => {
                        let mut shown = f.debug_struct(stringify!($name));
                        $(show(&mut shown, stringify!($field), $field);)*
                        shown.finish()
                    })*
                }
            }
        }

        /// The table as plain text, for the tests that compare it with other lists.
        #[cfg(test)]
        pub(crate) const ROWS: &[Row] = &[$(Row {
            id: ($class, $method),
            name: stringify!($name),
            arguments: &[$((stringify!($field), stringify!($kind))),*],
        }),*];

        impl<'a> Method<'a> {
            /// Reads the payload of a method frame; bytes behind the last argument are an error.
            ///
            /// # Errors
            /// [`WireError::UnknownMethod`], or what is wrong with the first malformed argument.
            #[inline]
            pub fn read(payload: &'a [u8]) -> Result<Self, WireError> {
                let mut reader = Reader::new(payload);
                let method = match (reader.short()?, reader.short()?) {
                    $(($class, $method) => Method::$name { $($field: reader.$kind()?),* },)*
                    (class, method) => return Err(WireError::UnknownMethod(class, method)),
                };
                if reader.is_empty() { Ok(method) } else { Err(WireError::Trailing) }
            }

            /// Class and method id.
            #[must_use]
            pub fn id(&self) -> (u16, u16) {
                match self { $(Method::$name { .. } => ($class, $method)),* }
            }

            /// The method's name in the table.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Method::$name { .. } => stringify!($name)),* }
            }

            /// Appends the payload of a method frame.
            #[inline]
            pub fn write(&self, out: &mut Vec<u8>) {
                let mut writer = Writer::new(out);
                match *self {
                    $(Method::$name { $($field),* } => {
                        writer.short($class);
                        writer.short($method);
                        $(writer.$kind($field);)*
                    })*
                }
            }
        }
    };
}

/// Adds an argument to debug output, but not one that may contain a password.
fn show(shown: &mut fmt::DebugStruct<'_, '_>, name: &str, value: &dyn fmt::Debug) {
    match name {
        "response" | "new_secret" => shown.field(name, &format_args!("[redacted]")),
        _ => shown.field(name, value),
    };
}

/// The arguments of basic.publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The exchange; empty for the default exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// Return the message if no queue takes it.
    pub mandatory: bool,
    /// Not supported, as in RabbitMQ.
    pub immediate: bool,
}

impl<'a> Publish<'a> {
    /// Reads the payload of a method frame if it is a well-formed basic.publish: the same result as
    /// [`Method::read`] in fewer steps, since no method is read as often.
    #[must_use]
    #[inline]
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let arguments = payload.strip_prefix(&[0, 60, 0, 40])?;
        let (_ticket, rest) = arguments.split_first_chunk::<2>()?;
        let (exchange, rest) = shortstr(rest)?;
        let (routing_key, rest) = shortstr(rest)?;
        let [bits] = *rest else { return None };
        Some(Self { exchange, routing_key, mandatory: bits & 1 != 0, immediate: bits & 2 != 0 })
    }
}

#[inline]
fn shortstr(octets: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = octets.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*len))?;
    // The default exchange has no name, and is the most used.
    let text = if text.is_empty() { "" } else { std::str::from_utf8(text).ok()? };
    Some((text, rest))
}

methods! {
    10 10 ConnectionStart { version_major: octet, version_minor: octet, server_properties: table, mechanisms: longstr, locales: longstr }
    10 11 ConnectionStartOk { client_properties: table, mechanism: shortstr, response: longstr, locale: shortstr }
    10 20 ConnectionSecure { challenge: longstr }
    10 21 ConnectionSecureOk { response: longstr }
    10 30 ConnectionTune { channel_max: short, frame_max: long, heartbeat: short }
    10 31 ConnectionTuneOk { channel_max: short, frame_max: long, heartbeat: short }
    10 40 ConnectionOpen { virtual_host: shortstr, capabilities: shortstr, insist: bit }
    10 41 ConnectionOpenOk { known_hosts: shortstr }
    10 50 ConnectionClose { reply_code: short, reply_text: shortstr, class_id: short, method_id: short }
    10 51 ConnectionCloseOk {}
    10 60 ConnectionBlocked { reason: shortstr }
    10 61 ConnectionUnblocked {}
    10 70 ConnectionUpdateSecret { new_secret: longstr, reason: shortstr }
    10 71 ConnectionUpdateSecretOk {}

    20 10 ChannelOpen { out_of_band: shortstr }
    20 11 ChannelOpenOk { channel_id: longstr }
    20 20 ChannelFlow { active: bit }
    20 21 ChannelFlowOk { active: bit }
    20 40 ChannelClose { reply_code: short, reply_text: shortstr, class_id: short, method_id: short }
    20 41 ChannelCloseOk {}

    30 10 AccessRequest { realm: shortstr, exclusive: bit, passive: bit, active: bit, write: bit, read: bit }
    30 11 AccessRequestOk { ticket: short }

    40 10 ExchangeDeclare { ticket: short, exchange: shortstr, kind: shortstr, passive: bit, durable: bit, auto_delete: bit, internal: bit, nowait: bit, arguments: table }
    40 11 ExchangeDeclareOk {}
    40 20 ExchangeDelete { ticket: short, exchange: shortstr, if_unused: bit, nowait: bit }
    40 21 ExchangeDeleteOk {}
    40 30 ExchangeBind { ticket: short, destination: shortstr, source: shortstr, routing_key: shortstr, nowait: bit, arguments: table }
    40 31 ExchangeBindOk {}
    40 40 ExchangeUnbind { ticket: short, destination: shortstr, source: shortstr, routing_key: shortstr, nowait: bit, arguments: table }
    40 51 ExchangeUnbindOk {}

    50 10 QueueDeclare { ticket: short, queue: shortstr, passive: bit, durable: bit, exclusive: bit, auto_delete: bit, nowait: bit, arguments: table }
    50 11 QueueDeclareOk { queue: shortstr, message_count: long, consumer_count: long }
    50 20 QueueBind { ticket: short, queue: shortstr, exchange: shortstr, routing_key: shortstr, nowait: bit, arguments: table }
    50 21 QueueBindOk {}
    50 30 QueuePurge { ticket: short, queue: shortstr, nowait: bit }
    50 31 QueuePurgeOk { message_count: long }
    50 40 QueueDelete { ticket: short, queue: shortstr, if_unused: bit, if_empty: bit, nowait: bit }
    50 41 QueueDeleteOk { message_count: long }
    50 50 QueueUnbind { ticket: short, queue: shortstr, exchange: shortstr, routing_key: shortstr, arguments: table }
    50 51 QueueUnbindOk {}

    60 10 BasicQos { prefetch_size: long, prefetch_count: short, global: bit }
    60 11 BasicQosOk {}
    60 20 BasicConsume { ticket: short, queue: shortstr, consumer_tag: shortstr, no_local: bit, no_ack: bit, exclusive: bit, nowait: bit, arguments: table }
    60 21 BasicConsumeOk { consumer_tag: shortstr }
    60 30 BasicCancel { consumer_tag: shortstr, nowait: bit }
    60 31 BasicCancelOk { consumer_tag: shortstr }
    60 40 BasicPublish { ticket: short, exchange: shortstr, routing_key: shortstr, mandatory: bit, immediate: bit }
    60 50 BasicReturn { reply_code: short, reply_text: shortstr, exchange: shortstr, routing_key: shortstr }
    60 60 BasicDeliver { consumer_tag: shortstr, delivery_tag: longlong, redelivered: bit, exchange: shortstr, routing_key: shortstr }
    60 70 BasicGet { ticket: short, queue: shortstr, no_ack: bit }
    60 71 BasicGetOk { delivery_tag: longlong, redelivered: bit, exchange: shortstr, routing_key: shortstr, message_count: long }
    60 72 BasicGetEmpty { cluster_id: shortstr }
    60 80 BasicAck { delivery_tag: longlong, multiple: bit }
    60 90 BasicReject { delivery_tag: longlong, requeue: bit }
    60 100 BasicRecoverAsync { requeue: bit }
    60 110 BasicRecover { requeue: bit }
    60 111 BasicRecoverOk {}
    60 120 BasicNack { delivery_tag: longlong, multiple: bit, requeue: bit }

    85 10 ConfirmSelect { nowait: bit }
    85 11 ConfirmSelectOk {}

    90 10 TxSelect {}
    90 11 TxSelectOk {}
    90 20 TxCommit {}
    90 21 TxCommitOk {}
    90 30 TxRollback {}
    90 31 TxRollbackOk {}
}

#[cfg(test)]
#[path = "checks/methods_test.rs"]
mod tests;
