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
        Self { bindings: BTreeMap::new(), places: Map::with_hasher(seed), next: 0 }
    }

    pub fn add(&mut self, key: &str, arguments: &Arguments, target: Target) {
        let place = (target, key.into(), arguments.clone());
        if self.places.contains_key(&place) {
            return;
        }
        self.bindings.insert(self.next, (Pattern::new(arguments.table()), target));
        self.places.insert(place, self.next);
        self.next += 1;
    }

    pub fn remove(&mut self, key: &str, arguments: &Arguments, target: Target) {
        if let Some(place) = self.places.remove(&(target, key.into(), arguments.clone())) {
            self.bindings.remove(&place);
        }
    }

    pub fn collect(&self, headers: Table<'_>, targets: &mut Targets) {
        let headers = Sent::new(headers);
        for (pattern, target) in self.bindings.values() {
            if pattern.matches(&headers) {
                targets.push(*target);
            }
        }
    }
}

/// Checks the arguments of a binding to a headers exchange.
///
/// # Errors
/// [`Refusal::InvalidXMatch`] with what RabbitMQ says.
pub(super) fn validate(arguments: &Arguments) -> Result<(), Refusal> {
    let what = match arguments.table().get(X_MATCH) {
        None | Some(Value::LongString(b"all" | b"any" | b"all-with-x" | b"any-with-x")) => {
            return Ok(());
        }
        Some(value @ Value::LongString(_)) => {
            let value = printed(value);
            format!(
                "Invalid x-match field value {value}; expected all, any, all-with-x, or any-with-x"
            )
        }
        Some(value) => {
            let (name, value) = (value.type_name(), printed(value));
            format!("Invalid x-match field type {name} (value {value}); expected longstr")
        }
    };
    Err(Refusal::InvalidXMatch(what))
}

