//! Bindings against the plain rule, and the work they take.

use amqp::Table;
use amqp::table::{TableWriter, Value};
use proptest::prelude::*;

use super::{Headers, validate};
use crate::exchange::targets::{Target, Targets};
use crate::ids::{QueueId, ShardId};
use crate::random::Entropy;
use crate::refusal::Refusal;
use crate::topology::spec::Arguments;

fn target(number: usize) -> Target {
    Target::Queue(QueueId(number as u64), ShardId(0))
}

/// An exchange with these bindings, each to a queue of its own.
fn exchange(bindings: &[Arguments]) -> Headers {
    let mut exchange = Headers::new(Entropy::from_seed(1).map_seed());
    bindings.iter().enumerate().for_each(|(n, arguments)| exchange.add(arguments, target(n)));
    exchange
}

fn found(exchange: &Headers, headers: Table<'_>, targets: &mut Targets) -> Vec<u64> {
    targets.clear();
    exchange.collect(headers, targets);
    let mut ids: Vec<u64> = targets.queues().iter().map(|queue| queue.0.0).collect();
    ids.sort_unstable();
    ids
}

fn table(entries: &[(&str, Value<'_>)]) -> TableWriter {
    entries.iter().fold(TableWriter::new(), |table, (key, value)| table.with(key, *value))
}

fn text(text: &str) -> Value<'_> {
    Value::LongString(text.as_bytes())
}

fn check(pattern: &[(&str, Value<'_>)], headers: &[(&str, Value<'_>)], expected: bool) {
    let exchange = exchange(&[table(pattern).table().into()]);
    let found = found(&exchange, table(headers).table(), &mut Targets::new());
    assert_eq!(!found.is_empty(), expected, "{pattern:?} on {headers:?}");
}

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

/// Bindings with so many arguments, all different because each leaves out another one.
fn large_bindings(count: usize, arguments: usize) -> Vec<Arguments> {
    let binding = |left_out: usize| {
        let names = (0..arguments).filter(|n| *n != left_out).map(|n| format!("h{n}"));
        names.fold(TableWriter::new(), |table, name| table.with(&name, Value::Int(1)))
    };
    (0..count).map(|n| binding(n).table().into()).collect()
}

#[test]
fn many_arguments_are_compared_64_in_a_step() {
    let (bindings, arguments) = (100, 4000);
    let exchange = exchange(&large_bindings(bindings, arguments));
    let headers =
        (0..arguments).fold(TableWriter::new(), |t, n| t.with(&format!("h{n}"), Value::Short(1)));
    let mut targets = Targets::new();
    assert_eq!(found(&exchange, headers.table(), &mut targets).len(), bindings);
    let most = arguments + bindings * (arguments.div_ceil(64) + 3);
    assert!(targets.work() <= most as u64, "{} steps, at most {most}", targets.work());
}

#[test]
fn bindings_with_equal_arguments_are_compared_once() {
    let a: Arguments = table(&[("a", text("1"))]).table().into();
    let exchange = exchange(&vec![a; 1000]);
    let mut targets = Targets::new();
    let other = table(&[("a", text("2"))]);
    assert_eq!(found(&exchange, other.table(), &mut targets), []);
    assert_eq!(targets.work(), 3, "a header, a pattern and its arguments");
}

#[test]
fn what_is_unbound_leaves_nothing_behind() {
    let nan = Value::Double(f64::NAN);
    let bindings: Vec<Arguments> = [
        table(&[("a", Value::Void), ("b", nan), ("b", Value::Int(1))]),
        table(&[("a", Value::Void), ("a", Value::Double(1.0)), ("x-b", Value::Int(1))]),
        table(&[("a", Value::Int(1)), ("a", Value::Int(1))]),
        table(&[]),
    ]
    .iter()
    .map(|table| table.table().into())
    .collect();
    let mut exchange = exchange(&bindings);
    exchange.remove(&bindings[0], target(77));
    let headers = table(&[("a", Value::Int(1)), ("b", nan)]);
    let mut targets = Targets::new();
    assert_eq!(found(&exchange, headers.table(), &mut targets), [1, 2, 3]);
    for (n, arguments) in bindings.iter().enumerate() {
        exchange.remove(arguments, target(n));
        exchange.remove(arguments, target(n));
        let left: Vec<u64> = [1, 2, 3].into_iter().filter(|&left| left > n as u64).collect();
        assert_eq!(found(&exchange, headers.table(), &mut targets), left);
    }
    assert!(exchange.conditions.is_empty() && exchange.places.is_empty());
    assert!(exchange.patterns.is_empty());
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
        let exchange = exchange(&[table(&fields).table().into()]);
        let is_match = !found(&exchange, sent.table(), &mut Targets::new()).is_empty();
        prop_assert_eq!(is_match, naive(mode, &pattern, &headers));
    }

    /// Many bindings that come and go share conditions and numbers.
    #[test]
    fn many_bindings_match_as_the_plain_rule_says(
        bindings in prop::collection::vec(
            (
                proptest::sample::select(vec!["all", "any", "all-with-x", "any-with-x"]),
                prop::collection::vec(("(x-)?[a-h]", prop::option::of(0..3i8)), 0..8),
            ),
            0..30,
        ),
        removed in prop::collection::vec(any::<bool>(), 30),
        headers in prop::collection::vec(("(x-)?[a-h]", 0..3i8), 0..10),
    ) {
        let arguments: Vec<Arguments> = bindings
            .iter()
            .map(|(mode, fields)| {
                let table = TableWriter::new().with("x-match", text(mode));
                let table = fields.iter().fold(table, |table, (key, value)| {
                    table.with(key, value.map_or(Value::Void, |value| wide(value, 1)))
                });
                table.table().into()
            })
            .collect();
        let sent = headers.iter().fold(TableWriter::new(), |t, (key, n)| t.with(key, wide(*n, 2)));
        let mut exchange = exchange(&arguments);
        let mut targets = Targets::new();
        let matching = |n: &usize| naive(bindings[*n].0, &bindings[*n].1, &headers);
        let expected: Vec<u64> =
            (0..bindings.len()).filter(matching).map(|n| n as u64).collect();
        prop_assert_eq!(found(&exchange, sent.table(), &mut targets), expected.clone());
        for n in (0..bindings.len()).filter(|&n| removed[n]) {
            exchange.remove(&arguments[n], target(n));
        }
        let left: Vec<u64> = expected.into_iter().filter(|&n| !removed[n as usize]).collect();
        prop_assert_eq!(found(&exchange, sent.table(), &mut targets), left.clone());
        for n in (0..bindings.len()).filter(|&n| removed[n]) {
            exchange.add(&arguments[n], target(n + 1000));
        }
        let back = found(&exchange, sent.table(), &mut targets);
        let back: Vec<u64> = back.into_iter().filter(|&n| n < 1000).collect();
        prop_assert_eq!(back, left);
    }
}
