//! Publisher confirms of one channel: which publishes are confirmed or refused, in as few acks and
//! nacks as possible.

use std::collections::{BTreeSet, VecDeque};

/// Confirmed, and the client has been told so.
const TOLD: u16 = u16::MAX;

/// What a publisher is told of its publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every queue has it.
    Ack,
    /// A queue refused it.
    Nack,
}

/// The publishes of a channel in confirm mode, numbered from 1.
#[derive(Debug)]
pub struct Confirms {
    /// The number of the first publish in `waiting`.
    base: u64,
    /// How many homes have not confirmed yet.
    waiting: VecDeque<u16>,
    /// All homes have answered since the client was last told.
    done: Vec<u64>,
    /// Publishes that a queue refused and the client was not told of.
    refused: BTreeSet<u64>,
}

impl Default for Confirms {
    fn default() -> Self {
        Self { base: 1, waiting: VecDeque::new(), done: Vec::new(), refused: BTreeSet::new() }
    }
}

impl Confirms {
    /// Numbers a publish that `homes` homes must confirm; none: it is confirmed.
    #[inline]
    pub fn publish(&mut self, homes: u16) -> u64 {
        let number = self.next();
        self.waiting.push_back(homes);
        if homes == 0 {
            self.done.push(number);
        }
        number
    }

    /// The number the next publish will have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.base + self.waiting.len() as u64
    }

    /// One home has confirmed a publish.
    pub fn confirm(&mut self, number: u64) {
        let Some(at) = number.checked_sub(self.base) else {
            return;
        };
        let Some(homes) = self.waiting.get_mut(at as usize) else {
            return;
        };
        if *homes == 0 || *homes == TOLD {
            return;
        }
        *homes -= 1;
        if *homes == 0 {
            self.done.push(number);
        }
    }

    /// A queue refused a publish. It is told when all homes have answered.
    #[cold]
    pub fn refuse(&mut self, number: u64) {
        let at = number.checked_sub(self.base);
        let homes = at.and_then(|at| self.waiting.get(at as usize));
        if homes.is_some_and(|homes| *homes != TOLD) {
            self.refused.insert(number);
        }
    }

    /// Whether the client is to be told something.
    #[must_use]
    pub fn due(&self) -> bool {
        !self.done.is_empty()
    }

    /// Tells what all homes have answered since the last time, as RabbitMQ does: one ack for all
    /// below the first publish that is unconfirmed or refused, then single ones; then nacks in the
    /// same way. `tell` gets the verdict, the number and `multiple`.
    pub fn tell(&mut self, mut tell: impl FnMut(Verdict, u64, bool)) {
        let mut done = std::mem::take(&mut self.done);
        done.sort_unstable();
        for number in &done {
            let at = (number - self.base) as usize;
            if let Some(homes) = self.waiting.get_mut(at) {
                *homes = TOLD;
            }
        }
        while self.waiting.front() == Some(&TOLD) {
            self.waiting.pop_front();
            self.base += 1;
        }
        let nacks = self.take_refused(&mut done);
        let first =
            |numbers: &[u64]| numbers.first().map_or(self.base, |first| self.base.min(*first));
        let (acks_below, nacks_below) = (first(&nacks), first(&done));
        coalesce(&done, acks_below, |number, multiple| tell(Verdict::Ack, number, multiple));
        coalesce(&nacks, nacks_below, |number, multiple| tell(Verdict::Nack, number, multiple));
        done.clear();
        self.done = done;
    }

    /// Takes the refused ones out of those that are done; they stay in order.
    fn take_refused(&mut self, done: &mut Vec<u64>) -> Vec<u64> {
        if self.refused.is_empty() {
            return Vec::new();
        }
        done.extract_if(.., |number| self.refused.remove(number)).collect()
    }
}

/// One for all numbers below a limit, then single ones.
fn coalesce(numbers: &[u64], limit: u64, mut tell: impl FnMut(u64, bool)) {
    let below = numbers.partition_point(|number| *number < limit);
    if let Some(last) = numbers[..below].last() {
        tell(*last, below > 1);
    }
    numbers[below..].iter().for_each(|number| tell(*number, false));
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Vec<(u64, bool)>;

    fn told(confirms: &mut Confirms) -> Told {
        let (acks, nacks) = verdicts(confirms);
        assert!(nacks.is_empty());
        acks
    }

    /// Acks, then nacks.
    fn verdicts(confirms: &mut Confirms) -> (Told, Told) {
        let (mut acks, mut nacks) = (Vec::new(), Vec::new());
        confirms.tell(|verdict, number, multiple| match verdict {
            Verdict::Ack if nacks.is_empty() => acks.push((number, multiple)),
            Verdict::Ack => panic!("an ack behind a nack"),
            Verdict::Nack => nacks.push((number, multiple)),
        });
        (acks, nacks)
    }

    #[test]
    fn a_refused_publish_is_told_when_all_homes_have_answered() {
        let mut confirms = Confirms::default();
        for homes in [2, 0, 1, 1, 0] {
            confirms.publish(homes);
        }
        confirms.refuse(1);
        confirms.confirm(1);
        assert_eq!(verdicts(&mut confirms), (vec![(2, false), (5, false)], vec![]));
        confirms.refuse(2);
        confirms.refuse(9);
        confirms.confirm(1);
        confirms.confirm(3);
        // The nack is below the first ack, and nothing else is.
        assert_eq!(verdicts(&mut confirms), (vec![(3, false)], vec![(1, false)]));
        confirms.confirm(4);
        assert_eq!(told(&mut confirms), [(4, false)]);
        assert!(confirms.refused.is_empty() && confirms.waiting.is_empty());
    }

    #[test]
    fn nacks_are_put_together_like_acks() {
        let mut confirms = Confirms::default();
        for number in (0..6).map(|_| confirms.publish(1)).collect::<Vec<_>>() {
            if number > 2 {
                confirms.refuse(number);
                confirms.refuse(number);
            }
            confirms.confirm(number);
        }
        let nacks = [3, 4, 5, 6].map(|number| (number, false)).to_vec();
        assert_eq!(verdicts(&mut confirms), (vec![(2, true)], nacks));
        for number in (0..3).map(|_| confirms.publish(1)).collect::<Vec<_>>() {
            confirms.refuse(number);
            confirms.confirm(number);
        }
        assert_eq!(verdicts(&mut confirms), (vec![], vec![(9, true)]));
    }

    #[test]
    fn acks_are_put_together_up_to_the_first_unconfirmed() {
        let mut confirms = Confirms::default();
        let homes = [0, 0, 0, 2, 0, 1];
        let numbers: Vec<u64> = homes.iter().map(|homes| confirms.publish(*homes)).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        assert_eq!(told(&mut confirms), [(3, true), (5, false)]);
        confirms.confirm(4);
        assert_eq!(told(&mut confirms), []);
        confirms.confirm(4);
        assert_eq!(told(&mut confirms), [(4, false)]);
        confirms.confirm(6);
        confirms.confirm(6);
        assert_eq!(told(&mut confirms), [(6, false)]);
        assert!(confirms.waiting.is_empty() && !confirms.due());
    }
}
