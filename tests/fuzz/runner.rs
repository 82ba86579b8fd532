//! Runs seeds on all cores and reports the one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An unoptimised build stops after this time …
const PATIENCE: Duration = Duration::from_secs(5);
/// … but runs at least so many seeds.
const SEEDS_LEAST: u64 = 20;
/// How often long runs print their progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// What was done, and the largest costs.
#[derive(Debug, Default, Clone, Copy)]
pub struct Figures {
    /// Frames that a parser took.
    pub frames: u64,
    /// Connections that were opened to a broker.
    pub sessions: u64,
    /// Bytes of output and of batches that one call made at most.
    pub work: usize,
    /// Microseconds of CPU that one call took at most; from turn to turn until all is quiet is one.
    pub call_us: u64,
    /// Bytes that one broker held at most.
    pub peak: usize,
    /// The largest single request to the allocator, in bytes.
    pub largest: usize,
}

impl Figures {
    fn add(&mut self, other: Figures) {
        self.frames += other.frames;
        self.sessions += other.sessions;
        self.work = self.work.max(other.work);
        self.call_us = self.call_us.max(other.call_us);
        self.peak = self.peak.max(other.peak);
        self.largest = self.largest.max(other.largest);
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures { frames, sessions, work, call_us, peak, largest } = self;
        write!(
            out,
            "{frames} frames, {sessions} sessions; longest call {work} bytes of output, \
             {call_us} µs; most memory {peak} bytes, largest allocation {largest}"
        )
    }
}

/// A number from the environment.
pub fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
struct Enough {
    seeds: Option<u64>,
    frames: Option<u64>,
    seconds: Option<u64>,
}

impl Enough {
    fn from_env(fixed: u64) -> Self {
        let (frames, seconds) = (from_env("FUZZ_FRAMES"), from_env("FUZZ_SECONDS"));
        let asked = from_env("FUZZ_SEEDS");
        let long = frames.is_some() || seconds.is_some();
        Self { seeds: asked.or((!long).then_some(fixed)), frames, seconds }
    }

    /// 0 means no end.
    fn reached(&self, seeds: u64, figures: &Figures, elapsed: Duration) -> bool {
        let asked = [
            self.seeds.map(|most| seeds >= most),
            self.frames.map(|most| most > 0 && figures.frames + figures.sessions >= most),
            self.seconds.map(|most| most > 0 && elapsed.as_secs() >= most),
        ];
        let fixed = self.frames.is_none() && self.seconds.is_none();
        asked.into_iter().flatten().any(|reached| reached)
            || (fixed && seeds >= SEEDS_LEAST && elapsed > PATIENCE)
    }
}

struct Work<'w> {
    what: &'w str,
    run: fn(u64) -> Figures,
    first: u64,
    enough: Enough,
    start: Instant,
    next: AtomicU64,
    stop: AtomicBool,
    figures: Mutex<Figures>,
    said: Mutex<Instant>,
    broken: Mutex<Option<u64>>,
}

impl Work<'_> {
    fn go(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let so_far = *self.figures.lock().unwrap();
            if self.enough.reached(number, &so_far, self.start.elapsed()) {
                return;
            }
            let seed = self.first + number;
            match catch_unwind(AssertUnwindSafe(|| (self.run)(seed))) {
                Ok(figures) => self.figures.lock().unwrap().add(figures),
                Err(_) => {
                    *self.broken.lock().unwrap() = Some(seed);
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
            self.say();
        }
    }

    fn say(&self) {
        let mut said = self.said.lock().unwrap();
        if said.elapsed() > PROGRESS {
            *said = Instant::now();
            eprintln!("{}: {}", self.what, self.figures.lock().unwrap());
        }
    }
}

/// Runs `fixed` seeds, or as many as the environment asks for.
pub fn run_seeds(what: &str, fixed: u64, run: fn(u64) -> Figures) -> Figures {
    let start = Instant::now();
    let work = Work {
        what,
        run,
        first: from_env("FUZZ_FIRST").unwrap_or(0),
        enough: Enough::from_env(fixed),
        start,
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        figures: Mutex::default(),
        said: Mutex::new(start),
        broken: Mutex::new(None),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| work.go()))));
    let figures = *work.figures.lock().unwrap();
    println!("{what}: {figures}; {} s", start.elapsed().as_secs());
    if let Some(seed) = *work.broken.lock().unwrap() {
        panic!(
            "{what}: seed {seed} broke something, see above\nreplay: FUZZ_SEED={seed} cargo test \
             --profile sim --test fuzz replay -- --nocapture"
        );
    }
    figures
}

#[test]
fn the_wire_holds() {
    let figures = run_seeds("wire", 3000, crate::wire::run);
    assert!(figures.frames > 1000, "{figures}");
}

#[test]
fn whole_sessions_hold() {
    let figures = run_seeds("sessions", 1500, crate::session::run);
    assert!(figures.frames > 1000 && figures.sessions > 100, "{figures}");
}

#[test]
fn replay() {
    let Some(seed) = from_env("FUZZ_SEED") else { return };
    println!("wire: {}", crate::wire::run(seed));
    println!("session: {}", crate::session::run(seed));
}
