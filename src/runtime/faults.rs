//! The faults of the disk that a test asked for, where they befall; see
//! [`crate::config::DiskFault`].

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::config::{DiskDeed, DiskEffect, DiskFault, DiskLane};

/// Counts what is done in each lane and lets it go wrong. Without faults it costs one look.
#[derive(Debug, Default)]
pub struct Faults {
    faults: Vec<DiskFault>,
    /// By lane and deed.
    done: [[AtomicU64; 3]; 3],
}

impl Faults {
    /// These faults.
    #[must_use]
    pub fn new(faults: Vec<DiskFault>) -> Self {
        Self { faults, ..Self::default() }
    }

    /// Something is about to be done. Says whether only half of it is to be.
    ///
    /// # Errors
    ///
    /// The one it is to fail with.
    pub fn befall(&self, lane: DiskLane, deed: DiskDeed) -> io::Result<bool> {
        if self.faults.is_empty() {
            return Ok(false);
        }
        let number = 1 + self.done[lane as usize][deed as usize].fetch_add(1, Ordering::Relaxed);
        let mut short = false;
        for fault in self.faults.iter().filter(|fault| (fault.lane, fault.deed) == (lane, deed)) {
            if !(fault.which.0..=fault.which.1).contains(&number) {
                continue;
            }
            match fault.effect {
                DiskEffect::Error(code) => return Err(io::Error::from_raw_os_error(code)),
                DiskEffect::Short => short = true,
                DiskEffect::Slow(ms) => thread::sleep(Duration::from_millis(ms)),
            }
        }
        Ok(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_befalls_those_it_names() {
        let fault =
            |effect, which| DiskFault { lane: DiskLane::Log, deed: DiskDeed::Sync, effect, which };
        let faults = Faults::new(vec![
            fault(DiskEffect::Error(5), (2, 3)),
            fault(DiskEffect::Short, (4, 4)),
        ]);
        let seen: Vec<_> = (1..=5)
            .map(|_| {
                assert!(!faults.befall(DiskLane::Queue, DiskDeed::Sync).unwrap());
                assert!(!faults.befall(DiskLane::Log, DiskDeed::Write).unwrap());
                faults.befall(DiskLane::Log, DiskDeed::Sync).map_err(|error| error.raw_os_error())
            })
            .collect();
        assert_eq!(seen, [Ok(false), Err(Some(5)), Err(Some(5)), Ok(true), Ok(false)]);
    }
}
