//! What the broker reads in the properties of a publish: checked in RabbitMQ's order, and rewritten
//! where RabbitMQ rewrites them. All others are relayed octet for octet.

use amqp::properties::Basic;
use amqp::table::TableWriter;
use amqp::{Properties, Table, Value};

use crate::refusal::Refusal;
use crate::session::channel::ReplyConsumer;
use crate::spec::Name;

/// What a client writes into reply-to, and consumes from, to be sent direct replies.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Ten years, RabbitMQ's largest expiration in milliseconds.
const EXPIRATION_MAX: u64 = 315_360_000_000;

/// What properties mean beside what is relayed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// Routing keys that CC and BCC add to the one of the publish.
    pub keys: Vec<Name>,
    /// The properties to deliver, if they are not those that came.
    pub rewritten: Option<Vec<u8>>,
}

/// Reads the properties of a publish of `user`, on a channel that may have a reply consumer.
///
/// # Errors
/// What RabbitMQ refuses: a reply-to without a consumer for it, a bad expiration (for now any),
/// CC or BCC that is no array, another user's id.
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
        let mut octets = Vec::new();
        // Parsed properties can be walked once more.
        properties.replaced(&by, &mut octets).map(|()| octets).unwrap_or_default()
    });
    Ok(Meaning { keys, rewritten })
}

/// The routing keys in CC and BCC. As in RabbitMQ, what is no long string in them counts for
/// nothing; and neither does what is no text, which no binding can have for its key.
fn keys(headers: Table<'_>) -> Result<Vec<Name>, Refusal> {
    let mut keys = Vec::new();
    for header in ["CC", "BCC"] {
        match headers.get(header) {
            None => {}
            Some(Value::Array(array)) => {
                keys.extend(array.iter().filter_map(|key| key.as_str()).map(Name::from));
            }
            Some(other) => return Err(Refusal::InvalidRoutingHeader(header, other.type_name())),
        }
    }
    Ok(keys)
}

fn check_expiration(expiration: Option<&str>) -> Result<(), Refusal> {
    let Some(text) = expiration else { return Ok(()) };
    let why = wrong_expiration(text).unwrap_or("message TTL is not supported yet".into());
    Err(Refusal::InvalidExpiration(text.into(), why))
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
        // At most 255 digits: what does not fit is larger too.
        _ if number.parse().is_ok_and(|n: u64| n <= EXPIRATION_MAX) => None,
        _ => Some(format!("{{value_too_large,{number}}}")),
    }
}

/// Octets as Erlang prints a list of them: a string where all are printable.
fn erlang_list(text: &str) -> String {
    if text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let octets: Vec<String> = text.bytes().map(|octet| octet.to_string()).collect();
    format!("[{}]", octets.join(","))
}

#[cfg(test)]
mod tests {
    use amqp::table::ArrayWriter;

    use super::*;
    use crate::ids::{ConsumerId, QueueId};

    fn read(basic: &Basic<'_>, replies: Option<&ReplyConsumer>) -> Result<Meaning, Refusal> {
        let mut octets = Vec::new();
        basic.write(&mut octets);
        let (properties, basic) = Properties::parse(&octets).unwrap();
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
            ("+60000", "message TTL is not supported yet"),
            ("-0", "message TTL is not supported yet"),
            ("315360000000", "message TTL is not supported yet"),
        ] {
            let basic = Basic { expiration: Some(text), ..Basic::default() };
            let refused = Refusal::InvalidExpiration(text.into(), why.into());
            assert_eq!(read(&basic, None), Err(refused), "{text}");
        }
    }
}
