//! Every deliberate fault of the broker is caught, and the broker without one holds on the same
//! seeds: the checks are not empty.

use model::mutant::{self, Mutant};

use crate::run::Broken;
use crate::seeds::{attempt, from_env, on_all_cores};

/// Each is caught within this many seeds.
const SEEDS: u64 = 2000;

/// Faults that no client sees before a restart: the tests of queues, of the store, of the metadata
/// and of restarts find them.
const ELSEWHERE: &[Mutant] = &[
    Mutant::LoadedAsNew,
    Mutant::SettleNotTold,
    Mutant::StaysInLog,
    Mutant::MetaSyncSkipped,
    Mutant::MetaFolderUnsynced,
    Mutant::MetaCrcUnchecked,
    Mutant::ConfirmByApplied,
    Mutant::CommitOkBeforeDurable,
    Mutant::FenceNotFlushed,
    Mutant::RecordedTooLate,
    Mutant::FailedSyncIgnored,
    Mutant::ListedTooEarly,
    Mutant::BuriedTooEarly,
    Mutant::BuriedBeforeDurable,
    // The tests of sessions publish with more keys and to more queues.
    Mutant::RouteUncut,
    Mutant::CopiesUncut,
    Mutant::SendingUncut,
    // They have longer transactions, more requests at once and more dead letters too.
    Mutant::SinglesUncut,
    Mutant::RollbackUncut,
    Mutant::EndingUncut,
    Mutant::AnswersUncut,
    Mutant::TicksUncut,
    Mutant::ReserveDoubled,
    Mutant::LettersUncut,
    // The random test of limits.
    Mutant::ZeroTtlDropped,
    // The random test of limits, and restarts: little here is loaded before it expires.
    Mutant::LoadedForEver,
    // The tests of queues that are held back.
    Mutant::LargeTurnForgotten,
    // The tests of removals, of routes that pause and of flow credit: nothing here is so large.
    Mutant::BindingsUncut,
    Mutant::ExclusiveUncut,
    Mutant::ReusedNodeVisited,
    Mutant::StuckBlocksAll,
];

/// Faults of what only the second kind of queue uses.
const SECOND_KIND: &[Mutant] =
    &[Mutant::HeldConfirmed, Mutant::HeldTooShort, Mutant::QueueTimerLost];

fn is_elsewhere(mutant: Mutant) -> bool {
    let absent = !cfg!(feature = "second-kinds") && SECOND_KIND.contains(&mutant);
    let others = [
        ELSEWHERE,
        Mutant::STORE,
        Mutant::ACCESS,
        Mutant::LIMITS,
        Mutant::POLICIES,
        Mutant::LANES,
        Mutant::EXCHANGES,
        Mutant::MEMORY,
    ];
    others.iter().any(|list| list.contains(&mutant)) || absent
}

/// The first seed that catches the fault, and how.
fn caught(mutant: Mutant) -> Option<(u64, Broken)> {
    mutant::select(Some(mutant));
    let first = (0..SEEDS).find_map(|seed| {
        if mutant == Mutant::OutsideRandomness {
            // What was not injected shows in nothing but a second run.
            let (one, two) = (attempt(seed, false), attempt(seed, false));
            let what = "the same seed gave other bytes".to_string();
            return (one.ok() != two.ok()).then(|| (seed, Broken { what, trace: Vec::new() }));
        }
        attempt(seed, false).err().map(|broken| (seed, broken))
    });
    mutant::select(None);
    first
}

#[test]
fn mutants_are_caught() {
    let one = from_env("SIM_MUTANT").map(|number| number as usize);
    let escaped = std::sync::Mutex::new(Vec::new());
    on_all_cores(Mutant::ALL.len() as u64, |number| {
        let mutant = Mutant::ALL[number as usize];
        if one.is_some_and(|one| one as u64 != number) || is_elsewhere(mutant) {
            return None::<()>;
        }
        let name = format!("{mutant:?}");
        match caught(mutant) {
            Some((seed, broken)) => {
                let (rule, seeds) = (mutant.rule(), seed + 1);
                println!("{number:>3} rule {rule:>2} {name:<24} {seeds:>5}  {}", broken.what);
            }
            None => {
                println!("{number:>3} rule {:>2} {name:<24} ESCAPED", mutant.rule());
                escaped.lock().unwrap().push(name);
            }
        }
        None
    });
    let escaped = escaped.into_inner().unwrap();
    assert!(escaped.is_empty(), "not caught within {SEEDS} seeds: {escaped:?}");
}
