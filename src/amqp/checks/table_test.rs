//! Tables of every type against an independent crate; nesting, truncation and noise.

use super::{Array, ArrayWriter, DEPTH_MAX, Table, TableWriter, Value};
use crate::checks::draw::Draw;
use crate::checks::peer::{self, Same};
use crate::octets::{Reader, WireError, Writer};
use amq_protocol::frame::WriteContext;
use amq_protocol::types::generation::gen_field_table;
use amq_protocol::types::parsing::parse_field_table;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Reads every value, nested ones included.
fn walk(table: Table<'_>) -> usize {
    table.iter().map(|(_, value)| walk_value(value)).sum()
}

fn walk_value(value: Value<'_>) -> usize {
    1 + match value {
        Value::Table(inner) => walk(inner),
        Value::Array(inner) => inner.iter().map(walk_value).sum(),
        _ => 0,
    }
}

proptest! {
    #[test]
    fn every_type_in_both_directions(seed: u64) {
        let theirs = peer::every_type(&mut Draw::new(seed));
        let encoded = gen_field_table(&theirs)(WriteContext::from(Vec::new())).unwrap().write;
        let ours = Reader::new(&encoded).table().unwrap();
        prop_assert!(ours.same(&theirs));
        let kinds: BTreeSet<_> = ours.iter().map(|(_, value)| value.type_name()).collect();
        prop_assert_eq!(kinds.len(), 17);

        let rebuilt = peer::rebuilt(&theirs);
        let mut written = Vec::new();
        Writer::new(&mut written).table(rebuilt.table());
        prop_assert_eq!(&written, &encoded);
        let (rest, read) = parse_field_table(&written[..]).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(read, theirs);
    }

    #[test]
    fn every_truncation_is_an_error(seed: u64) {
        let theirs = peer::every_type(&mut Draw::new(seed));
        let rebuilt = peer::rebuilt(&theirs);
        let mut encoded = Vec::new();
        Writer::new(&mut encoded).table(rebuilt.table());
        for cut in 0..encoded.len() {
            prop_assert_eq!(Reader::new(&encoded[..cut]).table(), Err(WireError::Truncated));
        }
        // Without its length a table may end between two entries, nowhere else.
        let ends: Vec<_> = std::iter::once(0).chain(ends(rebuilt.table())).collect();
        for cut in 0..rebuilt.table().encoded().len() {
            let cut_off = Table::parse(&rebuilt.table().encoded()[..cut]);
            prop_assert_eq!(cut_off.is_ok(), ends.contains(&cut));
        }
    }

    #[test]
    fn noise_never_panics(noise: Vec<u8>, typed in "[StTbBsuIidflLDFAxV\0\x01\x02]{0,60}") {
        for bytes in [&noise[..], typed.as_bytes()] {
            if let Ok(table) = Table::parse(bytes) {
                walk(table);
            }
        }
    }
}

/// Where the entries of a table end.
fn ends(table: Table<'_>) -> Vec<usize> {
    let mut writer = TableWriter::new();
    let mut ends = Vec::new();
    for (key, value) in table.iter() {
        writer = writer.with(key, value);
        ends.push(writer.table().encoded().len());
    }
    ends
}

#[test]
fn the_type_octets_are_rabbitmqs() {
    let octets = b"StTbBsuIidflDFAxV";
    let values = [
        Value::LongString(b"v"),
        Value::Bool(true),
        Value::Timestamp(1),
        Value::Byte(-1),
        Value::UnsignedByte(1),
        Value::Short(-1),
        Value::UnsignedShort(1),
        Value::Int(-1),
        Value::UnsignedInt(1),
        Value::Double(1.0),
        Value::Float(1.0),
        Value::Long(-1),
        Value::Decimal(2, 1),
        Value::Table(Table::EMPTY),
        Value::Array(Array::EMPTY),
        Value::Binary(b"v"),
        Value::Void,
    ];
    for (octet, value) in octets.iter().zip(values) {
        let writer = TableWriter::new().with("k", value);
        assert_eq!(writer.table().encoded()[2], *octet, "{value:?}");
        let parsed = Table::parse(writer.table().encoded()).unwrap();
        assert_eq!(parsed.get("k"), Some(value));
    }
    // `L` is read as `l` and never written.
    let table = Table::parse(b"\x01kL\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE").unwrap();
    assert_eq!(table.get("k"), Some(Value::Long(-2)));
    assert_eq!(Table::parse(b"\x01kZ"), Err(WireError::FieldType(b'Z')));
}

/// A table in a table in a table.
fn nested(kind: u8, levels: usize) -> Vec<u8> {
    let name: &[u8] = if kind == b'F' { b"\x01k" } else { b"" };
    let mut out = b"\x01k".to_vec();
    let mut left = (levels - 1) * (name.len() + 5);
    for level in 0..levels {
        out.extend(if level == 0 { b"" } else { name });
        out.push(kind);
        out.extend((left as u32).to_be_bytes());
        left = left.saturating_sub(name.len() + 5);
    }
    out
}

