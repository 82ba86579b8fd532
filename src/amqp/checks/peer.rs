//! An independent implementation of the wire format, wrapped for the tests that compare with it.

use crate::checks::draw::Draw;
use crate::table::{Array, ArrayWriter, Table, TableWriter, Value};
use amq_protocol::frame::{AMQPFrame, WriteContext};
use amq_protocol::protocol::{AMQPClass, gen_class, parse_class};
use amq_protocol::types::{
    AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString,
};

/// The payload of a method frame as the peer writes it.
pub(crate) fn encode(class: &AMQPClass) -> Vec<u8> {
    gen_class(class)(WriteContext::from(Vec::new())).unwrap().write
}

/// The method the peer reads; it must use up the payload.
pub(crate) fn decode(payload: &[u8]) -> AMQPClass {
    let (rest, class) = parse_class(payload).unwrap();
    assert!(rest.is_empty(), "the peer left {rest:?}");
    class
}

/// A frame as the peer writes it.
pub(crate) fn encode_frame(frame: &AMQPFrame) -> Vec<u8> {
    amq_protocol::frame::gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().write
}

/// A value of one of the peer's types.
pub(crate) trait Drawn {
    fn drawn(draw: &mut Draw) -> Self;
}

macro_rules! drawn {
    ($($kind:ty: $draw:ident => $value:expr;)*) => {
        $(impl Drawn for $kind { fn drawn($draw: &mut Draw) -> Self { $value } })*
    };
}

drawn! {
    bool: draw => draw.bit();
    u8: draw => draw.number() as u8;
    u16: draw => draw.number() as u16;
    u32: draw => draw.number() as u32;
    u64: draw => draw.number();
    ShortString: draw => draw.text().into();
    LongString: draw => draw.octets(40).into();
    FieldTable: draw => table(draw, 3);
}

impl<T: Drawn> Drawn for Option<T> {
    fn drawn(draw: &mut Draw) -> Self {
        draw.bit().then(|| T::drawn(draw))
    }
}

fn table(draw: &mut Draw, depth: u64) -> FieldTable {
    let mut table = FieldTable::default();
    for _ in 0..draw.below(6) {
        table.insert(draw.text().into(), value(draw, depth));
    }
    table
}

/// A table with one entry of every type.
pub(crate) fn every_type(draw: &mut Draw) -> FieldTable {
    let mut table = FieldTable::default();
    for kind in 0..17 {
        table.insert(format!("k{kind}").into(), typed(kind, draw, 3));
    }
    table
}

fn value(draw: &mut Draw, depth: u64) -> AMQPValue {
    // The last two kinds nest.
    let kinds = if depth == 0 { 15 } else { 17 };
    typed(draw.below(kinds), draw, depth)
}

fn typed(kind: u64, draw: &mut Draw, depth: u64) -> AMQPValue {
    let number = draw.number();
    match kind {
        0 => AMQPValue::Boolean(draw.bit()),
        1 => AMQPValue::ShortShortInt(number as i8),
        2 => AMQPValue::ShortShortUInt(number as u8),
        3 => AMQPValue::ShortInt(number as i16),
        4 => AMQPValue::ShortUInt(number as u16),
        5 => AMQPValue::LongInt(number as i32),
        6 => AMQPValue::LongUInt(number as u32),
        7 => AMQPValue::LongLongInt(number as i64),
        8 => AMQPValue::Float(number as f32 / 3.0),
        9 => AMQPValue::Double(number as f64 / 3.0),
        10 => AMQPValue::DecimalValue(DecimalValue { scale: draw.below(9) as u8, value: 5 }),
        11 => AMQPValue::LongString(draw.octets(300).into()),
        12 => AMQPValue::Timestamp(number),
        13 => AMQPValue::ByteArray(ByteArray::from(draw.octets(20))),
        14 => AMQPValue::Void,
        15 => AMQPValue::FieldTable(table(draw, depth - 1)),
        _ => {
            let values: Vec<_> = (0..draw.below(5)).map(|_| value(draw, depth - 1)).collect();
            AMQPValue::FieldArray(values.into())
        }
    }
}

/// Whether we read an argument as the peer does.
pub(crate) trait Same<Theirs> {
    fn same(&self, theirs: &Theirs) -> bool;
}

macro_rules! same {
    ($($ours:ty, $theirs:ty: $a:ident $b:ident => $same:expr;)*) => {
        $(impl Same<$theirs> for $ours {
            fn same(&self, $b: &$theirs) -> bool { let $a = self; $same }
        })*
    };
}

