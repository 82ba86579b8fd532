//! Large bodies: counted references to bytes that queues and cores share.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use bytes::Bytes;

use crate::ids::ShardId;

/// A piece of a larger body is kept by reference when it is at least this long (half of a receive
/// buffer); a shorter one is copied, so that it does not pin a buffer many times its size.
pub const REFERENCE_MIN: usize = 32 * 1024;
/// Bytes of a buffer that is read into: twice the least piece that is not copied out of it.
const BUFFER: usize = 2 * REFERENCE_MIN;

/// Bytes of the bodies that each shard holds: each counts once, however many queues have it.
#[derive(Debug, Clone)]
pub struct BodyCounts(Arc<[ShardCount]>);

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ShardCount(AtomicUsize);

impl BodyCounts {
    /// For so many shards. Those that exchange messages share one.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self((0..shards).map(|_| ShardCount::default()).collect())
    }

    /// The part of one shard.
    #[must_use]
    pub fn gauge(&self, shard: ShardId) -> BodyGauge {
        BodyGauge { counts: self.clone(), shard }
    }

    fn add(&self, shard: u16, bytes: usize) {
        if let Some(count) = self.0.get(usize::from(shard)) {
            count.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn remove(&self, shard: u16, bytes: usize) {
        if let Some(count) = self.0.get(usize::from(shard)) {
            count.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// Bytes of memory that a piece keeps: one that was not copied keeps the buffer that it was read
/// into.
fn pinned(piece: &Bytes) -> usize {
    if piece.len() < REFERENCE_MIN { piece.len() } else { piece.len().next_multiple_of(BUFFER) }
}

/// Counts the bodies that a shard holds.
#[derive(Debug, Clone)]
pub struct BodyGauge {
    counts: BodyCounts,
    shard: ShardId,
}

impl BodyGauge {
    /// Bytes of the bodies that the shard holds.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        let count = self.counts.0.get(self.shard.index());
        let bytes = count.map_or(0, |count| count.0.load(Ordering::Relaxed));
        // Two shards may take a body one from the other at the same time: for a moment one of them
        // has given away what it has not taken yet.
        if bytes > usize::MAX / 2 { 0 } else { bytes }
    }

    /// A body that was just made, and is this shard's: it counts from now on.
    pub fn made(&self, body: &mut Body) {
        if let Some(inner) = Arc::get_mut(&mut body.0)
            && inner.counted.is_none()
        {
            let bytes = inner.pieces.iter().map(pinned).sum();
            self.counts.add(self.shard.0, bytes);
            let holder = AtomicU16::new(self.shard.0);
            inner.counted = Some(BodyShare { counts: self.counts.clone(), holder, bytes });
        }
    }

    /// A body came from another shard: from now on it counts here.
    pub fn took(&self, body: &Body) {
        if let Some(counted) = &body.0.counted {
            let before = counted.holder.swap(self.shard.0, Ordering::Relaxed);
            counted.counts.remove(before, counted.bytes);
            counted.counts.add(self.shard.0, counted.bytes);
        }
    }
}

/// How a body counts, until the last reference is gone.
#[derive(Debug)]
struct BodyShare {
    counts: BodyCounts,
    /// The shard where it counts.
    holder: AtomicU16,
    bytes: usize,
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.counts.remove(*self.holder.get_mut(), self.bytes);
    }
}

#[derive(Debug, Default)]
struct BodyParts {
    pieces: Vec<Bytes>,
    /// `None`: it does not count.
    counted: Option<BodyShare>,
}

/// The bytes of a large body, with large properties in front of it, counted: the only shared
/// ownership in the data path.
#[derive(Debug, Clone, Default)]
pub struct Body(Arc<BodyParts>);

impl Body {
    /// A body made of pieces in order.
    #[must_use]
    pub fn new(pieces: Vec<Bytes>) -> Self {
        Self(Arc::new(BodyParts { pieces, counted: None }))
    }

    /// The pieces in order.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.0.pieces
    }

    /// Bytes in all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.pieces() == other.pieces()
    }
}

impl Eq for Body {}

impl Hash for Body {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.pieces().hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: usize) -> Body {
        Body::new(vec![vec![0; bytes / 2].into(), vec![0; bytes - bytes / 2].into()])
    }

    #[test]
    fn a_body_counts_once_where_it_was_taken_last() {
        let counts = BodyCounts::new(3);
        let gauges = [0, 1, 2].map(|shard| counts.gauge(ShardId(shard)));
        let held = || gauges.each_ref().map(BodyGauge::bytes);
        let (mut one, mut two) = (body(1000), body(50));
        gauges[0].made(&mut one);
        gauges[0].made(&mut one);
        gauges[1].made(&mut two);
        assert_eq!(held(), [1000, 50, 0]);
        let copies = [one.clone(), one.clone(), two.clone()];
        gauges[2].made(&mut two);
        assert_eq!(held(), [1000, 50, 0]);
        gauges[1].took(&copies[0]);
        gauges[2].took(&copies[1]);
        assert_eq!(held(), [0, 50, 1000]);
        drop((one, two));
        assert_eq!(held(), [0, 50, 1000]);
        drop(copies);
        assert_eq!(held(), [0, 0, 0]);
    }

    #[test]
    fn one_that_nobody_counts_may_be_taken() {
        let gauge = BodyCounts::new(1).gauge(ShardId(0));
        gauge.took(&body(10));
        assert_eq!(gauge.bytes(), 0);
    }
}
