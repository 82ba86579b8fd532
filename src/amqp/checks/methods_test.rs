//! Every method against an independent crate and against a list typed from the specification.

use super::{Method, ROWS, Row};
use crate::checks::draw::Draw;
use crate::checks::peer::{self, Drawn, Same};
use crate::octets::WireError;
use crate::table::Table;
use amq_protocol::protocol::{
    AMQPClass, access, basic, channel, confirm, connection, exchange, parse_class, queue, tx,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Checks a method in both directions; the arguments named are those the peer shows, the others
/// must be empty, 0 or false.
type Check = fn(&mut Draw);

macro_rules! peers {
    ($($class:ident $module:ident { $($ours:ident $theirs:ident { $($field:ident),* })* })*) => {
        const PEERS: &[(&str, Check)] = &[$($((stringify!($ours), |draw| {
            let _ = &draw;
            let theirs = $module::$theirs { $($field: Drawn::drawn(draw)),* };
            let class = AMQPClass::$class($module::AMQPMethod::$theirs(theirs.clone()));
            let encoded = peer::encode(&class);
            let ours = Method::read(&encoded).unwrap();
            let Method::$ours { $($field,)* .. } = ours else { panic!("{ours:?}") };
            $(assert!(Same::same(&$field, &theirs.$field), "{ours:?} {theirs:?}");)*
            let mut written = Vec::new();
            ours.write(&mut written);
            assert_eq!(written, encoded);
            assert_eq!(peer::decode(&written), class);
            assert_eq!(ours.id(), (class.get_amqp_class_id(), class.get_amqp_method_id()));
        })),*),*];
    };
}

peers! {
    Connection connection {
        ConnectionStart Start {
            version_major, version_minor, server_properties, mechanisms, locales
        }
        ConnectionStartOk StartOk { client_properties, mechanism, response, locale }
        ConnectionSecure Secure { challenge }
        ConnectionSecureOk SecureOk { response }
        ConnectionTune Tune { channel_max, frame_max, heartbeat }
        ConnectionTuneOk TuneOk { channel_max, frame_max, heartbeat }
        ConnectionOpen Open { virtual_host }
        ConnectionOpenOk OpenOk {}
        ConnectionClose Close { reply_code, reply_text, class_id, method_id }
        ConnectionCloseOk CloseOk {}
        ConnectionBlocked Blocked { reason }
        ConnectionUnblocked Unblocked {}
        ConnectionUpdateSecret UpdateSecret { new_secret, reason }
        ConnectionUpdateSecretOk UpdateSecretOk {}
    }
    Channel channel {
        ChannelOpen Open {}
        ChannelOpenOk OpenOk {}
        ChannelFlow Flow { active }
        ChannelFlowOk FlowOk { active }
        ChannelClose Close { reply_code, reply_text, class_id, method_id }
        ChannelCloseOk CloseOk {}
    }
    Access access {
        AccessRequest Request { realm, exclusive, passive, active, write, read }
        AccessRequestOk RequestOk {}
    }
    Exchange exchange {
        ExchangeDeclare Declare {
            exchange, kind, passive, durable, auto_delete, internal, nowait, arguments
        }
        ExchangeDeclareOk DeclareOk {}
        ExchangeDelete Delete { exchange, if_unused, nowait }
        ExchangeDeleteOk DeleteOk {}
        ExchangeBind Bind { destination, source, routing_key, nowait, arguments }
        ExchangeBindOk BindOk {}
        ExchangeUnbind Unbind { destination, source, routing_key, nowait, arguments }
        ExchangeUnbindOk UnbindOk {}
    }
    Queue queue {
        QueueDeclare Declare { queue, passive, durable, exclusive, auto_delete, nowait, arguments }
        QueueDeclareOk DeclareOk { queue, message_count, consumer_count }
        QueueBind Bind { queue, exchange, routing_key, nowait, arguments }
        QueueBindOk BindOk {}
        QueuePurge Purge { queue, nowait }
        QueuePurgeOk PurgeOk { message_count }
        QueueDelete Delete { queue, if_unused, if_empty, nowait }
        QueueDeleteOk DeleteOk { message_count }
        QueueUnbind Unbind { queue, exchange, routing_key, arguments }
        QueueUnbindOk UnbindOk {}
    }
    Basic basic {
        BasicQos Qos { prefetch_count, global }
        BasicQosOk QosOk {}
        BasicConsume Consume {
            queue, consumer_tag, no_local, no_ack, exclusive, nowait, arguments
        }
        BasicConsumeOk ConsumeOk { consumer_tag }
        BasicCancel Cancel { consumer_tag, nowait }
        BasicCancelOk CancelOk { consumer_tag }
        BasicPublish Publish { exchange, routing_key, mandatory, immediate }
        BasicReturn Return { reply_code, reply_text, exchange, routing_key }
        BasicDeliver Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key }
        BasicGet Get { queue, no_ack }
        BasicGetOk GetOk { delivery_tag, redelivered, exchange, routing_key, message_count }
        BasicGetEmpty GetEmpty {}
        BasicAck Ack { delivery_tag, multiple }
        BasicReject Reject { delivery_tag, requeue }
        BasicRecoverAsync RecoverAsync { requeue }
        BasicRecover Recover { requeue }
        BasicRecoverOk RecoverOk {}
        BasicNack Nack { delivery_tag, multiple, requeue }
    }
    Confirm confirm {
        ConfirmSelect Select { nowait }
        ConfirmSelectOk SelectOk {}
    }
    Tx tx {
        TxSelect Select {}
        TxSelectOk SelectOk {}
        TxCommit Commit {}
        TxCommitOk CommitOk {}
        TxRollback Rollback {}
        TxRollbackOk RollbackOk {}
    }
}

