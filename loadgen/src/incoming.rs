//! The receive buffer: octets from a socket in, whole frames out.
//!
//! ```text
//!   |  taken  |  unread frames ...  | start of a frame |      room      |
//!   0       start                                     end          capacity
//! ```
//!
//! A frame that is not whole stays until the next read, so a parser never has to join anything and
//! the fast path of the consumer can look at several frames at once.

use amqp::frame::{FrameError, OVERHEAD};
use amqp::{Frame, Parser};

use crate::connection::CHANNEL;

/// The room of a busy connection.
const READ: usize = 256 * 1024;
/// The room of a connection at first: thousands that idle must not hold much.
const READ_FIRST: usize = 16 * 1024;

/// Octets received and not taken yet.
#[derive(Debug)]
pub struct Incoming {
    octets: Vec<u8>,
    start: usize,
    end: usize,
    frame_max: usize,
    /// The last read took all the room there was.
    was_full: bool,
    parser: Parser,
}

impl Incoming {
    /// An empty buffer for frames of at most `frame_max` octets of payload.
    #[must_use]
    pub fn new(frame_max: u32) -> Self {
        let whole = frame_max as usize + OVERHEAD;
        Self {
            octets: vec![0; READ_FIRST],
            was_full: false,
            start: 0,
            end: 0,
            frame_max: whole,
            parser: Parser::new(frame_max),
        }
    }

    /// Where the next read goes; never empty, since the start of a frame is all that is kept.
    pub fn room(&mut self) -> &mut [u8] {
        let half = self.octets.len() / 2;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end > half {
            self.octets.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.was_full || self.end > half {
            let len = (2 * self.octets.len()).min(READ + self.frame_max);
            self.octets.resize(len.max(self.octets.len()), 0);
        }
        &mut self.octets[self.end..]
    }

    /// `count` octets were read into the room.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        self.was_full = self.end == self.octets.len();
    }

    /// The octets not taken yet.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.octets[self.start..self.end]
    }

    /// Takes `count` octets, which must be whole frames.
    pub fn take(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    /// The channel of the frame at the front, if its head is here.
    #[must_use]
    pub fn channel(&self) -> Option<u16> {
        match *self.unread() {
            [_, high, low, ..] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }

    /// The next frame if all of it is here and it is of this channel; the first channel gets those
    /// of the connection as well.
    ///
    /// # Errors
    /// The stream is out of step.
    pub fn frame_of(&mut self, channel: u16) -> Result<Option<Frame<'_>>, FrameError> {
        match self.channel() {
            Some(front) if front == channel || front == 0 && channel == CHANNEL => self.frame(),
            _ => Ok(None),
        }
    }

    /// The next frame if all of it is here.
    ///
    /// # Errors
    /// The stream is out of step.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let unread = &self.octets[self.start..self.end];
        let &[_, _, _, s0, s1, s2, s3, ..] = unread else {
            return Ok(None);
        };
        let whole = u32::from_be_bytes([s0, s1, s2, s3]) as usize + OVERHEAD;
        // One that is too large never gets whole: the parser refuses it at once.
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

    fn feed(incoming: &mut Incoming, octets: &[u8]) {
        incoming.room()[..octets.len()].copy_from_slice(octets);
        incoming.filled(octets.len());
    }

    #[test]
    fn frames_come_whole_whatever_the_reads() {
        let mut stream = Vec::new();
        write_method(&mut stream, 1, &Method::BasicAck { delivery_tag: 7, multiple: true });
        write_body(&mut stream, 1, b"hello", 0);
        for cut in 0..stream.len() {
            let mut incoming = Incoming::new(4096);
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
        let mut incoming = Incoming::new(4096);
        feed(&mut incoming, &[3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert!(matches!(incoming.frame(), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn grows_while_reads_fill_it_and_for_a_large_frame() {
        let mut incoming = Incoming::new(1 << 20);
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
        assert!(incoming.octets.len() <= READ + (1 << 20) + OVERHEAD);
    }

    #[test]
    fn there_is_always_room() {
        let mut incoming = Incoming::new(4096);
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
