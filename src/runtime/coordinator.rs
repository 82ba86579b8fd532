//! The coordinator's thread: not pinned to a CPU, asleep unless a shard sends something. All that
//! is decided in a turn is made durable by one write, before any of it is sent. If the disk is full
//! the write is repeated, and what does not depend on it is sent meanwhile.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use model::{Now, ShardId};

use super::clock::Clock;
use super::sys;
use crate::coordinator::Coordinator;
use crate::mesh::control::Control;
use crate::mesh::record::MeshRecord;
use crate::mesh::{Alarms, Batch};
use crate::runtime::disk::free_space::FreeSpace;
use crate::runtime::disk::meta::MetaFolder;
use crate::runtime::fact_writer::FactWriter;
use crate::runtime::inspect::CoordinatorQuestions;
use crate::runtime::memory::process::ProcessMemory;
use crate::runtime::rings::Endpoint;
use crate::runtime::text_log::TextLog;
use crate::runtime::wakeup::Wakeup;
use crate::store::meta::{Fact, MetaLog};
use crate::store::op::DiskError;

/// Bytes of facts that are written at once, or one fact more. What does not depend on them is
/// answered between two writes.
const FACTS_AT_ONCE: usize = 256 * 1024;
/// Bytes that a fact counts beside its arguments.
const AROUND_FACT: usize = 256;
/// Microseconds until a write that found the disk full is repeated.
const RETRY_US: u64 = 100_000;

/// The running thread.
#[derive(Debug)]
pub struct CoordinatorThread {
    wakeup: Arc<Wakeup>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl CoordinatorThread {
    /// Ends the thread; returns when it is over.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.wakeup.wake_always();
        if self.thread.join().is_err() {
            tracing::error!("the coordinator died");
        }
    }
}

/// Starts the thread with a coordinator and the log it was recovered from. If the thread dies,
/// `died` is called with the reason.
///
/// # Errors
///
/// The system's, if it gives no thread.
pub fn start(
    (coordinator, log): (Coordinator, MetaLog<MetaFolder>),
    mesh: Endpoint<Batch>,
    clock: Clock,
    (space, process, text_log): (Arc<FreeSpace>, ProcessMemory, Option<TextLog>),
    questions: CoordinatorQuestions,
    died: impl FnOnce(String) + Send + 'static,
) -> io::Result<CoordinatorThread> {
    let wakeup = Arc::clone(mesh.wakeup());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = FactWriter::start(log, Arc::clone(&wakeup))?;
    let mut driver = Driver {
        coordinator,
        writer,
        inbox: VecDeque::new(),
        records: Vec::new(),
        retry_us: None,
        mesh,
        clock,
        space,
        process,
        text_log,
        questions,
        logged: Alarms::default(),
        stop: stopped,
    };
    let run = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| driver.run()));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(why)) => died(why.to_string()),
            Err(_) => died("the coordinator's thread died".to_owned()),
        }
    };
    let thread = thread::Builder::new().name("ringtail-coord".to_owned()).spawn(run)?;
    Ok(CoordinatorThread { wakeup, stop, thread })
}

/// What the thread works on.
struct Driver {
    coordinator: Coordinator,
    writer: FactWriter,
    /// What shards sent and is not executed yet, in order.
    inbox: VecDeque<(ShardId, Control)>,
    /// Facts that are not durable yet.
    records: Vec<Fact>,
    /// When they are written again, since the disk was full.
    retry_us: Option<u64>,
    mesh: Endpoint<Batch>,
    clock: Clock,
    /// How much of the disk is free.
    space: Arc<FreeSpace>,
    /// What the process has in memory.
    process: ProcessMemory,
    /// Tests have none.
    text_log: Option<TextLog>,
    /// What threads outside the data path ask.
    questions: CoordinatorQuestions,
    /// The alarms that the text log knows.
    logged: Alarms,
    stop: Arc<AtomicBool>,
}

