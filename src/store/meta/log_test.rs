//! Opening files that are whole, torn, damaged, too old or too new.

use model::topology::Change;
use model::{Name, QueueId};

use super::batch::HEADER_LEN;
use super::fact::Fact;
use super::folder::Folder;
use super::log::{MetaError, MetaLog, MetaNote};
use super::memory::MemoryFolder;
use super::state::MetaState;

const FIRST: &str = "00000001.meta";

fn vhost(name: &str) -> Fact {
    Fact::Changed(Change::VhostCreated(name.into()))
}

fn open(disk: &MemoryFolder) -> Result<MetaLog<MemoryFolder>, MetaError> {
    MetaLog::open(disk.clone(), 1)
}

/// A log with these vhosts, one batch each, and the end of each batch.
fn written(vhosts: &[&str]) -> (MemoryFolder, Vec<usize>) {
    let disk = MemoryFolder::default();
    let mut log = open(&disk).unwrap();
    let ends = vhosts.iter().map(|name| {
        log.append(&[vhost(name)]).unwrap();
        disk.clone().read(FIRST).unwrap().len()
    });
    (disk.clone(), ends.collect())
}

fn vhosts(state: &MetaState) -> Vec<&str> {
    state.vhosts.keys().map(Name::as_ref).collect()
}

#[test]
fn the_first_start_finds_nothing_and_the_next_what_was_appended() {
    let disk = MemoryFolder::default();
    let mut log = open(&disk).unwrap();
    assert!(log.state().is_empty());
    log.append(&[]).unwrap();
    log.append(&[vhost("a"), Fact::QueuesBelow(QueueId(9))]).unwrap();
    log.append(&[vhost("b")]).unwrap();
    let mut again = open(&disk).unwrap();
    assert_eq!(again.state(), log.state());
    assert_eq!((vhosts(again.state()), again.state().queues_below), (vec!["a", "b"], QueueId(9)));
    assert_eq!(again.take_notes(), []);
}

#[test]
fn a_torn_end_is_cut_wherever_it_is_torn_and_told() {
    let (disk, ends) = written(&["a", "b"]);
    let bytes = disk.clone().read(FIRST).unwrap();
    for end in ends[0] + 1..ends[1] {
        let torn = MemoryFolder::default();
        torn.put(FIRST, &bytes[..end]);
        let mut log = open(&torn).unwrap();
        assert_eq!(vhosts(log.state()), ["a"]);
        let bytes = (end - ends[0]) as u64;
        assert_eq!(log.take_notes(), [MetaNote::Cut { path: format!("meta/{FIRST}"), bytes }]);
        log.append(&[vhost("c")]).unwrap();
        assert_eq!(vhosts(open(&torn).unwrap().state()), ["a", "c"]);
    }
}

#[test]
fn damage_in_front_of_a_whole_batch_is_refused() {
    let (disk, ends) = written(&["a", "b"]);
    let bytes = disk.clone().read(FIRST).unwrap();
    for at in 0..ends[1] {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let damaged = MemoryFolder::default();
        damaged.put(FIRST, &changed);
        match open(&damaged) {
            Err(MetaError::Version { .. }) => assert!((8..12).contains(&at)),
            Err(MetaError::Damaged { at: told, .. }) => assert!(at < ends[0] && told <= at as u64),
            // The last batch looks like one that was being written.
            Ok(log) => assert!(at >= ends[0] && vhosts(log.state()) == ["a"]),
            Err(other) => panic!("byte {at}: {other}"),
        }
        // The file is unchanged.
        if at < ends[0] {
            assert_eq!(damaged.clone().read(FIRST).unwrap(), changed);
        }
    }
}

#[test]
fn a_file_that_does_not_even_begin_is_refused() {
    let (disk, _) = written(&[]);
    let bytes = disk.clone().read(FIRST).unwrap();
    for len in 0..bytes.len() {
        let short = MemoryFolder::default();
        short.put(FIRST, &bytes[..len]);
        let at = if len < HEADER_LEN { 0 } else { HEADER_LEN as u64 };
        let path = format!("meta/{FIRST}");
        assert_eq!(open(&short).unwrap_err(), MetaError::Damaged { path, at });
    }
}

#[test]
fn another_format_is_refused_with_advice() {
    let (disk, _) = written(&["a"]);
    let mut bytes = disk.clone().read(FIRST).unwrap();
    bytes[11] = 9;
    disk.put(FIRST, &bytes);
    let text = open(&disk).unwrap_err().to_string();
    assert_eq!(
        text,
        "meta/00000001.meta has format 9, this Ringtail reads format 1: start the version of \
         Ringtail that wrote it, or a newer one"
    );
}

#[test]
fn a_grown_file_is_followed_by_a_shorter_one() {
    let disk = MemoryFolder::default();
    let mut log = MetaLog::open_with(disk.clone(), 1, 300).unwrap();
    for round in 0..50 {
        log.append(&[vhost("a"), Fact::QueuesBelow(QueueId(round))]).unwrap();
    }
    let [name] = &disk.clone().list().unwrap()[..] else { panic!("not one file") };
    assert!(name > &FIRST.to_owned() && disk.clone().read(name).unwrap().len() < 400);
    let again = open(&disk).unwrap();
    assert_eq!((vhosts(again.state()), again.state().queues_below), (vec!["a"], QueueId(49)));
}

#[test]
fn of_several_files_the_last_counts_and_strangers_are_left_alone() {
    let (disk, _) = written(&["a"]);
    let newer = written(&["b"]).0.read(FIRST).unwrap();
    disk.put("0000000a.meta", &newer);
    disk.put("0000000b.meta.new", &newer[..30]);
    disk.put("notes.txt", b"keep out");
    assert_eq!(vhosts(open(&disk).unwrap().state()), ["b"]);
    assert_eq!(disk.clone().list().unwrap(), ["0000000a.meta", "notes.txt"]);
}

#[test]
fn without_room_nothing_happens_until_there_is_some() {
    let (disk, _) = written(&["a"]);
    let mut log = open(&disk).unwrap();
    let batch = [vhost("b"), vhost("c")];
    for room in [0, 10, 20] {
        disk.has_room(Some(room));
        assert!(log.append(&batch).unwrap_err().may_retry());
        assert_eq!(vhosts(log.state()), ["a"]);
    }
    disk.has_room(None);
    log.append(&batch).unwrap();
    assert_eq!(vhosts(open(&disk).unwrap().state()), ["a", "b", "c"]);
}

#[test]
fn a_file_that_cannot_be_followed_for_want_of_room_is_written_on() {
    let disk = MemoryFolder::default();
    let mut log = MetaLog::open_with(disk.clone(), 1, 300).unwrap();
    disk.has_room(Some(300));
    let mut vhosts = 0;
    while log.append(&[vhost(&format!("vhost {vhosts}"))]).is_ok() {
        vhosts += 1;
    }
    let notes = log.take_notes();
    assert!(matches!(&notes[..], [MetaNote::NoRoom { .. }]), "{notes:?}");
    assert_eq!(disk.clone().list().unwrap(), [FIRST]);
    disk.has_room(None);
    assert_eq!(open(&disk).unwrap().state().vhosts.len(), vhosts);
}

#[test]
fn a_sync_that_fails_is_not_tried_again() {
    let (disk, _) = written(&["a"]);
    let mut log = open(&disk).unwrap();
    disk.breaks();
    let failure = log.append(&[vhost("b")]).unwrap_err();
    assert!(!failure.may_retry());
    assert_eq!(vhosts(log.state()), ["a"]);
}
