//! Frames at every read boundary, limits in both directions, noise, and an independent crate.

use super::{
    BODY, CARRY_KEPT, END, Frame, FrameError, HEAD, HEADER, HEARTBEAT, METHOD, OVERHEAD, Parser,
    Snippet, body_head, write_body, write_header, write_heartbeat, write_method, wrong_end,
};
use crate::checks::draw::Draw;
use crate::checks::peer::{self, Drawn};
use crate::methods::Method;
use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic};
use proptest::prelude::*;

const FRAME_MAX: u32 = 200;

/// A frame with its body joined: type, channel, payload.
type Sent = (u8, u16, Vec<u8>);

fn frames() -> impl Strategy<Value = Vec<Sent>> {
    let payload = prop_oneof![
        2 => Just(Vec::new()),
        2 => prop::collection::vec(any::<u8>(), 0..12),
        1 => prop::collection::vec(any::<u8>(), 0..=FRAME_MAX as usize),
    ];
    let kind = prop_oneof![Just(METHOD), Just(HEADER), Just(BODY), Just(HEARTBEAT)];
    let frame = (kind, any::<u16>(), payload).prop_map(|(kind, channel, payload)| {
        (kind, channel, if kind == HEARTBEAT { Vec::new() } else { payload })
    });
    prop::collection::vec(frame, 0..12)
}

fn raw(kind: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(channel.to_be_bytes());
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out.push(end);
    out
}

fn stream(frames: &[Sent]) -> Vec<u8> {
    frames.iter().flat_map(|(kind, channel, payload)| raw(*kind, *channel, payload, END)).collect()
}

/// What came out of a parser: whole frames, the body begun, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Received {
    frames: Vec<Sent>,
    body: Vec<u8>,
    error: Option<FrameError>,
}

impl Received {
    fn take(&mut self, frame: Frame<'_>) {
        let whole = match frame {
            Frame::Method { channel, payload } => (METHOD, channel, payload.to_vec()),
            Frame::Header { channel, payload } => (HEADER, channel, payload.to_vec()),
            Frame::Heartbeat { channel } => (HEARTBEAT, channel, Vec::new()),
            Frame::Body { channel, piece, last } => {
                assert!(!piece.is_empty() || (last && self.body.is_empty()));
                self.body.extend(piece);
                if !last {
                    return;
                }
                (BODY, channel, std::mem::take(&mut self.body))
            }
        };
        self.frames.push(whole);
    }

    /// Reads one chunk; body pieces must lie in it.
    fn read(&mut self, parser: &mut Parser, chunk: &[u8]) {
        let mut at = 0;
        while self.error.is_none() {
            match parser.next(chunk, &mut at) {
                Ok(Some(frame)) => {
                    if let Frame::Body { piece, .. } = frame {
                        assert!(chunk.as_ptr_range().start <= piece.as_ptr());
                        assert!(piece.as_ptr_range().end <= chunk.as_ptr_range().end);
                    }
                    self.take(frame);
                }
                Ok(None) => break,
                Err(error) => self.error = Some(error),
            }
            assert!(at <= chunk.len());
        }
        assert!(self.error.is_some() || at == chunk.len());
    }
}

/// Reads `bytes` in chunks that end at `cuts`; checks after each what the parser holds.
fn receive(parser: &mut Parser, bytes: &[u8], cuts: &[usize], held_max: usize) -> Received {
    let mut received = Received::default();
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    for ends in cuts.windows(2) {
        received.read(parser, &bytes[ends[0]..ends[1]]);
        assert!(parser.carried() <= parser.carry.capacity());
        assert!(parser.carry.capacity() <= held_max, "{}", parser.carry.capacity());
    }
    received
}

const HELD_MAX: usize = FRAME_MAX as usize + OVERHEAD;

