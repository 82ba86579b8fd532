//! Decides which segments of queues stay in the system's page cache.
//!
//! A queue reads last what it wrote last. So the first few segments stay cached, for a backlog that
//! is soon drained. The pages of later segments are dropped as soon as they are on stable storage,
//! and reused for the next writes. Else a backlog would displace other pages; and on a virtual
//! machine whose memory is allocated on first touch, a new page costs several times the copy.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use rustix::fs::{Advice, fadvise};

use crate::store::FileName;

/// The number of segments that stay cached, each of about 16 MiB at most.
const STAY: usize = 4;

/// The segments that stay.
#[derive(Debug, Default)]
pub struct PageCache {
    stay: BTreeSet<FileName>,
}

impl PageCache {
    /// Drops the pages of a synced file, unless it stays.
    ///
    /// # Errors
    ///
    /// The system's. The pages stay cached then, which costs only memory.
    pub fn synced(&mut self, name: FileName, file: &File) -> io::Result<()> {
        if matches!(name, FileName::Log { .. }) || self.stays(name) {
            return Ok(());
        }
        Ok(fadvise(file, 0, None, Advice::DontNeed)?)
    }

    fn stays(&mut self, name: FileName) -> bool {
        self.stay.contains(&name) || (self.stay.len() < STAY && self.stay.insert(name))
    }

    /// Notes that a file is removed: another one may stay.
    pub fn removed(&mut self, name: FileName) {
        self.stay.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use model::QueueId;

    use crate::runtime::disk::page_cache::*;

    #[test]
    fn the_first_segments_stay_and_give_their_places_on() {
        let mut cached = PageCache::default();
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
        std::fs::write(path.path(), b"bytes").unwrap();
        let file = File::open(path.path()).unwrap();
        let mut cached = PageCache::default();
        for number in 0..=STAY as u32 {
            let name = FileName::Queue { queue: QueueId(1), number };
            cached.synced(name, &file).unwrap();
        }
        assert_eq!(std::fs::read(path.path()).unwrap(), b"bytes");
    }
}
