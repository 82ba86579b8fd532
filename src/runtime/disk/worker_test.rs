//! A worker on a real folder: what is answered, what is in the files, what goes wrong.

use std::fs;

use model::QueueId;

use crate::config::{DiskEffect, DiskFault};
use crate::runtime::disk::worker::*;

struct Rig {
    folder: tempfile::TempDir,
    worker: Worker,
}

fn rig(faults: &[(DiskWorker, DiskAction, DiskEffect, (u64, u64))]) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    for place in ["log", "queues"] {
        fs::create_dir(folder.path().join(place)).unwrap();
    }
    let fault = |&(worker, action, effect, which)| DiskFault { worker, action, effect, which };
    let faults = Arc::new(Faults::new(faults.iter().map(fault).collect()));
    let worker = Worker::new(DiskWorker::Queue, folder.path(), 2, None, faults).unwrap();
    Rig { folder, worker }
}

const fn file(number: u32) -> FileName {
    FileName::Queue { queue: QueueId(7), number }
}

fn write(at: u64, text: &'static str) -> Work {
    // Pieces of one byte each, and one that is empty.
    let mut pieces: Vec<_> = (0..text.len()).map(|at| Bytes::from(&text[at..=at])).collect();
    pieces.insert(text.len() / 2, Bytes::new());
    Work::Write { at, pieces, create: at == 0, sync: false }
}

fn synced(work: Work) -> Work {
    match work {
        Work::Write { at, pieces, create, .. } => Work::Write { at, pieces, create, sync: true },
        other => other,
    }
}

impl Rig {
    fn run(&mut self, works: Vec<(u32, Work)>) -> Vec<Result<Bytes, DiskError>> {
        let op = |(id, (number, work))| Op { id, file: file(number), work };
        let mut ops: Vec<_> = (0..).zip(works).map(op).collect();
        let (count, mut answers) = (ops.len(), Vec::new());
        self.worker.run(&mut ops, |done| {
            assert_eq!(done.id, answers.len() as u64);
            answers.push(done.result);
        });
        assert!(ops.is_empty() && answers.len() == count);
        answers
    }

    fn bytes(&self, number: u32) -> Vec<u8> {
        fs::read(files::path(self.folder.path(), file(number))).unwrap()
    }
}

#[test]
fn what_is_written_is_read_in_the_order_of_the_file() {
    let mut rig = rig(&[]);
    let answers = rig.run(vec![
        (1, write(0, "hello ")),
        (1, write(6, "world")),
        (2, synced(write(0, "two"))),
        (1, Work::Read { at: 4, len: 4 }),
        (1, write(4, "O")),
        (1, Work::Sync),
        (1, Work::Read { at: 0, len: 11 }),
    ]);
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!([&answers[3][..], &answers[6][..]], [&b"o wo"[..], &b"hellO world"[..]]);
    assert_eq!([rig.bytes(1), rig.bytes(2)], [b"hellO world".to_vec(), b"two".to_vec()]);
}

#[test]
fn more_pieces_than_one_write_takes() {
    let mut rig = rig(&[]);
    let pieces: Vec<_> = (0..=255).map(|byte| Bytes::from(vec![byte; 3])).collect();
    let expected = [pieces.concat(), pieces.concat(), pieces.concat()].concat();
    let work = |at| Work::Write { at, pieces: pieces.clone(), create: at == 0, sync: false };
    let works = [0, 768, 1536].map(|at| (1, work(at)));
    assert!(rig.run(works.to_vec()).iter().all(Result::is_ok));
    assert_eq!(rig.bytes(1), expected);
}

#[test]
fn adjacent_writes_are_one_write_and_one_sync() {
    let all = (1, u64::MAX);
    let error = DiskEffect::Error(libc::EIO);
    // The second write or sync would fail.
    let second = [DiskAction::Write, DiskAction::Sync]
        .map(|action| (DiskWorker::Queue, action, error, (2, all.1)));
    let mut rig = rig(&second);
    let works: Vec<_> =
        [(1, "ab"), (3, "cd"), (5, "ef")].map(|(at, text)| (1, synced(write(at, text)))).into();
    fs::write(files::path(rig.folder.path(), file(1)), b"x").unwrap();
    assert!(rig.run(works).iter().all(Result::is_ok));
    assert_eq!(rig.bytes(1), b"xabcdef");
    let gap = rig.run(vec![(1, write(1, "a")), (1, write(9, "z"))]);
    assert!(gap.iter().all(Result::is_err));
}

#[test]
fn a_short_write_goes_on() {
    let mut rig = rig(&[(DiskWorker::Queue, DiskAction::Write, DiskEffect::Short, (1, u64::MAX))]);
    let long = Work::Write {
        at: 6,
        pieces: vec![Bytes::from(vec![b'l'; 1000]), Bytes::from_static(b"end")],
        create: false,
        sync: true,
    };
    assert!(rig.run(vec![(1, write(0, "hello ")), (1, long)]).iter().all(Result::is_ok));
    let expected = [&b"hello "[..], &[b'l'; 1000], b"end"].concat();
    assert_eq!(rig.bytes(1), expected);
}

#[test]
fn no_room_is_told_and_the_write_can_be_repeated() {
    let full = DiskEffect::Error(libc::ENOSPC);
    let mut rig = rig(&[(DiskWorker::Queue, DiskAction::Write, full, (1, 1))]);
    let failure = rig.run(vec![(1, synced(write(0, "hello")))]).remove(0).unwrap_err();
    assert!(
        failure.may_retry() && failure.doing.contains("0000000000000007-00000001.seg"),
        "{failure}"
    );
    assert!(rig.run(vec![(1, synced(write(0, "hello")))])[0].is_ok());
    assert_eq!(rig.bytes(1), b"hello");
}