proptest! {
    #[test]
    fn any_boundaries_give_the_same_frames(frames in frames(), cuts: Vec<usize>) {
        let received = receive(&mut Parser::new(FRAME_MAX), &stream(&frames), &cuts, HELD_MAX);
        prop_assert_eq!(received, Received { frames, ..Received::default() });
    }

    #[test]
    fn octet_by_octet_gives_the_same_frames(frames in frames()) {
        let bytes = stream(&frames);
        let cuts: Vec<_> = (0..bytes.len()).collect();
        let received = receive(&mut Parser::new(FRAME_MAX), &bytes, &cuts, HELD_MAX);
        prop_assert_eq!(received, Received { frames, ..Received::default() });
    }

    #[test]
    fn a_wrong_end_octet_is_found_at_any_boundary(
        frames in frames(), kind in METHOD..=BODY, payload: Vec<u8>, found: u8, cuts: Vec<usize>,
    ) {
        prop_assume!(found != END && payload.len() <= FRAME_MAX as usize);
        let bytes = [stream(&frames), raw(kind, 1, &payload, found), stream(&frames)].concat();
        let received = receive(&mut Parser::new(FRAME_MAX), &bytes, &cuts, HELD_MAX);
        prop_assert_eq!(received.error, Some(wrong_end(kind, found, &payload)));
        // A body may be handed out before its end octet arrives.
        prop_assert_eq!(&received.frames[..frames.len()], &frames[..]);
        let early = &received.frames[frames.len()..];
        prop_assert!(early.is_empty() || (kind == BODY && early == [(BODY, 1, payload)]));
    }

    #[test]
    fn a_truncated_stream_gives_its_whole_frames(frames in frames(), cut: usize) {
        let bytes = stream(&frames);
        let bytes = &bytes[..cut % (bytes.len() + 1)];
        let received = receive(&mut Parser::new(FRAME_MAX), bytes, &[], HELD_MAX);
        prop_assert_eq!(received.error, None);
        prop_assert!(frames.starts_with(&received.frames));
    }

    #[test]
    fn noise_never_panics_and_is_never_kept(
        noise in prop::collection::vec(prop_oneof![any::<u8>(), 0..4u8, Just(END)], 0..600),
        cuts: Vec<usize>,
    ) {
        let mut parser = Parser::new(FRAME_MAX);
        // Called again after an error, too.
        for _ in 0..3 {
            receive(&mut parser, &noise, &cuts, HELD_MAX);
        }
    }

    #[test]
    fn a_body_goes_out_in_frames_the_peer_accepts(
        body in prop::collection::vec(any::<u8>(), 0..3000), frame_max in 0..700u32,
    ) {
        let mut out = Vec::new();
        write_body(&mut out, 7, &body, frame_max);
        let received = receive(&mut Parser::new(0), &out, &[], usize::MAX);
        prop_assert_eq!(received.frames.iter().flat_map(|f| f.2.clone()).collect::<Vec<_>>(), body);
        for (kind, channel, payload) in &received.frames {
            prop_assert_eq!((*kind, *channel), (BODY, 7));
            // Below nine octets not even one octet of body fits; then frames have one each.
            let fits = payload.len() + OVERHEAD <= frame_max as usize;
            prop_assert!(fits || frame_max == 0 || payload.len() == 1);
        }
    }

    #[test]
    fn the_peer_reads_our_frames_and_we_read_its(seed: u64, channel in 1..=u16::MAX) {
        let draw = &mut Draw::new(seed);
        let tag = draw.number();
        let sent = basic::AMQPMethod::Ack(basic::Ack { delivery_tag: tag, multiple: true });
        let properties = basic::AMQPProperties::default().with_headers(Drawn::drawn(draw));
        let header = AMQPContentHeader { class_id: 60, body_size: tag, properties };
        let theirs = [
            AMQPFrame::Method(channel, AMQPClass::Basic(sent)),
            AMQPFrame::Header(channel, header),
            AMQPFrame::Body(channel, vec![1, 2, 3]),
            AMQPFrame::Heartbeat,
        ];
        let expected: Vec<u8> = theirs.iter().flat_map(peer::encode_frame).collect();
        let AMQPFrame::Header(_, header) = &theirs[1] else { unreachable!() };
        let properties = encoded_properties(header);

        let mut ours = Vec::new();
        write_method(&mut ours, channel, &Method::BasicAck { delivery_tag: tag, multiple: true });
        write_header(&mut ours, channel, tag, &properties);
        write_body(&mut ours, channel, &[1, 2, 3], 0);
        write_heartbeat(&mut ours);
        prop_assert_eq!(&ours, &expected);

        let mut rest = &ours[..];
        for frame in theirs {
            let (behind, read) = parse_frame(rest).unwrap();
            prop_assert_eq!(read, frame);
            rest = behind;
        }
        let received = receive(&mut Parser::new(0), &expected, &[], usize::MAX);
        let kinds: Vec<_> = received.frames.iter().map(|frame| frame.0).collect();
        prop_assert_eq!(kinds, [METHOD, HEADER, BODY, HEARTBEAT]);
    }
}

