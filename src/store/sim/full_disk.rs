//! A disk without room: what was written before is still read.

use super::*;

#[test]
fn a_written_chunk_is_read_while_a_later_one_waits_for_room() {
    let (mut run, queue, text) = (Run::new(7), QueueId(1), sample("q", 10, false));
    run.store = Store::default();
    let stored = Stored::NOWHERE;
    let spilled = |seq| Spilled {
        seq,
        redelivered: false,
        stored,
        expiry: Expiry::NEVER,
        message: text.message(),
    };
    run.store.spill(queue, spilled(1));
    run.store.end_turn(run.now);
    work(&mut run);
    run.disk.full = true;
    run.store.spill(queue, spilled(2));
    work(&mut run);
    run.store.fetch(queue);
    work(&mut run);
    assert!(run.store.next_loaded().is_some(), "the first chunk is on the disk");
    run.store.fetch(queue);
    work(&mut run);
    assert!(run.store.next_loaded().is_none(), "the second is not");
    run.disk.full = false;
    wait(&mut run);
    assert!(run.store.next_loaded().is_some());
    assert_eq!(run.store.next_error(), None);
}
