//! The disk threads: what a batch of the log costs, and how many threads the logs should have.
//!
//! Prints tables instead of using criterion: a disk is judged by interleaved rounds and by its
//! percentiles. The folder is `RINGTAIL_BENCH_DIR`, or the system's for temporary files.
// A benchmark that cannot be set up may well panic.
#![allow(clippy::expect_used)]

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringtail::runtime::disk::{DiskConfig, DiskEnd, DiskThreads};
use ringtail::runtime::wakeup::Wakeup;
use ringtail::store::{FileName, Op, Work};

const SEGMENT: u64 = 32 << 20;
const ROUNDS: usize = 3;
const SIZES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

fn main() {
    let folder = env::var_os("RINGTAIL_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("ringtail-bench-{}", std::process::id()));
    fs::create_dir(&folder).expect("a new folder");
    files(&folder);
    threads(&folder);
    fs::remove_dir_all(&folder).expect("the folder can be removed");
}

/// How often a batch of that size is appended.
fn count(size: usize) -> u64 {
    (SEGMENT / size as u64).min(500)
}

/// Microseconds of each, as a line of the table.
fn line(what: &str, size: usize, mut times: Vec<Duration>) {
    times.sort_unstable();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let at = |share: usize| us(times[(times.len() - 1) * share / 100]);
    let mean = us(times.iter().sum::<Duration>()) / times.len() as f64;
    let kib = size >> 10;
    println!("{what:<44} {kib:>5} KiB {mean:>8.0} {:>8.0} {:>8.0}", at(50), at(99));
}

fn heading() {
    println!("{:<44} {:>9} {:>8} {:>8} {:>8}", "", "batch", "mean µs", "p50", "p99");
}

type Layout = (&'static str, fn(&File));

/// Ways to lay out a file that is appended to and synced.
const LAYOUTS: [Layout; 3] = [
    ("growing", |_| {}),
    ("fallocate", |file| {
        let all = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(file, all, 0, SEGMENT).expect("room");
        file.sync_all().expect("a sync");
    }),
    ("written before", |file| {
        let zeros = vec![0; 1 << 20];
        (0..SEGMENT >> 20).for_each(|mib| file.write_all_at(&zeros, mib << 20).expect("room"));
        file.sync_all().expect("a sync");
    }),
];

fn bare(folder: &Path, size: usize, lay_out: fn(&File)) -> Vec<Duration> {
    let path = folder.join("bare");
    let file = File::create(&path).expect("a file");
    lay_out(&file);
    let bytes = vec![7; size];
    let append = |round: u64| {
        let start = Instant::now();
        file.write_all_at(&bytes, round * size as u64).expect("room");
        file.sync_data().expect("a sync");
        start.elapsed()
    };
    let times = (0..count(size)).map(append).collect();
    fs::remove_file(&path).expect("it exists");
    times
}

fn start(
    folder: &Path,
    shards: usize,
    log_thread_each: bool,
) -> (DiskThreads, Vec<DiskEnd>, Vec<Arc<Wakeup>>) {
    for place in ["log", "queues"] {
        fs::create_dir_all(folder.join(place)).expect("a folder");
    }
    let wakeups: Vec<_> =
        (0..shards).map(|_| Arc::new(Wakeup::new().expect("an eventfd"))).collect();
    let config = DiskConfig {
        data_dir: folder.to_owned(),
        segment_bytes: SEGMENT,
        open_files: 16,
        log_thread_each,
        give_back: Arc::default(),
        faults: Vec::new(),
    };
    // A spare for each, so that both ways of this comparison begin alike.
    for number in 0..=shards {
        let file = File::create(folder.join(format!("log/spare-{number}"))).expect("a file");
        LAYOUTS[2].1(&file);
    }
    let (disk, ends) = DiskThreads::start(config, &wakeups, |why| panic!("{why}"))
        .expect("threads can be started");
    (disk, ends, wakeups)
}

/// One synced batch after the other: from handing out to the answer.
fn append(
    end: &mut DiskEnd,
    wakeup: &Wakeup,
    shard: u16,
    number: u32,
    size: usize,
) -> Vec<Duration> {
    let bytes = Bytes::from(vec![7; size]);
    let file = FileName::Log { boot: 1, shard, number };
    let mut times = Vec::new();
    for id in 0..count(size) {
        let start = Instant::now();
        let at = id * size as u64;
        let work = Work::Write { at, pieces: vec![bytes.clone()], create: id == 0, sync: true };
        end.submit(Op { id, file, work });
        end.wake_threads();
        let done = loop {
            if let Some(done) = end.next_done() {
                break done;
            }
            wakeup.announce_sleep();
            if !end.has_answers() {
                wakeup.wait().expect("an eventfd can be read");
            }
            wakeup.awake();
        };
        done.result.expect("room");
        times.push(start.elapsed());
    }
    end.submit(Op { id: u64::MAX, file, work: Work::Delete { sync: false } });
    end.wake_threads();
    while !end.is_idle() {
        end.next_done();
    }
    times
}

/// Bare system calls on every layout, and the same through the threads.
fn files(folder: &Path) {
    heading();
    let mut times = vec![Vec::new(); (LAYOUTS.len() + 1) * SIZES.len()];
    for number in 0..ROUNDS as u32 {
        for (at, size) in SIZES.into_iter().enumerate() {
            for (layout, (_, lay_out)) in LAYOUTS.into_iter().enumerate() {
                times[at * 4 + layout].extend(bare(folder, size, lay_out));
            }
            let (disk, mut ends, wakeups) = start(folder, 1, false);
            times[at * 4 + 3].extend(append(&mut ends[0], &wakeups[0], 0, number, size));
            disk.stop();
        }
    }
    let names = LAYOUTS.map(|layout| layout.0).into_iter().chain(["through the disk thread"]);
    let names: Vec<_> = names.collect();
    for (at, times) in times.into_iter().enumerate() {
        line(names[at % 4], SIZES[at / 4], times);
    }
}

/// Several shards that each append all the time, with one thread for all logs and with one each.
fn threads(folder: &Path) {
    println!();
    heading();
    for shards in [2, 4] {
        for size in SIZES {
            let mut times = [Vec::new(), Vec::new()];
            for number in 0..ROUNDS as u32 {
                for each in [false, true] {
                    let (disk, ends, wakeups) = start(folder, shards, each);
                    let run = |((mut end, wakeup), shard): ((DiskEnd, Arc<Wakeup>), u16)| {
                        thread::spawn(move || append(&mut end, &wakeup, shard, number, size))
                    };
                    let running: Vec<_> = ends.into_iter().zip(wakeups).zip(0..).map(run).collect();
                    for thread in running {
                        times[usize::from(each)].extend(thread.join().expect("it ran"));
                    }
                    disk.stop();
                }
            }
            for (times, how) in times.into_iter().zip(["one thread", "a thread each"]) {
                line(&format!("{shards} shards, {how}"), size, times);
            }
        }
    }
}