#[test]
fn nesting_is_bounded() {
    for kind in [b'F', b'A'] {
        let deepest = nested(kind, DEPTH_MAX);
        assert_eq!(walk(Table::parse(&deepest).unwrap()), DEPTH_MAX);
        assert_eq!(Table::parse(&nested(kind, DEPTH_MAX + 1)), Err(WireError::TooDeep));
        assert_eq!(Table::parse(&nested(kind, 1_000_000)), Err(WireError::TooDeep));
    }
}

/// A reader that came back to what it has seen would need hours for this.
#[test]
fn wide_and_deep_takes_one_step_a_byte() {
    let branch = nested(b'F', DEPTH_MAX - 1);
    let leaf = [&b"\x01kF"[..], &(branch.len() as u32).to_be_bytes(), &branch].concat();
    let broad = leaf.repeat(2_000_000 / leaf.len());
    assert_eq!(Table::parse(&broad).map(|table| table.iter().count()), Ok(2_000_000 / leaf.len()));
    // The error is found behind all that, in the innermost place.
    let mut cut = broad;
    cut.truncate(cut.len() - 5);
    cut.extend(b"t\x01\x01kZ");
    assert_eq!(Table::parse(&cut), Err(WireError::FieldType(b'Z')));
    let mut arrays = nested(b'A', DEPTH_MAX);
    assert!(Table::parse(&arrays).is_ok());
    arrays.push(0);
    assert_eq!(Table::parse(&arrays), Err(WireError::Truncated));
}

#[test]
fn a_name_that_is_no_text_is_relayed_and_not_shown() {
    let content = b"\x01\xFFt\x01\x01kt\x01";
    let table = Table::parse(content).unwrap();
    assert_eq!(table.encoded(), content);
    assert_eq!(table.iter().collect::<Vec<_>>(), [("k", Value::Bool(true))]);
}

#[test]
fn server_properties_can_be_built() {
    let capabilities = TableWriter::new().with("basic.nack", Value::Bool(true));
    let listed = ArrayWriter::new().with(Value::LongString(b"a")).with(Value::Void);
    let properties = TableWriter::new()
        .with("capabilities", Value::Table(capabilities.table()))
        .with("list", Value::Array(listed.array()));
    let parsed = Table::parse(properties.table().encoded()).unwrap();
    let Some(Value::Table(inner)) = parsed.get("capabilities") else { panic!("{parsed:?}") };
    assert_eq!(inner.get("basic.nack"), Some(Value::Bool(true)));
    let Some(Value::Array(inner)) = parsed.get("list") else { panic!("{parsed:?}") };
    assert_eq!(inner.iter().collect::<Vec<_>>(), [Value::LongString(b"a"), Value::Void]);
    assert!(Array::EMPTY.is_empty() && !inner.is_empty() && Table::EMPTY.is_empty());
}

#[test]
fn an_entry_can_be_taken_out() {
    let of = |keys: &str| {
        keys.chars().fold(TableWriter::new(), |table, key| {
            table.with(key.encode_utf8(&mut [0; 4]), Value::LongString(b"v"))
        })
    };
    for (before, after) in [("abc", "ac"), ("b", ""), ("bac", "ac"), ("acb", "ac"), ("bb", "b")] {
        let taken = of(before).table().without("b").unwrap();
        assert_eq!(taken.table(), of(after).table());
    }
    assert!(of("ac").table().without("b").is_none());
    // An entry that readers skip is relayed unchanged.
    let raw = b"\x01\xFFV\x01bV\x01\xFEV";
    let taken = Table::parse(raw).unwrap().without("b").unwrap();
    assert_eq!(taken.table().encoded(), b"\x01\xFFV\x01\xFEV");
}

#[test]
fn all_entries_of_some_names_are_taken_out() {
    let raw = b"\x01aV\x01\xFFV\x01bV\x01aV\x01cV";
    let taken = Table::parse(raw).unwrap().without_any(&["a", "c", "d"]);
    assert_eq!(taken.table().encoded(), b"\x01\xFFV\x01bV");
    assert!(Table::EMPTY.without_any(&["a"]).table().is_empty());
}

#[test]
fn integers_of_every_width_are_one_number() {
    let values = [Value::Byte(5), Value::UnsignedShort(5), Value::Int(5), Value::Long(5)];
    assert!(values.iter().all(|value| value.as_integer() == Some(5)));
    assert_eq!(Value::Timestamp(5).as_integer(), None);
    assert_eq!(Value::LongString(b"x").as_str(), Some("x"));
    assert_eq!(Value::LongString(b"\xFF").as_str(), None);
}
