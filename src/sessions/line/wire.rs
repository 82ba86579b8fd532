//! The state of the line protocol on one connection, and what the broker writes in it.

use model::queue::Addressed;
use model::{ConsumerId, Fault, Message, ShardId};

use crate::mesh::enqueue::cost;
use crate::sessions::channels::Channels;
use crate::sessions::output::ClientOutput;

/// Bytes that a line may have.
const LINE_MAX: usize = 64 * 1024;

/// The state of the line protocol on one connection.
#[derive(Debug, Default)]
pub(crate) struct LineWire {
    /// The begin of a line whose end has not arrived.
    partial: Vec<u8>,
    /// The coordinator was asked for the vhost.
    pub asked: bool,
}

/// What a line does with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PendingLine {
    OpenVhost,
    OpenChannel,
    Consuming(ConsumerId),
}

/// What the input holds next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextLine {
    Line(Vec<u8>),
    /// Its end has not arrived.
    Partial,
    TooLong,
}

impl LineWire {
    /// Takes the next line of a chunk; `at` moves behind it.
    pub(super) fn next(&mut self, chunk: &[u8], at: &mut usize) -> NextLine {
        let rest = chunk.get(*at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let piece = &rest[..end.unwrap_or(rest.len())];
        if self.partial.len() + piece.len() > LINE_MAX {
            return NextLine::TooLong;
        }
        self.partial.extend_from_slice(piece);
        *at += piece.len() + usize::from(end.is_some());
        match end {
            Some(_) => NextLine::Line(std::mem::take(&mut self.partial)),
            None => NextLine::Partial,
        }
    }

    /// Writes a delivery from `home`; false when nobody takes it any more.
    pub fn deliver(
        &self,
        (output, channels): (&mut ClientOutput, &mut Channels),
        home: ShardId,
        to: Addressed,
        message: Message<'_>,
    ) -> bool {
        let Some((_, channel)) = channels.open_by_id(to.channel) else { return false };
        channel.arrived(to.number);
        let Some(consumer) = channel.consumers.get(to.consumer) else { return false };
        let out = output.outbox.buffer();
        out.extend_from_slice(b"MSG ");
        out.extend_from_slice(consumer.tag.as_bytes());
        out.push(b' ');
        match message.large_body() {
            Some(_) => message.body_pieces().for_each(|piece| out.extend_from_slice(&piece)),
            None => out.extend_from_slice(message.inline_body()),
        }
        out.push(b'\n');
        output.delivered(home, cost(message));
        true
    }
}

/// Writes a line.
pub(super) fn write(output: &mut ClientOutput, parts: &[&str]) {
    let out = output.outbox.buffer();
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    out.push(b'\n');
}

/// Tells that the server cancelled a consumer.
pub(crate) fn tell_cancelled(output: &mut ClientOutput, queue: &str) -> bool {
    write(output, &["END ", queue]);
    true
}

/// Says why the server closes the connection.
pub(crate) fn tell_failed(output: &mut ClientOutput, fault: &Fault) {
    write(output, &["ERR ", &fault.text]);
}

/// Says that the connection which the client closed is closed.
pub(crate) fn tell_closed(output: &mut ClientOutput) {
    write(output, &["BYE"]);
}

#[cfg(test)]
mod tests {
    use crate::sessions::line::wire::*;

    #[test]
    fn lines_are_taken_apart_wherever_chunks_end() {
        let (mut wire, mut at) = (LineWire::default(), 0);
        assert_eq!(wire.next(b"ab\ncd", &mut at), NextLine::Line(b"ab".to_vec()));
        assert_eq!((wire.next(b"ab\ncd", &mut at), at), (NextLine::Partial, 5));
        at = 0;
        assert_eq!(wire.next(b"e\n\n", &mut at), NextLine::Line(b"cde".to_vec()));
        assert_eq!((wire.next(b"e\n\n", &mut at), at), (NextLine::Line(Vec::new()), 3));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let (mut wire, mut at) = (LineWire::default(), 0);
        assert_eq!(wire.next(&[b'x'; LINE_MAX], &mut at), NextLine::Partial);
        at = 0;
        assert_eq!(wire.next(b"x", &mut at), NextLine::TooLong);
    }
}
