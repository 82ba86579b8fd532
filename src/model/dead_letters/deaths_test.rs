//! Headers of dead letters against values recorded from RabbitMQ 3.10.8, and what publishers may
//! have put there.

use amqp::properties::Basic;
use amqp::table::ArrayWriter;
use amqp::{Properties, Table, TableWriter, Value};

use crate::dead_letters::{DEATHS_BYTES_MAX, DEATHS_MAX, DeadLetterTarget, DeadMessage, circular};
use crate::message::Draft;
use crate::queue::Death;
use crate::time::Now;

const NOW: Now = Now { monotonic_us: 5, wall_ms: 1_700_000_000_999 };

fn text(value: &str) -> Value<'_> {
    Value::LongString(value.as_bytes())
}

fn strings(values: &[&str]) -> ArrayWriter {
    values.iter().fold(ArrayWriter::new(), |array, value| array.with(text(value)))
}

fn target(exchange: &str, key: Option<&str>) -> DeadLetterTarget {
    DeadLetterTarget { exchange: exchange.into(), key: key.map(Into::into) }
}

/// A message of exchange `ex` and key `key` with these properties and a body.
fn message(basic: &Basic<'_>) -> Draft {
    let (mut draft, mut properties) = (Draft::default(), Vec::new());
    basic.write(&mut properties);
    draft.begin("ex", "key");
    let mode = basic.delivery_mode.unwrap_or(0);
    let properties = Properties::parse(&properties).unwrap().0;
    draft.header(properties, mode, basic.priority.unwrap_or(0), 4);
    let body = bytes::Bytes::from_static(b"body");
    draft.body(&body, &body);
    draft
}

fn with_headers(headers: &TableWriter) -> Draft {
    message(&Basic { headers: Some(headers.table()), ..Basic::default() })
}

/// The dead letter of a message that died in a queue, and its further keys.
fn die(
    mut of: Draft,
    queue: &str,
    death: Death,
    target: &DeadLetterTarget,
) -> (Draft, Vec<String>) {
    let mut letter = Draft::default();
    let dead = DeadMessage { message: of.message(), queue, death, target };
    let keys = dead.write(NOW, &mut letter);
    (letter, keys.into_iter().map(String::from).collect())
}

fn died(of: Draft, queue: &str, death: Death) -> Draft {
    die(of, queue, death, &target("dlx", None)).0
}

/// The headers of a message, as sorted text.
fn headers(draft: &mut Draft) -> Vec<String> {
    let basic = draft.message().properties().basic();
    let mut all: Vec<_> = basic.headers.unwrap().iter().map(shown).collect();
    all.sort_unstable();
    all
}

