//! `loadgen run` reports exactly what a broker did.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Act, Broker, report};

const MILLISECOND: Duration = Duration::from_millis(1);

fn echo(_: u64, body: &[u8]) -> Vec<Act> {
    vec![Act::Deliver(body.to_vec())]
}

fn account(report: &Value, name: &str) -> u64 {
    report["account"][name].as_u64().unwrap()
}

fn latency(report: &Value, name: &str) -> f64 {
    report["latency_us"][name].as_f64().unwrap()
}

#[test]
fn a_good_broker_gets_a_clean_report_and_an_orderly_close() {
    let broker = Broker::start(echo);
    let output = broker.run("-C 1000 -c 100 -q 50 -A 10");
    let report = report(&output);
    assert!(output.status.success());
    for (name, expected) in [
        ("sent", 1000),
        ("received", 1000),
        ("confirmed", 1000),
        ("missing", 0),
        ("duplicates", 0),
        ("out_of_order", 0),
        ("unconfirmed", 0),
    ] {
        assert_eq!(account(&report, name), expected, "{name}");
    }
    assert_eq!(report["order_kept"], true);
    assert_eq!(report["confirm_latency_us"]["count"], 1000);
    let log = broker.log();
    let count = |name: &str| log.iter().filter(|method| *method == name).count();
    assert_eq!(count("BasicAck"), 100, "one ack for ten");
    assert_eq!((count("BasicCancel"), count("QueueDelete"), count("ConnectionClose")), (1, 1, 3));
}

#[test]
fn bodies_of_any_size_are_accounted_for() {
    for size in [16, 17, 4096, 131_064, 131_065, 500_000] {
        let report = report(&Broker::start(echo).run(&format!("-C 20 -s {size}")));
        assert_eq!((account(&report, "received"), account(&report, "missing")), (20, 0), "{size}");
    }
}

#[test]
fn a_dropped_message_is_missing() {
    let broker = Broker::start(|number, body| if number == 7 { vec![] } else { echo(0, body) });
    let output = broker.run("-C 20 --drain-timeout 0.5");
    let report = report(&output);
    assert_eq!((account(&report, "received"), account(&report, "missing")), (19, 1));
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 messages are missing"));
}

#[test]
fn a_message_left_in_the_queue_is_not_missing() {
    let broker =
        Broker::start(|number, body| if number < 5 { vec![Act::Keep] } else { echo(0, body) });
    let output = broker.run("-C 20 --drain-timeout 0.5");
    let report = report(&output);
    assert_eq!((account(&report, "left_in_queue"), account(&report, "missing")), (5, 0));
    assert!(output.status.success());
}

#[test]
fn a_message_delivered_twice_is_a_duplicate() {
    let broker = Broker::start(|number, body| {
        let copies = if number == 3 { 2 } else { 1 };
        (0..copies).map(|_| Act::Deliver(body.to_vec())).collect()
    });
    let report = report(&broker.run("-C 20"));
    assert_eq!((account(&report, "received"), account(&report, "duplicates")), (20, 1));
    assert_eq!(report["order_kept"], true);
}

#[test]
fn two_messages_in_the_wrong_order_are_counted() {
    let mut held = None;
    let broker = Broker::start(move |number, body| match number {
        10 => {
            held = Some(body.to_vec());
            vec![]
        }
        11 => vec![Act::Deliver(body.to_vec()), Act::Deliver(held.take().unwrap())],
        _ => echo(0, body),
    });
    let report = report(&broker.run("-C 20"));
    assert_eq!((account(&report, "received"), account(&report, "out_of_order")), (20, 1));
    assert_eq!(report["order_kept"], false);
}

#[test]
fn returned_and_nacked_messages_are_counted_apart() {
    let broker = Broker::start(|number, body| match number % 4 {
        0 => vec![Act::Return(body.to_vec())],
        1 => vec![Act::Nack],
        _ => echo(0, body),
    });
    let output = broker.run("-C 40 -c 8 -f mandatory");
    let report = report(&output);
    assert!(output.status.success());
    assert_eq!((account(&report, "returned"), account(&report, "nacked")), (10, 10));
    assert_eq!((account(&report, "received"), account(&report, "confirmed")), (20, 30));
}

#[test]
fn a_delay_is_the_least_latency() {
    let broker =
        Broker::start(|_, body| vec![Act::Pause(5 * MILLISECOND), Act::Deliver(body.to_vec())]);
    let report = report(&broker.run("-r 50 -C 20"));
    assert!(latency(&report, "min") >= 5_000.0);
    assert!(latency(&report, "p50") < 50_000.0, "{report}");
}

