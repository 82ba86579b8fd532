//! Publisher confirms of one channel: which publishes are confirmed, in as few acks as possible.

use std::collections::VecDeque;

/// Confirmed, and the client has been told so.
const TOLD: u16 = u16::MAX;

/// The publishes of a channel in confirm mode, numbered from 1.
#[derive(Debug)]
pub struct Confirms {
    /// The number of the first publish in `waiting`.
    base: u64,
    /// How many homes have not confirmed yet.
    waiting: VecDeque<u16>,
    /// Confirmed since the client was last told.
    done: Vec<u64>,
}

impl Default for Confirms {
    fn default() -> Self {
        Self { base: 1, waiting: VecDeque::new(), done: Vec::new() }
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

    /// Whether the client is to be told something.
    #[must_use]
    pub fn due(&self) -> bool {
        !self.done.is_empty()
    }

    /// Tells what was confirmed since the last time, as RabbitMQ does: one ack for all below the
    /// first unconfirmed publish, then single ones. `ack` gets the number and `multiple`.
    pub fn tell(&mut self, mut ack: impl FnMut(u64, bool)) {
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
        let below = done.partition_point(|number| *number < self.base);
        if let Some(last) = done[..below].last() {
            ack(*last, below > 1);
        }
        done[below..].iter().for_each(|number| ack(*number, false));
        done.clear();
        self.done = done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(confirms: &mut Confirms) -> Vec<(u64, bool)> {
        let mut acks = Vec::new();
        confirms.tell(|number, multiple| acks.push((number, multiple)));
        acks
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
