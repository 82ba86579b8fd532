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
/// An exchange that clients declare, whose alternate exchange is amq.fanout.
pub const X_DIRECT: usize = 5;
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
    /// It is of the kind that holds each enqueue for a while.
    pub shuffled: bool,
    /// One of its consumers is served at a time.
    pub single: bool,
    /// Its deliveries are to be settled within [`LATE_MS`].
    pub timed: bool,
    /// The queue that its dead letters go to.
    pub dead_letters: Option<usize>,
    /// Nothing but dead letters enters it.
    pub only_dead_letters: bool,
    /// What it may hold and for how long.
    pub limits: Limits,
    /// Its highest priority.
    pub priorities: Option<u8>,
}

/// Arguments of a queue that limit it; times in milliseconds.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Limits {
    pub ttl_ms: Option<u64>,
    pub length: Option<u64>,
    pub bytes: Option<u64>,
    pub refuses: bool,
    pub expires_ms: Option<u64>,
}

impl Limits {
    const NONE: Self =
        Self { ttl_ms: None, length: None, bytes: None, refuses: false, expires_ms: None };

    /// Whether messages may leave the queue by themselves.
    pub fn lose(&self) -> bool {
        self.ttl_ms.is_some() || self.length.is_some() || self.bytes.is_some()
    }

    /// The arguments of the declare.
    pub fn add_to(&self, table: TableWriter) -> TableWriter {
        let numbers = [
            ("x-message-ttl", self.ttl_ms),
            ("x-max-length", self.length),
            ("x-max-length-bytes", self.bytes),
            ("x-expires", self.expires_ms),
        ];
        let set = numbers.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let table =
            set.fold(table, |table, (key, value)| table.with(key, Value::Long(value as i64)));
        let refuses = Value::LongString(b"reject-publish");
        if self.refuses { table.with("x-overflow", refuses) } else { table }
    }
}

const fn queue(name: &'static str, durable: bool, mortal: bool, purged: bool) -> QueueKind {
    QueueKind {
        name,
        durable,
        exclusive: false,
        auto_delete: false,
        mortal,
        purged,
        shuffled: false,
        single: false,
        timed: false,
        dead_letters: None,
        only_dead_letters: false,
        limits: Limits::NONE,
        priorities: None,
    }
}

const fn limited(name: &'static str, limits: Limits) -> QueueKind {
    QueueKind { limits, ..queue(name, true, false, false) }
}

impl QueueKind {
    /// The arguments that it is declared with.
    pub fn arguments(self) -> TableWriter {
        let mut table = TableWriter::new();
        if self.shuffled {
            table = table.with("x-queue-type", Value::LongString(b"shuffled"));
        }
        if self.single {
            table = table.with("x-single-active-consumer", Value::Bool(true));
        }
        if self.timed {
            table = table.with("x-consumer-timeout", Value::Long(LATE_MS as i64));
        }
        if let Some(to) = self.dead_letters {
            let key = Value::LongString(QUEUES[to].name.as_bytes());
            table = table
                .with("x-dead-letter-exchange", Value::LongString(b""))
                .with("x-dead-letter-routing-key", key);
        }
        if let Some(highest) = self.priorities {
            table = table.with("x-max-priority", Value::Byte(highest as i8));
        }
        self.limits.add_to(table)
    }

    /// The priority that a message has in the queue.
    pub fn priority(self, message: usize) -> u8 {
        self.priorities.map_or(0, |highest| priority_of(message).unwrap_or(0).min(highest))
    }
}

