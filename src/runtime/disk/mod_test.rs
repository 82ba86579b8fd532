//! The disk threads on a real folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use model::QueueId;

use crate::config::{DiskAction, DiskEffect};
use crate::runtime::disk::data_dir::DataDir;
use crate::runtime::disk::*;
use crate::store::Work;

const SEGMENT: u64 = 1 << 20;

fn start(shards: usize, faults: Vec<DiskFault>) -> (tempfile::TempDir, Rig) {
    let folder = tempfile::tempdir().unwrap();
    let rig = start_in(folder.path(), shards, faults);
    (folder, rig)
}

fn start_in(folder: &Path, shards: usize, faults: Vec<DiskFault>) -> Rig {
    for place in ["log", "queues"] {
        fs::create_dir(folder.join(place)).unwrap();
    }
    let wakeups: Vec<_> = (0..shards).map(|_| Arc::new(Wakeup::new().unwrap())).collect();
    let config = DiskConfig {
        data_dir: folder.to_owned(),
        segment_bytes: SEGMENT,
        open_files: 4,
        log_thread_each: shards > 2,
        give_back: Arc::default(),
        faults,
    };
    let (disk, ends) = DiskThreads::start(config, &wakeups, |why| panic!("{why}")).unwrap();
    Rig { disk, wakeups, ends }
}

struct Rig {
    disk: DiskThreads,
    wakeups: Vec<Arc<Wakeup>>,
    ends: Vec<DiskEnd>,
}

impl Rig {
    /// All answers of a shard, as they come.
    fn answers(&mut self, shard: usize, count: usize) -> Vec<Done> {
        let (wakeup, end) = (&self.wakeups[shard], &mut self.ends[shard]);
        let mut answers = Vec::new();
        end.wake_threads();
        while answers.len() < count {
            if let Some(done) = end.next_done() {
                answers.push(done);
                end.wake_threads();
                continue;
            }
            wakeup.announce_sleep();
            if !end.has_answers() {
                wakeup.wait().unwrap();
            }
            wakeup.awake();
        }
        answers
    }
}

fn op(id: u64, file: FileName, work: Work) -> Op {
    Op { id, file, work }
}

fn bytes(at: u64, text: &[u8], sync: bool) -> Work {
    Work::Write { at, pieces: vec![Bytes::copy_from_slice(text)], create: at == 0, sync }
}

fn log(shard: u16) -> FileName {
    FileName::Log { boot: 1, shard, number: 0 }
}

fn segment(queue: u64) -> FileName {
    FileName::Queue { queue: QueueId(queue), number: 0 }
}

#[test]
fn many_shards_and_files_each_in_order() {
    let (folder, mut rig) = start(3, Vec::new());
    // More than the rings hold and than may be open.
    let rounds = 400;
    for shard in 0..3 {
        for round in 0..rounds {
            let text = [b'a' + u8::try_from(round % 26).unwrap(); 10];
            rig.ends[shard].submit(op(
                round * 2,
                log(shard as u16),
                bytes(round * 10, &text, true),
            ));
            let queue = shard as u64 * 100 + round % 7;
            let write = bytes(round / 7 * 10, &text, false);
            rig.ends[shard].submit(op(round * 2 + 1, segment(queue), write));
        }
        assert!(rig.ends[shard].has_room());
    }
    for shard in 0..3 {
        let mut last = BTreeMap::new();
        for done in rig.answers(shard, 2 * rounds as usize) {
            assert_eq!(done.result, Ok(Bytes::new()));
            let before = last.insert(done.id % 2, done.id);
            assert!(before.is_none_or(|before| before < done.id));
        }
        assert!(rig.ends[shard].is_idle());
        let path = files_path(folder.path(), log(shard as u16));
        let text = fs::read(path).unwrap();
        assert!(
            text[..4000]
                .chunks(10)
                .zip(0..)
                .all(|(part, round)| part == [b'a' + u8::try_from(round % 26).unwrap(); 10])
        );
    }
    assert_eq!(rig.disk.under_way(), 0);
    rig.disk.stop();
}

