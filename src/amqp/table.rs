//! Field tables (spec 4.2.5.5, with RabbitMQ's type octets), checked once and kept encoded.
//!
//! As in RabbitMQ, the name of an entry may be any octets. An entry whose name is not UTF-8 is
//! relayed unchanged and skipped by the readers here.

use crate::octets::{Reader, WireError, Writer};

/// How deep tables and arrays may nest, 0 for a table of plain values. RabbitMQ has no such limit;
/// here it bounds what a check has to remember.
pub const DEPTH_MAX: usize = 1024;
/// Down to this depth a check remembers without allocating.
const DEPTH_PLAIN: usize = 4;

/// A field table in its encoded form, known to be well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Table<'a>(&'a [u8]);

/// One value of a table or an array.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the variants are the types of the wire, by their RabbitMQ names")]
pub enum Value<'a> {
    Bool(bool),
    Byte(i8),
    UnsignedByte(u8),
    Short(i16),
    UnsignedShort(u16),
    Int(i32),
    UnsignedInt(u32),
    Long(i64),
    Float(f32),
    Double(f64),
    /// Scale and unscaled value.
    Decimal(u8, u32),
    /// Seconds since 1970.
    Timestamp(u64),
    LongString(&'a [u8]),
    Binary(&'a [u8]),
    Array(Array<'a>),
    Table(Table<'a>),
    Void,
}

/// An array in its encoded form, known to be well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Array<'a>(&'a [u8]);

impl<'a> Table<'a> {
    /// The table without entries.
    pub const EMPTY: Table<'static> = Table(&[]);

    /// Checks the content of a table (without its length) down to the last nested value, in time
    /// linear in its length and without recursion.
    ///
    /// # Errors
    /// What is wrong with the first malformed entry; [`WireError::TooDeep`] beyond [`DEPTH_MAX`].
    pub fn parse(content: &'a [u8]) -> Result<Self, WireError> {
        check(content)?;
        Ok(Self(content))
    }

    /// The content as it stands on the wire, without its length.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in the order of the wire, without those whose name is not UTF-8.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || entry(&mut reader).ok())
            .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    /// The first entry named `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The table without the first entry named `key`; `None` when there is no such entry.
    #[must_use]
    pub fn without(&self, key: &str) -> Option<TableWriter> {
        let mut reader = Reader::new(self.0);
        loop {
            let start = self.0.len() - reader.rest().len();
            let (name, _) = entry(&mut reader).ok()?;
            if name == key.as_bytes() {
                return Some(TableWriter([&self.0[..start], reader.rest()].concat()));
            }
        }
    }
}

impl Table<'_> {
    /// The table without all entries named as one of `keys`; the others are copied octet for octet.
    #[must_use]
    pub fn without_any(&self, keys: &[&str]) -> TableWriter {
        let mut reader = Reader::new(self.0);
        let mut kept = Vec::with_capacity(self.0.len());
        loop {
            let before = reader.rest();
            // The only error a checked table has is its end.
            let Ok((name, _)) = entry(&mut reader) else { return TableWriter(kept) };
            if !keys.iter().any(|key| key.as_bytes() == name) {
                kept.extend_from_slice(&before[..before.len() - reader.rest().len()]);
            }
        }
    }
}

impl<'a> Array<'a> {
    /// The array without values.
    pub const EMPTY: Array<'static> = Array(&[]);

    /// The content as it stands on the wire, without its length.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut reader = Reader::new(self.0);
        // The only error a checked array has is its end.
        std::iter::from_fn(move || value(&mut reader).ok())
    }
}

impl<'a> Value<'a> {
    /// The value as an integer, whatever the width it was sent in.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        Some(match *self {
            Value::Byte(n) => n.into(),
            Value::UnsignedByte(n) => n.into(),
            Value::Short(n) => n.into(),
            Value::UnsignedShort(n) => n.into(),
            Value::Int(n) => n.into(),
            Value::UnsignedInt(n) => n.into(),
            Value::Long(n) => n,
            _ => return None,
        })
    }

    /// The value as text, if it is a long string of UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Value::LongString(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// RabbitMQ's name for the type, as its error texts print it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Bool(_) => "bool",
            Value::Byte(_) => "byte",
            Value::UnsignedByte(_) => "unsignedbyte",
            Value::Short(_) => "short",
            Value::UnsignedShort(_) => "unsignedshort",
            Value::Int(_) => "signedint",
            Value::UnsignedInt(_) => "unsignedint",
            Value::Long(_) => "long",
            Value::Float(_) => "float",
            Value::Double(_) => "double",
            Value::Decimal(..) => "decimal",
            Value::Timestamp(_) => "timestamp",
            Value::LongString(_) => "longstr",
            Value::Binary(_) => "binary",
            Value::Array(_) => "array",
            Value::Table(_) => "table",
            Value::Void => "void",
        }
    }
}

/// What is left of a table or an array, and whether its values have names.
#[derive(Debug, Clone, Copy)]
struct Level<'a> {
    rest: Reader<'a>,
    named: bool,
}

/// The tables and arrays around the one that is being checked.
#[derive(Debug)]
struct Outer<'a> {
    plain: [Option<Level<'a>>; DEPTH_PLAIN],
    deep: Vec<Level<'a>>,
    depth: usize,
}

impl<'a> Outer<'a> {
    fn push(&mut self, level: Level<'a>) -> Result<(), WireError> {
        if self.depth == DEPTH_MAX {
            return Err(WireError::TooDeep);
        }
        match self.plain.get_mut(self.depth) {
            Some(place) => *place = Some(level),
            None => self.deep.push(level),
        }
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) -> Option<Level<'a>> {
        self.depth = self.depth.checked_sub(1)?;
        match self.plain.get_mut(self.depth) {
            Some(place) => place.take(),
            None => self.deep.pop(),
        }
    }
}

