//! Runs seeds on all cores, and tells how to replay the one that broke.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::run::{Broken, Outcome, SEEDS, run};

/// Without `SIM_SEEDS` a run stops after this time, but not before [`SEEDS_LEAST`].
const PATIENCE: Duration = Duration::from_secs(30);
/// So many run in any case; a build without faults is mostly one for debugging, which is slow.
const SEEDS_LEAST: u64 = if cfg!(feature = "mutants") { 300 } else { 60 };
/// So many run twice.
const SEEDS_TWICE: u64 = if cfg!(feature = "mutants") { 100 } else { 20 };
/// Lines of the trace that are shown.
const LINES: usize = 600;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs a seed; a panic of the broker is a broken rule too.
///
/// # Errors
/// See [`run`].
pub fn attempt(seed: u64, trace: bool) -> Result<Outcome, Broken> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                LAST.set(info.location().map_or(0, |at| at.line()));
            } else {
                usual(info);
            }
        }));
    });
    QUIET.set(!trace);
    let result = catch_unwind(AssertUnwindSafe(|| run(seed, trace)));
    QUIET.set(false);
    result.unwrap_or_else(|panic| {
        let what = format!("panic in line {}: {}", LAST.get(), text(panic.as_ref()));
        Err(Broken { what, trace: Vec::new() })
    })
}

thread_local! {
    /// The line of the last panic.
    static LAST: Cell<u32> = const { Cell::new(0) };
}

fn text(panic: &(dyn Any + Send)) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    owned.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// A number from the environment.
pub fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs `work` for numbers below `count` on all cores, until one gives something.
pub fn on_all_cores<T: Send>(count: u64, work: impl Fn(u64) -> Option<T> + Sync) -> Option<T> {
    let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let worker = || {
            while !found.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return None;
                }
                if let Some(result) = work(number) {
                    found.store(true, Ordering::Relaxed);
                    return Some(result);
                }
            }
            None
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).next()
    })
}

#[test]
fn seeds_hold() {
    let (first, count) = (from_env("SIM_FIRST").unwrap_or(0), from_env("SIM_SEEDS"));
    let start = Instant::now();
    let broken = on_all_cores(count.unwrap_or(SEEDS), |number| {
        if count.is_none() && number >= SEEDS_LEAST && start.elapsed() > PATIENCE {
            return None;
        }
        let seed = first + number;
        attempt(seed, false).err().map(|broken| (seed, broken))
    });
    if let Some((seed, broken)) = broken {
        println!("{}", broken.what);
        panic!(
            "seed {seed} broke a rule: {}\nreplay: SIM_SEED={seed} SIM_TRACE=1 cargo test \
             --profile sim --test {} replay -- --nocapture",
            broken.what,
            env!("CARGO_CRATE_NAME"),
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let differs = on_all_cores(SEEDS_TWICE, |seed| {
        let (one, two) = (attempt(seed, false), attempt(seed, false));
        (one.ok() != two.ok()).then_some(seed)
    });
    assert_eq!(differs, None, "this seed's output differs from run to run");
}

#[test]
fn replay() {
    let Some(seed) = from_env("SIM_SEED") else { return };
    match attempt(seed, std::env::var_os("SIM_TRACE").is_some()) {
        Ok(outcome) => println!("seed {seed} holds: {outcome:?}"),
        Err(broken) => {
            let start = broken.trace.len().saturating_sub(LINES);
            broken.trace[start..].iter().for_each(|line| println!("{line}"));
            panic!("seed {seed} broke a rule: {}", broken.what);
        }
    }
}
