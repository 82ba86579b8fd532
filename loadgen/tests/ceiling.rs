//! `loadgen ceiling` carries every message and measures it.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

fn ceiling(arguments: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["ceiling", "--json"])
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn nothing_is_lost_at_full_speed() {
    for size in ["16", "100", "70000", "300000"] {
        let report = ceiling(&format!("-z 0.3 -s {size}"));
        let account = &report["account"];
        assert!(account["sent"].as_u64().unwrap() > 100, "{report}");
        assert_eq!(account["sent"], account["received"], "{report}");
        assert_eq!((&account["missing"], &report["order_kept"]), (&0.into(), &true.into()));
    }
}

#[test]
fn keeps_a_rate_and_measures_latency() {
    let report = ceiling("-z 0.5 -r 1000");
    assert_eq!(report["account"]["sent"], 500, "{report}");
    assert_eq!(report["latency_us"]["count"], 500);
}

#[test]
fn a_window_of_one_is_a_ping_pong() {
    let report = ceiling("-z 0.3 -c 1");
    assert!(report["account"]["sent"].as_u64().unwrap() > 10, "{report}");
    assert_eq!(report["account"]["sent"], report["account"]["received"]);
}

#[test]
fn a_sink_swallows_what_is_published() {
    let report = ceiling("-z 0.3 --sink");
    let account = &report["account"];
    assert!(account["sent"].as_u64().unwrap() > 1000, "{report}");
    assert_eq!((&account["left_in_queue"], &account["missing"]), (&account["sent"], &0.into()));
}

#[test]
fn a_source_is_consumed_without_a_gap() {
    let report = ceiling("-z 0.3 --source -s 100");
    let account = &report["account"];
    assert!(account["received"].as_u64().unwrap() > 1000, "{report}");
    assert_eq!((&account["duplicates"], &account["foreign"]), (&0.into(), &0.into()));
    assert_eq!(report["order_kept"], true);
}

#[test]
fn the_relay_is_compared_with_the_socket_baseline() {
    let report = ceiling("-z 0.3 -s 4096");
    let beside = &report["beside"];
    let of = |name: &str| beside[name].as_f64().unwrap();
    assert!(of("relay_megabytes") > 1.0 && of("pair_megabytes") > 1.0, "{beside}");
    assert!((of("share") - of("relay_megabytes") / of("pair_megabytes")).abs() < 1e-9, "{beside}");
    assert_eq!(ceiling("-z 0.1 -r 1000")["beside"], Value::Null, "only without a rate");
}

#[test]
fn a_disk_syncs_batches() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let report = ceiling(&format!("--sync {folder} -s 1000 --batch 7 -z 0.3"));
    let synced = &report["synced"];
    assert_eq!((&synced["batch"], &synced["octets"]), (&7.into(), &7000.into()));
    assert_eq!(synced["syncs"], report["latency_us"]["count"]);
    assert!(synced["rate"].as_f64().unwrap() > 1.0, "{report}");
}