/// Pairs of class and method that only one side knows, with the reason.
const ONE_SIDED: &[((u16, u16), &str)] = &[];

/// The methods of RabbitMQ's specification of 0-9-1 with connection.update-secret and the other
/// extensions: ids, name, arguments with the elementary types of their domains.
const SPECIFIED: &str = "
    10 10 connection.start version-major:octet version-minor:octet server-properties:table
        mechanisms:longstr locales:longstr
    10 11 connection.start-ok client-properties:table mechanism:shortstr response:longstr
        locale:shortstr
    10 20 connection.secure challenge:longstr
    10 21 connection.secure-ok response:longstr
    10 30 connection.tune channel-max:short frame-max:long heartbeat:short
    10 31 connection.tune-ok channel-max:short frame-max:long heartbeat:short
    10 40 connection.open virtual-host:shortstr capabilities:shortstr insist:bit
    10 41 connection.open-ok known-hosts:shortstr
    10 50 connection.close reply-code:short reply-text:shortstr class-id:short method-id:short
    10 51 connection.close-ok
    10 60 connection.blocked reason:shortstr
    10 61 connection.unblocked
    10 70 connection.update-secret new-secret:longstr reason:shortstr
    10 71 connection.update-secret-ok
    20 10 channel.open out-of-band:shortstr
    20 11 channel.open-ok channel-id:longstr
    20 20 channel.flow active:bit
    20 21 channel.flow-ok active:bit
    20 40 channel.close reply-code:short reply-text:shortstr class-id:short method-id:short
    20 41 channel.close-ok
    30 10 access.request realm:shortstr exclusive:bit passive:bit active:bit write:bit read:bit
    30 11 access.request-ok ticket:short
    40 10 exchange.declare ticket:short exchange:shortstr type:shortstr passive:bit durable:bit
        auto-delete:bit internal:bit nowait:bit arguments:table
    40 11 exchange.declare-ok
    40 20 exchange.delete ticket:short exchange:shortstr if-unused:bit nowait:bit
    40 21 exchange.delete-ok
    40 30 exchange.bind ticket:short destination:shortstr source:shortstr routing-key:shortstr
        nowait:bit arguments:table
    40 31 exchange.bind-ok
    40 40 exchange.unbind ticket:short destination:shortstr source:shortstr routing-key:shortstr
        nowait:bit arguments:table
    40 51 exchange.unbind-ok
    50 10 queue.declare ticket:short queue:shortstr passive:bit durable:bit exclusive:bit
        auto-delete:bit nowait:bit arguments:table
    50 11 queue.declare-ok queue:shortstr message-count:long consumer-count:long
    50 20 queue.bind ticket:short queue:shortstr exchange:shortstr routing-key:shortstr nowait:bit
        arguments:table
    50 21 queue.bind-ok
    50 30 queue.purge ticket:short queue:shortstr nowait:bit
    50 31 queue.purge-ok message-count:long
    50 40 queue.delete ticket:short queue:shortstr if-unused:bit if-empty:bit nowait:bit
    50 41 queue.delete-ok message-count:long
    50 50 queue.unbind ticket:short queue:shortstr exchange:shortstr routing-key:shortstr
        arguments:table
    50 51 queue.unbind-ok
    60 10 basic.qos prefetch-size:long prefetch-count:short global:bit
    60 11 basic.qos-ok
    60 20 basic.consume ticket:short queue:shortstr consumer-tag:shortstr no-local:bit no-ack:bit
        exclusive:bit nowait:bit arguments:table
    60 21 basic.consume-ok consumer-tag:shortstr
    60 30 basic.cancel consumer-tag:shortstr nowait:bit
    60 31 basic.cancel-ok consumer-tag:shortstr
    60 40 basic.publish ticket:short exchange:shortstr routing-key:shortstr mandatory:bit
        immediate:bit
    60 50 basic.return reply-code:short reply-text:shortstr exchange:shortstr routing-key:shortstr
    60 60 basic.deliver consumer-tag:shortstr delivery-tag:longlong redelivered:bit
        exchange:shortstr routing-key:shortstr
    60 70 basic.get ticket:short queue:shortstr no-ack:bit
    60 71 basic.get-ok delivery-tag:longlong redelivered:bit exchange:shortstr
        routing-key:shortstr message-count:long
    60 72 basic.get-empty cluster-id:shortstr
    60 80 basic.ack delivery-tag:longlong multiple:bit
    60 90 basic.reject delivery-tag:longlong requeue:bit
    60 100 basic.recover-async requeue:bit
    60 110 basic.recover requeue:bit
    60 111 basic.recover-ok
    60 120 basic.nack delivery-tag:longlong multiple:bit requeue:bit
    85 10 confirm.select nowait:bit
    85 11 confirm.select-ok
    90 10 tx.select
    90 11 tx.select-ok
    90 20 tx.commit
    90 21 tx.commit-ok
    90 30 tx.rollback
    90 31 tx.rollback-ok
