//! Deliberate faults of the broker that hostile sessions must bring to light: the checks are not
//! empty. All the others are for the simulation, whose clients know what they may expect.

use std::panic::catch_unwind;

use model::mutant::{self, Mutant};

/// Each is caught within this many seeds.
const SEEDS: u64 = 50;
const CAUGHT: [Mutant; 5] = [
    Mutant::NoBarrier,
    Mutant::ChannelKeepsUnacked,
    Mutant::CreditNotReturned,
    Mutant::PieceLost,
    Mutant::AwayOvertaken,
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