fn files_path(folder: &Path, file: FileName) -> PathBuf {
    files::path(folder, file)
}

#[test]
fn what_was_handed_out_is_done_before_the_threads_end() {
    let (folder, mut rig) = start(1, Vec::new());
    for round in 0..100 {
        let work = bytes(round * 5, b"12345", round == 99);
        rig.ends[0].submit(op(round, log(0), work));
    }
    rig.ends[0].wake_threads();
    assert!(rig.disk.under_way() <= 100);
    rig.disk.stop();
    let text = fs::read(files_path(folder.path(), log(0))).unwrap();
    assert_eq!(text[..500], b"12345".repeat(100));
}

#[test]
fn a_shard_stops_handing_out_while_too_much_waits() {
    let (_folder, mut rig) = start(1, Vec::new());
    let mut submitted = 0;
    // Nobody has told the thread, but it may look by itself.
    while rig.ends[0].has_room() {
        rig.ends[0].submit(op(submitted, segment(1), bytes(submitted, b"x", false)));
        submitted += 1;
    }
    assert_eq!(submitted as usize, RING + HELD);
    assert_eq!(rig.answers(0, submitted as usize).len(), submitted as usize);
    assert!(rig.ends[0].has_room() && rig.ends[0].is_idle());
    rig.disk.stop();
}

#[test]
fn a_fault_is_injected_into_its_worker_alone() {
    let fault = DiskFault {
        worker: DiskWorker::Log,
        action: DiskAction::Sync,
        effect: DiskEffect::Error(libc::EIO),
        which: (1, u64::MAX),
    };
    let (_folder, mut rig) = start(1, vec![fault]);
    rig.ends[0].submit(op(0, log(0), bytes(0, b"x", true)));
    let answer = rig.answers(0, 1).remove(0);
    assert!(answer.result.unwrap_err().to_string().contains("cannot sync"));
    rig.ends[0].submit(op(1, segment(0), bytes(0, b"x", true)));
    assert!(rig.answers(0, 1).remove(0).result.is_ok());
    rig.disk.stop();
}

/// A file system of that many KiB, unmounted when this is dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    /// `None`, with the reason on stderr, where this may not be done.
    fn new(kib: u32, options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={kib}k{options}");
        let mut mount = Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        if done.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("skipped: only root can mount a file system, and not in every container");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(done.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_disk_that_is_full_takes_the_same_write_when_there_is_room() {
    let Some(mount) = Mount::new(512, "") else { return };
    let mut rig = start_in(mount.0.path(), 1, Vec::new());
    let filler = mount.0.path().join("filler");
    fs::write(&filler, vec![7; 300_000]).unwrap();
    let text = vec![b'x'; 250_000];
    for file in [log(0), segment(1)] {
        rig.ends[0].submit(op(1, file, bytes(0, &text, true)));
        let failure = rig.answers(0, 1).remove(0).result.unwrap_err();
        assert!(failure.may_retry(), "{failure}");
        rig.ends[0].submit(op(2, file, Work::Delete { sync: true }));
        assert!(rig.answers(0, 1)[0].result.is_ok());
    }
    rig.ends[0].submit(op(3, log(0), bytes(0, &text, true)));
    assert!(rig.answers(0, 1)[0].result.is_err());
    fs::remove_file(filler).unwrap();
    rig.ends[0].submit(op(4, log(0), bytes(0, &text, true)));
    assert_eq!(rig.answers(0, 1)[0].result, Ok(Bytes::new()));
    assert_eq!(fs::read(files_path(mount.0.path(), log(0))).unwrap(), text);
    rig.disk.stop();
}

#[test]
fn a_folder_on_a_read_only_or_full_file_system_is_refused() {
    for (options, word) in [(",ro", "read-only"), (",nr_inodes=2", "make room")] {
        let Some(mount) = Mount::new(64, options) else { return };
        let text = DataDir::open(&mount.0.path().join("data")).unwrap_err().to_string();
        assert!(text.contains(word) && text.contains("--data-dir"), "{text}");
    }
}
