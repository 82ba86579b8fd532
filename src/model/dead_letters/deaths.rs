//! The headers that tell of a message's deaths: `x-death`, `x-first-death-…`, `x-last-death-…`.
//!
//! `x-death` is an array of tables, the newest event first, one for each queue and reason.

use amqp::table::{Array, ArrayWriter};
use amqp::{Table, TableWriter, Value};

use crate::mutant::{self, Mutant};

/// Most tables in `x-death`; older ones are dropped. Chains of more queues are not known in use.
pub const DEATHS_MAX: usize = 64;
/// Most bytes of them, but the newest one is always there; older ones are dropped.
pub const DEATHS_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of routing keys in one table; the others are left out.
const KEYS_BYTES_MAX: usize = 8 * 1024;

pub(super) const REJECTED: &str = "rejected";
const X_DEATH: &str = "x-death";
const FIRST: [&str; 3] = ["x-first-death-reason", "x-first-death-queue", "x-first-death-exchange"];
const LAST: [&str; 3] = ["x-last-death-reason", "x-last-death-queue", "x-last-death-exchange"];

/// Events of one queue and one reason are one, with a count.
type EventId<'a> = (&'a str, &'a str);

/// One death.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub queue: &'a str,
    pub reason: &'a str,
    /// The exchange and the routing key of the publish that brought the message to the queue.
    pub exchange: &'a str,
    pub key: &'a str,
    pub cc: Vec<&'a str>,
    pub expiration: Option<&'a str>,
    /// Seconds since 1970.
    pub time: u64,
}

impl Event<'_> {
    /// A table of `x-death` that counts one death.
    fn table(&self) -> TableWriter {
        let table = TableWriter::new()
            .with("count", Value::Long(1))
            .with("reason", text(self.reason))
            .with("queue", text(self.queue))
            .with("time", Value::Timestamp(self.time))
            .with("exchange", text(self.exchange))
            .with("routing-keys", Value::Array(self.keys().array()));
        match self.expiration {
            None => table,
            Some(expiration) => table.with("original-expiration", text(expiration)),
        }
    }

    fn keys(&self) -> ArrayWriter {
        let mut keys = ArrayWriter::new().with(text(self.key));
        for key in &self.cc {
            if keys.array().encoded().len() + key.len() > KEYS_BYTES_MAX {
                break;
            }
            keys.push(text(key));
        }
        keys
    }

    fn id(&self) -> EventId<'_> {
        (self.queue, self.reason)
    }

    fn named(&self, names: [&str; 3], headers: TableWriter) -> TableWriter {
        let values = [self.reason, self.queue, self.exchange];
        names.iter().zip(values).fold(headers, |all, (name, value)| all.with(name, text(value)))
    }
}

/// How much of the history a dead letter keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// As many earlier events as there may be.
    All,
    /// The new event alone.
    ThisOne,
}

/// The headers with one more death.
pub(super) fn headers(old: Table<'_>, event: &Event<'_>, history: History) -> TableWriter {
    let before = old.get(X_DEATH);
    // As in RabbitMQ, a publisher that sets `x-death` decides about the first death too.
    let first = before.is_none() || mutant::active(Mutant::FirstDeathOverwritten);
    let before = match before {
        Some(Value::Array(deaths)) if history == History::All => Some(deaths),
        _ => None,
    };
    let deaths = merged(before, event);
    let kept = old.without_any(&[X_DEATH]).table().without_any(&LAST);
    let kept = if first { event.named(FIRST, kept.table().without_any(&FIRST)) } else { kept };
    event.named(LAST, kept).with(X_DEATH, Value::Array(deaths.array()))
}

/// The events with one more, which comes first. If there was one of the same queue and reason, it
/// is that one, with a count greater by one. All but the first event have sorted keys, as in
/// RabbitMQ before 4.0.
fn merged(before: Option<Array<'_>>, event: &Event<'_>) -> ArrayWriter {
    let is_first = before.is_none();
    let before = before.unwrap_or(Array::EMPTY);
    let same = events(before).find(|(id, _)| *id == event.id());
    let newest = match same {
        Some((_, table)) if !mutant::active(Mutant::DeathNotCounted) => sorted(counted(table)),
        _ if is_first => event.table(),
        _ => sorted(event.table()),
    };
    let mut all = ArrayWriter::new().with(Value::Table(newest.table()));
    let mut kept = Vec::new();
    for (id, table) in events(before) {
        let size = all.array().encoded().len() + table.encoded().len();
        if kept.len() + 1 == DEATHS_MAX || size > DEATHS_BYTES_MAX {
            break;
        }
        if id != event.id() && !kept.contains(&id) {
            kept.push(id);
            all.push(Value::Table(table));
        }
    }
    all
}

/// The events of `x-death` that name a queue and a reason; all else in it is ignored. Publishers
/// can write anything there.
fn events<'a>(deaths: Array<'a>) -> impl Iterator<Item = (EventId<'a>, Table<'a>)> + use<'a> {
    deaths.iter().filter_map(|value| match value {
        Value::Table(table) => {
            let id = (table.get("queue")?.as_str()?, table.get("reason")?.as_str()?);
            Some((id, table))
        }
        _ => None,
    })
}

/// An event that happened once more.
fn counted(table: Table<'_>) -> TableWriter {
    let count = table.get("count").and_then(|count| count.as_integer()).unwrap_or(0);
    let count = Value::Long(count.saturating_add(1));
    TableWriter::new().with("count", count).with_all(table.without_any(&["count"]).table())
}

fn sorted(table: TableWriter) -> TableWriter {
    let mut entries: Vec<_> = table.table().iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries.into_iter().fold(TableWriter::new(), |table, (key, value)| table.with(key, value))
}

/// The queues of the newest events, up to the newest `rejected`.
pub(super) fn unrejected_queues(headers: Table<'_>) -> Vec<&str> {
    let Some(Value::Array(deaths)) = headers.get(X_DEATH) else { return Vec::new() };
    let ids = events(deaths).map(|(id, _)| id);
    ids.take_while(|(_, reason)| *reason != REJECTED).map(|(queue, _)| queue).collect()
}

fn text(value: &str) -> Value<'_> {
    Value::LongString(value.as_bytes())
}
