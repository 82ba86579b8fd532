//! What was published to each exchange from this shard. A channel remembers the place of its last
//! exchange's counters together with its last route, so a message costs two additions.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use model::Name;
use model::topology::Change;

use crate::mesh::inspect::{
    ExchangeCounters, ExchangeRow, ExchangeRowCursor, ListChunk, Page, RowsOf, chunk_of, name_bytes,
};

/// The counters of the exchanges that were published to from this shard.
#[derive(Debug, Default)]
pub(in crate::sessions) struct ExchangeCounts {
    /// By vhost, then name: the place in `counters`.
    places: BTreeMap<Name, BTreeMap<Name, usize>>,
    counters: Vec<ExchangeCounters>,
    /// Places of exchanges that were deleted.
    free: Vec<usize>,
}

impl ExchangeCounts {
    /// Counts a message to the exchange of this place, with so many copies.
    #[inline(always)]
    pub fn count(&mut self, place: usize, copies: usize) {
        if let Some(counters) = self.counters.get_mut(place) {
            counters.publish_in += 1;
            counters.publish_out += copies as u64;
        }
    }

    /// The place of an exchange that exists. It is the exchange's until that is deleted.
    pub fn place(&mut self, vhost: &str, exchange: &str) -> usize {
        let known = self.places.get(vhost).and_then(|places| places.get(exchange));
        match known {
            Some(place) => *place,
            None => self.add(vhost, exchange),
        }
    }

    #[cold]
    fn add(&mut self, vhost: &str, exchange: &str) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.counters.push(ExchangeCounters::default());
            self.counters.len() - 1
        });
        self.places.entry(vhost.into()).or_default().insert(exchange.into(), place);
        place
    }

    /// Forgets the counters of an exchange that a change deletes, or of all in a vhost.
    pub fn apply(&mut self, change: &Change) {
        if let Change::VhostDeleted(vhost) = change {
            for place in self.places.remove(vhost).into_iter().flat_map(BTreeMap::into_values) {
                self.counters[place] = ExchangeCounters::default();
                self.free.push(place);
            }
        }
        if let Change::ExchangeDeleted(vhost, name) = change
            && let Some(place) = self.places.get_mut(vhost).and_then(|places| places.remove(name))
        {
            self.counters[place] = ExchangeCounters::default();
            self.free.push(place);
        }
    }

    /// The counters by vhost and name.
    pub fn list(
        &self,
        page: &Page<ExchangeRowCursor>,
    ) -> ListChunk<ExchangeRow, ExchangeRowCursor> {
        let behind = page.behind.as_ref();
        let first = behind.map_or(Unbounded, |behind| Included(&behind.vhost));
        let vhosts = self.places.range::<Name, _>((first, Unbounded));
        let exchanges = vhosts.flat_map(|(vhost, places)| {
            let here = behind.filter(|behind| behind.vhost == *vhost);
            let first = here.map_or(Unbounded, |here| Excluded(&here.name));
            places
                .range::<Name, _>((first, Unbounded))
                .map(move |(name, place)| (vhost, name, *place))
        });
        let walk = RowsOf {
            row: |(vhost, name, place): &(&Name, &Name, usize)| {
                let (vhost, name) = ((*vhost).clone(), (*name).clone());
                Some(ExchangeRow { vhost, name, counters: *self.counters.get(*place)? })
            },
            cursor: |(vhost, name, _): &(&Name, &Name, usize)| ExchangeRowCursor {
                vhost: (*vhost).clone(),
                name: (*name).clone(),
            },
            bytes: |row: &ExchangeRow| name_bytes(&[&row.vhost, &row.name]),
        };
        chunk_of(page.most, exchanges, walk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_of_an_old_name_begins_at_zero() {
        let mut counts = ExchangeCounts::default();
        let (one, other) = (counts.place("/", "x"), counts.place("v", "x"));
        counts.count(one, 3);
        counts.count(other, 1);
        counts.apply(&Change::ExchangeDeleted("/".into(), "y".into()));
        assert_eq!(counts.place("/", "x"), one);
        counts.apply(&Change::ExchangeDeleted("/".into(), "x".into()));
        assert_eq!(counts.place("/", "z"), one);
        let (mut rows, mut page) = (Vec::new(), Page { behind: None, most: 1 });
        loop {
            let chunk = counts.list(&page);
            rows.extend(chunk.items);
            if chunk.next.is_none() {
                break;
            }
            page.behind = chunk.next;
        }
        let row = |row: &ExchangeRow| {
            (row.vhost.to_string(), row.name.to_string(), row.counters.publish_in)
        };
        let expected = [("/", "z", 0), ("v", "x", 1)];
        let expected = expected.map(|(vhost, name, count)| (vhost.into(), name.into(), count));
        assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), expected);
    }
}
