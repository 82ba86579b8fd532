//! Crashes at every step: all facts appended before are there, and of the batch being appended all
//! or none.

use fastrand::Rng;

use super::draw;
use super::fact::Fact;
use super::log::{MetaError, MetaLog};
use super::memory::MemoryFolder;
use super::state::MetaState;

/// So small that most runs write several files.
const GROWN_MIN: u64 = 400;
const BATCHES: usize = 12;

/// The state before the batch whose append failed, if one did, and the state after it.
#[derive(Default)]
struct Outcome {
    before: MetaState,
    after: MetaState,
}

fn batches(random: &mut Rng) -> Vec<Vec<Fact>> {
    let some = |random: &mut Rng| (0..random.usize(1..6)).map(|_| draw::fact(random)).collect();
    (0..BATCHES).map(|_| some(random)).collect()
}

/// Appends until an operation fails.
fn append(log: Result<MetaLog<MemoryFolder>, MetaError>, batches: &[Vec<Fact>]) -> Option<Outcome> {
    let mut log = log.ok()?;
    let mut after = log.state().clone();
    for batch in batches {
        let before = after.clone();
        batch.iter().for_each(|fact| after.apply(fact));
        if log.append(batch).is_err() {
            return Some(Outcome { before, after });
        }
    }
    Some(Outcome { before: after.clone(), after })
}

/// Crashes after so many operations, and again during the next open. Returns what is wrong.
fn attempt(seed: u64, operations: u64) -> Result<(), String> {
    let mut random = Rng::with_seed(seed ^ (operations << 32));
    let batches = batches(&mut random);
    let disk = MemoryFolder::default();
    let open = || MetaLog::open_with(disk.clone(), seed, GROWN_MIN);
    disk.ends_after(operations);
    let outcome = append(open(), &batches);
    let outcome = outcome.unwrap_or_default();
    disk.crash(&mut random);
    disk.ends_after(random.u64(0..8));
    drop(open());
    disk.crash(&mut random);
    let log = open().map_err(|refused| refused.to_string())?;
    if log.state() != &outcome.before && log.state() != &outcome.after {
        return Err("neither what was before nor what was to be".to_owned());
    }
    // Later appends extend that state.
    let outcome = append(Ok(log), &batches).ok_or("nothing can be appended")?;
    disk.crash(&mut random);
    let log = open().map_err(|refused| refused.to_string())?;
    if log.state() != &outcome.after {
        return Err("what was appended after a crash is not there".to_owned());
    }
    Ok(())
}

/// The first seed and operation with a wrong result.
fn first_failure(seeds: u64) -> Option<String> {
    (0..seeds).find_map(|seed| {
        let failed = |operations| attempt(seed, operations).err().map(|why| (operations, why));
        let (operations, why) = (0..80).find_map(failed)?;
        Some(format!("seed {seed}, operation {operations}: {why}"))
    })
}

#[test]
fn a_crash_leaves_what_was_before_or_what_was_to_be() {
    assert_eq!(first_failure(100), None);
}

#[cfg(feature = "mutants")]
#[test]
fn faults_are_caught() {
    use model::mutant::{self, Mutant};

    for fault in [Mutant::MetaSyncSkipped, Mutant::MetaFolderUnsynced, Mutant::MetaCrcUnchecked] {
        mutant::select(Some(fault));
        let caught = first_failure(100);
        mutant::select(None);
        println!("{fault:?}: {caught:?}");
        assert!(caught.is_some(), "{fault:?}");
    }
}
