//! The properties of a publish that the broker itself reads. They are checked in RabbitMQ's order
//! and rewritten where RabbitMQ rewrites them. All others are relayed byte for byte.

use std::collections::BTreeSet;

use amqp::properties::Basic;
use amqp::table::TableWriter;
use amqp::{Properties, Table, Value};

use crate::refusal::Refusal;
use crate::session::channel::ReplyConsumer;
use crate::topology::spec::Name;

/// The pseudo-queue of direct reply-to: clients consume from it and name it in reply-to.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Ten years: the longest that a message or an unused queue may live, in milliseconds, as in
/// RabbitMQ.
pub const EXPIRATION_MAX_MS: u64 = 315_360_000_000;

/// Most different routing keys that CC and BCC may add. Exchanges match each of them.
const KEYS_MAX: usize = 1000;
/// Most bytes of a routing key in CC or BCC: as many as basic.publish and queue.bind can carry.
const KEY_LEN_MAX: usize = 255;

/// What the broker does because of the properties.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// Routing keys that CC and BCC add to the one of the publish.
    /// Each is there once.
    pub keys: Vec<Name>,
    /// The rewritten properties, if they were rewritten.
    pub rewritten: Option<Vec<u8>>,
}

/// Reads the properties of a publish of `user`, on a channel that may have a reply consumer.
///
/// # Errors
/// What RabbitMQ refuses: a reply-to without a reply consumer, an invalid expiration, CC or
/// BCC that is not an array, the user-id of another user. And what
/// RabbitMQ accepts: more than 1,000 different keys in CC and BCC, or one of more than 255 bytes.
pub fn meaning(
    (properties, basic): (Properties<'_>, &Basic<'_>),
    user: &str,
    replies: Option<&ReplyConsumer>,
) -> Result<Meaning, Refusal> {
    let mut by = Basic::default();
    if basic.reply_to == Some(REPLY_TO) {
        by.reply_to = Some(&replies.ok_or(Refusal::NoReplyConsumer)?.name);
    }
    check_expiration(basic.expiration)?;
    let keys = basic.headers.map_or(Ok(Vec::new()), keys)?;
    if let Some(claimed) = basic.user_id
        && claimed != user
    {
        return Err(Refusal::UserId { claimed: claimed.into(), user: user.into() });
    }
    let stripped = basic.headers.and_then(|headers| headers.without("BCC"));
    by.headers = stripped.as_ref().map(TableWriter::table);
    let rewrites = by.reply_to.is_some() || by.headers.is_some();
    let rewritten = rewrites.then(|| {
        let mut bytes = Vec::new();
        // Parsed properties can be walked once more.
        properties.replaced(&by, &mut bytes).map(|()| bytes).unwrap_or_default()
    });
    Ok(Meaning { keys, rewritten })
}

/// The routing keys in CC and BCC, each once. Values that are not long strings are ignored, as in
/// RabbitMQ. So are strings that are not UTF-8, since no binding can have such a key.
fn keys(headers: Table<'_>) -> Result<Vec<Name>, Refusal> {
    let (mut keys, mut known) = (Vec::new(), BTreeSet::new());
    for header in ["CC", "BCC"] {
        let array = match headers.get(header) {
            None => continue,
            Some(Value::Array(array)) => array,
            Some(other) => return Err(Refusal::InvalidRoutingHeader(header, other.type_name())),
        };
        for key in array.iter().filter_map(|key| key.as_str()) {
            if known.insert(key) {
                check_key(key, known.len())?;
                keys.push(key.into());
            }
        }
    }
    Ok(keys)
}

/// Checks a routing key; `count` is the number of different keys so far, this one included.
fn check_key(key: &str, count: usize) -> Result<(), Refusal> {
    let why = if count > KEYS_MAX {
        format!("more than {KEYS_MAX} routing keys in CC and BCC")
    } else if key.len() > KEY_LEN_MAX {
        format!("a routing key of more than {KEY_LEN_MAX} bytes in CC or BCC")
    } else {
        return Ok(());
    };
    Err(Refusal::UnacceptableRoutingKeys(why))
}

