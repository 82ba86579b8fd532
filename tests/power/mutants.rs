//! Mutants that show only after a restart of the whole broker are caught.

use model::mutant::{self, Mutant};

use crate::seeds::{attempt, on_all_cores};

/// Each is caught within this many seeds.
const SEEDS: u64 = 2000;

/// What the simulations of the store and of a broker that never ends cannot see, and one fault that
/// shows that queues bypass the log here too.
const MUTANTS: &[Mutant] = &[
    Mutant::ConfirmByApplied,
    Mutant::CommitOkBeforeDurable,
    Mutant::FenceNotFlushed,
    Mutant::RecordedTooLate,
    Mutant::FailedSyncIgnored,
    Mutant::SegmentNotAwaited,
    Mutant::SettleNotTold,
    Mutant::ExpiryLost,
    Mutant::LoadedForEver,
    Mutant::BuriedTooEarly,
    Mutant::BuriedBeforeDurable,
    #[cfg(feature = "second-kinds")]
    Mutant::ListedTooEarly,
];

#[test]
fn mutants_are_caught() {
    let escaped = std::sync::Mutex::new(Vec::new());
    on_all_cores(MUTANTS.len() as u64, |number| {
        let mutant = MUTANTS[number as usize];
        mutant::select(Some(mutant));
        let caught = (0..SEEDS).find_map(|seed| Some((seed, attempt(seed, false).err()?)));
        mutant::select(None);
        match caught {
            Some((seed, broken)) => println!("{mutant:?}: seed {seed}: {}", broken.what),
            None => escaped.lock().unwrap().push(mutant),
        }
        None::<()>
    });
    let escaped = escaped.into_inner().unwrap();
    assert!(escaped.is_empty(), "not caught within {SEEDS} seeds: {escaped:?}");
}