/// Checks the content of a table down to the last nested value.
fn check(content: &[u8]) -> Result<(), WireError> {
    let mut outer = Outer { plain: [None; DEPTH_PLAIN], deep: Vec::new(), depth: 0 };
    let mut level = Level { rest: Reader::new(content), named: true };
    loop {
        while !level.rest.is_empty() {
            let value =
                if level.named { entry(&mut level.rest)?.1 } else { value(&mut level.rest)? };
            let (inner, named) = match value {
                Value::Table(inner) => (inner.0, true),
                Value::Array(inner) => (inner.0, false),
                _ => continue,
            };
            outer.push(level)?;
            level = Level { rest: Reader::new(inner), named };
        }
        match outer.pop() {
            Some(around) => level = around,
            None => return Ok(()),
        }
    }
}

/// Reads a name and its value.
fn entry<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Value<'a>), WireError> {
    let len = reader.octet()?;
    let name = reader.take(usize::from(len))?;
    Ok((name, value(reader)?))
}

/// Reads one value; the content of a nested table or array is not checked.
fn value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, WireError> {
    Ok(match reader.octet()? {
        b't' => Value::Bool(reader.octet()? != 0),
        b'b' => Value::Byte(reader.octet()?.cast_signed()),
        b'B' => Value::UnsignedByte(reader.octet()?),
        b's' => Value::Short(reader.short()?.cast_signed()),
        b'u' => Value::UnsignedShort(reader.short()?),
        b'I' => Value::Int(reader.long()?.cast_signed()),
        b'i' => Value::UnsignedInt(reader.long()?),
        // RabbitMQ reads both as a signed 64-bit integer and writes `l`.
        b'l' | b'L' => Value::Long(reader.longlong()?.cast_signed()),
        b'f' => Value::Float(f32::from_bits(reader.long()?)),
        b'd' => Value::Double(f64::from_bits(reader.longlong()?)),
        b'D' => Value::Decimal(reader.octet()?, reader.long()?),
        b'T' => Value::Timestamp(reader.longlong()?),
        b'S' => Value::LongString(reader.longstr()?),
        b'x' => Value::Binary(reader.longstr()?),
        b'A' => Value::Array(Array(reader.longstr()?)),
        b'F' => Value::Table(Table(reader.longstr()?)),
        b'V' => Value::Void,
        other => return Err(WireError::FieldType(other)),
    })
}

/// Builds the content of a table entry by entry.
#[derive(Debug, Clone, Default)]
pub struct TableWriter(Vec<u8>);

impl TableWriter {
    /// A table without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry; a key is cut at 255 bytes.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value<'_>) -> Self {
        Writer::new(&mut self.0).shortstr(key);
        write_value(&mut self.0, value);
        self
    }

    /// Appends all entries of a table.
    #[must_use]
    pub fn with_all(mut self, table: Table<'_>) -> Self {
        self.0.extend_from_slice(table.0);
        self
    }

    /// The table built so far.
    #[must_use]
    pub fn table(&self) -> Table<'_> {
        Table(&self.0)
    }
}

/// Builds the content of an array value by value.
#[derive(Debug, Clone, Default)]
pub struct ArrayWriter(Vec<u8>);

impl ArrayWriter {
    /// An array without values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a value.
    #[must_use]
    pub fn with(mut self, value: Value<'_>) -> Self {
        self.push(value);
        self
    }

    /// Appends a value.
    pub fn push(&mut self, value: Value<'_>) {
        write_value(&mut self.0, value);
    }

    /// The array built so far.
    #[must_use]
    pub fn array(&self) -> Array<'_> {
        Array(&self.0)
    }
}

/// Appends the type octet and the value.
pub fn write_value(out: &mut Vec<u8>, value: Value<'_>) {
    let mut writer = Writer::new(out);
    match value {
        Value::Bool(v) => writer.bytes(&[b't', v.into()]),
        Value::Byte(v) => writer.bytes(&[b'b', v.cast_unsigned()]),
        Value::UnsignedByte(v) => writer.bytes(&[b'B', v]),
        Value::Short(v) => tagged(&mut writer, b's', &v.to_be_bytes()),
        Value::UnsignedShort(v) => tagged(&mut writer, b'u', &v.to_be_bytes()),
        Value::Int(v) => tagged(&mut writer, b'I', &v.to_be_bytes()),
        Value::UnsignedInt(v) => tagged(&mut writer, b'i', &v.to_be_bytes()),
        Value::Long(v) => tagged(&mut writer, b'l', &v.to_be_bytes()),
        Value::Float(v) => tagged(&mut writer, b'f', &v.to_be_bytes()),
        Value::Double(v) => tagged(&mut writer, b'd', &v.to_be_bytes()),
        Value::Decimal(scale, v) => {
            writer.bytes(&[b'D', scale]);
            writer.long(v);
        }
        Value::Timestamp(v) => tagged(&mut writer, b'T', &v.to_be_bytes()),
        Value::LongString(v) => counted(&mut writer, b'S', v),
        Value::Binary(v) => counted(&mut writer, b'x', v),
        Value::Array(v) => counted(&mut writer, b'A', v.0),
        Value::Table(v) => counted(&mut writer, b'F', v.0),
        Value::Void => writer.octet(b'V'),
    }
}

fn tagged(writer: &mut Writer<'_>, tag: u8, bytes: &[u8]) {
    writer.octet(tag);
    writer.bytes(bytes);
}

fn counted(writer: &mut Writer<'_>, tag: u8, bytes: &[u8]) {
    writer.octet(tag);
    writer.longstr(bytes);
}

#[cfg(test)]
#[path = "checks/table_test.rs"]
mod tests;
