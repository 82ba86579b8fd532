//! Packed bits across octets, and strings at their limits.

use super::{Reader, WireError, Writer};
use proptest::prelude::*;

#[test]
fn the_ninth_bit_and_a_bit_behind_a_field_begin_an_octet() {
    let mut out = vec![0xFF];
    let mut writer = Writer::new(&mut out);
    (0..9).for_each(|n| writer.bit(n % 2 == 0));
    writer.octet(7);
    writer.bit(true);
    assert_eq!(out, [0xFF, 0b0101_0101, 1, 7, 1]);

    let mut reader = Reader::new(&out[1..]);
    let bits: Vec<_> = (0..9).map(|_| reader.bit().unwrap()).collect();
    assert!(bits.iter().enumerate().all(|(n, bit)| *bit == (n % 2 == 0)));
    assert_eq!(reader.octet(), Ok(7));
    assert_eq!(reader.bit(), Ok(true));
    assert!(reader.is_empty());
    // Seven more bits are there to read, but no octet.
    assert_eq!(reader.bit(), Ok(false));
    assert_eq!(reader.octet(), Err(WireError::Truncated));
}

#[test]
fn an_empty_field_ends_the_packing_too() {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.bit(true);
    writer.bytes(&[]);
    writer.bit(true);
    assert_eq!(out, [1, 1]);
    let mut reader = Reader::new(&out);
    assert_eq!((reader.bit(), reader.take(0), reader.bit()), (Ok(true), Ok(&[][..]), Ok(true)));
}

#[test]
fn a_long_string_of_an_announced_size_that_is_not_there_is_an_error() {
    let mut reader = Reader::new(&[0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3]);
    assert_eq!(reader.longstr(), Err(WireError::Truncated));
}

proptest! {
    #[test]
    fn a_short_string_is_cut_at_a_character(text in "[aé語🦀]{0,300}") {
        let mut out = Vec::new();
        Writer::new(&mut out).shortstr(&text);
        let read = Reader::new(&out).shortstr().unwrap();
        prop_assert!(text.starts_with(read));
        prop_assert!(read.len() == text.len() || (252..=255).contains(&read.len()));
    }
}