fn check_expiration(expiration: Option<&str>) -> Result<(), Refusal> {
    let Some(text) = expiration else { return Ok(()) };
    match wrong_expiration(text) {
        Some(why) => Err(Refusal::InvalidExpiration(text.into(), why)),
        None => Ok(()),
    }
}

/// What is wrong with an expiration, as RabbitMQ prints it.
fn wrong_expiration(text: &str) -> Option<String> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (digits, leftover) = unsigned.split_at(end);
    if digits.is_empty() {
        return Some("no_integer".into());
    }
    if !leftover.is_empty() {
        return Some(format!("{{leftover_string,{}}}", erlang_list(leftover)));
    }
    let number = digits.trim_start_matches('0');
    match number {
        "" => None,
        _ if negative => Some(format!("{{value_negative,-{number}}}")),
        // All digits: a number that does not fit is above the maximum too.
        _ if number.parse().is_ok_and(|n: u64| n <= EXPIRATION_MAX_MS) => None,
        _ => Some(format!("{{value_too_large,{number}}}")),
    }
}

/// Bytes as Erlang prints a list of them: as a string if all are printable.
fn erlang_list(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    format!("[{}]", bytes.join(","))
}

#[cfg(test)]
mod tests {
    use amqp::table::ArrayWriter;

    use super::*;
    use crate::ids::{ConsumerId, QueueId};

    fn read(basic: &Basic<'_>, replies: Option<&ReplyConsumer>) -> Result<Meaning, Refusal> {
        let mut bytes = Vec::new();
        basic.write(&mut bytes);
        let (properties, basic) = Properties::parse(&bytes).unwrap();
        meaning((properties, &basic), "guest", replies)
    }

    fn strings(values: &[&str]) -> ArrayWriter {
        values.iter().fold(ArrayWriter::new(), |array, value| {
            array.with(Value::LongString(value.as_bytes()))
        })
    }

    #[test]
    fn ordinary_properties_mean_nothing() {
        let headers = TableWriter::new().with("cc", Value::Int(1)).with("x", Value::Void);
        let basic = Basic {
            headers: Some(headers.table()),
            reply_to: Some("replies"),
            user_id: Some("guest"),
            ..Basic::default()
        };
        assert_eq!(read(&basic, None), Ok(Meaning::default()));
    }

    #[test]
    fn cc_and_bcc_are_keys_and_bcc_is_taken_out() {
        let (cc, bcc) = (strings(&["a", "b"]).with(Value::Int(7)), strings(&["c"]));
        let headers = TableWriter::new()
            .with("BCC", Value::Array(bcc.array()))
            .with("other", Value::Bool(true))
            .with("CC", Value::Array(cc.array()));
        let basic = Basic { headers: Some(headers.table()), priority: Some(3), ..Basic::default() };
        let meaning = read(&basic, None).unwrap();
        assert_eq!(meaning.keys.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["a", "b", "c"]);
        let rewritten = meaning.rewritten.unwrap();
        let left = Properties::parse(&rewritten).unwrap().1;
        let names = left.headers.unwrap().iter().map(|(name, _)| name);
        assert_eq!(names.collect::<Vec<_>>(), ["other", "CC"]);
        assert_eq!(left.priority, Some(3));
        let headers = TableWriter::new().with("CC", Value::Array(cc.array()));
        let basic = Basic { headers: Some(headers.table()), ..Basic::default() };
        assert_eq!(read(&basic, None).unwrap().rewritten, None);
    }

    #[test]
    fn cc_and_bcc_must_be_arrays() {
        for (header, value, kind) in [
            ("CC", Value::LongString(b"key"), "longstr"),
            ("BCC", Value::Table(Table::EMPTY), "table"),
            ("CC", Value::Void, "void"),
        ] {
            let headers = TableWriter::new().with(header, value);
            let basic = Basic { headers: Some(headers.table()), ..Basic::default() };
            let refused = Refusal::InvalidRoutingHeader(header, kind);
            assert_eq!(read(&basic, None), Err(refused));
        }
    }