/// The queues with fixed names. Some are never deleted, so that nothing may ever be lost there.
pub const QUEUES: &[QueueKind] = &[
    queue("q-durable", true, false, false),
    queue("q-transient", false, false, false),
    queue("q-purged", true, false, true),
    queue("q-mortal", false, true, true),
    QueueKind { auto_delete: true, ..queue("q-auto", false, false, false) },
    QueueKind { exclusive: true, ..queue("q-exclusive", false, true, false) },
    QueueKind { exclusive: true, ..queue("q-mine", false, false, false) },
    QueueKind { single: true, ..queue("q-single", false, false, false) },
    QueueKind { single: true, ..queue("q-single-mortal", false, true, true) },
    QueueKind { timed: true, ..queue("q-timed", false, true, true) },
    #[cfg(feature = "second-kinds")]
    QueueKind { shuffled: true, ..queue("q-shuffled", true, false, false) },
    #[cfg(feature = "second-kinds")]
    QueueKind { shuffled: true, ..queue("q-shuffled-mortal", false, true, true) },
    QueueKind { priorities: Some(3), ..queue("q-ranked", true, false, false) },
    QueueKind { priorities: Some(1), ..queue("q-ranked-mortal", false, true, true) },
    QueueKind { dead_letters: Some(DEAD), ..queue("q-retry", true, false, false) },
    QueueKind {
        dead_letters: Some(RETRY),
        only_dead_letters: true,
        ..queue("q-dead", true, false, false)
    },
    limited("q-ttl", Limits { ttl_ms: Some(3), ..Limits::NONE }),
    limited("q-length", Limits { length: Some(3), ..Limits::NONE }),
    queue("q-nowhere", false, false, false),
    limited("q-lives", Limits { ttl_ms: Some(50), ..Limits::NONE }),
    limited("q-full", Limits { length: Some(4), ..Limits::NONE }),
    limited("q-bytes", Limits { bytes: Some(100), ..Limits::NONE }),
    limited("q-refuses", Limits { length: Some(2), refuses: true, ..Limits::NONE }),
    limited("q-expires", Limits { expires_ms: Some(100), ..Limits::NONE }),
    QueueKind {
        dead_letters: Some(GONE),
        ..limited("q-fleeting", Limits { ttl_ms: Some(20), length: Some(3), ..Limits::NONE })
    },
    QueueKind {
        dead_letters: Some(FLEETING),
        only_dead_letters: true,
        ..limited("q-gone", Limits { ttl_ms: Some(60), ..Limits::NONE })
    },
];
/// The queue whose rejected messages go to [`DEAD`].
pub const RETRY: usize = if cfg!(feature = "second-kinds") { 14 } else { 12 };
/// The queue of dead letters, whose rejected messages go back.
pub const DEAD: usize = RETRY + 1;
/// The queue nobody declares. Those behind it are used in their own phase only.
pub const NO_QUEUE: usize = QUEUES.len() - 8;
/// Queues of the phase of limits: its messages live for 50 ms;
pub const LIVES: usize = NO_QUEUE + 1;
/// it holds four messages;
pub const FULL: usize = NO_QUEUE + 2;
/// it holds bodies of 100 bytes;
pub const BYTES: usize = NO_QUEUE + 3;
/// it refuses a third message;
pub const REFUSES: usize = NO_QUEUE + 4;
/// it is deleted when it was unused for 100 ms.
pub const EXPIRES: usize = NO_QUEUE + 5;
/// its messages live for 20 ms, it holds three, and those that die go to [`GONE`];
pub const FLEETING: usize = RETRY + 10;
/// dead letters live for 60 ms, and would go back to [`FLEETING`].
pub const GONE: usize = FLEETING + 1;

/// The queue that is deleted with its last consumer.
pub const AUTO: usize = 4;
/// A queue that only its owner may use.
pub const EXCLUSIVE: usize = 5;
/// A queue that serves one consumer at a time, which clients may delete.
pub const SINGLE: usize = 8;
/// The queue whose deliveries are to be settled in time.
pub const TIMED: usize = 9;
/// The time for that, in milliseconds.
pub const LATE_MS: u64 = 300;
/// A queue that holds each enqueue for a while and is never deleted.
#[cfg(feature = "second-kinds")]
pub const SHUFFLED: usize = 10;
/// The least time that a shuffled queue holds an enqueue, in microseconds.
pub const HOLD_MIN_US: u64 = 1000;

/// A queue the server names: exclusive, not durable.
pub const SERVER_NAMED: QueueKind = QueueKind { exclusive: true, ..queue("", false, true, false) };

/// The priority that a message is published with.
pub fn priority_of(message: usize) -> Option<u8> {
    [None, Some(0), Some(2), Some(3), Some(9)][message % 5]
}

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
