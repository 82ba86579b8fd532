//! The small shared world the clients meet in: exchanges, queues, keys, bodies; and the reference
//! for which binding takes which message.

use std::sync::LazyLock;

use amqp::{TableWriter, Value};

/// Name and type of every exchange the clients use.
pub const EXCHANGES: [(&str, &str); 10] = [
    ("", "direct"),
    ("amq.direct", "direct"),
    ("amq.fanout", "fanout"),
    ("amq.topic", "topic"),
    ("amq.headers", "headers"),
    ("x-direct", "direct"),
    ("x-fanout", "fanout"),
    ("x-topic", "topic"),
    ("x-headers", "headers"),
    ("x-nowhere", "direct"),
];
/// The alternate exchange that an exchange is declared with: a chain that ends where there always
/// is one, and a circle.
pub fn alternate(exchange: usize) -> Option<usize> {
    match EXCHANGES[exchange].0 {
        "x-direct" => Some(2),
        "x-fanout" => Some(7),
        "x-topic" => Some(6),
        "x-headers" => Some(5),
        _ => None,
    }
}

/// The first exchange that clients declare and delete.
pub const FIRST_DECLARED: usize = 5;
/// The exchange nobody declares.
pub const NOWHERE: usize = 9;

/// What a queue is, and what clients may do to it.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct QueueKind {
    pub name: &'static str,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    /// Clients delete it.
    pub mortal: bool,
    /// Clients purge it.
    pub purged: bool,
}

const fn queue(name: &'static str, durable: bool, mortal: bool, purged: bool) -> QueueKind {
    QueueKind { name, durable, exclusive: false, auto_delete: false, mortal, purged }
}

/// The queues with fixed names. Two are never deleted, so that nothing may ever be lost there.
pub const QUEUES: [QueueKind; 8] = [
    queue("q-durable", true, false, false),
    queue("q-transient", false, false, false),
    queue("q-purged", true, false, true),
    queue("q-mortal", false, true, true),
    QueueKind { auto_delete: true, ..queue("q-auto", false, false, false) },
    QueueKind { exclusive: true, ..queue("q-exclusive", false, true, false) },
    QueueKind { exclusive: true, ..queue("q-mine", false, false, false) },
    queue("q-nowhere", false, false, false),
];
/// The queue nobody declares.
pub const NO_QUEUE: usize = 7;

/// A queue the server names: exclusive, not durable.
pub const SERVER_NAMED: QueueKind = QueueKind { exclusive: true, ..queue("", false, true, false) };

/// What the queue at this place of the history's names is.
pub fn kind(queue: usize) -> QueueKind {
    QUEUES.get(queue).copied().unwrap_or(SERVER_NAMED)
}

/// Binding keys and patterns, and the keys of publishes: the first five are keys.
pub const KEYS: [&str; 9] = ["a", "b", "a.b", "a.b.c", "", "a.*", "#", "*.b.#", "a.#"];
/// How many of [`KEYS`] are plain keys.
pub const PLAIN_KEYS: usize = 5;

/// The argument x-match and the headers it names, as bits: `h1` and `h2`.
pub const MATCHES: [(&str, u8); 4] = [("", 0), ("all", 1), ("all", 3), ("any", 3)];

/// The arguments of a headers binding, or the headers of a message without an x-match.
pub fn headers(x_match: &str, mask: u8) -> TableWriter {
    let mut table = TableWriter::new();
    if !x_match.is_empty() {
        table = table.with("x-match", Value::LongString(x_match.as_bytes()));
    }
    if mask & 1 != 0 {
        table = table.with("h1", Value::Int(1));
    }
    if mask & 2 != 0 {
        table = table.with("h2", Value::LongString(b"two"));
    }
    table
}

/// Whether a binding of an exchange takes a message with this key and these headers.
pub fn takes(exchange: usize, binding_key: usize, matches: usize, key: &str, headers: u8) -> bool {
    match EXCHANGES[exchange].1 {
        "direct" => KEYS[binding_key] == key,
        "fanout" => true,
        "topic" => {
            let pattern: Vec<&str> = words(KEYS[binding_key]);
            topic(&pattern, &words(key))
        }
        _ => match MATCHES[matches] {
            ("any", mask) => headers & mask != 0,
            (_, mask) => headers & mask == mask,
        },
    }
}

/// The words of a key; the empty key has none.
fn words(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

fn topic(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.first(), key.first()) {
        (None, None) => true,
        (Some(&"#"), _) => {
            topic(&pattern[1..], key) || (!key.is_empty() && topic(pattern, &key[1..]))
        }
        (Some(&"*"), Some(_)) => topic(&pattern[1..], &key[1..]),
        (Some(word), Some(found)) if word == found => topic(&pattern[1..], &key[1..]),
        _ => false,
    }
}

/// The sizes of bodies: around the bounds at which a body is stored and sent differently.
pub const SIZES: [usize; 8] = [0, 1, 16, 2047, 2048, 2049, 40_000, 200_000];

/// Every body is a part of this, at an offset that its message gives.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(220_000).collect()
});

/// The body of a message.
pub fn body(message: usize, size: usize) -> &'static [u8] {
    let start = message % 4093;
    &PATTERN[start..start + size]
}
