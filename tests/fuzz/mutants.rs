//! Mutants that hostile sessions must catch, which shows that these checks find something. All
//! others are for the simulation, whose clients know what to expect.

use std::panic::catch_unwind;

use model::mutant::{self, Mutant};

/// Each is caught within this many seeds. `NoBarrier` needs most: the damage of a session has to
/// leave a request whole.
const SEEDS: u64 = 60;
const CAUGHT: [Mutant; 5] = [
    Mutant::NoBarrier,
    Mutant::ChannelKeepsUnacked,
    Mutant::CreditNotReturned,
    Mutant::PieceLost,
    Mutant::SpilledOvertaken,
];

/// The first seed whose checks fail.
fn caught(fault: Mutant) -> Option<u64> {
    mutant::select(Some(fault));
    let first = (0..SEEDS).find(|seed| catch_unwind(|| crate::session::run(*seed)).is_err());
    mutant::select(None);
    first
}

#[test]
fn faults_are_caught() {
    for fault in CAUGHT {
        assert!(caught(fault).is_some(), "{fault:?} is not caught within {SEEDS} seeds");
    }
}
