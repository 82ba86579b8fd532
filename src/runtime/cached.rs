//! Which segments of queues stay in the system's page cache.
//!
//! What a queue writes last is read last. So the first segments stay in the cache, where a backlog
//! that is soon drained is read from; behind them the octets leave it as soon as they are on stable
//! storage, and the next ones are copied into the same pages. A backlog with ever more pages would
//! drive out what others need, and where a machine is given memory as it touches it, each new page
//! costs several times the copy.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use rustix::fs::{Advice, fadvise};

use crate::store::FileName;

/// So many segments of a thread's queues stay, each of about 16 MiB at most.
const STAY: usize = 4;

/// The segments that stay.
#[derive(Debug, Default)]
pub struct Cached {
    stay: BTreeSet<FileName>,
}

impl Cached {
    /// Some octets of the file are on stable storage now.
    ///
    /// # Errors
    ///
    /// The system's; the octets stay in the cache then, which costs nothing but memory.
    pub fn synced(&mut self, name: FileName, file: &File) -> io::Result<()> {
        if matches!(name, FileName::Log { .. }) || self.stays(name) {
            return Ok(());
        }
        Ok(fadvise(file, 0, None, Advice::DontNeed)?)
    }

    fn stays(&mut self, name: FileName) -> bool {
        self.stay.contains(&name) || (self.stay.len() < STAY && self.stay.insert(name))
    }

    /// The file is removed: another one may stay.
    pub fn removed(&mut self, name: FileName) {
        self.stay.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use model::QueueId;

    use super::*;

    #[test]
    fn the_first_segments_stay_and_give_their_places_on() {
        let mut cached = Cached::default();
        let name = |number| FileName::Queue { queue: QueueId(1), number };
        let last = STAY as u32;
        assert!((0..last).all(|number| cached.stays(name(number))));
        assert!(!cached.stays(name(last)) && cached.stays(name(3)));
        cached.removed(name(3));
        assert!(cached.stays(name(last)) && !cached.stays(name(3)));
    }

    #[test]
    fn what_leaves_the_cache_is_still_in_the_file() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), b"octets").unwrap();
        let file = File::open(path.path()).unwrap();
        let mut cached = Cached::default();
        for number in 0..=STAY as u32 {
            let name = FileName::Queue { queue: QueueId(1), number };
            cached.synced(name, &file).unwrap();
        }
        assert_eq!(std::fs::read(path.path()).unwrap(), b"octets");
    }
}
