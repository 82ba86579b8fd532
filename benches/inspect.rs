//! Lists of many queues: what a chunk costs the shard that makes it, and what a neighbour notices
//! while all lists are walked without a pause.
//!
//! `inspect [QUEUES]`, 100,000 by default; half of them live on each of two shards.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench that cannot go on says so by panicking"
)]

#[allow(dead_code, reason = "a test needs more of it")]
#[path = "../tests/inspect/broker.rs"]
mod broker;
#[allow(dead_code, reason = "a test needs more of it")]
#[path = "../tests/inspect/client.rs"]
mod client;
#[path = "../tests/rig/mod.rs"]
mod rig;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use amqp::Method;
use broker::Broker;
use client::Client;
use rig::Rig;
use ringtail::mesh::inspect::{InspectId, Page, ShardAnswer, ShardRequest};

/// How long a neighbour is watched.
const WATCHED: Duration = Duration::from_secs(5);

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let queues = arguments.next().and_then(|queues| queues.parse().ok()).unwrap_or(100_000);
    chunks(queues / 2);
    neighbour(queues);
}

/// The time of each chunk of one shard, without threads.
fn chunks(queues: usize) {
    let mut rig = Rig::balanced(1);
    let client = rig.client(0);
    for number in 0..queues {
        rig.call(client, 1, &rig::declare(&format!("queue-{number}"), false));
    }
    let (mut times, mut rows) = (Vec::new(), 0);
    for _ in 0..5 {
        let mut page = Page::behind(None);
        loop {
            let begun = Instant::now();
            rig.shards[0].inspect(InspectId(1), ShardRequest::Queues(page), rig.now);
            times.push(begun.elapsed());
            let Some((_, ShardAnswer::Queues(chunk))) = rig.shards[0].next_inspected() else {
                panic!("a list is answered at once")
            };
            rows += chunk.items.len();
            page = Page::behind(chunk.next);
            if page.behind.is_none() {
                break;
            }
        }
    }
    println!(
        "{rows} rows in {} chunks of one shard with {queues} queues: {}",
        times.len(),
        of(times)
    );
}

/// Confirms of a client on a broker with many queues, beside nothing and beside lists.
fn neighbour(queues: usize) {
    let broker = Broker::start();
    let mut client = Client::connect(broker.address());
    for number in 0..queues {
        client.declare_with(&format!("queue-{number}"), false, number % 500 != 0);
    }
    client.declare("busy");
    println!("publish and confirm beside nothing: {}", of(watch(broker.address())));
    let stop = Arc::new(AtomicBool::new(false));
    let (watcher, told) = (broker.address(), Arc::clone(&stop));
    let watched = thread::spawn(move || {
        let times = watch(watcher);
        told.store(true, Ordering::Relaxed);
        times
    });
    let (mut walks, begun) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let [known, here] = broker.queue_ids();
        assert_eq!((known.len(), here.len()), (queues + 1, queues + 1));
        walks += 1;
    }
    let each = begun.elapsed() / walks;
    println!("{walks} walks over both lists of {queues} queues, {each:?} each");
    println!("publish and confirm beside them: {}", of(watched.join().unwrap()));
    drop(client);
}

fn watch(address: SocketAddr) -> Vec<Duration> {
    let mut client = Client::connect(address);
    client.call(1, &Method::ConfirmSelect { nowait: false }, "ConfirmSelectOk");
    let (mut times, until) = (Vec::new(), Instant::now() + WATCHED);
    while Instant::now() < until {
        let begun = Instant::now();
        client.publish(1, ("", "busy"), false);
        client.expect("BasicAck");
        times.push(begun.elapsed());
    }
    times
}

fn of(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 1000];
    let [half, most, nearly, all] = [500, 990, 999, 1000].map(at);
    format!(
        "{} times, half within {half:?}, 99 % {most:?}, 99.9 % {nearly:?}, all {all:?}",
        times.len()
    )
}
