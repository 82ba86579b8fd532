//! The channels of one connection, by number and by identity.

use std::collections::BTreeMap;

use model::ChannelId;
use model::mutant::{self, Mutant};
use model::session::Channel;
use model::session::channel::State;

/// Numbers below this have a place in a table. A client may choose any number up to 65535; a table
/// for all of them would cost 512 KiB a connection.
const DIRECT: usize = 256;

/// The channels of a connection.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// Those with a number below [`DIRECT`], at their number.
    direct: Vec<Option<Box<Channel>>>,
    /// The others.
    high: BTreeMap<u16, Box<Channel>>,
    /// The number of each channel, in the order of ids.
    numbers: Vec<(ChannelId, u16)>,
    /// Bytes of frames that wait behind barriers.
    pub parked: usize,
    /// Channels on which part of a body has arrived.
    pub halves: Vec<u16>,
}

impl Channels {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Bytes of memory that they hold for themselves, their deliveries and their consumers.
    pub fn pinned(&self) -> usize {
        /// A consumer here and at its queue, with its tag.
        const CONSUMER: usize = 320;
        let channels = self.direct.iter().flatten().chain(self.high.values());
        let each = channels.map(|channel| {
            let mut bytes = size_of::<Channel>();
            if !mutant::active(Mutant::TagsUncounted) {
                bytes += channel.unacked.pinned();
            }
            if !mutant::active(Mutant::ConsumersUncounted) {
                bytes += CONSUMER * channel.consumers.len();
            }
            bytes
        });
        each.sum()
    }

    /// The channel with this number.
    #[inline]
    pub fn get(&mut self, number: u16) -> Option<&mut Channel> {
        match self.direct.get_mut(usize::from(number)) {
            Some(channel) => channel.as_deref_mut(),
            None => high(&mut self.high, number),
        }
    }

    /// The channel with this identity and its number.
    #[inline]
    pub fn by_id(&mut self, id: ChannelId) -> Option<(u16, &mut Channel)> {
        let at = self.numbers.binary_search_by_key(&id, |(other, _)| *other).ok()?;
        let number = self.numbers.get(at)?.1;
        Some((number, self.get(number)?))
    }

    /// The same if it is open.
    #[inline]
    pub fn open_by_id(&mut self, id: ChannelId) -> Option<(u16, &mut Channel)> {
        self.by_id(id).filter(|(_, channel)| channel.state == State::Open)
    }

    /// Adds a channel under a number that is free. Ids increase.
    pub fn add(&mut self, number: u16, id: ChannelId) {
        let channel = Box::new(Channel::new(id));
        let at = usize::from(number);
        if at < DIRECT {
            let len = self.direct.len().max(at + 1);
            self.direct.resize_with(len, || None);
            self.direct[at] = Some(channel);
        } else {
            self.high.insert(number, channel);
        }
        self.numbers.push((id, number));
    }

    /// Takes a channel out.
    pub fn remove(&mut self, number: u16) -> Option<Box<Channel>> {
        let channel = match self.direct.get_mut(usize::from(number)) {
            Some(channel) => channel.take()?,
            None => self.high.remove(&number)?,
        };
        self.parked -= channel.parked.len();
        let at = self.numbers.binary_search_by_key(&channel.id, |(id, _)| *id);
        at.map(|at| self.numbers.remove(at)).ok();
        Some(channel)
    }

    /// Nothing more is sent on any channel.
    pub fn end_all(&mut self) {
        let open = self.iter_mut().filter(|channel| channel.state == State::Open);
        open.for_each(|channel| channel.state = State::ClosedByServer);
    }

    /// The message on this channel is partial.
    #[inline]
    pub fn half(&mut self, number: u16) {
        if !self.halves.contains(&number) {
            self.halves.push(number);
        }
    }

    /// Lets the open channels count that do not yet, and lists them.
    pub fn count_open(&mut self, open: &mut Vec<ChannelId>) {
        for channel in self.iter_mut().filter(|channel| channel.state == State::Open) {
            if !std::mem::replace(&mut channel.counts, true) {
                open.push(channel.id);
            }
        }
    }

    /// All of them.
    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        let direct = self.direct.iter_mut().flatten();
        direct.chain(self.high.values_mut()).map(Box::as_mut)
    }

    /// Those with an id behind this one, with their numbers, by id.
    pub fn behind(&self, id: ChannelId) -> impl Iterator<Item = (u16, &Channel)> {
        let first = self.numbers.partition_point(|(other, _)| *other <= id);
        let rest = self.numbers.get(first..).unwrap_or_default();
        rest.iter().filter_map(|(_, number)| Some((*number, self.look(*number)?)))
    }

    fn look(&self, number: u16) -> Option<&Channel> {
        match self.direct.get(usize::from(number)) {
            Some(channel) => channel.as_deref(),
            None => self.high.get(&number).map(Box::as_ref),
        }
    }

    /// Their numbers, the oldest channel first.
    pub fn numbers(&self) -> Vec<u16> {
        self.numbers.iter().map(|(_, number)| *number).collect()
    }
}

// Never inlined: hardly any client has such numbers.
#[inline(never)]
fn high(channels: &mut BTreeMap<u16, Box<Channel>>, number: u16) -> Option<&mut Channel> {
    channels.get_mut(&number).map(Box::as_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(channels: &mut Channels, number: u16) -> Option<u64> {
        channels.get(number).map(|channel| channel.id.0)
    }

    #[test]
    fn any_number_costs_the_memory_of_its_channel() {
        let mut channels = Channels::default();
        for (id, number) in [65_535, 1, 256, 255, 40_000].into_iter().enumerate() {
            channels.add(number, ChannelId(id as u64));
        }
        assert!(channels.direct.capacity() <= 2 * DIRECT, "{}", channels.direct.capacity());
        assert_eq!([1, 255, 256].map(|n| found(&mut channels, n)), [Some(1), Some(3), Some(2)]);
        assert_eq!([0, 2, 257, 65_534].map(|n| found(&mut channels, n)), [None; 4]);
        assert_eq!(channels.by_id(ChannelId(0)).map(|(number, _)| number), Some(65_535));
        assert_eq!((channels.len(), channels.iter_mut().count()), (5, 5));
        assert_eq!(channels.remove(65_535).map(|channel| channel.id), Some(ChannelId(0)));
        assert_eq!(channels.remove(255).map(|channel| channel.id), Some(ChannelId(3)));
        assert_eq!((channels.remove(7).is_none(), channels.remove(700).is_none()), (true, true));
        assert_eq!(channels.numbers(), [1, 256, 40_000]);
        let behind: Vec<u16> = channels.behind(ChannelId(1)).map(|(number, _)| number).collect();
        assert_eq!(behind, [256, 40_000]);
        channels.add(65_535, ChannelId(9));
        assert_eq!(found(&mut channels, 65_535), Some(9));
    }

    #[test]
    fn only_open_channels_are_found_as_such() {
        let mut channels = Channels::default();
        channels.add(3, ChannelId(1));
        assert!(channels.open_by_id(ChannelId(1)).is_some());
        channels.iter_mut().for_each(|channel| channel.state = State::ClosedByServer);
        assert!(channels.open_by_id(ChannelId(1)).is_none());
    }
}