/// 1000 messages per second for 2 s with a pause of 500 ms: 500 messages were due during the pause
/// and arrived 0 to 500 ms late. A generator that waits for the broker, as most do, would measure
/// one late message.
fn check_pause_shows(arguments: &str) {
    let broker = Broker::start(|number, body| {
        let mut acts = echo(0, body);
        if number == 700 {
            acts.insert(0, Act::Pause(500 * MILLISECOND));
        }
        acts
    });
    let report = report(&broker.run(&format!("-r 1000 -z 2 {arguments}")));
    assert_eq!((account(&report, "sent"), account(&report, "received")), (2000, 2000));
    for (name, least) in
        [("max", 495_000.0), ("p99.9", 490_000.0), ("p99", 450_000.0), ("p95", 350_000.0)]
    {
        let value = latency(&report, name);
        assert!(value >= least && value < 900_000.0, "{name}: {report}");
    }
    assert!(latency(&report, "p50") < 100_000.0, "{report}");
}

#[test]
fn a_pause_of_the_broker_shows_in_all_messages_that_were_due() {
    check_pause_shows("");
}

#[test]
fn a_pause_shows_even_if_the_window_stopped_the_producer() {
    check_pause_shows("-c 1");
}

#[test]
fn the_warm_up_is_not_measured() {
    let broker = Broker::start(|number, body| {
        let mut acts = echo(0, body);
        if number == 0 {
            acts.insert(0, Act::Pause(300 * MILLISECOND));
        }
        acts
    });
    let report = report(&broker.run("-r 100 -z 2 --warmup 1"));
    assert_eq!((account(&report, "sent"), &report["latency_us"]["count"]), (200, &100.into()));
    assert!(latency(&report, "max") < 290_000.0, "{report}");
    let rate = report["sent"]["rate"].as_f64().unwrap();
    assert!((90.0..115.0).contains(&rate), "{report}");
}

#[test]
fn several_producers_on_several_threads_add_up() {
    let broker = Broker::start(echo);
    let report = report(&broker.run("-x 5 -C 200 --threads 3"));
    assert_eq!((account(&report, "sent"), account(&report, "received")), (1000, 1000));
    assert_eq!(report["order_kept"], true);
}

#[test]
fn consumers_stop_at_their_limit() {
    let broker = Broker::start(echo);
    let report = report(&broker.run("-D 50 -r 2000"));
    assert_eq!(account(&report, "received"), 50);
    // The producer finishes long before the consumer; the consumer must stay until its limit.
    let slow = |_, body: &[u8]| vec![Act::Pause(MILLISECOND), Act::Deliver(body.to_vec())];
    let report = self::report(&Broker::start(slow).run("-C 200 -D 150 -q 10"));
    assert_eq!((account(&report, "sent"), account(&report, "received")), (200, 150));
}

fn failure(broker: &Broker, arguments: &str) -> (Option<i32>, String) {
    let output = broker.run(arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_channel_closed_by_the_broker_is_reported_with_code_and_text() {
    let broker =
        Broker::start(|_, _| vec![Act::CloseChannel(406, "PRECONDITION_FAILED - not today")]);
    let (code, text) = failure(&broker, "-C 20");
    assert_eq!(code, Some(1));
    let expected = "the broker closed the channel: 406 PRECONDITION_FAILED - not today";
    assert!(text.contains(expected), "{text}");
    assert!(broker.log().contains(&"QueueDelete".to_owned()), "the queue is still deleted");
}

#[test]
fn a_broker_that_hangs_up_is_reported() {
    let broker = Broker::start(|_, _| vec![Act::HangUp]);
    let (code, text) = failure(&broker, "-C 20 --drain-timeout 1");
    assert_eq!(code, Some(1));
    assert!(text.contains("hung up in the middle of the run"), "{text}");
}

#[test]
fn a_refused_login_is_reported() {
    let output = Broker::start(echo).run_as("guest:wrong", "-C 1");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("403 ACCESS_REFUSED - Login was refused. Check user"), "{text}");
}

#[test]
fn wrong_flags_and_a_missing_broker_are_reported() {
    let broker = Broker::start(echo);
    assert_eq!(failure(&broker, "--no-such-flag").0, Some(2));
    let (code, text) = failure(&broker, "-s 8");
    assert!(code == Some(2) && text.contains("--size must be at least 16"), "{text}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", "--uri", "amqp://127.0.0.1:1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("cannot reach 127.0.0.1:1: Connection refused"), "{text}");
}

#[test]
fn ctrl_c_ends_a_run_with_a_report_until_then() {
    let (sender, hundredth) = std::sync::mpsc::channel();
    let broker = Broker::start(move |number, body| {
        if number == 100 {
            sender.send(()).unwrap();
        }
        echo(number, body)
    });
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", "--json", "-r", "500", "-z", "60", "-c", "10", "--uri", &broker.uri()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    hundredth.recv_timeout(Duration::from_secs(20)).unwrap();
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let report = report(&output);
    assert_eq!(report["broken"], "ended by SIGINT");
    let received = account(&report, "received");
    assert!((100..1000).contains(&received), "{report}");
    assert_eq!((account(&report, "sent"), account(&report, "missing")), (received, 0), "{report}");
    let log = broker.log();
    assert!(log.contains(&"QueueDelete".to_owned()), "the queue is still deleted");
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("loadgen: ended by SIGINT\n"));
}
