//! Fault injection for tests. See [`crate::config::DiskFault`].

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::config::{DiskAction, DiskEffect, DiskFault, DiskWorker};

/// Counts the actions of each worker and makes chosen ones fail. Without faults it costs one check.
#[derive(Debug, Default)]
pub struct Faults {
    faults: Vec<DiskFault>,
    /// The number of actions by worker and action.
    done: [[AtomicU64; 4]; 3],
}

impl Faults {
    /// Injects these faults.
    #[must_use]
    pub fn new(faults: Vec<DiskFault>) -> Self {
        Self { faults, ..Self::default() }
    }

    /// To be called before an action. True if only half of it is to be done.
    ///
    /// # Errors
    ///
    /// The injected error.
    pub fn inject(&self, worker: DiskWorker, action: DiskAction) -> io::Result<bool> {
        if self.faults.is_empty() {
            return Ok(false);
        }
        let number =
            1 + self.done[worker as usize][action as usize].fetch_add(1, Ordering::Relaxed);
        let mut short = false;
        for fault in
            self.faults.iter().filter(|fault| (fault.worker, fault.action) == (worker, action))
        {
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
    use crate::runtime::disk::faults::*;

    #[test]
    fn a_fault_is_injected_into_the_actions_it_names() {
        let fault = |effect, which| DiskFault {
            worker: DiskWorker::Log,
            action: DiskAction::Sync,
            effect,
            which,
        };
        let faults = Faults::new(vec![
            fault(DiskEffect::Error(5), (2, 3)),
            fault(DiskEffect::Short, (4, 4)),
        ]);
        let seen: Vec<_> = (1..=5)
            .map(|_| {
                assert!(!faults.inject(DiskWorker::Queue, DiskAction::Sync).unwrap());
                assert!(!faults.inject(DiskWorker::Log, DiskAction::Write).unwrap());
                faults
                    .inject(DiskWorker::Log, DiskAction::Sync)
                    .map_err(|error| error.raw_os_error())
            })
            .collect();
        assert_eq!(seen, [Ok(false), Err(Some(5)), Err(Some(5)), Ok(true), Ok(false)]);
    }
}
