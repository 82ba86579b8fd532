//! What one endpoint sends another at the end of a turn: packed records, large bodies by reference,
//! and controls, in one order.
//!
//! The buffers of a batch go back to its sender once it has been read, so a message that crosses
//! cores costs no allocation and no shared count, unless its body is a large one.

use std::collections::VecDeque;

use amqp::{Reader, Writer};
use model::queue::{Addressed, Death};
use model::{Ask, Body, ChannelId, ConnId, Message, Name, QueueId, RequestId};

use crate::mesh::control::Control;
use crate::mesh::enqueue::Settlement;
use crate::mesh::progress::ProgressMark;
use crate::mesh::record::{self, MeshRecord};

/// Records for one peer, in order.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<u8>,
    bodies: VecDeque<Body>,
    controls: VecDeque<Control>,
}

impl Batch {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of packed records; bodies by reference are not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.len()
    }

    /// Bytes of memory that it keeps alive, bodies by reference included.
    #[must_use]
    pub fn held(&self) -> usize {
        self.records.len() + self.bodies.iter().map(Body::len).sum::<usize>()
    }

    /// Forgets what was read; buffers of ordinary size are kept.
    pub fn clear(&mut self) {
        const KEPT: usize = 1024 * 1024;
        self.records.clear();
        self.records.shrink_to(KEPT);
        self.bodies.clear();
        self.controls.clear();
    }

    /// Adds a message for queues of the home this batch goes to; `flush_requested` if the source
    /// waits until it is durable.
    #[inline]
    pub fn enqueue(
        &mut self,
        queues: impl ExactSizeIterator<Item = QueueId>,
        message: Message<'_>,
        flush_requested: bool,
    ) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::ENQUEUE);
        writer.long(queues.len() as u32);
        queues.for_each(|queue| writer.longlong(queue.0));
        self.flagged(message, if flush_requested { record::FLUSH } else { 0 });
    }

    /// Adds a mandatory message for a reply consumer.
    pub fn mandatory(
        &mut self,
        queue: QueueId,
        publisher: (ConnId, ChannelId),
        message: Message<'_>,
    ) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::MANDATORY);
        writer.longlong(queue.0);
        record::write_publisher(&mut writer, publisher);
        self.message(message);
    }

    /// Adds a message whose queues the receiver finds.
    pub fn relay(
        &mut self,
        publisher: Option<(ConnId, ChannelId)>,
        death: Option<Death>,
        names: (&str, &[Name]),
        message: Message<'_>,
    ) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::RELAY);
        record::write_relay(&mut writer, publisher, death, names);
        self.message(message);
    }

    /// Adds a mandatory message that goes back.
    pub fn returned(&mut self, publisher: (ConnId, ChannelId), message: Message<'_>) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::RETURNED);
        record::write_publisher(&mut writer, publisher);
        self.message(message);
    }

    /// Adds a delivery.
    pub fn deliver(&mut self, to: Addressed, message: Message<'_>) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::DELIVER);
        record::write_address(&mut writer, to);
        self.message(message);
    }

    /// Adds the answer to a basic.get.
    pub fn got(&mut self, ticket: RequestId, remaining: u32, to: Addressed, message: Message<'_>) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::GOT);
        writer.longlong(ticket.0);
        writer.long(remaining);
        record::write_address(&mut writer, to);
        self.message(message);
    }

    /// Adds a settle.
    pub fn settle(&mut self, what: Settlement) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::SETTLE);
        writer.longlong(what.queue.0);
        writer.longlong(what.channel.0);
        writer.longlong(what.number);
        writer.octet(u8::from(what.up_to));
        writer.octet(what.how as u8);
    }

    /// Adds credit that returns to a home.
    pub fn credit(&mut self, conn: ConnId, bytes: u64) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::CREDIT);
        writer.longlong(conn.0);
        writer.longlong(bytes);
    }

    /// Adds a home's question for permits.
    pub fn ask(&mut self, queue: QueueId, ask: Ask) {
        self.records.push(record::ASK);
        record::write_ask(&mut Writer::new(&mut self.records), queue, ask);
    }

    /// Adds a channel's answer to [`MeshRecord::Ask`]; `permit.count` permits.
    pub fn permit(&mut self, queue: QueueId, permit: Ask) {
        self.records.push(record::PERMIT);
        record::write_ask(&mut Writer::new(&mut self.records), queue, permit);
    }

    /// Adds permits that a home has no use for.
    pub fn unused(&mut self, conn: ConnId, channel: ChannelId, count: u32) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::UNUSED);
        writer.longlong(conn.0);
        writer.longlong(channel.0);
        writer.long(count);
    }

    /// Adds a home's progress.
    pub fn watermark(&mut self, mark: ProgressMark) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(record::WATERMARK);
        writer.longlong(mark.applied);
        writer.longlong(mark.bytes);
        writer.longlong(mark.durable);
    }

    /// Adds a fence.
    pub fn fence(&mut self) {
        self.records.push(record::FENCE);
    }

    /// Adds a control.
    pub fn control(&mut self, control: Control) {
        self.records.push(record::CONTROL);
        self.controls.push_back(control);
    }

    fn message(&mut self, message: Message<'_>) {
        self.flagged(message, 0);
    }

    #[inline]
    fn flagged(&mut self, message: Message<'_>, flags: u8) {
        let mut writer = Writer::new(&mut self.records);
        writer.octet(flags | u8::from(message.large_body().is_some()));
        writer.longstr(message.record());
        if let Some(body) = message.large_body() {
            self.bodies.push_back(body.clone());
        }
    }

    /// The record at `at`, which moves behind it. `None` at the end.
    ///
    /// # Panics
    ///
    /// If the record cannot be read. A batch is written by this process alone, so this is a fault
    /// of its own; what was in the batch is lost, and nothing may be built on the rest.
    // A record is as large as the largest control: inlined, it is not copied on its way.
    #[inline(always)]
    pub fn next(&mut self, at: &mut usize) -> Option<MeshRecord<'_>> {
        let rest = self.records.get(*at..)?;
        if rest.is_empty() {
            return None;
        }
        let mut reader = Reader::new(rest);
        match record::read(&mut reader, &mut self.bodies, &mut self.controls) {
            Ok(Some(record)) => {
                *at += rest.len() - reader.rest().len();
                Some(record)
            }
            Ok(None) => unreadable(*at, "a control is missing"),
            Err(error) => unreadable(*at, &error.to_string()),
        }
    }
}

#[cold]
fn unreadable(at: usize, why: &str) -> ! {
    panic!("the batch from another core cannot be read at byte {at}: {why}");
}

#[cfg(test)]
mod tests {
    use crate::mesh::batch::*;

    #[test]
    #[should_panic(expected = "the batch from another core cannot be read at byte 0")]
    fn a_batch_that_was_cut_stops_the_process() {
        let mut batch = Batch::default();
        batch.credit(ConnId(1), 5);
        batch.records.pop();
        batch.next(&mut 0);
    }

    #[test]
    #[should_panic(expected = "cannot be read at byte 0: a control is missing")]
    fn a_batch_without_its_controls_stops_the_process() {
        let mut batch = Batch::default();
        batch.control(Control::Left);
        batch.controls.clear();
        batch.next(&mut 0);
    }
}
