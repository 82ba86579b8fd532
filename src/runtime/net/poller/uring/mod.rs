//! Waiting with io_uring, by way of a glommio executor.
//!
//! ```text
//!  task of each client ── reads, wakes ──▶ task of the turn ──▶ Core::turn
//!  task of the wake-up ── wakes ──────────▶      │
//!                                               └── starts and wakes tasks of clients
//! ```
//!
//! The executor runs its tasks in order of waking. What is ready together is read by the tasks one
//! after the other; the first of them wakes the turn, which therefore comes behind all of them and
//! writes once for all.

mod client;
mod socket;
mod turns;

pub use socket::UringSocket;

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use self::turns::Turns;
use super::Poller;
use crate::runtime::sys;
use crate::runtime::turn::Core;

/// What glommio's lines in the log are called.
pub const LOG_TARGET: &str = "glommio";

/// glommio's registered buffers, of which only the eight bytes of a wake-up are used: its minimum.
const IO_MEMORY: usize = 64 * 1024;
/// glommio 0.9 takes a preemption that comes before its first task for idleness and goes to sleep
/// with tasks ready to run. Its timer and, at `RING` completions in one turn of its loop, its
/// counter preempt; so both are far off, no task here wakes itself for long, and the pulse of
/// [`turns`] ends what is left of that risk.
const PREEMPT: Duration = Duration::from_millis(100);
/// Entries in each of glommio's rings.
const RING: usize = 1024;

/// Waits with io_uring.
pub struct UringPoller {
    executor: LocalExecutor,
}

impl Poller for UringPoller {
    type Socket = UringSocket;

    fn new(cpu: usize) -> Result<Self, String> {
        let builder = LocalExecutorBuilder::new(Placement::Fixed(cpu));
        let builder = builder.io_memory(IO_MEMORY).ring_depth(RING).preempt_timer(PREEMPT);
        let executor = builder.make().map_err(|why| format!("cannot start an executor: {why}"))?;
        Ok(Self { executor })
    }

    fn run(self, core: Core<UringSocket>) -> Result<(), String> {
        let wakeup = Arc::clone(core.wakeup());
        let turns = Rc::new(Turns::new(core));
        self.executor.run(async move {
            // A descriptor of its own: glommio closes it.
            let file = wakeup.as_fd().try_clone_to_owned();
            let file = file.map_err(|why| format!("cannot wait for other shards: {why}"))?;
            glommio::spawn_local(listen(Rc::clone(&turns), sys::adopt(file))).detach();
            turns.serve().await
        })
    }
}

/// Requests a turn each time another thread wakes this one.
async fn listen(turns: Rc<Turns>, file: BufferedFile) {
    loop {
        match file.read_at(0, size_of::<u64>()).await {
            Ok(_) => turns.woken(),
            Err(error) => return turns.with(|core| core.cannot_wait(&error.to_string())),
        }
    }
}
