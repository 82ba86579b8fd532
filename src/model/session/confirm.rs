//! Publisher confirms of one channel: tracks publishes, and reports them in as few acks and nacks
//! as possible.

use std::collections::{BTreeSet, VecDeque};

/// Confirmed, and reported to the client.
const TOLD: u16 = u16::MAX;

/// The outcome of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An ack: every queue has it.
    Ack,
    /// A nack: a queue refused it.
    Nack,
}

/// The publishes of a channel in confirm mode, numbered from 1.
#[derive(Debug)]
pub struct Confirms {
    /// The number of the first publish in `waiting`.
    base: u64,
    /// For each publish, how many home shards have not confirmed it yet.
    waiting: VecDeque<u16>,
    /// Publishes that all home shards have answered, not yet reported.
    done: Vec<u64>,
    /// Publishes that a queue refused, not yet reported.
    refused: BTreeSet<u64>,
    /// The last publish is still being sent to its queues.
    open: bool,
    /// Publishes reported with an ack.
    acked: u64,
    /// Publishes reported with a nack.
    nacked: u64,
}

impl Default for Confirms {
    fn default() -> Self {
        Self {
            base: 1,
            waiting: VecDeque::new(),
            done: Vec::new(),
            refused: BTreeSet::new(),
            open: false,
            acked: 0,
            nacked: 0,
        }
    }
}

impl Confirms {
    /// Numbers a publish that `homes` home shards must confirm; with 0 it is confirmed at once.
    #[inline]
    pub fn publish(&mut self, homes: u16) -> u64 {
        let number = self.next();
        self.waiting.push_back(homes);
        if homes == 0 {
            self.done.push(number);
        }
        number
    }

    /// The number of the publish that is being sent: the next one, unless one is [`Self::begin`]
    /// and not ended.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.base + self.waiting.len() as u64 - u64::from(self.open)
    }

    /// Numbers a publish that is sent in pieces: it is not confirmed before [`Self::end`].
    pub fn begin(&mut self) {
        self.publish(1);
        self.open = true;
    }

    /// So many home shards more must confirm the publish that was begun.
    pub fn add(&mut self, homes: u16) {
        if let Some(waiting) = self.waiting.back_mut() {
            // Fewer than TOLD: a piece has at least one queue, and there are as many homes at most.
            *waiting = waiting.saturating_add(homes).min(TOLD - 1);
        }
    }

    /// The publish that was begun is sent to all its queues.
    pub fn end(&mut self) {
        let number = self.next();
        self.open = false;
        self.confirm(number);
    }

    /// One home shard has confirmed a publish.
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

    /// A queue refused a publish. It is reported when all home shards have answered.
    #[cold]
    pub fn refuse(&mut self, number: u64) {
        let at = number.checked_sub(self.base);
        let homes = at.and_then(|at| self.waiting.get(at as usize));
        if homes.is_some_and(|homes| *homes != TOLD) {
            self.refused.insert(number);
        }
    }

    /// How many publishes were reported with an ack.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// How many publishes were not reported yet.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        self.next() - 1 - self.acked - self.nacked
    }

    /// Whether there is something to report.
    #[must_use]
    pub fn due(&self) -> bool {
        !self.done.is_empty()
    }

    /// Reports publishes that all home shards have answered since the last call, in RabbitMQ's
    /// order: one ack with multiple for all below the first unconfirmed or refused publish, then
    /// single acks, then nacks in the same way. `tell` gets the verdict, the number and `multiple`.
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
        self.acked += done.len() as u64;
        self.nacked += nacks.len() as u64;
        let first =
            |numbers: &[u64]| numbers.first().map_or(self.base, |first| self.base.min(*first));
        let (acks_below, nacks_below) = (first(&nacks), first(&done));
        coalesce(&done, acks_below, |number, multiple| tell(Verdict::Ack, number, multiple));
        coalesce(&nacks, nacks_below, |number, multiple| tell(Verdict::Nack, number, multiple));
        done.clear();
        self.done = done;
    }

    /// Moves refused publishes out of `done`; both stay in order.
    fn take_refused(&mut self, done: &mut Vec<u64>) -> Vec<u64> {
        if self.refused.is_empty() {
            return Vec::new();
        }
        done.extract_if(.., |number| self.refused.remove(number)).collect()
    }
}

/// One report for all numbers below a limit, then single ones.
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
        assert_eq!(confirms.unconfirmed(), 1);
        assert_eq!(told(&mut confirms), [(4, false)]);
        assert!(confirms.refused.is_empty() && confirms.waiting.is_empty());
        assert_eq!((confirms.acked(), confirms.unconfirmed()), (4, 0));
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

    #[test]
    fn one_that_is_sent_in_pieces_is_confirmed_behind_the_last() {
        let mut confirms = Confirms::default();
        confirms.publish(1);
        confirms.begin();
        assert_eq!(confirms.next(), 2);
        confirms.add(2);
        [1, 2, 2].iter().for_each(|number| confirms.confirm(*number));
        assert_eq!((told(&mut confirms), confirms.next()), (vec![(1, false)], 2));
        confirms.add(1);
        confirms.end();
        assert_eq!((told(&mut confirms), confirms.next()), (vec![], 3));
        confirms.confirm(2);
        assert_eq!(told(&mut confirms), [(2, false)]);
    }
}
