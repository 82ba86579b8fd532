//! The headers exchange: a message goes where the arguments of a binding match its headers.

use std::collections::BTreeMap;

use amqp::Table;
use amqp::table::{Value, write_value};

use super::targets::{Target, Targets};
use crate::hash::{Map, Seed};
use crate::refusal::Refusal;
use crate::spec::{Arguments, Name};

const X_MATCH: &str = "x-match";

/// The bindings of a headers exchange.
#[derive(Debug)]
pub(super) struct Headers {
    /// In the order they were made, whatever was removed between.
    bindings: BTreeMap<u64, (Pattern, Target)>,
    /// Where a binding is in `bindings`.
    places: Map<(Target, Name, Arguments), u64>,
    next: u64,
}

impl Headers {
    pub fn new(seed: Seed) -> Self {
        Self {
            bindings: BTreeMap::new(),
            places: Map::with_hasher(seed),
            next: 0,
        }
    }

    pub fn add(&mut self, key: &str, arguments: &Arguments, target: Target) {
        let place = (target, key.into(), arguments.clone());
        if self.places.contains_key(&place) {
            return;
        }
        self.bindings
            .insert(self.next, (Pattern::new(arguments.table()), target));
        self.places.insert(place, self.next);
        self.next += 1;
    }

    pub fn remove(&mut self, key: &str, arguments: &Arguments, target: Target) {
        if let Some(place) = self.places.remove(&(target, key.into(), arguments.clone())) {
            self.bindings.remove(&place);
        }
    }

    pub fn collect(&self, headers: Table<'_>, targets: &mut Targets) {
        for (pattern, target) in self.bindings.values() {
            if pattern.matches(headers) {
                targets.push(*target);
            }
        }
    }
}

/// Checks the arguments of a binding to a headers exchange.
///
/// # Errors
/// [`Refusal::InvalidXMatch`] with the value of x-match as RabbitMQ prints it.
pub(super) fn validate(arguments: &Arguments) -> Result<(), Refusal> {
    match arguments.table().get(X_MATCH) {
        None => Ok(()),
        Some(Value::LongString(b"all" | b"any" | b"all-with-x" | b"any-with-x")) => Ok(()),
        Some(Value::LongString(other)) => Err(Refusal::InvalidXMatch(format!(
            "<<\"{}\">>",
            other.escape_ascii()
        ))),
        Some(other) => Err(Refusal::InvalidXMatch(other.type_name().to_owned())),
    }
}

/// A binding's arguments, made ready for comparing.
#[derive(Debug)]
struct Pattern {
    /// One field is enough.
    any: bool,
    fields: Box<[(Name, Expected)]>,
}

/// What a header's value has to be. RabbitMQ compares values without their wire types.
#[derive(Debug, PartialEq)]
enum Expected {
    /// The header has to be there.
    Present,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Bytes(Box<[u8]>),
    /// Type octet and value of anything else.
    Encoded(Box<[u8]>),
}

impl Pattern {
    fn new(arguments: Table<'_>) -> Self {
        let mode = arguments
            .get(X_MATCH)
            .and_then(|value| value.as_str())
            .unwrap_or("all");
        let with_x = mode.ends_with("-with-x");
        let fields = arguments
            .iter()
            .filter(|(key, _)| *key != X_MATCH && (with_x || !key.starts_with("x-")))
            .map(|(key, value)| (key.into(), Expected::new(value)))
            .collect();
        Self {
            any: mode.starts_with("any"),
            fields,
        }
    }

    fn matches(&self, headers: Table<'_>) -> bool {
        let mut fields = self.fields.iter();
        let met = |(key, expected): &(Name, Expected)| {
            headers.get(key).is_some_and(|value| expected.is(value))
        };
        if self.any {
            fields.any(met)
        } else {
            fields.all(met)
        }
    }
}

impl Expected {
    fn new(value: Value<'_>) -> Self {
        match value {
            Value::Void => Self::Present,
            Value::Bool(value) => Self::Bool(value),
            Value::LongString(bytes) | Value::Binary(bytes) => Self::Bytes(bytes.into()),
            Value::Float(value) => Self::Float(value.into()),
            Value::Double(value) => Self::Float(value),
            Value::Timestamp(seconds) => Self::Integer(seconds.into()),
            other => match other.as_integer() {
                Some(value) => Self::Integer(value.into()),
                None => Self::Encoded(encoded(other)),
            },
        }
    }

    fn is(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Present, _) => true,
            (_, Value::Void) => false,
            (Self::Bytes(expected), Value::LongString(bytes) | Value::Binary(bytes)) => {
                **expected == *bytes
            }
            (Self::Bytes(_), _) | (_, Value::LongString(_) | Value::Binary(_)) => false,
            (Self::Integer(expected), Value::Float(value)) => same(*expected, value.into()),
            (Self::Integer(expected), Value::Double(value)) => same(*expected, value),
            (Self::Float(expected), value) => match Self::new(value) {
                Self::Integer(value) => same(value, *expected),
                other => *self == other,
            },
            (_, value) => *self == Self::new(value),
        }
    }
}

/// Whether a float is exactly this integer.
fn same(integer: i128, float: f64) -> bool {
    // Beyond 2^64 there is no integer of the wire; the cast saturates.
    float.fract() == 0.0 && float.abs() < 2e19 && float as i128 == integer
}

fn encoded(value: Value<'_>) -> Box<[u8]> {
    let mut out = Vec::new();
    write_value(&mut out, value);
    out.into()
}
