//! SIGINT and SIGTERM end a run early: it reports the time until then and deletes what it declared.
//! A second signal ends the process at once.

use std::sync::atomic::{AtomicI32, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::system::error::LoadgenError;

/// The signal received, or 0. Signals go to the process, so this is global.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Handles signals from now on. Each one wakes the calling thread, which must be the driver of all
/// runs.
///
/// # Errors
/// The handler or its thread cannot be started.
pub fn watch() -> Result<(), LoadgenError> {
    let failed = LoadgenError::io("cannot watch for signals");
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(&failed)?;
    let driver = std::thread::current();
    let wait = move || {
        for signal in signals.forever() {
            if SIGNAL.swap(signal, Ordering::AcqRel) != 0 {
                // This ends the process. If it fails, the next signal tries again.
                let _tried = emulate_default_handler(signal);
            }
            driver.unpark();
        }
    };
    let started = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
    started.map(|_| ()).map_err(&failed)
}

/// True if a signal was received.
#[must_use]
pub fn is_requested() -> bool {
    SIGNAL.load(Ordering::Acquire) != 0
}

/// Fails if a signal was received.
///
/// # Errors
/// The signal.
pub fn check() -> Result<(), LoadgenError> {
    match SIGNAL.load(Ordering::Acquire) {
        0 => Ok(()),
        signal => Err(LoadgenError::Interrupted(signal)),
    }
}