#[test]
fn a_file_that_cannot_be_opened_for_now_is_opened_later() {
    for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
        let error = DiskEffect::Error(code);
        let mut rig = rig(&[(DiskWorker::Queue, DiskAction::Open, error, (1, 3))]);
        let works = [synced(write(0, "hello")), Work::Sync, Work::Read { at: 0, len: 1 }];
        for work in works {
            let failure = rig.run(vec![(1, work)]).remove(0).unwrap_err();
            assert!(failure.may_retry() && failure.doing.starts_with("open"), "{failure}");
        }
        assert!(rig.run(vec![(1, synced(write(0, "hello"))), (1, Work::Sync)])[1].is_ok());
        assert_eq!(rig.bytes(1), b"hello");
    }
}

#[test]
fn folders_are_synced_and_files_deleted_without_a_descriptor() {
    let error = DiskEffect::Error(libc::EMFILE);
    let mut rig = rig(&[(DiskWorker::Queue, DiskAction::Open, error, (2, u64::MAX))]);
    let works = vec![(1, synced(write(0, "hello"))), (1, Work::SyncAll)];
    assert!(rig.run(works).iter().all(Result::is_ok));
    assert!(rig.run(vec![(1, Work::Delete { sync: true })])[0].is_ok());
}

#[test]
fn a_file_whose_sync_failed_is_given_up() {
    let error = DiskEffect::Error(libc::ENOSPC);
    let mut rig = rig(&[(DiskWorker::Queue, DiskAction::Sync, error, (1, 1))]);
    let answers = rig.run(vec![(1, write(0, "hello")), (1, Work::Sync), (2, write(0, "other"))]);
    let failure = answers[1].clone().unwrap_err();
    assert!(!failure.may_retry() && failure.doing.starts_with("sync"), "{failure}");
    assert!(answers[2].is_ok());
    for work in [Work::Sync, Work::Read { at: 0, len: 1 }, write(5, "x")] {
        assert_eq!(rig.run(vec![(1, work)]), [Err(failure.clone())]);
    }
    assert!(rig.run(vec![(1, Work::Delete { sync: true })])[0].is_ok());
    assert!(rig.run(vec![(1, write(0, "new"))])[0].is_ok());
}

#[test]
fn what_is_not_there_is_an_error_except_for_a_deletion() {
    let mut rig = rig(&[]);
    let gone = [Work::Delete { sync: true }, Work::Delete { sync: false }].map(|work| (3, work));
    assert!(rig.run(gone.to_vec()).iter().all(Result::is_ok));
    assert!(rig.run(vec![(3, Work::Read { at: 0, len: 1 })])[0].is_err());
    assert!(rig.run(vec![(3, Work::Sync)])[0].is_err());
    rig.run(vec![(4, write(0, "abc"))]);
    let beyond = rig.run(vec![(4, Work::Read { at: 2, len: 2 })]).remove(0).unwrap_err();
    assert!(beyond.doing.starts_with("read"), "{beyond}");
    assert!(rig.run(vec![(4, Work::Delete { sync: true })])[0].is_ok());
    assert!(!files::path(rig.folder.path(), file(4)).exists());
}

#[test]
fn deletions_share_a_sync_and_come_last() {
    let error = DiskEffect::Error(libc::EIO);
    // The second sync would fail.
    let mut rig = rig(&[(DiskWorker::Queue, DiskAction::Sync, error, (2, u64::MAX))]);
    rig.run(vec![(1, write(0, "one")), (2, write(0, "two")), (3, write(0, "three"))]);
    let works = [
        (1, Work::Delete { sync: true }),
        (3, Work::Read { at: 0, len: 5 }),
        (2, Work::Delete { sync: true }),
    ];
    let mut ops: Vec<_> =
        (0..).zip(works).map(|(id, (n, work))| Op { id, file: file(n), work }).collect();
    let mut answers = Vec::new();
    rig.worker.run(&mut ops, |done| answers.push((done.id, done.result.unwrap())));
    let ids: Vec<_> = answers.iter().map(|(id, _)| *id).collect();
    assert_eq!((ids, &answers[0].1[..]), (vec![1, 0, 2], &b"three"[..]));
}

#[test]
fn a_file_that_was_deleted_can_be_made_again_at_once() {
    let mut rig = rig(&[]);
    let works = vec![(1, write(0, "old")), (1, Work::Delete { sync: true }), (1, write(0, "new"))];
    assert!(rig.run(works).iter().all(Result::is_ok));
    assert_eq!(rig.bytes(1), b"new");
}

#[test]
fn a_log_begins_as_a_spare() {
    let rig = rig(&[]);
    let log = FileName::Log { boot: 1, shard: 0, number: 0 };
    fs::write(rig.folder.path().join("log/spare-1"), vec![0; 4096]).unwrap();
    let spares = PreallocatedSegments::start(rig.folder.path(), 4096, 2).unwrap();
    let faults = Arc::new(Faults::default());
    let mut worker =
        Worker::new(DiskWorker::Log, rig.folder.path(), 9, Some(spares), faults).unwrap();
    let mut run = |id, work| {
        let mut result = None;
        worker.run(&mut vec![Op { id, file: log, work }], |done| result = Some(done.result));
        result.unwrap().unwrap()
    };
    run(1, synced(write(0, "first")));
    let path = files::path(rig.folder.path(), log);
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
    assert_eq!(run(2, Work::Read { at: 0, len: 6 }), &b"first\0"[..]);
    run(3, Work::Delete { sync: true });
    assert!(!path.exists());
}
