//! Sequences of frames, right and wrong, as RabbitMQ judges them.

use super::{Assembler, SequenceError, Step};
use crate::methods::{Method, ROWS};
use crate::octets::WireError;
use proptest::prelude::*;

const PUBLISH: Method<'_> = Method::BasicPublish {
    ticket: 0,
    exchange: "e",
    routing_key: "k",
    mandatory: false,
    immediate: false,
};

fn payload(method: &Method<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    method.write(&mut out);
    out
}

fn header(class: u16, body_size: u64) -> Vec<u8> {
    [&class.to_be_bytes()[..], &[0, 0], &body_size.to_be_bytes(), &[0, 0]].concat()
}

/// An assembler that has seen a publish and, with a size, its header.
fn after(body_size: Option<u64>) -> Assembler {
    let mut assembler = Assembler::default();
    assert_eq!(assembler.method(&payload(&PUBLISH)), Ok(Step::Method(PUBLISH)));
    if let Some(size) = body_size {
        assembler.header(&header(60, size)).unwrap();
    }
    assembler
}

#[test]
fn content_without_a_body_is_complete_at_its_header() {
    let mut assembler = after(None);
    let payload = header(60, 0);
    let properties = &payload[12..];
    let step = Step::Header { body_size: 0, properties };
    assert_eq!(assembler.header(&payload), Ok(step));
    assert_eq!(assembler, Assembler::Idle);
}

#[test]
fn a_method_without_content_leaves_nothing_due() {
    let mut assembler = Assembler::default();
    let open = Method::ChannelOpen { out_of_band: "" };
    assert_eq!(assembler.method(&payload(&open)), Ok(Step::Method(open)));
    assert_eq!(assembler, Assembler::Idle);
    let with_content = ROWS.iter().filter(|row| {
        let ids = [row.id.0.to_be_bytes(), row.id.1.to_be_bytes()].concat();
        Method::read(&[&ids[..], &[0; 11]].concat()).is_ok_and(|method| method.has_content())
            || matches!(row.id, (60, 40 | 50 | 60 | 71))
    });
    assert_eq!(with_content.count(), 4);
}

/// Errors leave the state as it was; the texts are RabbitMQ's.
#[test]
fn frames_out_of_order_are_refused() {
    let method = payload(&PUBLISH);
    let wire = SequenceError::Wire(WireError::Truncated);
    type Act = fn(&mut Assembler, &[u8]) -> Option<SequenceError>;
    let send_method: Act = |assembler, method| assembler.method(method).err();
    let send_header: Act = |assembler, _| assembler.header(&header(60, 1)).err();
    let send_class_50: Act = |assembler, _| assembler.header(&header(50, 1)).err();
    let send_short_header: Act = |assembler, _| assembler.header(&[0, 60]).err();
    let send_body: Act = |assembler, _| assembler.body(b"abc").err();
    let send_nothing: Act = |assembler, _| assembler.body(b"").err();
    let cases = [
        (Assembler::Idle, send_header, SequenceError::MethodExpected),
        (Assembler::Idle, send_body, SequenceError::MethodExpected),
        (Assembler::Idle, send_nothing, SequenceError::MethodExpected),
        (after(None), send_method, SequenceError::HeaderExpected(60)),
        (after(None), send_body, SequenceError::HeaderExpected(60)),
        (after(None), send_class_50, SequenceError::HeaderClass { expected: 60, found: 50 }),
        (after(None), send_short_header, wire),
        (after(Some(5)), send_method, SequenceError::BodyExpected),
        (after(Some(5)), send_header, SequenceError::BodyExpected),
        (after(Some(2)), send_body, SequenceError::BodyTooLong),
    ];
    for (state, act, expected) in cases {
        let mut assembler = state;
        assert_eq!(act(&mut assembler, &method), Some(expected));
        assert_eq!(assembler, state);
    }
}

#[test]
fn errors_read_as_rabbitmqs() {
    let texts = [
        (SequenceError::MethodExpected, "expected method frame, got non method frame instead"),
        (
            SequenceError::HeaderExpected(60),
            "expected content header for class 60, got non content header frame instead",
        ),
        (
            SequenceError::HeaderClass { expected: 60, found: 50 },
            "expected content header for class 60, got one for class 50 instead",
        ),
        (SequenceError::BodyExpected, "expected content body, got non content body frame instead"),
        (SequenceError::BodyTooLong, "content body frame exceeds remaining content size"),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn an_empty_body_frame_inside_content_is_nothing() {
    let mut assembler = after(Some(3));
    assert_eq!(assembler.body(b""), Ok(Step::Body { piece: b"", complete: false }));
    assert_eq!(assembler.body(b"abc"), Ok(Step::Body { piece: b"abc", complete: true }));
}

proptest! {
    /// However the reads cut a frame, one that is too long never completes the content.
    #[test]
    fn a_long_frame_is_refused_at_any_boundary(size in 1..40usize, over in 1..9usize, cut: usize) {
        let frame = vec![1; size + over];
        let (first, second) = frame.split_at(1 + cut % (frame.len() - 1));
        let mut assembler = after(Some(size as u64));
        let mut step = assembler.body_piece(first, false);
        if first.len() < size {
            prop_assert_eq!(step, Ok(Step::Body { piece: first, complete: false }));
            step = assembler.body_piece(second, true);
        }
        prop_assert_eq!(step, Err(SequenceError::BodyTooLong));
    }

    #[test]
    fn a_body_in_any_pieces_is_complete_with_its_last_octet(
        sizes in prop::collection::vec(0..9u64, 1..9),
    ) {
        let total = sizes.iter().sum::<u64>() + 1;
        let mut assembler = after(Some(total));
        for size in sizes {
            let piece = vec![0; size as usize];
            let step = assembler.body_piece(&piece, true);
            prop_assert_eq!(step, Ok(Step::Body { piece: &piece, complete: false }));
        }
        prop_assert_eq!(assembler.body(b"x"), Ok(Step::Body { piece: b"x", complete: true }));
        prop_assert_eq!(assembler, Assembler::Idle);
    }
}
