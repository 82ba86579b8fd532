//! The records of a queue, packed into chunks that are freed whole.

use std::collections::VecDeque;

/// The smallest and the usual size of a chunk, in octets. A longer record has a chunk of its own.
const CHUNK_MIN: usize = 4 * 1024;
const CHUNK_MAX: usize = 64 * 1024;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    chunk: u64,
    start: u32,
    len: u32,
}

#[derive(Debug, Default)]
struct Chunk {
    data: Vec<u8>,
    live: u32,
}

/// An append-only store of records; each is freed once, and a chunk with the last of its records.
#[derive(Debug, Default)]
pub struct Arena {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk in the list.
    first: u64,
    pinned: usize,
}

impl Arena {
    /// Octets of memory held, free space in chunks included.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.pinned
    }

    /// Copies a record in.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> Place {
        let fits = |chunk: &Chunk| chunk.data.capacity() - chunk.data.len() >= record.len();
        if !self.chunks.back().is_some_and(fits) {
            self.grow(record.len());
        }
        let chunk = self.first + self.chunks.len() as u64 - 1;
        let Some(last) = self.chunks.back_mut() else {
            return Place { chunk, start: 0, len: 0 };
        };
        // A record is bounded by frame_max and INLINE_MAX, a chunk by that or CHUNK_MAX.
        let (start, len) = (last.data.len() as u32, record.len() as u32);
        last.data.extend_from_slice(record);
        last.live += 1;
        Place { chunk, start, len }
    }

    /// The record at `place`, which has not been freed.
    #[must_use]
    #[inline]
    pub fn get(&self, place: Place) -> &[u8] {
        let (start, len) = (place.start as usize, place.len as usize);
        let chunk = self.chunks.get((place.chunk - self.first) as usize);
        chunk.and_then(|chunk| chunk.data.get(start..start + len)).unwrap_or_default()
    }

    /// Gives the record at `place` up.
    #[inline]
    pub fn free(&mut self, place: Place) {
        let at = (place.chunk - self.first) as usize;
        let is_last = at + 1 == self.chunks.len();
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };
        chunk.live -= 1;
        if chunk.live > 0 {
            return;
        }
        if is_last && chunk.data.capacity() <= CHUNK_MAX {
            // Nobody looks into it any more: it is filled again from the start.
            chunk.data.clear();
        } else {
            self.pinned -= chunk.data.capacity();
            chunk.data = Vec::new();
        }
        self.drop_freed();
    }

    fn drop_freed(&mut self) {
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(|chunk| chunk.live == 0) {
            let chunk = self.chunks.pop_front().unwrap_or_default();
            self.pinned -= chunk.data.capacity();
            self.first += 1;
        }
    }

    fn grow(&mut self, record: usize) {
        let size = self.pinned.clamp(CHUNK_MIN, CHUNK_MAX).max(record);
        let data = Vec::with_capacity(size);
        self.pinned += data.capacity();
        self.chunks.push_back(Chunk { data, live: 0 });
        self.drop_freed();
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
}
