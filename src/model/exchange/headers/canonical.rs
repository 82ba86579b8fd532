//! The form in which values are compared: RabbitMQ compares them without their wire types.

use amqp::table::Value;

/// Appends a value in a form that only equal values have in common.
///
/// Integers of all widths and floats without a fraction are the same kind of number, binary and
/// text the same kind of bytes. Tables and arrays are equal if they are encoded alike.
/// Returns false, and appends nothing, for a value that equals none: NaN and void.
pub(super) fn append(value: Value<'_>, out: &mut Vec<u8>) -> bool {
    match value {
        Value::Void => return false,
        Value::Bool(value) => out.extend([b't', value.into()]),
        Value::LongString(bytes) | Value::Binary(bytes) => tagged(b'S', bytes, out),
        Value::Float(value) => return float(value.into(), out),
        Value::Double(value) => return float(value, out),
        Value::Timestamp(seconds) => integer(seconds.into(), out),
        Value::Table(table) => tagged(b'F', table.encoded(), out),
        Value::Array(array) => tagged(b'A', array.encoded(), out),
        Value::Decimal(scale, value) => {
            out.extend([b'D', scale]);
            out.extend(value.to_be_bytes());
        }
        // All others are integers.
        other => integer(other.as_integer().unwrap_or_default().into(), out),
    }
    true
}

/// The canonical form of a value. That of NaN and of void is like no other value's.
pub(in crate::exchange) fn written(value: Value<'_>) -> Vec<u8> {
    let mut written = Vec::new();
    append(value, &mut written);
    written
}

fn float(value: f64, out: &mut Vec<u8>) -> bool {
    // Beyond 2^64 there is no integer of the wire, so that the bits tell floats apart.
    if value.fract() == 0.0 && value.abs() < 2e19 {
        integer(value as i128, out);
    } else if !value.is_nan() {
        tagged(b'd', &value.to_be_bytes(), out);
    }
    !value.is_nan()
}

fn integer(value: i128, out: &mut Vec<u8>) {
    tagged(b'l', &value.to_be_bytes(), out);
}

fn tagged(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(bytes);
}