/// A value as RabbitMQ prints it.
fn printed(value: Value<'_>) -> String {
    match value {
        Value::LongString(b"") | Value::Binary(b"") => "<<>>".to_owned(),
        Value::LongString(bytes) | Value::Binary(bytes) => {
            format!("<<\"{}\">>", bytes.escape_ascii())
        }
        Value::Bool(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Double(value) => format!("{value:?}"),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "undefined".to_owned(),
        other => other.as_integer().map_or_else(|| "...".to_owned(), |value| value.to_string()),
    }
}

/// The headers of a message, made ready for looking up.
#[derive(Debug)]
enum Sent<'a> {
    /// So few that they are looked through each time.
    Few(Table<'a>),
    /// In the order of their keys; of equal keys the first on the wire comes first. Looking through
    /// thousands for each of a binding's thousands would take seconds.
    Many(Vec<(&'a str, Value<'a>)>),
}

impl<'a> Sent<'a> {
    /// Octets up to which a table is looked through.
    const FEW: usize = 512;

    fn new(headers: Table<'a>) -> Self {
        if headers.encoded().len() <= Self::FEW {
            return Self::Few(headers);
        }
        let mut fields: Vec<_> = headers.iter().collect();
        fields.sort_by_key(|(key, _)| *key);
        Self::Many(fields)
    }

    fn get(&self, key: &str) -> Option<Value<'a>> {
        match self {
            Self::Few(table) => table.get(key),
            Self::Many(fields) => {
                let at = fields.partition_point(|(other, _)| *other < key);
                fields.get(at).filter(|(other, _)| *other == key).map(|(_, value)| *value)
            }
        }
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
        let mode = arguments.get(X_MATCH).and_then(|value| value.as_str()).unwrap_or("all");
        let with_x = mode.ends_with("-with-x");
        let fields = arguments
            .iter()
            .filter(|(key, _)| *key != X_MATCH && (with_x || !key.starts_with("x-")))
            .map(|(key, value)| (key.into(), Expected::new(value)))
            .collect();
        Self { any: mode.starts_with("any"), fields }
    }

    fn matches(&self, headers: &Sent<'_>) -> bool {
        let mut fields = self.fields.iter();
        let met = |(key, expected): &(Name, Expected)| {
            headers.get(key).is_some_and(|value| expected.is(value))
        };
        if self.any { fields.any(met) } else { fields.all(met) }
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
            // Not encoded first: a large header may be compared with thousands of fields.
            (Self::Encoded(expected), Value::Table(table)) => expected
                .strip_prefix(b"F")
                .is_some_and(|rest| rest.get(4..) == Some(table.encoded())),
            (Self::Encoded(expected), Value::Array(array)) => expected
                .strip_prefix(b"A")
                .is_some_and(|rest| rest.get(4..) == Some(array.encoded())),
            (_, Value::Table(_) | Value::Array(_)) => false,
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

#[cfg(test)]
mod tests {
    use amqp::table::TableWriter;
    use proptest::prelude::*;

    use super::*;

    fn table(entries: &[(&str, Value<'_>)]) -> TableWriter {
        entries.iter().fold(TableWriter::new(), |table, (key, value)| table.with(key, *value))
    }

    fn text(text: &str) -> Value<'_> {
        Value::LongString(text.as_bytes())
    }

    fn check(pattern: &[(&str, Value<'_>)], headers: &[(&str, Value<'_>)], expected: bool) {
        let headers = table(headers);
        let is_match = Pattern::new(table(pattern).table()).matches(&Sent::new(headers.table()));
        assert_eq!(is_match, expected, "{pattern:?} on {headers:?}");
    }

    /// 4,000 fields against 20,000 headers: by looking through all of them for each it would be 80
    /// million steps, which this build takes minutes for.
    #[test]
    fn many_headers_are_found_as_few_are() {
        let names = |of: &str, many| (0..many).map(|n| format!("{of}{n}")).collect::<Vec<_>>();
        let (sent, missing) = (names("sent", 10_000), names("missing", 4000));
        let once = sent.iter().map(|name| (name.as_str(), Value::Int(1)));
        let again = sent.iter().map(|name| (name.as_str(), Value::Int(2)));
        let headers: Vec<_> = once.chain(again).collect();
        let any = [("x-match", text("any"))];
        let nobody = missing.iter().map(|name| (name.as_str(), Value::Void));
        let nobody: Vec<_> = any.into_iter().chain(nobody).collect();
        check(&nobody, &headers, false);
        let (first, second) = (("sent77", Value::Int(1)), ("sent77", Value::Int(2)));
        check(&[nobody.clone(), vec![first]].concat(), &headers, true);
        check(&[nobody, vec![second]].concat(), &headers, false);
    }

    #[test]
    fn all_fields_or_any_of_them() {
        let (a, b) = (("a", text("1")), ("b", text("2")));
        check(&[a, b], &[a, b], true);
        check(&[a, b], &[a], false);
        check(&[], &[a], true);
        check(&[], &[], true);
        check(&[("x-match", text("all")), a], &[b, a], true);
        check(&[("x-match", text("any")), a, b], &[b], true);
        check(&[("x-match", text("any")), a], &[b], false);
        check(&[("x-match", text("any"))], &[a], false);
    }

    #[test]
    fn keys_beginning_with_x_count_only_when_asked_for() {
        let (a, x) = (("a", text("1")), ("x-b", text("2")));
        check(&[a, x], &[a], true);
        check(&[("x-match", text("all-with-x")), a, x], &[a], false);
        check(&[("x-match", text("all-with-x")), a, x], &[a, x], true);
        check(&[("x-match", text("any")), x], &[x], false);
        check(&[("x-match", text("any-with-x")), x], &[x], true);
        check(&[("x-match", text("any-with-x"))], &[("x-match", text("any-with-x"))], false);
    }

    #[test]
    fn void_asks_for_presence() {
        check(&[("a", Value::Void)], &[("a", Value::Int(1))], true);
        check(&[("a", Value::Void)], &[("a", Value::Void)], true);
        check(&[("a", Value::Void)], &[], false);
        check(&[("a", Value::Int(1))], &[("a", Value::Void)], false);
    }

    #[test]
    fn values_are_compared_without_their_wire_types() {
        let same = [
            (Value::Int(5), Value::Long(5)),
            (Value::UnsignedByte(5), Value::Short(5)),
            (Value::Int(5), Value::Double(5.0)),
            (Value::Float(0.5), Value::Double(0.5)),
            (Value::Timestamp(9), Value::Long(9)),
            (text("a"), Value::Binary(b"a")),
            (Value::Bool(true), Value::Bool(true)),
            (Value::Decimal(1, 2), Value::Decimal(1, 2)),
        ];
        let other = [
            (Value::Int(5), text("5")),
            (Value::Int(1), Value::Bool(true)),
            (Value::Int(5), Value::Double(5.5)),
            (Value::Long(i64::MAX), Value::Double(9.3e18)),
            (Value::Int(0), Value::Double(f64::NAN)),
            (Value::Decimal(1, 2), Value::Decimal(2, 2)),
            (Value::Timestamp(u64::MAX), Value::Long(-1)),
        ];
        for ((left, right), expected) in
            same.map(|pair| (pair, true)).into_iter().chain(other.map(|pair| (pair, false)))
        {
            check(&[("a", left)], &[("a", right)], expected);
            check(&[("a", right)], &[("a", left)], expected);
        }
    }

    #[test]
    fn nested_values_are_compared_whole() {
        let array = amqp::ArrayWriter::new().with(Value::Int(1));
        let array = Value::Array(array.array());
        let empty = Value::Array(amqp::Array::EMPTY);
        check(&[("a", array)], &[("a", array)], true);
        check(&[("a", array)], &[("a", empty)], false);
        check(&[("a", empty)], &[("a", Value::Table(Table::EMPTY))], false);
        check(&[("a", Value::Int(1))], &[("a", empty)], false);
        let (one, two) = (table(&[("n", Value::Int(1))]), table(&[("n", Value::Int(2))]));
        let nested = |table: &TableWriter| table.clone();
        let (left, right) = (nested(&one), nested(&two));
        check(&[("a", Value::Table(left.table()))], &[("a", Value::Table(one.table()))], true);
        check(&[("a", Value::Table(left.table()))], &[("a", Value::Table(right.table()))], false);
    }

    #[test]
    fn x_match_is_checked() {
        let check = |value| validate(&table(&[("x-match", value)]).table().into());
        for good in ["all", "any", "all-with-x", "any-with-x"] {
            assert_eq!(check(text(good)), Ok(()));
        }
        assert_eq!(validate(&Arguments::default()), Ok(()));
        let refusal = |text: &str| Err(Refusal::InvalidXMatch(text.to_owned()));
        assert_eq!(
            check(text("some")),
            refusal(
                "Invalid x-match field value <<\"some\">>; \
                 expected all, any, all-with-x, or any-with-x"
            )
        );
        assert_eq!(
            check(Value::Int(23)),
            refusal("Invalid x-match field type signedint (value 23); expected longstr")
        );
    }

    /// The rule once more, over plain integers: `None` asks for presence.
    fn naive(mode: &str, pattern: &[(String, Option<i8>)], headers: &[(String, i8)]) -> bool {
        let counts = |key: &str| mode.contains("with-x") || !key.starts_with("x-");
        let met = |(key, expected): &(String, Option<i8>)| {
            headers
                .iter()
                .find(|header| header.0 == *key)
                .is_some_and(|header| expected.is_none_or(|expected| expected == header.1))
        };
        let mut fields = pattern.iter().filter(|field| counts(&field.0));
        if mode.starts_with("all") { fields.all(met) } else { fields.any(met) }
    }

    /// The same number in one of the wire's widths.
    fn wide(number: i8, width: usize) -> Value<'static> {
        match width % 4 {
            0 => Value::Byte(number),
            1 => Value::Short(number.into()),
            2 => Value::Long(number.into()),
            _ => Value::Double(number.into()),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_the_plain_rule_says(
            mode in proptest::sample::select(vec!["all", "any", "all-with-x", "any-with-x"]),
            pattern in prop::collection::vec(("(x-)?[abc]", prop::option::of(0..3i8)), 0..5),
            headers in prop::collection::vec(("(x-)?[abc]", 0..3i8), 0..6),
            width in 0..4usize,
        ) {
            let fields = pattern.iter().map(|(key, value)| {
                (key.as_str(), value.map_or(Value::Void, |value| wide(value, 0)))
            });
            let fields: Vec<_> = std::iter::once(("x-match", text(mode))).chain(fields).collect();
            let sent: Vec<_> = headers
                .iter()
                .enumerate()
                .map(|(n, (key, value))| (key.as_str(), wide(*value, n + width)))
                .collect();
            let sent = table(&sent);
            let sent = Sent::new(sent.table());
            let is_match = Pattern::new(table(&fields).table()).matches(&sent);
            prop_assert_eq!(is_match, naive(mode, &pattern, &headers));
        }
    }
}
