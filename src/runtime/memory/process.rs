//! What the process has in memory, as the kernel counts it: the second source of the memory alarm,
//! for what the shards do not count.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use model::Now;

use crate::runtime::memory::give_back::{Collector, GiveBack};

/// What an idle process needs, with room for what its allocator keeps: it does not count.
const IDLE: u64 = 32 << 20;
/// The same of each shard.
const IDLE_SHARD: u64 = 2 << 20;
/// Microseconds between two looks.
const LEAST_US: u64 = 20_000;
const MOST_US: u64 = 1_000_000;
/// Bytes by which a process grows in a microsecond at most: memory takes no more.
const FAST: u64 = 2_000;
/// Microseconds between two rounds of giving back while the process has too much.
const ROUND_US: u64 = 1_000_000;

/// Looks at the memory of the process, more often the nearer it is to the limit.
#[derive(Debug)]
pub struct ProcessMemory {
    /// `None`: it cannot be read here, and the shards' own counts have to do.
    statm: Option<File>,
    page: u64,
    /// Bytes that do not count.
    idle: u64,
    limit: u64,
    due_us: u64,
    /// When another round may start.
    round_us: u64,
    give_back: Arc<GiveBack>,
    collector: Collector,
}

impl ProcessMemory {
    /// For a process of so many shards. Without `looks` the kernel is never asked.
    #[must_use]
    pub fn new(
        looks: bool,
        limit: u64,
        shards: u16,
        (give_back, collector): (Arc<GiveBack>, Collector),
    ) -> Self {
        let statm = if looks { File::open("/proc/self/statm").ok() } else { None };
        let idle = IDLE + IDLE_SHARD * u64::from(shards);
        let page = rustix::param::page_size() as u64;
        Self { statm, page, idle, limit, due_us: 0, round_us: 0, give_back, collector }
    }

    /// When [`Self::look`] is due, in microseconds of the monotonic clock; `None`: never.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        self.statm.as_ref().map(|_| self.due_us)
    }

    /// Bytes that the process has in memory beyond what an idle one needs, if it is time to look.
    ///
    /// If that is much, and much more than what is `counted`, threads give freed memory back: the
    /// rest may be free, and kept by the allocator.
    pub fn look(&mut self, now: Now, counted: u64) -> Option<u64> {
        if now.monotonic_us < self.due_us {
            return None;
        }
        let anonymous = anonymous_pages(self.statm.as_ref()?).ok()? * self.page;
        let used = anonymous.saturating_sub(self.idle);
        self.due_us = now.monotonic_us + pause_us(used, self.limit);
        let unknown = used.saturating_sub(counted);
        let much = used > self.limit / 2 && unknown > self.limit / 8;
        if much && now.monotonic_us >= self.round_us {
            self.give_back.start_round();
            self.round_us = now.monotonic_us + ROUND_US;
        }
        Some(used)
    }

    /// To be called before the thread sleeps; see [`Collector::before_sleep`].
    pub fn before_sleep(&mut self) {
        self.collector.before_sleep();
    }
}

/// Half the time in which a fast process reaches the limit.
fn pause_us(used: u64, limit: u64) -> u64 {
    (limit.saturating_sub(used) / (2 * FAST)).clamp(LEAST_US, MOST_US)
}

/// Pages in memory that no file backs.
fn anonymous_pages(statm: &File) -> io::Result<u64> {
    let mut buffer = [0; 256];
    let read = statm.read_at(&mut buffer, 0)?;
    let text = std::str::from_utf8(&buffer[..read]).map_err(io::Error::other)?;
    let mut numbers = text.split_ascii_whitespace().skip(1).map_while(|one| one.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(resident), Some(shared)) => Ok(u64::saturating_sub(resident, shared)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::wakeup::Wakeup;

    const NOW: Now = Now { monotonic_us: 5, wall_ms: 0 };

    fn memory(looks: bool, limit: u64) -> ProcessMemory {
        let give_back = Arc::new(GiveBack::default());
        let collector = give_back.join(&Arc::new(Wakeup::new().unwrap()));
        ProcessMemory::new(looks, limit, 0, (give_back, collector))
    }

    #[test]
    fn the_nearer_to_the_limit_the_sooner_the_next_look() {
        assert_eq!(pause_us(0, 200_000_000), 50_000);
        assert_eq!(pause_us(199_000_000, 200_000_000), LEAST_US);
        assert_eq!(pause_us(2, 1), LEAST_US);
        assert_eq!(pause_us(0, u64::MAX), MOST_US);
    }

    #[test]
    fn what_the_process_allocates_is_seen() {
        let mut process = memory(true, u64::MAX);
        let held = vec![1u8; 256 << 20];
        let used = process.look(NOW, 0).unwrap();
        assert!(used >= (200 << 20), "{used}");
        assert_eq!(held.iter().filter(|byte| **byte == 1).count(), held.len());
        assert_eq!(process.look(NOW, 0), None);
        assert_eq!(process.due_us(), Some(NOW.monotonic_us + MOST_US));
    }

    #[test]
    fn one_that_does_not_look_is_never_due() {
        let mut process = memory(false, 0);
        assert_eq!((process.due_us(), process.look(NOW, 0)), (None, None));
    }
}