";

/// A payload that holds every argument, written without the crate's own writer.
fn payload(row: &Row, draw: &mut Draw) -> Vec<u8> {
    let mut out = [row.id.0.to_be_bytes(), row.id.1.to_be_bytes()].concat();
    let mut bits = 0;
    for (_, kind) in row.arguments {
        if *kind == "bit" {
            push_bit(&mut out, bits, draw.bit());
            bits += 1;
        } else {
            bits = 0;
            push_field(&mut out, kind, draw);
        }
    }
    out
}

fn push_bit(out: &mut Vec<u8>, before: usize, set: bool) {
    if before.is_multiple_of(8) {
        out.push(0);
    }
    *out.last_mut().unwrap() |= u8::from(set) << (before % 8);
}

fn push_field(out: &mut Vec<u8>, kind: &str, draw: &mut Draw) {
    let number = draw.number();
    match kind {
        "octet" => out.push(number as u8),
        "short" => out.extend((number as u16).to_be_bytes()),
        "long" => out.extend((number as u32).to_be_bytes()),
        "longlong" => out.extend(number.to_be_bytes()),
        "shortstr" => {
            let text = draw.text();
            out.push(text.len() as u8);
            out.extend(text.bytes());
        }
        "longstr" => push_long(out, &draw.octets(30)),
        "table" => push_long(out, peer::rebuilt(&Drawn::drawn(draw)).table().encoded()),
        other => panic!("no such type: {other}"),
    }
}

fn push_long(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend((octets.len() as u32).to_be_bytes());
    out.extend(octets);
}