    fn keys_of(header: &str, keys: &[&str]) -> Result<Vec<Name>, Refusal> {
        let keys = strings(keys);
        let headers = TableWriter::new().with(header, Value::Array(keys.array()));
        let basic = Basic { headers: Some(headers.table()), ..Basic::default() };
        read(&basic, None).map(|meaning| meaning.keys)
    }

    #[test]
    fn equal_keys_count_once() {
        let (cc, bcc) = (strings(&["b", "a", "b"]), strings(&["a", "c", "b"]));
        let headers = TableWriter::new()
            .with("CC", Value::Array(cc.array()))
            .with("BCC", Value::Array(bcc.array()));
        let basic = Basic { headers: Some(headers.table()), ..Basic::default() };
        let keys = read(&basic, None).unwrap().keys;
        assert_eq!(keys.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["b", "a", "c"]);
        assert_eq!(keys_of("CC", &vec!["same"; 20_000]).unwrap().len(), 1);
    }

    #[test]
    fn too_many_keys_and_too_long_ones_are_refused() {
        let names: Vec<String> = (0..=KEYS_MAX).map(|n| format!("key-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let refused = |why: &str| Err(Refusal::UnacceptableRoutingKeys(why.into()));
        for header in ["CC", "BCC"] {
            assert_eq!(keys_of(header, &names[1..]).unwrap().len(), KEYS_MAX);
            let why = "more than 1000 routing keys in CC and BCC";
            assert_eq!(keys_of(header, &names), refused(why));
            let long = "a".repeat(KEY_LEN_MAX + 1);
            assert_eq!(keys_of(header, &[&long[1..]]).unwrap(), [Name::from(&long[1..])]);
            let why = "a routing key of more than 255 bytes in CC or BCC";
            assert_eq!(keys_of(header, &[&long]), refused(why));
        }
    }

    #[test]
    fn reply_to_is_the_consumers_name() {
        let basic = Basic { reply_to: Some(REPLY_TO), ..Basic::default() };
        assert_eq!(read(&basic, None), Err(Refusal::NoReplyConsumer));
        let (consumer, queue) = (ConsumerId(1), QueueId(2));
        let replies = ReplyConsumer { consumer, queue, name: "amq.rabbitmq.reply-to.x".into() };
        let rewritten = read(&basic, Some(&replies)).unwrap().rewritten.unwrap();
        let reply_to = Properties::parse(&rewritten).unwrap().1.reply_to;
        assert_eq!(reply_to, Some("amq.rabbitmq.reply-to.x"));
    }

    #[test]
    fn expirations_are_refused_as_rabbitmq_tells_it() {
        for (text, why) in [
            ("soon", "no_integer"),
            ("", "no_integer"),
            ("-", "no_integer"),
            (" 1", "no_integer"),
            ("12x", "{leftover_string,\"x\"}"),
            ("1.5", "{leftover_string,\".5\"}"),
            ("1\"\\", "{leftover_string,\"\\\"\\\\\"}"),
            ("1\u{e9}", "{leftover_string,[195,169]}"),
            ("-1", "{value_negative,-1}"),
            ("315360000001", "{value_too_large,315360000001}"),
            ("099999999999999999999999", "{value_too_large,99999999999999999999999}"),
        ] {
            let basic = Basic { expiration: Some(text), ..Basic::default() };
            let refused = Refusal::InvalidExpiration(text.into(), why.into());
            assert_eq!(read(&basic, None), Err(refused), "{text}");
        }
        for text in ["0", "+60000", "-0", "007", "315360000000"] {
            let basic = Basic { expiration: Some(text), ..Basic::default() };
            assert_eq!(read(&basic, None), Ok(Meaning::default()), "{text}");
        }
    }
}