same! {
    bool, bool: a b => a == b;
    u8, u8: a b => a == b;
    u16, u16: a b => a == b;
    u32, u32: a b => a == b;
    u64, u64: a b => a == b;
    &str, ShortString: a b => *a == b.as_str();
    &[u8], LongString: a b => *a == b.as_bytes();
    Table<'_>, FieldTable: a b => same_table(*a, b);
}

impl<A: Same<B>, B> Same<Option<B>> for Option<A> {
    fn same(&self, theirs: &Option<B>) -> bool {
        match (self, theirs) {
            (Some(ours), Some(theirs)) => ours.same(theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        }
    }
}

fn same_table(ours: Table<'_>, theirs: &FieldTable) -> bool {
    ours.iter().count() == theirs.inner().len()
        && ours
            .iter()
            .zip(theirs)
            .all(|((name, ours), (key, theirs))| name == key.as_str() && same_value(ours, theirs))
}

fn same_array(ours: Array<'_>, theirs: &FieldArray) -> bool {
    ours.iter().count() == theirs.as_slice().len()
        && ours.iter().zip(theirs.as_slice()).all(|(ours, theirs)| same_value(ours, theirs))
}

fn same_value(ours: Value<'_>, theirs: &AMQPValue) -> bool {
    match (ours, theirs) {
        (Value::Bool(a), AMQPValue::Boolean(b)) => a == *b,
        (Value::Byte(a), AMQPValue::ShortShortInt(b)) => a == *b,
        (Value::UnsignedByte(a), AMQPValue::ShortShortUInt(b)) => a == *b,
        (Value::Short(a), AMQPValue::ShortInt(b)) => a == *b,
        (Value::UnsignedShort(a), AMQPValue::ShortUInt(b)) => a == *b,
        (Value::Int(a), AMQPValue::LongInt(b)) => a == *b,
        (Value::UnsignedInt(a), AMQPValue::LongUInt(b)) => a == *b,
        (Value::Long(a), AMQPValue::LongLongInt(b)) => a == *b,
        (Value::Float(a), AMQPValue::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Double(a), AMQPValue::Double(b)) => a.to_bits() == b.to_bits(),
        (Value::Decimal(scale, a), AMQPValue::DecimalValue(b)) => (scale, a) == (b.scale, b.value),
        (Value::LongString(a), AMQPValue::LongString(b)) => a == b.as_bytes(),
        (Value::Timestamp(a), AMQPValue::Timestamp(b)) => a == *b,
        (Value::Binary(a), AMQPValue::ByteArray(b)) => a == b.as_slice(),
        (Value::Void, AMQPValue::Void) => true,
        (Value::Table(a), AMQPValue::FieldTable(b)) => same_table(a, b),
        (Value::Array(a), AMQPValue::FieldArray(b)) => same_array(a, b),
        _ => false,
    }
}

/// The peer's table built with our writers.
pub(crate) fn rebuilt(theirs: &FieldTable) -> TableWriter {
    theirs.into_iter().fold(TableWriter::new(), |writer, (key, value)| {
        with_value(value, |value| writer.with(key.as_str(), value))
    })
}

fn rebuilt_array(theirs: &FieldArray) -> ArrayWriter {
    theirs
        .as_slice()
        .iter()
        .fold(ArrayWriter::new(), |writer, value| with_value(value, |value| writer.with(value)))
}

fn with_value<T>(theirs: &AMQPValue, take: impl FnOnce(Value<'_>) -> T) -> T {
    let plain = match theirs {
        AMQPValue::Boolean(v) => Value::Bool(*v),
        AMQPValue::ShortShortInt(v) => Value::Byte(*v),
        AMQPValue::ShortShortUInt(v) => Value::UnsignedByte(*v),
        AMQPValue::ShortInt(v) => Value::Short(*v),
        AMQPValue::ShortUInt(v) => Value::UnsignedShort(*v),
        AMQPValue::LongInt(v) => Value::Int(*v),
        AMQPValue::LongUInt(v) => Value::UnsignedInt(*v),
        AMQPValue::LongLongInt(v) => Value::Long(*v),
        AMQPValue::Float(v) => Value::Float(*v),
        AMQPValue::Double(v) => Value::Double(*v),
        AMQPValue::DecimalValue(v) => Value::Decimal(v.scale, v.value),
        AMQPValue::ShortString(v) => unreachable!("never drawn, has no type octet: {v}"),
        AMQPValue::LongString(v) => Value::LongString(v.as_bytes()),
        AMQPValue::Timestamp(v) => Value::Timestamp(*v),
        AMQPValue::ByteArray(v) => Value::Binary(v.as_slice()),
        AMQPValue::Void => Value::Void,
        AMQPValue::FieldTable(v) => return take(Value::Table(rebuilt(v).table())),
        AMQPValue::FieldArray(v) => return take(Value::Array(rebuilt_array(v).array())),
    };
    take(plain)
}
