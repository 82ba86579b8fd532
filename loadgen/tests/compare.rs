//! `loadgen compare` says what each broker did, and goes on whatever one of them does.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use support::{Act, Broker};

const QUICK: &str = "--rounds 2 --seconds 0.2 --warmup 0.1";

/// A folder of its own for each test's reports.
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
        for (name, broker) in targets {
            command.arg("--target").arg(format!("{name}={}", broker.uri()));
        }
        command
    }

    /// A scenario of 500 messages of 50 octets a second.
    fn slow(&self) -> String {
        let path = self.0.join("slow.toml");
        let text = "title = 'Slow'\nabout = 'Slow.'\nfigure = 'latency'\n\
                    [run]\nsize = 50\nrate = 500\nautoack = true\n";
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.0.join("report.json")).unwrap()).unwrap()
    }

    fn html(&self) -> String {
        std::fs::read_to_string(self.0.join("report.html")).unwrap()
    }
}

fn echo(_: u64, body: &[u8]) -> Vec<Act> {
    vec![Act::Deliver(body.to_vec())]
}

fn texts(output: &Output) -> (String, String) {
    let text = |octets| String::from_utf8_lossy(octets).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn who_refuses_a_scenario_is_named_and_all_others_are_measured() {
    // Whoever has the argument lets all messages expire at once.
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
}