fn shown((name, value): (&str, Value<'_>)) -> String {
    format!("{name}={}", value_shown(value))
}

fn value_shown(value: Value<'_>) -> String {
    match value {
        Value::Array(all) => {
            format!("[{}]", all.iter().map(value_shown).collect::<Vec<_>>().join(" "))
        }
        Value::Table(table) => {
            let mut all: Vec<_> = table.iter().map(shown).collect();
            all.sort_unstable();
            format!("{{{}}}", all.join(" "))
        }
        Value::LongString(_) => value.as_str().unwrap().into(),
        other => format!("{other:?}"),
    }
}

/// The keys of the newest event, in their order.
fn keys_of_first_event(draft: &mut Draft) -> Vec<String> {
    let headers = draft.message().properties().basic().headers.unwrap();
    let Some(Value::Array(deaths)) = headers.get("x-death") else { panic!("no x-death") };
    let Some(Value::Table(newest)) = deaths.iter().next() else { panic!("no event") };
    newest.iter().map(|(key, _)| key.to_owned()).collect()
}

/// The tables of `x-death`: queue, reason and count.
fn deaths(draft: &mut Draft) -> Vec<(String, String, i64)> {
    let basic = draft.message().properties().basic();
    let Some(Value::Array(all)) = basic.headers.unwrap().get("x-death") else { panic!() };
    let table = |value| if let Value::Table(table) = value { table } else { panic!() };
    let string = |table: Table<'_>, key| String::from(table.get(key).unwrap().as_str().unwrap());
    let count = |table: Table<'_>| table.get("count").unwrap().as_integer().unwrap();
    let one = |table: Table<'_>| (string(table, "queue"), string(table, "reason"), count(table));
    all.iter().map(|value| one(table(value))).collect()
}

fn event(queue: &str, reason: &str, count: i64) -> (String, String, i64) {
    (queue.into(), reason.into(), count)
}

#[test]
fn a_first_death_is_told_as_rabbitmq_tells_it() {
    let (cc, own) = (strings(&["more"]), TableWriter::new());
    let own = own.with("own", Value::Int(1)).with("CC", Value::Array(cc.array()));
    let basic = Basic {
        headers: Some(own.table()),
        expiration: Some("60000"),
        delivery_mode: Some(2),
        priority: Some(3),
        message_id: Some("id"),
        ..Basic::default()
    };
    let (mut letter, keys) = die(message(&basic), "work", Death::Expired, &target("dlx", None));
    assert_eq!(
        headers(&mut letter),
        [
            "CC=[more]",
            "own=Int(1)",
            "x-death=[{count=Long(1) exchange=ex original-expiration=60000 queue=work \
             reason=expired routing-keys=[key more] time=Timestamp(1700000000)}]",
            "x-first-death-exchange=ex",
            "x-first-death-queue=work",
            "x-first-death-reason=expired",
            "x-last-death-exchange=ex",
            "x-last-death-queue=work",
            "x-last-death-reason=expired",
        ]
    );
    let message = letter.message();
    assert_eq!((message.exchange(), message.routing_key()), ("dlx", "key"));
    assert_eq!(
        (message.inline_body(), message.persistent(), message.priority()),
        (&b"body"[..], true, 3)
    );
    let basic = message.properties().basic();
    assert_eq!((basic.expiration, basic.message_id), (None, Some("id")));
    assert_eq!(keys, ["more"]);
}

#[test]
fn a_dead_letter_routing_key_replaces_all_keys() {
    let cc = strings(&["more"]);
    let own = TableWriter::new().with("CC", Value::Array(cc.array()));
    let (mut letter, keys) =
        die(with_headers(&own), "work", Death::Rejected, &target("", Some("dead")));
    let message = letter.message();
    assert_eq!((message.exchange(), message.routing_key()), ("", "dead"));
    assert!(keys.is_empty());
    let headers = headers(&mut letter);
    assert!(headers.iter().all(|header| !header.starts_with("CC=")), "{headers:?}");
    assert!(headers.iter().any(|header| header.contains("routing-keys=[key more]")), "{headers:?}");
}

#[test]
fn deaths_in_one_queue_for_one_reason_are_counted_in_one_table_that_moves_to_the_front() {
    let mut letter = message(&Basic::default());
    for queue in ["a", "b", "c", "b"] {
        letter = died(letter, queue, Death::Expired);
    }
    let expired = |queue, count| event(queue, "expired", count);
    assert_eq!(deaths(&mut letter), [expired("b", 2), expired("c", 1), expired("a", 1)]);
    letter = died(letter, "b", Death::MaxLength);
    let all = [event("b", "maxlen", 1), expired("b", 2), expired("c", 1), expired("a", 1)];
    assert_eq!(deaths(&mut letter), all);
    let headers = headers(&mut letter);
    for told in ["x-first-death-queue=a", "x-first-death-exchange=ex", "x-last-death-reason=maxlen"]
    {
        assert!(headers.iter().any(|header| header == told), "{told}: {headers:?}");
    }
}

#[test]
fn a_message_counted_again_keeps_the_time_and_the_keys_of_its_first_death() {
    let mut letter = died(message(&Basic::default()), "a", Death::Rejected);
    let later = Now { wall_ms: NOW.wall_ms + 60_000, ..NOW };
    let mut again = Draft::default();
    let target = target("other", None);
    let dead = DeadMessage {
        message: letter.message(),
        queue: "a",
        death: Death::Rejected,
        target: &target,
    };
    dead.write(later, &mut again);
    let told = "x-death=[{count=Long(2) exchange=ex queue=a reason=rejected routing-keys=[key] \
                time=Timestamp(1700000000)}]";
    assert!(headers(&mut again).iter().any(|header| header == told));
    assert_eq!(headers(&mut again).iter().filter(|h| h.ends_with("=dlx")).count(), 1);
    let sorted = ["count", "exchange", "queue", "reason", "routing-keys", "time"];
    assert_eq!(keys_of_first_event(&mut again), sorted);
    let unsorted = ["count", "reason", "queue", "time", "exchange", "routing-keys"];
    assert_eq!(keys_of_first_event(&mut letter), unsorted);
}

#[test]
fn what_is_no_event_is_dropped_and_another_type_is_replaced() {
    let bad = TableWriter::new().with("queue", Value::Int(1)).with("reason", text("expired"));
    let good = TableWriter::new().with("queue", text("old")).with("reason", text("expired"));
    let uncounted = good.clone().with("count", text("many"));
    let array = ArrayWriter::new()
        .with(Value::Void)
        .with(Value::Table(bad.table()))
        .with(Value::Table(uncounted.table()))
        .with(Value::Table(good.with("count", Value::Int(7)).table()))
        .with(text("x"));
    let own = TableWriter::new().with("x-death", Value::Array(array.array()));
    let mut letter = died(with_headers(&own), "old", Death::Expired);
    assert_eq!(deaths(&mut letter), [event("old", "expired", 1)]);
    // A publisher that sets x-death has told of the first death, or not.
    assert!(headers(&mut letter).iter().all(|header| !header.starts_with("x-first")));
    let own = TableWriter::new().with("x-death", text("[]")).with("x-death", Value::Int(1));
    let mut letter = died(with_headers(&own), "q", Death::Rejected);
    assert_eq!(deaths(&mut letter), [event("q", "rejected", 1)]);
}

#[test]
fn a_count_stays_at_the_greatest_number() {
    let table = TableWriter::new()
        .with("queue", text("q"))
        .with("reason", text("rejected"))
        .with("count", Value::Long(i64::MAX));
    let array = ArrayWriter::new().with(Value::Table(table.table()));
    let own = TableWriter::new().with("x-death", Value::Array(array.array()));
    let mut letter = died(with_headers(&own), "q", Death::Rejected);
    assert_eq!(deaths(&mut letter), [event("q", "rejected", i64::MAX)]);
}

#[test]
fn the_history_is_bounded_in_events_and_bytes() {
    let mut letter = message(&Basic::default());
    for n in 0..2 * DEATHS_MAX {
        letter = died(letter, &format!("queue-{n}"), Death::Rejected);
    }
    let all = deaths(&mut letter);
    assert_eq!((all.len(), &all[0].0), (DEATHS_MAX, &format!("queue-{}", 2 * DEATHS_MAX - 1)));
    let keys: Vec<String> = (0..400).map(|n| format!("{n:0>200}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let cc = strings(&keys);
    let own = TableWriter::new().with("CC", Value::Array(cc.array()));
    let mut letter = with_headers(&own);
    for n in 0..20 {
        letter = died(letter, &format!("queue-{n}"), Death::Rejected);
    }
    let basic = letter.message().properties().basic();
    let Some(Value::Array(history)) = basic.headers.unwrap().get("x-death") else { panic!() };
    let bytes = history.encoded().len();
    assert!(bytes <= DEATHS_BYTES_MAX && bytes > DEATHS_BYTES_MAX / 2, "{bytes}");
}

#[test]
fn a_dead_letter_fits_into_a_frame_if_the_message_did() {
    const FITS: usize = 128 * 1024 - 20;
    for len in [FITS - 400, FITS - 200, FITS - 40] {
        let value = vec![b'x'; len];
        let own = TableWriter::new().with("own", Value::LongString(&value));
        let mut letter = with_headers(&own);
        for queue in ["a", "b"] {
            letter = died(letter, queue, Death::Rejected);
        }
        let bytes = letter.message().properties().encoded().len();
        assert!(bytes <= FITS, "{len}: {bytes}");
    }
}

#[test]
fn a_circle_without_a_rejection_is_found() {
    let mut letter = message(&Basic::default());
    for (queue, death) in [
        ("a", Death::Expired),
        ("b", Death::Rejected),
        ("c", Death::MaxLength),
        ("a", Death::MaxLength),
    ] {
        letter = died(letter, queue, death);
    }
    // The events are those of a (maxlen), c, b (rejected), a (expired).
    let properties = letter.message().properties();
    assert_eq!(circular(properties, Death::MaxLength), ["a", "c"]);
    assert!(circular(properties, Death::Rejected).is_empty());
    assert!(circular(Properties::EMPTY, Death::Expired).is_empty());
}
