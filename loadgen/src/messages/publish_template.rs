//! What all messages of a producer have in common, and how they are encoded.

use amqp::frame::{OVERHEAD, payload_max, write_body, write_header, write_method};
use amqp::properties::Basic;
use amqp::{Method, TableWriter, Value};

use crate::messages::bindings::HEADER;

/// What all messages of a producer have in common.
#[derive(Debug, Clone)]
pub struct PublishTemplate {
    /// The channel.
    pub channel: u16,
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// The body size in bytes, at least the length of a stamp.
    pub size: usize,
    /// Delivery mode 2; else the property is absent.
    pub persistent: bool,
    /// The priority; else the property is absent.
    pub priority: Option<u8>,
    /// The mandatory flag: an unroutable message is returned.
    pub mandatory: bool,
    /// The routing key is also in a header.
    pub with_header: bool,
}

impl PublishTemplate {
    /// The encoded properties.
    #[must_use]
    pub fn properties(&self) -> Vec<u8> {
        let header =
            TableWriter::new().with(HEADER, Value::LongString(self.routing_key.as_bytes()));
        let headers = self.with_header.then(|| header.table());
        let delivery_mode = self.persistent.then_some(2);
        let mut properties = Vec::new();
        let priority = self.priority;
        Basic { delivery_mode, headers, priority, ..Basic::default() }.write(&mut properties);
        properties
    }

    /// The basic.publish method.
    #[must_use]
    pub fn publish(&self) -> Method<'_> {
        Method::BasicPublish {
            ticket: 0,
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            mandatory: self.mandatory,
            immediate: false,
        }
    }

    /// Appends the content header and the body, which are the same in a publish and in a delivery.
    pub fn write_content(&self, frame_max: u32, out: &mut Vec<u8>) {
        write_header(out, self.channel, self.size as u64, &self.properties());
        write_body(out, self.channel, &vec![0; self.size], frame_max);
    }

    /// Bytes after the content header: the body and the framing of its pieces.
    #[must_use]
    pub fn framed_body(&self, frame_max: u32) -> usize {
        self.size + self.size.div_ceil(payload_max(frame_max)) * OVERHEAD
    }

    /// Appends a whole publish.
    pub fn write_publish(&self, frame_max: u32, out: &mut Vec<u8>) {
        write_method(out, self.channel, &self.publish());
        self.write_content(frame_max, out);
    }
}
