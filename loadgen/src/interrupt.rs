//! SIGINT and SIGTERM end a run early: what was seen until then is reported, what was declared is
//! deleted. The second signal ends the program where it stands.

use std::sync::atomic::{AtomicI32, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, signal_name};

use crate::failure::Failure;

/// The signal that came, or 0. A signal is for the whole process, and so is this.
static CAME: AtomicI32 = AtomicI32::new(0);

/// Watches for signals from now on and wakes the calling thread, which leads all runs, for them.
///
/// # Errors
/// The system refuses.
pub fn watch() -> Result<(), Failure> {
    let failed = Failure::io("cannot watch for signals");
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(&failed)?;
    let lead = std::thread::current();
    let wait = move || {
        for signal in signals.forever() {
            if CAME.swap(signal, Ordering::AcqRel) != 0 {
                // It ends the program; where it could not, the next signal tries again.
                let _tried = emulate_default_handler(signal);
            }
            lead.unpark();
        }
    };
    let started = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
    started.map(|_| ()).map_err(&failed)
}

/// Whether a run should come to its end.
#[must_use]
pub fn came() -> bool {
    CAME.load(Ordering::Acquire) != 0
}

/// Goes on only if no signal came.
///
/// # Errors
/// The signal that came.
pub fn check() -> Result<(), Failure> {
    match CAME.load(Ordering::Acquire) {
        0 => Ok(()),
        signal => Err(Failure::Interrupted(signal)),
    }
}

/// What a signal is called.
#[must_use]
pub fn name(signal: i32) -> &'static str {
    signal_name(signal).unwrap_or("a signal")
}
