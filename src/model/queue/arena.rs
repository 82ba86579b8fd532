//! The records of a queue, packed into chunks that are freed whole.

use std::collections::VecDeque;

/// The smallest and the usual size of a chunk, in bytes. A longer record has a chunk of its own.
const CHUNK_MIN: usize = 4 * 1024;
const CHUNK_MAX: usize = 64 * 1024;

/// Chunks without a record that are tolerated in the list before it is compacted.
const SLACK: usize = 32;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaPlace {
    chunk: u64,
    start: u32,
    len: u32,
}

impl ArenaPlace {
    /// Bytes of the record.
    #[must_use]
    #[inline]
    pub fn bytes(self) -> usize {
        self.len as usize
    }
}

#[derive(Debug, Default)]
struct ArenaChunk {
    /// Ascending in the list.
    number: u64,
    data: Vec<u8>,
    live: u32,
}

/// An append-only store of records; each is freed once, and a chunk with the last of its records.
#[derive(Debug, Default)]
pub struct Arena {
    chunks: VecDeque<ArenaChunk>,
    /// Chunks in the list without a record, not counting the last.
    freed: usize,
    pinned: usize,
    /// It was trimmed, because other queues need memory.
    scarce: bool,
}

impl Arena {
    /// Bytes of memory held, free space in chunks included.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.pinned
    }

    /// Copies a record in.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> ArenaPlace {
        let fits = |chunk: &ArenaChunk| chunk.data.capacity() - chunk.data.len() >= record.len();
        if !self.chunks.back().is_some_and(fits) {
            self.grow(record.len());
        }
        let Some(last) = self.chunks.back_mut() else {
            return ArenaPlace { chunk: 0, start: 0, len: 0 };
        };
        // A record is bounded by frame_max and INLINE_MAX, a chunk by that or CHUNK_MAX.
        let (start, len) = (last.data.len() as u32, record.len() as u32);
        last.data.extend_from_slice(record);
        last.live += 1;
        ArenaPlace { chunk: last.number, start, len }
    }

    /// The record at `place`, which has not been freed.
    #[must_use]
    #[inline]
    pub fn get(&self, place: ArenaPlace) -> &[u8] {
        let (start, len) = (place.start as usize, place.len as usize);
        let chunk = self.position(place.chunk).and_then(|at| self.chunks.get(at));
        chunk.and_then(|chunk| chunk.data.get(start..start + len)).unwrap_or_default()
    }

    /// The index of a chunk: usually the distance of its number from the first.
    // Inlined, the chunk is found once for its number and its bytes.
    #[inline(always)]
    fn position(&self, number: u64) -> Option<usize> {
        let guess = number.checked_sub(self.chunks.front()?.number)? as usize;
        if self.chunks.get(guess).is_some_and(|chunk| chunk.number == number) {
            return Some(guess);
        }
        self.search(number)
    }

    #[cold]
    #[inline(never)]
    fn search(&self, number: u64) -> Option<usize> {
        self.chunks.binary_search_by_key(&number, |chunk| chunk.number).ok()
    }

    /// Frees the record at `place`.
    #[inline]
    pub fn free(&mut self, place: ArenaPlace) {
        let Some(at) = self.position(place.chunk) else {
            return;
        };
        let is_last = at + 1 == self.chunks.len();
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };
        chunk.live -= 1;
        if chunk.live > 0 {
            return;
        }
        if is_last && chunk.data.capacity() <= CHUNK_MAX {
            // It is filled again from the start.
            chunk.data.clear();
        } else {
            self.pinned -= chunk.data.capacity();
            chunk.data = Vec::new();
            self.freed += usize::from(!is_last);
        }
        self.drop_freed();
    }

    /// Frees the last chunk, which is otherwise kept to be filled again, if it has no record. From
    /// now on chunks are smaller.
    pub fn trim(&mut self) {
        self.scarce = true;
        let unused = self.chunks.pop_back_if(|last| last.live == 0);
        self.pinned -= unused.map_or(0, |chunk| chunk.data.capacity());
        // The new last chunk may have been freed before; as the last it is not counted.
        while self.chunks.pop_back_if(|last| last.live == 0).is_some() {
            self.freed -= 1;
        }
    }

    fn usual_size(&self) -> usize {
        if !self.scarce {
            return self.pinned.clamp(CHUNK_MIN, CHUNK_MAX);
        }
        // The free space of the last chunk stays a small part of all. Powers of two give the
        // allocator few sizes.
        (self.pinned / 4).clamp(CHUNK_MIN, CHUNK_MAX).next_power_of_two()
    }

    fn drop_freed(&mut self) {
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(|chunk| chunk.live == 0) {
            let chunk = self.chunks.pop_front().unwrap_or_default();
            self.pinned -= chunk.data.capacity();
            self.freed -= 1;
        }
        if self.freed > self.chunks.len() / 2 + SLACK {
            // A record that stays must not keep the list long for the records freed behind it.
            self.chunks.retain(|chunk| chunk.live > 0 || chunk.data.capacity() > 0);
            self.freed = 0;
        }
    }

    fn grow(&mut self, record: usize) {
        let size = self.usual_size().max(record);
        let data = Vec::with_capacity(size);
        self.pinned += data.capacity();
        let unused = self.chunks.pop_back_if(|last| last.live == 0);
        self.pinned -= unused.as_ref().map_or(0, |chunk| chunk.data.capacity());
        let before = self.chunks.back().map(|last| last.number + 1);
        let number = unused.map(|chunk| chunk.number).or(before).unwrap_or_default();
        self.chunks.push_back(ArenaChunk { number, data, live: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_until_freed_and_memory_follows() {
        let mut arena = Arena::default();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut held = Vec::new();
        for step in 0..20_000u32 {
            if held.is_empty() || rng.bool() {
                let record = vec![step as u8; rng.usize(0..3000)];
                held.push((arena.push(&record), record));
            } else if rng.u8(0..20) == 0 {
                arena.trim();
            } else {
                let (place, record) = held.swap_remove(rng.usize(0..held.len()));
                assert_eq!(arena.get(place), record);
                arena.free(place);
            }
        }
        for (place, record) in held.drain(..) {
            assert_eq!(arena.get(place), record);
            arena.free(place);
        }
        assert!(arena.pinned() <= CHUNK_MAX, "{}", arena.pinned());
        arena.trim();
        assert_eq!((arena.pinned(), arena.freed, arena.chunks.len()), (0, 0, 0));
    }

    #[test]
    fn a_queue_that_stays_short_uses_one_chunk() {
        let mut arena = Arena::default();
        for _ in 0..100_000 {
            let place = arena.push(&[7; 100]);
            arena.free(place);
        }
        assert_eq!((arena.chunks.len(), arena.pinned()), (1, CHUNK_MIN));
    }

    #[test]
    fn a_record_longer_than_a_chunk_goes_with_it() {
        let mut arena = Arena::default();
        let place = arena.push(&vec![1; 200_000]);
        assert_eq!(arena.get(place).len(), 200_000);
        arena.free(place);
        assert_eq!(arena.pinned(), 0);
        let place = arena.push(&[2; 10]);
        assert_eq!(arena.get(place), [2; 10]);
    }

    #[test]
    fn a_record_that_stays_does_not_keep_the_places_of_others() {
        let mut arena = Arena::default();
        let stays = arena.push(b"stays");
        let mut under_way = VecDeque::new();
        for n in 0..200_000u32 {
            under_way.push_back((n, arena.push(&[n as u8; 100])));
            if under_way.len() > 100
                && let Some((n, place)) = under_way.pop_front()
            {
                assert_eq!(arena.get(place), [n as u8; 100]);
                arena.free(place);
            }
        }
        assert_eq!(arena.get(stays), b"stays");
        assert!(arena.chunks.len() < 4 * SLACK, "{}", arena.chunks.len());
        under_way.into_iter().for_each(|(_, place)| arena.free(place));
        arena.free(stays);
        let held: usize = arena.chunks.iter().map(|chunk| chunk.data.capacity()).sum();
        assert_eq!(arena.pinned(), held);
    }

    #[test]
    fn an_unused_chunk_goes_when_a_longer_record_comes() {
        let mut arena = Arena::default();
        let stays = arena.push(&[0; 1]);
        let fills = arena.push(&[0; CHUNK_MIN - 1]);
        for _ in 0..100 {
            let (short, long) = (arena.push(&[1; 1]), arena.push(&[2; CHUNK_MAX]));
            arena.free(short);
            arena.free(long);
        }
        assert!(arena.pinned() <= 4 * CHUNK_MAX, "{}", arena.pinned());
        arena.free(stays);
        arena.free(fills);
    }
}
