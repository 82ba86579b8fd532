//! `loadgen run` accounts for every message: with several queues, with requeued messages, with
//! several channels and after a failure.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::{Act, Broker, report};

fn echo(_: u64, body: &[u8]) -> Vec<Act> {
    vec![Act::Deliver(body.to_vec())]
}

/// Delivers to the first `count` consumers.
fn fan_out(count: usize) -> impl Fn(u64, &[u8]) -> Vec<Act> {
    move |_, body| (0..count).map(|to| Act::DeliverTo(to, body.to_vec())).collect()
}

#[track_caller]
fn check(report: &Value, expected: &[(&str, u64)]) {
    for (name, count) in expected {
        assert_eq!(report["account"][name].as_u64().unwrap(), *count, "{name}: {report}");
    }
}

const FAN_OUT: &str = "-e x -t fanout -y 3 --queue-pattern q%d --queue-pattern-to 3";

#[test]
fn a_message_to_three_queues_is_three_deliveries() {
    let broker = Broker::start(fan_out(3));
    let output = broker.run(&format!("{FAN_OUT} -C 50 -c 10 -f mandatory"));
    let report = report(&output);
    assert!(output.status.success(), "{report}");
    check(&report, &[("sent", 50), ("expected", 150), ("received", 150), ("confirmed", 50)]);
    check(&report, &[("duplicates", 0), ("out_of_order", 0), ("missing", 0)]);
    assert_eq!(broker.requests()[0], "exchange x fanout");
}

