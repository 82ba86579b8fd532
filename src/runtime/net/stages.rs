//! Transport stages: what stands in front of a session on the wire, such as a PROXY header or TLS.
//!
//! ```text
//!  socket ── bytes ──▶ stage ──▶ stage ──▶ session
//!                        │         │
//!                        └─────────┴─ facts: the client's address
//! ```
//!
//! The session is opened only when every stage is done, so it never sees a stage's bytes, and what
//! the stages found out is known from its first moment. A stage gets its input in pieces that end
//! at any byte. Without stages nothing here runs.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::config::StageKind;

/// Bytes that a stage may leave unused while it waits for more.
const HELD_MAX: usize = 16 * 1024;

/// One transport stage of one connection.
pub trait TransportStage: Debug {
    /// Looks at the bytes that no stage has used yet, and sets what it finds out in `facts`.
    ///
    /// # Errors
    ///
    /// Why the connection cannot be served; a line for the log.
    fn receive(&mut self, input: &[u8], facts: &mut Facts) -> Result<StageProgress, &'static str>;
}

/// What a stage made of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(any(test, feature = "second-kinds")), expect(dead_code, reason = "no stage yet"))]
pub enum StageProgress {
    /// It needs more bytes and has used none.
    More,
    /// It is done and used so many bytes; the rest is for the next.
    Done(usize),
}

/// What stages find out about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The client's address.
    pub peer: SocketAddr,
}

/// The stages that a connection still has to pass.
#[derive(Debug, Default)]
pub struct Stages {
    left: VecDeque<Box<dyn TransportStage>>,
    /// Bytes that arrived and are not used.
    held: Vec<u8>,
}

impl Stages {
    /// New stages of those kinds, in the order in which bytes pass them.
    #[must_use]
    pub fn new(kinds: &[StageKind]) -> Self {
        Self { left: kinds.iter().map(|kind| stage(*kind)).collect(), held: Vec::new() }
    }

    /// Whether the session can be opened.
    #[must_use]
    pub fn are_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Bytes arrived. `Some`: all stages are done, and these bytes are for the session.
    ///
    /// # Errors
    ///
    /// That of a stage; a stage that wants too many bytes at once.
    pub fn receive(
        &mut self,
        chunk: &Bytes,
        facts: &mut Facts,
    ) -> Result<Option<Bytes>, &'static str> {
        self.held.extend_from_slice(chunk);
        let mut used = 0;
        while let Some(stage) = self.left.front_mut() {
            match stage.receive(&self.held[used..], facts)? {
                StageProgress::More => break,
                StageProgress::Done(bytes) => used = (used + bytes).min(self.held.len()),
            }
            self.left.pop_front();
        }
        self.held.drain(..used);
        if self.left.is_empty() {
            return Ok(Some(std::mem::take(&mut self.held).into()));
        }
        if self.held.len() > HELD_MAX {
            return Err("the transport header is too long");
        }
        Ok(None)
    }
}

#[cfg(not(feature = "second-kinds"))]
fn stage(kind: StageKind) -> Box<dyn TransportStage> {
    match kind {}
}

#[cfg(feature = "second-kinds")]
fn stage(kind: StageKind) -> Box<dyn TransportStage> {
    match kind {
        StageKind::PeerLine => Box::new(peer_line::PeerLine),
    }
}

/// A header of one line, `PEER address:port` and CR LF. It proves the seam; it is in no build that
/// is used.
#[cfg(any(test, feature = "second-kinds"))]
mod peer_line {
    use super::{Facts, StageProgress, TransportStage};

    /// Bytes of the longest line, an IPv6 address with a scope in it.
    const LINE_MAX: usize = 80;
    const WRONG: &str = "the transport header is not PEER address:port";

    #[derive(Debug)]
    pub struct PeerLine;

    impl TransportStage for PeerLine {
        fn receive(
            &mut self,
            input: &[u8],
            facts: &mut Facts,
        ) -> Result<StageProgress, &'static str> {
            let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else {
                let possible = input.iter().zip(b"PEER ").all(|(a, b)| a == b);
                return if possible && input.len() <= LINE_MAX {
                    Ok(StageProgress::More)
                } else {
                    Err(WRONG)
                };
            };
            let line = std::str::from_utf8(&input[..end]).map_err(|_| WRONG)?;
            let address = line.strip_prefix("PEER ").ok_or(WRONG)?;
            facts.peer = address.parse().map_err(|_| WRONG)?;
            Ok(StageProgress::Done(end + 2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::peer_line::PeerLine;
    use super::*;

    fn lines(count: usize) -> (Stages, Facts) {
        let left = (0..count).map(|_| Box::new(PeerLine) as Box<dyn TransportStage>).collect();
        let facts = Facts { peer: SocketAddr::from(([127, 0, 0, 1], 1)) };
        (Stages { left, held: Vec::new() }, facts)
    }

    fn run(pieces: &[&[u8]], count: usize) -> Result<(Vec<u8>, SocketAddr), &'static str> {
        let (mut stages, mut facts) = lines(count);
        for (at, piece) in pieces.iter().enumerate() {
            if let Some(first) = stages.receive(&Bytes::copy_from_slice(piece), &mut facts)? {
                assert!(stages.are_done());
                return Ok(([&first[..], &pieces[at + 1..].concat()].concat(), facts.peer));
            }
        }
        Err("not done")
    }

    #[test]
    fn a_header_may_be_split_at_every_byte() {
        let all = b"PEER 10.0.0.7:1234\r\nAMQP";
        for at in 0..=all.len() {
            let (rest, peer) = run(&[&all[..at], &all[at..]], 1).unwrap();
            assert_eq!(
                (rest.as_slice(), peer.to_string().as_str()),
                (&b"AMQP"[..], "10.0.0.7:1234")
            );
        }
        let single: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(run(&single, 1).unwrap().0, b"AMQP");
    }

    #[test]
    fn stages_come_one_after_the_other() {
        let (rest, peer) = run(&[b"PEER 10.0.0.7:1\r\nPEER [::1]:2\r\nAMQP"], 2).unwrap();
        assert_eq!((rest.as_slice(), peer.to_string().as_str()), (&b"AMQP"[..], "[::1]:2"));
        assert_eq!(run(&[b"PEER 10.0.0.7:1\r\n"], 2).unwrap_err(), "not done");
    }

    #[test]
    fn what_is_no_header_ends_the_connection() {
        for wrong in ["AMQP\0\0\x09\x01", "PEER 10.0.0.7\r\n", "PEER x\r\n", "\r\n"] {
            assert!(run(&[wrong.as_bytes()], 1).unwrap_err().contains("PEER"), "{wrong:?}");
        }
        let endless = [b"PEER ".as_slice(), &[b'1'; 100]].concat();
        assert!(run(&[&endless], 1).unwrap_err().contains("PEER"));
    }

    #[test]
    fn a_stage_that_is_never_content_is_ended() {
        #[derive(Debug)]
        struct Greedy;
        impl TransportStage for Greedy {
            fn receive(&mut self, _: &[u8], _: &mut Facts) -> Result<StageProgress, &'static str> {
                Ok(StageProgress::More)
            }
        }
        let (mut stages, mut facts) = lines(0);
        stages.left.push_back(Box::new(Greedy));
        let chunk = Bytes::from(vec![0; HELD_MAX]);
        assert_eq!(stages.receive(&chunk, &mut facts), Ok(None));
        assert!(stages.receive(&chunk, &mut facts).unwrap_err().contains("too long"));
    }
}
