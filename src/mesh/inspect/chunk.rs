//! A part of a list whose cost is bounded, whatever the list is.

use model::Name;
use model::mutant::{self, Mutant};

/// At most so many rows are in a chunk.
pub const CHUNK_ROWS: usize = 256;
/// At most so many objects are looked at for a chunk, those that get no row included.
pub const CHUNK_STEPS: usize = 1024;
/// A chunk ends with the row that makes it longer than this, in bytes of memory.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<C> {
    /// The `next` of the chunk before. `None`: the list's first.
    pub behind: Option<C>,
    /// At most so many rows; never more than [`CHUNK_ROWS`], and at least one object is looked at.
    pub most: usize,
}

impl<C> Page<C> {
    /// As much as a chunk may have.
    #[must_use]
    pub fn behind(behind: Option<C>) -> Self {
        Self { behind, most: CHUNK_ROWS }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListChunk<T, C> {
    /// The rows in order. There may be none although more follow.
    pub items: Vec<T>,
    /// Behind what the next chunk begins; `None`: there is none.
    pub next: Option<C>,
}

/// How a walk over objects becomes rows.
pub(crate) struct RowsOf<Row, Cursor, Bytes> {
    /// The row of an object; `None`: it has none.
    pub row: Row,
    /// The cursor behind an object.
    pub cursor: Cursor,
    /// Bytes of memory beside the row itself.
    pub bytes: Bytes,
}

/// Takes rows from a walk until one of the bounds is reached.
pub(crate) fn chunk_of<S, T, C, R, K, B>(
    most: usize,
    objects: impl Iterator<Item = S>,
    walk: RowsOf<R, K, B>,
) -> ListChunk<T, C>
where
    R: Fn(&S) -> Option<T>,
    K: Fn(&S) -> C,
    B: Fn(&T) -> usize,
{
    let mut room = Room::new(most);
    let mut items = Vec::new();
    let mut last: Option<S> = None;
    for object in objects {
        if room.is_used_up(items.len()) {
            let skip = mutant::active(Mutant::ChunkSkipsOne);
            let last = if skip { Some(object) } else { last };
            return ListChunk { items, next: last.map(|last| (walk.cursor)(&last)) };
        }
        room.steps -= 1;
        if let Some(row) = (walk.row)(&object) {
            room.bytes = room.bytes.saturating_sub(size_of::<T>() + (walk.bytes)(&row));
            items.push(row);
        }
        last = Some(object);
    }
    ListChunk { items, next: None }
}

/// What a chunk may still take.
struct Room {
    rows: usize,
    steps: usize,
    bytes: usize,
}

impl Room {
    fn new(most: usize) -> Self {
        Self { rows: most.clamp(1, CHUNK_ROWS), steps: CHUNK_STEPS, bytes: CHUNK_BYTES }
    }

    fn is_used_up(&self, rows: usize) -> bool {
        let bounded = !mutant::active(Mutant::ChunkUnbounded);
        bounded && (rows >= self.rows || self.bytes == 0) || self.steps == 0
    }
}

/// Bytes of names, as far as they are beside their row.
pub(crate) fn name_bytes(names: &[&Name]) -> usize {
    names.iter().map(|name| name.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(most: usize, range: std::ops::Range<usize>, bytes: usize) -> ListChunk<usize, usize> {
        let walk = RowsOf {
            row: |number: &usize| number.is_multiple_of(2).then_some(*number),
            cursor: |number: &usize| *number,
            bytes: move |_: &usize| bytes,
        };
        chunk_of(most, range, walk)
    }

    #[test]
    fn a_chunk_ends_at_each_of_its_bounds() {
        let by_rows = chunk(3, 0..100, 0);
        assert_eq!((by_rows.items, by_rows.next), (vec![0, 2, 4], Some(4)));
        assert_eq!(chunk(usize::MAX, 0..10_000, 0).items.len(), CHUNK_ROWS);
        let by_bytes = chunk(100, 0..100, CHUNK_BYTES / 2);
        assert_eq!((by_bytes.items, by_bytes.next), (vec![0, 2], Some(2)));
        let walk =
            RowsOf { row: |_: &u64| None::<u64>, cursor: |at: &u64| *at, bytes: |_: &u64| 0 };
        let by_steps = chunk_of(9, 0..u64::MAX, walk);
        assert_eq!((by_steps.items, by_steps.next), (vec![], Some(CHUNK_STEPS as u64 - 1)));
    }

    #[test]
    fn the_last_chunk_has_no_next() {
        let last = chunk(0, 8..9, CHUNK_BYTES);
        assert_eq!((last.items, last.next), (vec![8], None));
        // What is left has no row, but the walk does not know it.
        let rest = chunk(1, 8..10, 0);
        assert_eq!((rest.items, rest.next), (vec![8], Some(8)));
        assert_eq!(chunk(5, 9..10, 0), ListChunk { items: vec![], next: None });
    }
}
