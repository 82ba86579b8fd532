//! Content properties against an independent crate; truncation, noise, unused flags.

use super::{Basic, Properties};
use crate::checks::draw::Draw;
use crate::checks::peer::{Drawn, Same};
use crate::octets::WireError;
use crate::table::{TableWriter, Value};
use amq_protocol::frame::WriteContext;
use amq_protocol::protocol::basic::{AMQPProperties, gen_properties, parse_properties};
use proptest::prelude::*;

fn encode(theirs: &AMQPProperties) -> Vec<u8> {
    gen_properties(theirs)(WriteContext::from(Vec::new())).unwrap().write
}

macro_rules! properties {
    ($($name:ident $with:ident)*) => {
        fn drawn(draw: &mut Draw) -> AMQPProperties {
            let mut properties = AMQPProperties::default();
            $(if let Some(value) = Drawn::drawn(draw) { properties = properties.$with(value); })*
            properties
        }

        fn same(ours: &Basic<'_>, theirs: &AMQPProperties) -> bool {
            true $(&& ours.$name.same(theirs.$name()))*
        }
    };
}

properties! {
    content_type with_content_type
    content_encoding with_content_encoding
    headers with_headers
    delivery_mode with_delivery_mode
    priority with_priority
    correlation_id with_correlation_id
    reply_to with_reply_to
    expiration with_expiration
    message_id with_message_id
    timestamp with_timestamp
    kind with_type
    user_id with_user_id
    app_id with_app_id
    cluster_id with_cluster_id
}

#[test]
fn headers_are_added_or_replaced_and_the_expiration_is_taken_out() {
    let (old, new) = (TableWriter::new(), TableWriter::new().with("x", Value::Void));
    let plain = Basic { message_id: Some("id"), priority: Some(3), ..Basic::default() };
    let wanted = Basic { headers: Some(new.table()), ..plain };
    let expiring = Basic { expiration: Some("60"), headers: Some(old.table()), ..plain };
    for before in [plain, expiring] {
        let (mut encoded, mut revised) = (Vec::new(), Vec::new());
        before.write(&mut encoded);
        let (properties, _) = Properties::parse(&encoded).unwrap();
        properties.unexpiring_with(new.table(), &mut revised).unwrap();
        assert_eq!(Properties::parse(&revised).unwrap().1, wanted);
    }
}

#[test]
fn fields_that_are_not_text_are_copied() {
    let (encoded, new) = (b"\x04\x10\x01\xFF\x01t", TableWriter::new());
    // A correlation id, a type; the headers stand in front of both.
    let mut encoded = encoded.to_vec();
    encoded[1] = 0x20;
    let (properties, _) = Properties::parse(&encoded).unwrap();
    let mut revised = Vec::new();
    properties.unexpiring_with(new.table(), &mut revised).unwrap();
    assert_eq!(revised, b"\x24\x20\0\0\0\0\x01\xFF\x01t");
}

proptest! {
    #[test]
    fn both_directions(seed: u64) {
        let theirs = drawn(&mut Draw::new(seed));
        let encoded = encode(&theirs);
        let (properties, basic) = Properties::parse(&encoded).unwrap();
        prop_assert!(same(&basic, &theirs), "{:?} {:?}", basic, theirs);
        prop_assert_eq!(properties.encoded(), &encoded[..]);
        prop_assert_eq!(Properties::checked_before(&encoded).basic(), basic);

        let mut written = Vec::new();
        basic.write(&mut written);
        prop_assert_eq!(&written, &encoded);
        let (rest, read) = parse_properties(&written[..]).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(read, theirs);
    }

    #[test]
    fn only_what_is_there_is_replaced(seed: u64, by: u64) {
        let [theirs, by] = [seed, by].map(|seed| encode(&drawn(&mut Draw::new(seed))));
        let (properties, mut expected) = Properties::parse(&theirs).unwrap();
        let (_, by) = Properties::parse(&by).unwrap();
        let by = Basic { headers: by.headers, reply_to: by.reply_to, ..Basic::default() };
        expected.headers = expected.headers.map(|own| by.headers.unwrap_or(own));
        expected.reply_to = expected.reply_to.map(|own| by.reply_to.unwrap_or(own));
        let (mut replaced, mut written) = (Vec::new(), Vec::new());
        properties.replaced(&by, &mut replaced).unwrap();
        expected.write(&mut written);
        prop_assert_eq!(replaced, written);
    }

    #[test]
    fn truncation_and_trailing_octets_are_errors(seed: u64) {
        let encoded = encode(&drawn(&mut Draw::new(seed)));
        for cut in 0..encoded.len() {
            prop_assert_eq!(Properties::parse(&encoded[..cut]), Err(WireError::Truncated));
        }
        let trailing = [&encoded[..], &[0]].concat();
        prop_assert_eq!(Properties::parse(&trailing), Err(WireError::Trailing));
    }

    #[test]
    fn noise_never_panics(noise: Vec<u8>) {
        let _ = Properties::parse(&noise);
        let _ = Properties::checked_before(&noise).basic();
    }
}

#[test]
fn flags_that_mean_nothing_are_refused() {
    assert_eq!(Properties::parse(&[0, 0]).unwrap().1, Basic::default());
    assert_eq!(Properties::parse(&[0, 1, 0, 0]), Err(WireError::Trailing));
    assert_eq!(Properties::parse(&[0, 2]), Err(WireError::Trailing));
    assert_eq!(Properties::EMPTY.basic(), Basic::default());
}

#[test]
fn what_is_no_text_is_relayed_unless_the_broker_judges_by_it() {
    let with = |bit: u16| [&(1u16 << bit).to_be_bytes()[..], &[2, 0xC3, 0x28]].concat();
    for bit in [15, 14, 10, 9, 7, 5, 3, 2] {
        let encoded = with(bit);
        let (properties, basic) = Properties::parse(&encoded).unwrap();
        assert_eq!((properties.encoded(), basic), (&encoded[..], Basic::default()), "bit {bit}");
    }
    let encoded = [&(1u16 << 10 | 1 << 9).to_be_bytes()[..], &[2, 0xC3, 0x28, 1, b'a']].concat();
    let by = Basic { reply_to: Some("bc"), ..Basic::default() };
    let mut replaced = Vec::new();
    Properties::parse(&encoded).unwrap().0.replaced(&by, &mut replaced).unwrap();
    assert_eq!(replaced, [&encoded[..5], b"\x02bc"].concat());
    for bit in [8, 4] {
        assert_eq!(Properties::parse(&with(bit)), Err(WireError::Utf8), "bit {bit}");
    }
}
