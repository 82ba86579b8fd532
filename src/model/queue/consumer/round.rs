//! The round: who is served next. Adding and removing cost the same however many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::ids::ConsumerId;
use crate::queue::consumer::Slot;

/// Turns of removed consumers that are tolerated before a line is compacted.
const SLACK: usize = 32;

/// A consumer's turn. It is void once the slot has another consumer, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Turn {
    pub slot: Slot,
    pub id: ConsumerId,
}

/// The turns of one priority, void ones among them.
#[derive(Debug, Default, Hash)]
struct Line {
    turns: VecDeque<Turn>,
    void: usize,
}

impl Line {
    fn live(&self) -> usize {
        self.turns.len() - self.void
    }
}

/// The consumers that may be sent a message: the highest priority first, in turn among equals.
#[derive(Debug, Default, Hash)]
pub(super) struct Round {
    /// Those of priority 0, which nearly all have.
    plain: Line,
    /// The others. No line is empty.
    ranked: BTreeMap<Reverse<i64>, Line>,
}

impl Round {
    /// The first turn, which may be void.
    #[inline(always)]
    pub fn front(&self) -> Option<Turn> {
        if self.ranked.is_empty() {
            return self.plain.turns.front().copied();
        }
        self.front_ranked()
    }

    #[cold]
    fn front_ranked(&self) -> Option<Turn> {
        match self.first_rank() {
            Some(rank) => self.ranked.get(&rank)?.turns.front().copied(),
            None => self.plain.turns.front().copied(),
        }
    }

    /// The rank that is served now; `None`: priority 0.
    fn first_rank(&self) -> Option<Reverse<i64>> {
        let (first, _) = self.ranked.first_key_value()?;
        (first.0 > 0 || self.plain.turns.is_empty()).then_some(*first)
    }

    /// Takes the first turn away.
    #[inline]
    pub fn pop_front(&mut self) {
        if self.ranked.is_empty() {
            self.plain.turns.pop_front();
        } else {
            self.pop_ranked(false);
        }
    }

    /// The first turn becomes the last among its equals.
    #[inline]
    pub fn rotate(&mut self) {
        if !self.ranked.is_empty() {
            return self.rotate_ranked();
        }
        if self.plain.turns.len() > 1
            && let Some(turn) = self.plain.turns.pop_front()
        {
            self.plain.turns.push_back(turn);
        }
    }

    #[cold]
    fn rotate_ranked(&mut self) {
        let line = match self.first_rank() {
            Some(rank) => self.ranked.get_mut(&rank),
            None => Some(&mut self.plain),
        };
        if let Some(turns) = line.map(|line| &mut line.turns).filter(|turns| !turns.is_empty()) {
            turns.rotate_left(1);
        }
    }

    /// Takes the first turn away, which is void.
    #[cold]
    pub fn pop_void(&mut self) {
        self.pop_ranked(true);
    }

    #[cold]
    fn pop_ranked(&mut self, void: bool) {
        let rank = self.first_rank();
        let line = match rank {
            Some(rank) => self.ranked.get_mut(&rank),
            None => Some(&mut self.plain),
        };
        let Some(line) = line else { return };
        line.turns.pop_front();
        line.void -= usize::from(void);
        self.forget_empty(rank);
    }

    fn forget_empty(&mut self, rank: Option<Reverse<i64>>) {
        if let Some(rank) = rank
            && self.ranked.get(&rank).is_some_and(|line| line.turns.is_empty())
        {
            self.ranked.remove(&rank);
        }
    }

    /// Puts a consumer behind its equals.
    #[inline]
    pub fn push_back(&mut self, turn: Turn, priority: i64) {
        if priority == 0 {
            return self.plain.turns.push_back(turn);
        }
        self.line(priority).turns.push_back(turn);
    }

    /// Puts a consumer ahead of its equals.
    pub fn push_front(&mut self, turn: Turn, priority: i64) {
        self.line(priority).turns.push_front(turn);
    }

    fn line(&mut self, priority: i64) -> &mut Line {
        match priority {
            0 => &mut self.plain,
            _ => self.ranked.entry(Reverse(priority)).or_default(),
        }
    }

    /// How many there are of a priority.
    pub fn equals(&self, priority: i64) -> usize {
        match priority {
            0 => self.plain.live(),
            _ => self.ranked.get(&Reverse(priority)).map_or(0, Line::live),
        }
    }

    /// A turn of this priority has become void. `live` tells which are not.
    pub fn voided(&mut self, priority: i64, live: impl Fn(&Turn) -> bool) {
        let line = self.line(priority);
        line.void += 1;
        if line.void > SLACK && 2 * line.void > line.turns.len() || line.live() == 0 {
            line.turns.retain(live);
            line.void = 0;
            let rank = (priority != 0).then_some(Reverse(priority));
            self.forget_empty(rank);
        }
    }
}
