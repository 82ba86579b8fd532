//! `loadgen compare` reports what each broker did, even if one of them fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Act, Broker};

const QUICK: &str = "--rounds 2 --seconds 0.2 --warmup 0.1";

/// A folder of its own for the reports of each test.
struct Reports(PathBuf);

impl Reports {
    fn new(test: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("compare-{test}"));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn command(&self, targets: &[(&str, &Broker)], arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.arg("compare").args(arguments.split_whitespace());
        command.arg("--json").arg(self.0.join("report.json"));
        command.arg("--html").arg(self.0.join("report.html"));
        command.arg("--svg").arg(self.0.join("report.svg"));
        for (name, broker) in targets {
            command.arg("--target").arg(format!("{name}={}", broker.uri()));
        }
        command
    }

    /// A scenario with 500 messages of 50 bytes per second.
    fn slow(&self) -> String {
        let path = self.0.join("slow.toml");
        let text = "title = 'Slow'\nabout = 'Slow.'\nfigure = 'latency'\n\
                    [run]\nsize = 50\nrate = 500\nautoack = true\n";
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text("report.json")).unwrap()
    }

    fn html(&self) -> String {
        self.text("report.html")
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap()
    }

    fn can_be_drawn_again(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.arg("report").arg(self.0.join("report.json"));
        command.arg("--html").arg(self.0.join("again.html"));
        let again = command.arg("--svg").arg(self.0.join("again.svg")).output().unwrap();
        assert!(again.status.success(), "{}", texts(&again).1);
        assert_eq!(self.text("again.html"), self.html());
        assert_eq!(self.text("again.svg"), self.text("report.svg"));
        assert!(self.text("again.svg").contains("Slow"));
    }
}

fn echo(_: u64, body: &[u8]) -> Vec<Act> {
    vec![Act::Deliver(body.to_vec())]
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Waits for `when`, sends a signal to the program and waits for its end.
fn interrupted(mut command: Command, signal: Signal, when: &Receiver<()>) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    when.recv_timeout(Duration::from_secs(20)).unwrap();
    kill_process(Pid::from_child(&child), signal).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_ceiling_compares_the_relay_with_the_socket_baseline() {
    let (broker, reports) = (Broker::start(echo), Reports::new("ceiling"));
    let path = reports.0.join("quick.toml");
    let text = "title = 'Quick'\nabout = 'Quick.'\nfigure = 'received'\nceiling = true\n\
                [run]\nsize = 1000\nautoack = true\n";
    std::fs::write(&path, text).unwrap();
    let arguments = format!("--scenario {} --rounds 1 --seconds 0.2 --warmup 0.1", path.display());
    let output = reports.command(&[("one", &broker)], &arguments).output().unwrap();
    let (table, shown) = texts(&output);
    assert!(output.status.success(), "{shown}");
    assert!(
        table.contains("relay throughput as a share of the socket baseline: quick "),
        "{table}"
    );
    assert!(reports.html().contains("of the socket baseline"));
    let of_pair = &reports.json()["scenarios"][0]["ceiling"]["steps"][0]["summary"]["of_pair"];
    assert!(of_pair.as_f64().unwrap() > 0.0, "{of_pair}");
}

#[test]
fn a_signal_ends_a_comparison_with_the_rounds_that_are_finished() {
    let (sender, second) = channel();
    let one = Broker::start(echo);
    let two = Broker::start(move |number, body| {
        if number == 20 {
            sender.send(()).unwrap();
        }
        echo(number, body)
    });
    let reports = Reports::new("interrupted");
    let arguments = format!("--scenario {} --scenario churn-queues --rounds 3", reports.slow());
    let command = reports.command(&[("one", &one), ("two", &two)], &arguments);
    let output = interrupted(command, Signal::TERM, &second);
    let (table, shown) = texts(&output);
    assert_eq!(output.status.code(), Some(143), "{shown}");
    assert!(table.contains("ended by SIGTERM: these are the rounds finished"), "{table}");
    assert!(shown.ends_with("loadgen: ended by SIGTERM\n"), "{shown}");
    assert!(table.lines().any(|line| line.contains("slow") && line.contains("not run")), "{table}");
    assert!(reports.html().contains("was ended by SIGTERM"));
    let report = reports.json();
    assert_eq!(report["ended"], "ended by SIGTERM");
    assert_eq!(report["scenarios"].as_array().unwrap().len(), 1);
    let runs = |n: usize| report["scenarios"][0]["results"][n]["steps"][0]["runs"].as_array();
    assert_eq!(
        (runs(0).unwrap().len(), runs(1).unwrap().len()),
        (1, 0),
        "an incomplete round does not count"
    );
    assert!(two.log().contains(&"QueueDelete".to_owned()), "the queue is still deleted");
}

#[test]
fn a_target_that_refuses_a_scenario_is_named_and_the_others_are_measured() {
    // The broker that supports the argument discards all messages at once.
    let able = Broker::start(|_, body| if body.len() == 100 { vec![] } else { echo(0, body) });
    let unable = Broker::start(echo).refusing("x-message-ttl");
    let reports = Reports::new("refused");
    let arguments = format!("--scenario message-ttl --scenario {} {QUICK}", reports.slow());
    let output = reports.command(&[("no", &unable), ("yes", &able)], &arguments).output().unwrap();
    assert!(output.status.success());
    let (table, shown) = texts(&output);
    let sentence = "406 PRECONDITION_FAILED - invalid arg <here>";
    assert!(table.contains(&format!("message-ttl: not supported by no: {sentence}")), "{table}");
    assert!(table.lines().any(|line| line.contains("message-ttl") && line.contains("unsupported")));
    assert_eq!(shown.matches(&format!("\n  not supported: {sentence}")).count(), 1, "{shown}");
    let html = reports.html();
    assert!(html.contains("no: not supported: 406 PRECONDITION_FAILED - invalid arg &lt;here&gt;"));

    let report = reports.json();
    let [refused, measured] = [0, 1].map(|n| &report["scenarios"][0]["results"][n]["steps"][0]);
    assert_eq!((&refused["unsupported"], &refused["summary"]), (&sentence.into(), &Value::Null));
    assert_eq!(refused["failures"].as_array().unwrap().len(), 0);
    assert_eq!(measured["runs"].as_array().unwrap().len(), 2, "{measured}");
    assert!(measured["summary"]["figure"]["median"].as_f64().unwrap() > 0.0);
    for slow in report["scenarios"][1]["results"].as_array().unwrap() {
        assert_eq!(slow["steps"][0]["runs"].as_array().unwrap().len(), 2, "{slow}");
    }
    reports.can_be_drawn_again();
}

#[test]
fn other_json_is_refused() {
    let path = Reports::new("no-comparison").0.join("other.json");
    std::fs::write(&path, "{}").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("report").arg(&path).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(texts(&output).1.contains("is not the JSON of a comparison"));
}