/// Why the coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
enum CoordinatorError {
    #[error("the coordinator cannot wait for the shards: {0}")]
    Wait(#[from] io::Error),
    #[error("what was declared or deleted may not be on the disk: {0}")]
    Disk(#[from] DiskError),
    #[error("what was declared or deleted may not be on the disk: the thread that writes it died")]
    Writer,
}

impl Driver {
    fn run(&mut self) -> Result<(), CoordinatorError> {
        while !self.stop.load(Ordering::Acquire) {
            self.turn()?;
            if !self.questions.has_next() && self.mesh.may_sleep() && !self.questions.waits() {
                self.sleep()?;
            }
            self.mesh.awake();
        }
        // What the shards sent last is recorded too if the disk has room. If not, nothing that
        // depends on it is sent.
        self.retry_us = self.retry_us.map(|_| 0);
        self.turn()
    }

    fn sleep(&mut self) -> io::Result<()> {
        self.process.before_sleep();
        let wakeup = self.mesh.wakeup();
        let due_us = [self.retry_us, self.process.due_us()].into_iter().flatten().min();
        if let Some(due_us) = due_us {
            let left = due_us.saturating_sub(self.clock.now().monotonic_us);
            // Rounded up, or the last millisecond would be spent awake.
            let left = Duration::from_millis(left.div_ceil(1000));
            if sys::wait_any(&[wakeup.as_fd()], Some(left), [false])? == [false] {
                return Ok(());
            }
        }
        wakeup.wait()
    }

    fn turn(&mut self) -> Result<(), CoordinatorError> {
        let now = self.clock.now();
        self.coordinator.disk_is_low(self.space.is_low());
        let counted = self.coordinator.counted_memory();
        if let Some(bytes) = self.process.look(now, counted) {
            self.coordinator.process_memory(bytes);
            tracing::debug!(counted, process = bytes, "memory in bytes");
        }
        loop {
            self.take(now);
            // Logged first: a client that is told of an alarm finds it in the log, unless nobody
            // reads that for a second.
            self.log_alarms();
            self.send_independent();
            self.execute_some(now);
            // One at a time: shards have theirs before the next.
            if let Some((id, request)) = self.questions.take() {
                self.coordinator.inspect(id, request, now);
            }
            self.record(now)?;
            self.send();
            self.answer_questions();
            if self.inbox.is_empty() {
                return Ok(());
            }
        }
    }

    /// Takes what the shards sent. What does not depend on other decisions is executed at once: a
    /// login does not wait for the disk.
    fn take(&mut self, now: Now) {
        for number in self.mesh.numbers() {
            let from = endpoint(number);
            while let Some(mut batch) = self.mesh.take(number) {
                let mut at = 0;
                while let Some(record) = batch.next(&mut at) {
                    // Nothing else is ever sent here.
                    match record {
                        MeshRecord::Control(control) if control.is_independent() => {
                            self.coordinator.control(from, control, now);
                        }
                        MeshRecord::Control(control) => self.inbox.push_back((from, control)),
                        _ => {}
                    }
                }
                batch.clear();
                self.mesh.give_back(number, batch);
            }
        }
    }

    /// Executes what was taken, until so much is to be made durable that it is written first.
    fn execute_some(&mut self, now: Now) {
        let mut bytes = 0;
        while bytes < FACTS_AT_ONCE
            && let Some((from, control)) = self.inbox.pop_front()
        {
            bytes += AROUND_FACT + control.fact_bytes();
            self.coordinator.control(from, control, now);
        }
    }

    /// Sends what does not depend on facts that are still to be written.
    fn send_independent(&mut self) {
        self.coordinator.send_independent();
        self.send_batches();
    }

    /// Makes durable what was decided, or tells the coordinator that the disk is full.
    fn record(&mut self, now: Now) -> Result<(), CoordinatorError> {
        loop {
            self.records.append(&mut self.coordinator.take_records());
            if self.retry_us.is_some_and(|retry_us| now.monotonic_us < retry_us) {
                return Ok(());
            }
            match self.write()? {
                Ok(()) => self.records.clear(),
                Err(failure) if failure.may_retry() => {
                    self.disk_is_full(&failure, now);
                    return Ok(());
                }
                Err(failure) => return Err(failure.into()),
            }
            if self.retry_us.take().is_none() {
                return Ok(());
            }
            tracing::info!("there is room again for what is declared and deleted");
            // Requests that waited are executed by this, and what they decide is recorded too.
            self.coordinator.disk_is_full(false, now);
        }
    }

    /// Makes the records durable. What does not depend on them is answered meanwhile: a login waits
    /// for no disk.
    fn write(&mut self) -> Result<Result<(), DiskError>, CoordinatorError> {
        if self.records.is_empty() {
            return Ok(Ok(()));
        }
        if !self.writer.begin(std::mem::take(&mut self.records)) {
            return Err(CoordinatorError::Writer);
        }
        loop {
            if let Some(written) = self.writer.written().map_err(|_| CoordinatorError::Writer)? {
                written.notes.iter().for_each(|note| tracing::warn!("{note}"));
                self.records = written.facts;
                return Ok(written.result);
            }
            if self.mesh.may_sleep() {
                // The writer wakes this thread too.
                self.mesh.wakeup().wait()?;
            }
            self.mesh.awake();
            self.take(self.clock.now());
            self.send_independent();
        }
    }

    fn disk_is_full(&mut self, failure: &DiskError, now: Now) {
        if self.retry_us.is_none() {
            tracing::warn!("{failure}; what is declared and deleted waits until there is room");
            self.coordinator.disk_is_full(true, now);
        }
        self.retry_us = Some(now.monotonic_us + RETRY_US);
    }

    fn send(&mut self) {
        self.coordinator.send_outbound();
        self.send_batches();
    }

    fn send_batches(&mut self) {
        for number in self.mesh.numbers() {
            let batch = self.coordinator.batch(endpoint(number));
            if !batch.is_empty() {
                // If the ring is full the batch stays, and the shard wakes this thread later.
                self.mesh.send(number, batch);
            }
        }
        self.mesh.wake_peers();
    }

    /// Hands over what is answered, and sees whether another question waits.
    fn answer_questions(&mut self) {
        if self.questions.is_answering() {
            while let Some((id, answer)) = self.coordinator.next_inspected() {
                self.questions.answer(id, answer);
            }
            self.questions.waits();
        }
    }

    /// Logs changed alarms in RabbitMQ's words, which operators search for.
    fn log_alarms(&mut self) {
        let (before, now) = (self.logged, self.coordinator.alarms());
        if before == now {
            return;
        }
        self.logged = now;
        let kinds = [("memory", before.memory, now.memory), ("disk", before.disk, now.disk)];
        for (what, before, now) in kinds {
            match (before, now) {
                (false, true) => tracing::warn!(
                    "{what} resource limit alarm set on this node: publishers will be blocked \
                     until this alarm clears"
                ),
                (true, false) => {
                    tracing::warn!("{what} resource limit alarm cleared on this node");
                }
                _ => {}
            }
        }
        if let Some(log) = &self.text_log {
            log.flush();
        }
    }
}

/// The endpoint of a number.
#[must_use]
pub fn endpoint(number: usize) -> ShardId {
    // There are at most 1024 shards and one coordinator.
    ShardId(u16::try_from(number).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use model::{Arguments, Entropy, ExchangeKind, ExchangeSpec, RequestId};

    use super::*;
    use crate::coordinator::CoordinatorConfig;
    use crate::mesh::control::{Answer, LoginAttempt, Request};
    use crate::runtime::memory::give_back::GiveBack;
    use crate::runtime::rings::mesh;
    use crate::store::meta::MemoryFolder;

    /// A coordinator, and the ring end of its only shard.
    fn driver(disk: &MemoryFolder) -> (Driver, Endpoint<Batch>) {
        let mut ends = mesh(2).unwrap();
        let (mesh, shard) = (ends.pop().unwrap(), ends.pop().unwrap());
        let log = MetaLog::open(disk.clone(), 1).unwrap();
        let config = CoordinatorConfig {
            memory_limit: 1_000_000,
            ..CoordinatorConfig::new(1, Entropy::from_seed(1))
        };
        let coordinator = Coordinator::recovered(config, log.state());
        let writer = FactWriter::start(log, Arc::clone(mesh.wakeup())).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let listener = Arc::clone(mesh.wakeup());
        let space = Arc::clone(FreeSpace::start(Path::new("."), 0, listener).unwrap().space());
        let (clock, logged, records) = (Clock::start(), Alarms::default(), Vec::new());
        let (retry_us, text_log, inbox) = (None, None, VecDeque::new());
        let give_back = Arc::new(GiveBack::default());
        let collector = give_back.join(mesh.wakeup());
        let process = ProcessMemory::new(false, 0, 1, (give_back, collector));
        let (_, questions) = crate::runtime::inspect::port(mesh.wakeup());
        let driver = Driver {
            coordinator,
            writer,
            inbox,
            records,
            retry_us,
            mesh,
            clock,
            space,
            process,
            text_log,
            questions,
            logged,
            stop,
        };
        (driver, shard)
    }

    fn declare(shard: &mut Endpoint<Batch>) {
        let spec = ExchangeSpec {
            name: "x".into(),
            kind: ExchangeKind::Fanout,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Arguments::default(),
        };
        let mut batch = Batch::default();
        let request = Request::DeclareExchange("/".into(), spec);
        batch.control(Control::Ask(RequestId(1), request));
        assert!(shard.send(1, &mut batch));
    }

    fn log_in(shard: &mut Endpoint<Batch>) {
        let user = "guest".into();
        let login = LoginAttempt { user, password: "guest".into(), from: [127, 0, 0, 1].into() };
        let mut batch = Batch::default();
        batch.control(Control::Ask(RequestId(2), Request::Login(login)));
        assert!(shard.send(1, &mut batch));
    }

    fn memory(shard: &mut Endpoint<Batch>, bytes: u64) {
        let mut batch = Batch::default();
        batch.control(Control::Memory(bytes));
        assert!(shard.send(1, &mut batch));
    }

    /// What the shard is sent.
    fn controls(shard: &mut Endpoint<Batch>) -> Vec<Control> {
        let (mut controls, mut at) = (Vec::new(), 0);
        let mut batch = shard.take(1).unwrap_or_default();
        while let Some(record) = batch.next(&mut at) {
            if let MeshRecord::Control(control) = record {
                controls.push(control);
            }
        }
        controls
    }

    #[test]
    fn nothing_is_sent_before_it_is_durable() {
        let disk = MemoryFolder::default();
        let (mut driver, mut shard) = driver(&disk);
        driver.turn().unwrap();
        assert!(shard.take(1).is_some());
        disk.has_room(Some(10));
        declare(&mut shard);
        for _ in 0..2 {
            driver.turn().unwrap();
            assert!(shard.take(1).is_none());
        }
        assert!(MetaLog::open(disk.clone(), 1).unwrap().state().vhosts["/"].exchanges.is_empty());
    }

    #[test]
    fn a_login_does_not_wait_for_what_was_declared_before_it() {
        let disk = MemoryFolder::default();
        let (mut driver, mut shard) = driver(&disk);
        driver.turn().unwrap();
        while shard.take(1).is_some() {}
        (0..10).for_each(|_| declare(&mut shard));
        log_in(&mut shard);
        // The disk takes nothing: what is sent is sent before it is asked.
        disk.breaks();
        driver.turn().unwrap_err();
        let answer = Control::Answer(RequestId(2), Answer::LoggedIn);
        assert_eq!(controls(&mut shard), [answer]);
    }

    #[test]
    fn a_login_is_answered_while_facts_are_written() {
        let disk = MemoryFolder::default();
        let (mut driver, mut shard) = driver(&disk);
        driver.turn().unwrap();
        while shard.take(1).is_some() {}
        declare(&mut shard);
        thread::scope(|scope| {
            let held = disk.hold();
            let turn = scope.spawn(|| driver.turn());
            log_in(&mut shard);
            shard.wake_peers();
            let sent = || Some(controls(&mut shard)).filter(|sent| !sent.is_empty());
            let first =
                std::iter::repeat_with(sent).inspect(|_| thread::yield_now()).flatten().next();
            assert_eq!(first, Some(vec![Control::Answer(RequestId(2), Answer::LoggedIn)]));
            assert!(!turn.is_finished());
            drop(held);
            turn.join().unwrap().unwrap();
        });
        assert!(matches!(controls(&mut shard)[..], [Control::Apply(..)]));
    }

    #[test]
    fn many_facts_are_written_in_pieces() {
        let disk = MemoryFolder::default();
        let (mut driver, mut shard) = driver(&disk);
        driver.turn().unwrap();
        let count = 3 * FACTS_AT_ONCE / AROUND_FACT;
        let mut batch = Batch::default();
        for n in 0..count {
            let request = Request::AwaitDeleted(model::QueueId(n as u64));
            batch.control(Control::Ask(RequestId(n as u64), request));
        }
        assert!(shard.send(1, &mut batch));
        driver.take(driver.clock.now());
        driver.execute_some(driver.clock.now());
        assert_eq!(driver.inbox.len(), 2 * count / 3);
        driver.turn().unwrap();
        assert!(driver.inbox.is_empty());
    }

    #[test]
    fn a_full_disk_is_waited_for() {
        let disk = MemoryFolder::default();
        let (mut driver, mut shard) = driver(&disk);
        driver.turn().unwrap();
        while shard.take(1).is_some() {}
        declare(&mut shard);
        disk.is_full_for(2);
        driver.turn().unwrap();
        assert!(shard.take(1).is_none());
        // Alarms do not wait.
        memory(&mut shard, 2_000_000);
        driver.turn().unwrap();
        let alarm = Control::Alarm(Alarms { memory: true, disk: false });
        assert_eq!(controls(&mut shard), [alarm]);
        while driver.retry_us.is_some() {
            driver.sleep().unwrap();
            driver.turn().unwrap();
        }
        assert!(matches!(controls(&mut shard)[..], [Control::Apply(..)]));
        let log = MetaLog::open(disk, 1).unwrap();
        assert!(log.state().vhosts["/"].exchanges.contains_key("x"));
    }

    #[test]
    fn what_is_sent_is_durable() {
        let disk = MemoryFolder::default();
        let (mut driver, mut shard) = driver(&disk);
        declare(&mut shard);
        driver.turn().unwrap();
        assert!(shard.take(1).is_some());
        disk.crash(&mut fastrand::Rng::with_seed(1));
        let log = MetaLog::open(disk, 1).unwrap();
        assert!(log.state().vhosts["/"].exchanges.contains_key("x"));
    }

    #[test]
    fn a_sync_that_fails_is_the_end() {
        let disk = MemoryFolder::default();
        let (mut driver, mut shard) = driver(&disk);
        disk.breaks();
        let why = driver.turn().unwrap_err().to_string();
        assert!(why.contains("may not be on the disk"), "{why}");
        assert!(shard.take(1).is_none());
    }
}