fn encoded_properties(header: &AMQPContentHeader) -> Vec<u8> {
    let context = amq_protocol::frame::WriteContext::from(Vec::new());
    basic::gen_properties(&header.properties)(context).unwrap().write
}

fn parse_whole(parser: &mut Parser, bytes: &[u8]) -> Received {
    receive(parser, bytes, &[], usize::MAX)
}

#[test]
fn the_limit_has_rabbitmqs_eight_octets_of_fudge() {
    for kind in [METHOD, HEADER, BODY] {
        let largest = raw(kind, 1, &vec![0; FRAME_MAX as usize], END);
        assert_eq!(parse_whole(&mut Parser::new(FRAME_MAX), &largest).frames.len(), 1);
        let over = raw(kind, 1, &vec![0; FRAME_MAX as usize + 1], END);
        let (size, max) = (FRAME_MAX + 1, FRAME_MAX - 8);
        let error = FrameError::TooLarge { kind, size, max };
        // Refused at its head, before a payload comes.
        for bytes in [&over[..], &over[..HEAD]] {
            let received = parse_whole(&mut Parser::new(FRAME_MAX), bytes);
            assert_eq!((received.frames.len(), received.error), (0, Some(error.clone())));
        }
    }
}

#[test]
fn an_error_quotes_sixteen_octets() {
    for (len, quoted, all) in [(0, 0, true), (16, 16, true), (17, 16, false)] {
        let snippet = Snippet::of(&vec![7; len]);
        assert_eq!((snippet.octets().len(), snippet.is_all()), (quoted, all));
    }
}

#[test]
fn a_new_limit_holds_from_the_next_frame_on() {
    let mut parser = Parser::new(100);
    let frame = raw(METHOD, 0, &[0; 150], END);
    parser.set_frame_max(150);
    assert_eq!(parse_whole(&mut parser, &frame).frames.len(), 1);
    parser.set_frame_max(100);
    assert!(parse_whole(&mut parser, &frame).error.is_some());
    parser = Parser::new(0);
    assert_eq!(parse_whole(&mut parser, &frame).frames.len(), 1);
}

#[test]
fn an_announced_size_allocates_nothing() {
    for kind in [METHOD, HEADER, BODY] {
        let head = [kind, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3];
        for cut in 0..head.len() {
            let mut parser = Parser::new(0);
            let received = receive(&mut parser, &head, &[cut], 2 * head.len());
            assert_eq!(received.error, None);
        }
    }
}

#[test]
fn a_large_carry_is_given_back() {
    let payload = vec![7; 4 * CARRY_KEPT];
    let bytes = raw(METHOD, 1, &payload, END);
    let mut parser = Parser::new(0);
    let received = receive(&mut parser, &bytes, &[10, 5000], bytes.len());
    assert_eq!(received.frames, [(METHOD, 1, payload)]);
    assert_eq!((parser.carried(), parser.carry.capacity()), (0, 0));
}

#[test]
fn a_type_that_does_not_exist_is_refused() {
    for (kind, payload) in [(0, &b""[..]), (4, b"abc"), (HEARTBEAT, b"\x01")] {
        let error = FrameError::UnknownType { kind, payload: Snippet::of(payload) };
        let bytes = raw(kind, 0, payload, END);
        for cut in 0..bytes.len() {
            let received = receive(&mut Parser::new(0), &bytes, &[cut], HELD_MAX);
            assert_eq!(received.error, Some(error.clone()));
        }
    }
    // The channel of a heartbeat is for the session to judge.
    let received = parse_whole(&mut Parser::new(0), &raw(HEARTBEAT, 3, &[], END));
    assert_eq!(received.frames, [(HEARTBEAT, 3, Vec::new())]);
}

#[test]
fn the_head_of_a_body_can_be_written_alone() {
    let mut whole = Vec::new();
    write_body(&mut whole, 258, b"abc", 0);
    assert_eq!(whole, [&body_head(258, 3)[..], b"abc", &[END]].concat());
    let mut none = Vec::new();
    write_body(&mut none, 1, b"", 8192);
    assert!(none.is_empty());
}
