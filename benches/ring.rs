//! The mesh: what a batch costs within a thread, and between two that wake each other.
// A benchmark that cannot be set up may well panic.
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringtail::runtime::rings::{Endpoint, mesh};

const ITEMS: u64 = 64;

fn ends() -> (Endpoint<Vec<u64>>, Endpoint<Vec<u64>>) {
    let mut ends = mesh(2).expect("two eventfds").into_iter();
    (ends.next().expect("the first"), ends.next().expect("the second"))
}

fn one_thread(c: &mut Criterion) {
    let (mut a, mut b) = ends();
    let mut batch = Vec::new();
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("a batch of 64 within a thread", |bencher| {
        bencher.iter(|| {
            batch.extend(0..ITEMS);
            a.send(1, &mut batch);
            a.wake_peers();
            let mut taken = b.take(0).expect("it was sent");
            taken.drain(..).for_each(|item| {
                black_box(item);
            });
            b.give_back(0, taken);
            b.wake_peers();
        });
    });
}

/// Echoes every batch until an empty one comes.
fn echo(mut end: Endpoint<Vec<u64>>) {
    loop {
        while let Some(mut batch) = end.take(0) {
            if batch.is_empty() {
                return;
            }
            end.send(0, &mut batch);
            end.give_back(0, batch);
        }
        end.wake_peers();
        rest(&end);
    }
}

fn rest(end: &Endpoint<Vec<u64>>) {
    if end.may_sleep() {
        end.wakeup().wait().expect("an eventfd can be read");
    }
    end.awake();
}

fn two_threads(c: &mut Criterion) {
    let (mut a, b) = ends();
    let other = thread::spawn(move || echo(b));
    let mut batch = Vec::new();
    c.bench_function("ring/there and back between sleeping threads", |bencher| {
        bencher.iter(|| {
            batch.clear();
            batch.push(1);
            a.send(1, &mut batch);
            a.wake_peers();
            loop {
                if let Some(mut answer) = a.take(1) {
                    answer.clear();
                    a.give_back(1, answer);
                    break;
                }
                rest(&a);
            }
        });
    });
    batch.clear();
    a.send(1, &mut batch);
    a.wake_peers();
    other.join().expect("the echo ends");
}

criterion_group!(benches, one_thread, two_threads);
criterion_main!(benches);
