//! The receive buffer: bytes from a socket in, whole frames out.
//!
//! ```text
//!   |  taken  |  unread frames ...  | start of a frame |      room      |
//!   0       start                                     end          capacity
//! ```
//!
//! The start of an incomplete frame stays in the buffer. So the parser always sees whole frames,
//! and the consumer's fast path sees several at once.

use amqp::frame::{FrameError, OVERHEAD};
use amqp::{Frame, Parser};

use crate::client::methods::CHANNEL;

/// The buffer size of a busy connection.
const READ: usize = 256 * 1024;
/// The buffer size of a new connection, small for runs with thousands of idle connections.
const READ_FIRST: usize = 16 * 1024;

/// Bytes received and not parsed yet.
#[derive(Debug)]
pub struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    frame_max: usize,
    /// The last read filled all the room.
    was_full: bool,
    parser: Parser,
}

impl ReceiveBuffer {
    /// An empty buffer for frames of at most `frame_max` bytes.
    #[must_use]
    pub fn new(frame_max: u32) -> Self {
        let whole = frame_max as usize + OVERHEAD;
        Self {
            bytes: vec![0; READ_FIRST],
            was_full: false,
            start: 0,
            end: 0,
            frame_max: whole,
            parser: Parser::new(frame_max),
        }
    }

    /// Where the next read goes. Never empty, since at most an incomplete frame is kept.
    pub fn room(&mut self) -> &mut [u8] {
        let half = self.bytes.len() / 2;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end > half {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.was_full || self.end > half {
            let len = (2 * self.bytes.len()).min(READ + self.frame_max);
            self.bytes.resize(len.max(self.bytes.len()), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Records that `count` bytes were read into the room.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        self.was_full = self.end == self.bytes.len();
    }

    /// The bytes not parsed yet.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Removes `count` bytes, which must be whole frames.
    pub fn take(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    /// The channel of the first frame, if its header is complete.
    #[must_use]
    pub fn channel(&self) -> Option<u16> {
        match *self.unread() {
            [_, high, low, ..] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }

    /// The next frame, if it is complete and of this channel. Channel 1 also gets the frames of
    /// channel 0.
    ///
    /// # Errors
    /// The bytes are no valid frame.
    pub fn frame_of(&mut self, channel: u16) -> Result<Option<Frame<'_>>, FrameError> {
        match self.channel() {
            Some(front) if front == channel || front == 0 && channel == CHANNEL => self.frame(),
            _ => Ok(None),
        }
    }

    /// The next frame, if it is complete.
    ///
    /// # Errors
    /// The bytes are no valid frame.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let unread = &self.bytes[self.start..self.end];
        let &[_, _, _, s0, s1, s2, s3, ..] = unread else {
            return Ok(None);
        };
        let whole = u32::from_be_bytes([s0, s1, s2, s3]) as usize + OVERHEAD;
        // A frame that is too large never completes: the parser refuses it at once.
        if unread.len() < whole && whole <= self.frame_max {
            return Ok(None);
        }
        let mut at = 0;
        let frame = self.parser.next(unread, &mut at)?;
        self.start += at;
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp::Method;
    use amqp::frame::{write_body, write_method};

    fn feed(incoming: &mut ReceiveBuffer, bytes: &[u8]) {
        incoming.room()[..bytes.len()].copy_from_slice(bytes);
        incoming.filled(bytes.len());
    }

    #[test]
    fn frames_are_whole_however_the_bytes_arrive() {
        let mut stream = Vec::new();
        write_method(&mut stream, 1, &Method::BasicAck { delivery_tag: 7, multiple: true });
        write_body(&mut stream, 1, b"hello", 0);
        for cut in 0..stream.len() {
            let mut incoming = ReceiveBuffer::new(4096);
            let mut seen = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                feed(&mut incoming, part);
                while let Some(frame) = incoming.frame().unwrap() {
                    seen.push(format!("{frame:?}"));
                }
            }
            assert_eq!(seen.len(), 2, "cut at {cut}");
            assert!(incoming.unread().is_empty());
        }
    }

    #[test]
    fn a_frame_that_can_never_fit_is_refused_at_once() {
        let mut incoming = ReceiveBuffer::new(4096);
        feed(&mut incoming, &[3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert!(matches!(incoming.frame(), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn grows_while_reads_fill_it_and_for_a_large_frame() {
        let mut incoming = ReceiveBuffer::new(1 << 20);
        let mut frame = Vec::new();
        write_body(&mut frame, 1, &vec![7; 1 << 20], 0);
        let mut at = 0;
        while at < frame.len() {
            assert!(incoming.frame().unwrap().is_none());
            let count = incoming.room().len().min(frame.len() - at);
            feed(&mut incoming, &frame[at..at + count]);
            at += count;
        }
        let Some(Frame::Body { piece, .. }) = incoming.frame().unwrap() else {
            panic!("the frame is whole")
        };
        assert_eq!(piece.len(), 1 << 20);
        assert!(incoming.bytes.len() <= READ + (1 << 20) + OVERHEAD);
    }

    #[test]
    fn there_is_always_room() {
        let mut incoming = ReceiveBuffer::new(4096);
        let mut stream = Vec::new();
        write_body(&mut stream, 1, &[7; 4000], 0);
        let mut frames = 0;
        for _ in 0..500 {
            feed(&mut incoming, &stream[..1234]);
            assert!(incoming.room().len() >= READ_FIRST / 2);
            feed(&mut incoming, &stream[1234..]);
            while incoming.frame().unwrap().is_some() {
                frames += 1;
            }
        }
        assert_eq!(frames, 500);
    }
}