#[test]
fn faults_of_a_fan_out_are_found_per_queue() {
    let broker = Broker::start(|number, body| {
        let mut acts = fan_out(3)(number, body);
        match number {
            4 => drop(acts.pop()),
            8 => acts.push(Act::DeliverTo(1, body.to_vec())),
            12 => acts = vec![Act::Return(body.to_vec())],
            16 => acts = vec![Act::Nack],
            _ => {}
        }
        acts
    });
    let output = broker.run(&format!("{FAN_OUT} -C 20 -c 5 -f mandatory --drain-timeout 0.5"));
    let report = report(&output);
    check(&report, &[("expected", 60), ("received", 53), ("returned", 3), ("nacked", 3)]);
    check(&report, &[("missing", 1), ("duplicates", 1)]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_message_in_a_wrong_queue_is_a_duplicate() {
    let broker = Broker::start(fan_out(2));
    let report = report(&broker.run("-y 2 --queue-pattern q%d --queue-pattern-to 2 -C 10"));
    check(&report, &[("expected", 10), ("received", 10), ("duplicates", 10)]);
}

#[test]
fn keys_are_distributed_over_queues_and_unmatched_ones_are_unroutable() {
    let keys = "-e x -t headers -k k%d --routing-key-count 3 --queue-pattern q%d \
                --queue-pattern-to 2 -y 2";
    let broker = Broker::start(echo);
    check(&report(&broker.run(&format!("{keys} -C 9"))), &[("expected", 9), ("received", 9)]);
    let bound = ["bind q1 k1 header k1", "bind q1 k3 header k3", "bind q2 k2 header k2"];
    assert_eq!(broker.requests()[1..4], bound);

    let broker = Broker::start(|number, body| match number % 3 {
        0 => fan_out(2)(0, body),
        _ => vec![],
    });
    let topic = "-e x -t topic -k k.%d --routing-key-count 3 --binding-key *.1 --queue-pattern \
                 q%d --queue-pattern-to 2 -y 2 -C 9";
    let report = report(&broker.run(topic));
    check(&report, &[("sent", 9), ("expected", 6), ("unroutable", 6), ("received", 6)]);
    check(&report, &[("missing", 0)]);
}

#[test]
fn random_keys_are_many_and_bound() {
    let broker = Broker::start(echo);
    let output = broker.run("-e x --random-routing-key --routing-key-cache-size 20 -C 100");
    check(&report(&output), &[("expected", 100), ("received", 100)]);
    let bound: std::collections::HashSet<String> = broker.requests().into_iter().skip(1).collect();
    assert_eq!(bound.len(), 20);
}

#[test]
fn rejected_messages_are_accounted_for() {
    let broker = Broker::start(echo);
    let output = broker.run("-C 100 --nack 0.25");
    let report = report(&output);
    assert!(output.status.success());
    check(&report, &[("received", 100), ("dropped", 25), ("requeued", 0), ("missing", 0)]);
    assert_eq!(broker.requests().iter().filter(|request| request.starts_with("nack")).count(), 25);
}

#[test]
fn requeued_messages_come_again_and_are_no_duplicates() {
    let broker = Broker::start(echo);
    let output = broker.run("-C 100 --nack 0.5 --requeue");
    let report = report(&output);
    assert!(output.status.success(), "{report}");
    check(&report, &[("received", 100), ("duplicates", 0), ("dropped", 0), ("missing", 0)]);
    let again = report["account"]["requeued"].as_u64().unwrap();
    assert!(again >= 90, "half of the rejected ones come again, and so on: {report}");
    check(&report, &[("redelivered", again)]);
}

#[test]
fn all_messages_rejected_with_multiple_and_in_transactions() {
    let broker = Broker::start(echo);
    let report = report(&broker.run("-C 100 --nack --multi-ack-every 10 -n 50"));
    check(&report, &[("received", 100), ("dropped", 100), ("missing", 0)]);
    assert!(broker.requests().contains(&"nack 100 true false".to_owned()));
    assert_eq!(broker.log().iter().filter(|method| *method == "TxCommit").count(), 2);
}

#[test]
fn a_processing_time_adds_latency() {
    let report = report(&Broker::start(echo).run("-C 20 -L 5000"));
    check(&report, &[("received", 20), ("missing", 0)]);
    let max = report["latency_us"]["max"].as_f64().unwrap();
    assert!(max >= 19.0 * 5000.0 * 0.99, "the last waits for 19 others: {report}");
}

#[test]
fn a_processing_time_may_change() {
    let latencies = "--variable-latency 20000:0.5 --variable-latency 0:10";
    let report = report(&Broker::start(echo).run(&format!("-r 100 -z 1 {latencies}")));
    check(&report, &[("received", 100), ("missing", 0)]);
    let of = |name: &str| report["latency_us"][name].as_f64().unwrap();
    assert!(
        of("max") >= 230_000.0,
        "one processed every 20 ms, one received every 10 ms: {report}"
    );
    assert!(of("min") < 20_000.0, "at the end it keeps up: {report}");
}

#[test]
fn one_message_per_interval() {
    let report = report(&Broker::start(echo).run("-x 2 -P 0.02 -z 1"));
    check(&report, &[("sent", 100), ("received", 100)]);
    assert_eq!(report["rate"], 50.0);
}

#[test]
fn a_consumer_rate_is_kept_whatever_the_acks() {
    for acks in ["", "-a"] {
        let report = report(&Broker::start(echo).run(&format!("-C 30 -R 100 {acks}")));
        check(&report, &[("received", 30), ("missing", 0)]);
        let max = report["latency_us"]["max"].as_f64().unwrap();
        assert!(max >= 290_000.0 * 0.99, "29 intervals of 10 ms: {report}");
    }
}

#[test]
fn channels_share_a_connection_and_close_in_order() {
    let broker =
        Broker::start(|number, body| vec![Act::DeliverTo((number % 6) as usize, body.to_vec())]);
    let report = report(&broker.run("-x 2 -X 3 -y 2 -Y 3 -C 50 -c 10"));
    check(&report, &[("sent", 300), ("received", 300), ("confirmed", 300), ("out_of_order", 0)]);
    let log = broker.log();
    let count = |name: &str| log.iter().filter(|method| *method == name).count();
    assert_eq!((count("BasicConsume"), count("ConfirmSelect")), (6, 6));
    assert_eq!((count("ChannelClose"), count("ConnectionClose")), (8, 5));
    assert_eq!(report["notes"].as_array().unwrap().len(), 0, "{report}");
}

#[test]
fn transactions_of_a_producer_are_committed_to_the_last() {
    let broker = Broker::start(echo);
    let report = report(&broker.run("-C 25 -m 10"));
    check(&report, &[("sent", 25), ("received", 25), ("confirmed", 25), ("unconfirmed", 0)]);
    assert_eq!(report["confirm_latency_us"]["count"], 25);
    assert_eq!(broker.log().iter().filter(|method| *method == "TxCommit").count(), 3);
}

#[test]
fn idle_connections_send_heartbeats_and_close() {
    let broker = Broker::start(echo);
    let output = broker.run("-z 1.2 -r 50 --idle-connections 20 -b 1");
    assert!(output.status.success());
    check(&report(&output), &[("sent", 60), ("received", 60)]);
    assert!(broker.heartbeats() >= 40, "{}", broker.heartbeats());
    let closes = broker.log().iter().filter(|method| *method == "ConnectionClose").count();
    assert_eq!(closes, 23);
}

#[test]
fn sizes_vary_and_every_body_is_accounted_for() {
    let sizes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = sizes.clone();
    let broker = Broker::start(move |_, body| {
        seen.lock().unwrap().push(body.len());
        echo(0, body)
    });
    for flags in ["-s 100:70,1000:30 --random-bodies", "-s 16-200000"] {
        check(&report(&broker.run(&format!("-C 200 {flags}"))), &[("received", 200)]);
    }
    let sizes = sizes.lock().unwrap();
    assert!(sizes[..200].iter().all(|size| [100, 1000].contains(size)));
    let large = sizes[..200].iter().filter(|size| **size == 1000).count();
    assert!((30..90).contains(&large), "{large} of 200, 60 expected");
    assert!(sizes[200..].iter().all(|size| (16..=200_000).contains(size)));
}

#[test]
fn rates_and_sizes_vary_over_time() {
    let sizes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = sizes.clone();
    let broker = Broker::start(move |_, body| {
        seen.lock().unwrap().push(body.len());
        echo(0, body)
    });
    let rates = "--variable-rate 100:0.5 --variable-rate 0:0.25 --variable-rate 400:0.25";
    let report = report(
        &broker.run(&format!("-z 1 {rates} --variable-size 50:0.5 --variable-size 500:0.5")),
    );
    check(&report, &[("sent", 150), ("received", 150)]);
    let sizes = sizes.lock().unwrap();
    assert_eq!(sizes.iter().filter(|size| **size == 50).count(), 50);
    assert_eq!(sizes.iter().filter(|size| **size == 500).count(), 100);
}

#[test]
fn a_total_rate_is_shared() {
    let report = report(&Broker::start(echo).run("-z 1 -x 4 --total-rate 200"));
    check(&report, &[("sent", 200), ("received", 200)]);
}

#[test]
fn a_backlog_is_published_before_consumers_start_and_is_drained() {
    let broker = Broker::start(|_, _| vec![Act::Keep]);
    let output = broker.run("-x 0 --backlog 300 -q 50");
    assert!(output.status.success());
    check(&report(&output), &[("received", 300), ("left_in_queue", 0), ("duplicates", 0)]);
    let log = broker.log();
    let at = |name: &str| log.iter().position(|method| method == name).unwrap();
    assert!(at("ConfirmSelect") < at("BasicConsume"), "published before consumers start");
}

#[test]
fn discarded_messages_are_not_missing() {
    let broker = Broker::start(|number, body| match number % 4 {
        0 => vec![Act::Keep],
        1 => echo(0, body),
        _ => vec![],
    });
    let output = broker.run("-C 100 -c 10 --queue-args x-message-ttl=5 --drain-timeout 0.5");
    let report = report(&output);
    assert!(output.status.success(), "{report}");
    check(&report, &[("sent", 100), ("received", 25), ("left_in_queue", 25)]);
    check(&report, &[("discarded", 50), ("missing", 0)]);
}

#[test]
fn churn_counts_what_the_broker_saw() {
    for (kind, method) in [
        ("connection", "ConnectionOpen"),
        ("channel", "ChannelOpen"),
        ("queue", "QueueDeclare"),
        ("binding", "QueueBind"),
        ("consumer", "BasicConsume"),
    ] {
        let broker = Broker::start(echo);
        let output = broker.churn(&format!("--kind {kind} -z 0.3"));
        let report = report(&output);
        assert!(output.status.success());
        let operations = report["churn"]["operations"].as_u64().unwrap();
        let seen = broker.log().iter().filter(|name| *name == method).count() as u64;
        let of_its_own = u64::from(["connection", "channel"].contains(&kind));
        assert!(operations > 0 && seen == operations + of_its_own, "{kind}: {seen} {report}");
        assert_eq!(report["latency_us"]["count"], operations);
    }
}

#[test]
fn a_broker_that_dies_leaves_a_partial_report() {
    let broker = Broker::start(|number, body| match number {
        60 => vec![Act::Die],
        _ => echo(0, body),
    });
    let output = broker.run("-C 1000 -c 10 -r 500");
    assert_eq!(output.status.code(), Some(1));
    let report = report(&output);
    let received = report["account"]["received"].as_u64().unwrap();
    assert!((50..=60).contains(&received), "{report}");
    assert!(report["broken"].as_str().unwrap().contains("hung up"), "{report}");
    let notes = report["notes"].to_string();
    assert!(notes.contains("in flight") && !notes.contains("not closed in time"), "{notes}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the run was cut short: the broker hung up"), "{text}");
}

#[test]
fn predeclared_objects_must_exist_and_are_not_deleted() {
    let broker = Broker::start(echo);
    let refused = |arguments: &str| {
        let output = broker.run(arguments);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = refused("-p -u orders -C 1");
    assert!(text.contains("there is no queue orders: declare it"), "{text}");
    let broker = Broker::start(echo).with_queue("orders");
    let text = broker.run("-p -u orders -e x -C 1");
    let text = String::from_utf8_lossy(&text.stderr).into_owned();
    assert!(text.contains("there is no exchange x: declare it"), "{text}");
    let output = broker.run("-p -u orders -C 10");
    check(&report(&output), &[("sent", 10), ("received", 10)]);
    assert!(!broker.log().contains(&"QueueDelete".to_owned()));
}

#[test]
fn a_slow_start_waits_a_second_between_consumers() {
    let broker = Broker::start(echo);
    let begin = std::time::Instant::now();
    check(&report(&broker.run("-C 10 -y 2 -S")), &[("received", 10)]);
    assert!(begin.elapsed() >= std::time::Duration::from_secs(1));
}