proptest! {
    #[test]
    fn the_peer_reads_what_we_write_and_we_read_what_it_writes(seed: u64) {
        for (_, check) in PEERS {
            check(&mut Draw::new(seed));
        }
    }

    #[test]
    fn every_argument_comes_back_and_every_truncation_is_an_error(seed: u64) {
        let draw = &mut Draw::new(seed);
        for row in ROWS {
            let payload = payload(row, draw);
            let method = Method::read(&payload).unwrap();
            prop_assert_eq!((method.id(), method.name()), (row.id, row.name));
            let mut written = Vec::new();
            method.write(&mut written);
            prop_assert_eq!(&written, &payload);
            peer::decode(&written);
            for cut in 0..payload.len() {
                prop_assert_eq!(Method::read(&payload[..cut]), Err(WireError::Truncated));
            }
            let trailing = [&payload[..], &[0]].concat();
            prop_assert_eq!(Method::read(&trailing), Err(WireError::Trailing));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(row in 0..ROWS.len(), noise: Vec<u8>) {
        let (class, method) = ROWS[row].id;
        let ids = [class.to_be_bytes(), method.to_be_bytes()].concat();
        for payload in [[&ids[..], &noise[..]].concat(), noise] {
            if let Ok(method) = Method::read(&payload) {
                // The unused bits of an octet may differ, the method may not.
                let mut written = Vec::new();
                method.write(&mut written);
                prop_assert_eq!(Method::read(&written), Ok(method));
            }
        }
    }
}

#[test]
fn every_row_has_a_peer() {
    let rows: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    let peers: Vec<_> = PEERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(rows, peers);
}

#[test]
fn no_pair_of_ids_is_known_to_one_side_only() {
    // Long enough, and well formed, for the arguments of any method.
    let zeros = [0; 64];
    for class in 0..256u16 {
        for method in 0..256u16 {
            let ids = [class.to_be_bytes(), method.to_be_bytes()].concat();
            let ours = Method::read(&ids) != Err(WireError::UnknownMethod(class, method));
            let theirs = parse_class(&[&ids[..], &zeros].concat()[..]).is_ok();
            let listed = ONE_SIDED.iter().any(|(pair, _)| *pair == (class, method));
            assert_eq!(ours != theirs, listed, "{class}.{method}: ours {ours}, theirs {theirs}");
        }
    }
}

/// `QueueDeclareOk` as the specification writes it: `queue.declare-ok`.
fn specified_name(name: &str) -> String {
    let mut out = String::new();
    for char in name.chars() {
        if char.is_uppercase() && !out.is_empty() {
            out.push(if out.contains('.') { '-' } else { '.' });
        }
        out.push(char.to_ascii_lowercase());
    }
    out
}

fn specified_row(row: &Row) -> String {
    let mut out = format!("{} {} {}", row.id.0, row.id.1, specified_name(row.name));
    for (name, kind) in row.arguments {
        // `type` is a word of the language.
        let name = if *name == "kind" { "type".to_owned() } else { name.replace('_', "-") };
        out += &format!(" {name}:{kind}");
    }
    out
}

#[test]
fn the_table_is_the_specification() {
    let mut specified = Vec::<String>::new();
    for line in SPECIFIED.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with(|c: char| c.is_ascii_digit()) {
            specified.push(line.to_owned());
        } else {
            *specified.last_mut().unwrap() += &format!(" {line}");
        }
    }
    let rows: Vec<_> = ROWS.iter().map(specified_row).collect();
    assert_eq!(rows, specified);
    let ids: BTreeSet<_> = ROWS.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), rows.len());
}

#[test]
fn bits_share_octets_lowest_first() {
    let payload = [0, 50, 0, 10, 0, 0, 1, b'q', 0b10101, 0, 0, 0, 0];
    let Ok(Method::QueueDeclare { passive, durable, exclusive, auto_delete, nowait, .. }) =
        Method::read(&payload)
    else {
        panic!("not queue.declare")
    };
    assert_eq!(
        [passive, durable, exclusive, auto_delete, nowait],
        [true, false, true, false, true]
    );
}

#[test]
fn a_short_string_must_be_text() {
    let payload = [0, 60, 0, 21, 2, 0xC3, 0x28];
    assert_eq!(Method::read(&payload), Err(WireError::Utf8));
    assert_eq!(WireError::Utf8.to_string(), "Malformed UTF-8 in shortstr");
}

#[test]
fn debug_output_shows_no_password() {
    let client_properties = Table::EMPTY;
    let (mechanism, response, locale) = ("PLAIN", &b"\0guest\0hunter2"[..], "en_US");
    for method in [
        Method::ConnectionStartOk { client_properties, mechanism, response, locale },
        Method::ConnectionSecureOk { response },
        Method::ConnectionUpdateSecret { new_secret: response, reason: "expired" },
    ] {
        let shown = format!("{method:?}");
        assert!(shown.contains("[redacted]") && !shown.contains("104"), "{shown}");
    }
    let delete = Method::ChannelFlow { active: true };
    assert_eq!(format!("{delete:?}"), "ChannelFlow { active: true }");
}
