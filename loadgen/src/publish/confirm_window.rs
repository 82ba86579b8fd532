//! Publishes that wait for their confirm: at most a window of them, settled in any order.

/// Marks the slot of a settled publish.
const SETTLED: u64 = u64::MAX;

/// The unconfirmed publishes of one channel.
#[derive(Debug)]
pub struct ConfirmWindow {
    window: u64,
    /// The intended send time of each tag between `lowest` and `next`. The slot is the tag modulo
    /// the length.
    intended: Vec<u64>,
    lowest: u64,
    next: u64,
    open: u64,
}

impl ConfirmWindow {
    /// No unconfirmed publishes; at most `window` are allowed.
    #[must_use]
    pub fn new(window: u64) -> Self {
        // A broker that settles out of order may leave an old publish open: slots for four windows.
        let slots = window.saturating_mul(4).next_power_of_two();
        Self { window, intended: vec![SETTLED; slots as usize], lowest: 1, next: 1, open: 0 }
    }

    /// How many messages may be published now.
    #[must_use]
    pub fn room(&self) -> u64 {
        let slots = self.intended.len() as u64 - (self.next - self.lowest);
        (self.window - self.open).min(slots)
    }

    /// How many publishes are unconfirmed.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open
    }

    /// Adds a publish; tags count from 1.
    #[inline]
    pub fn published(&mut self, intended: u64) {
        let slot = self.slot(self.next);
        self.intended[slot] = intended;
        self.next += 1;
        self.open += 1;
    }

    /// Settles `tag`, or with `multiple` all tags up to it (0: all). Calls `settled` with the tag
    /// and the intended send time of each. Returns how many were open; `None` for a tag that was
    /// never published.
    #[inline]
    pub fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        mut settled: impl FnMut(u64, u64),
    ) -> Option<u64> {
        let last = if tag == 0 && multiple { self.next - 1 } else { tag };
        if last >= self.next || last == 0 && !multiple {
            return None;
        }
        let before = self.open;
        let first = if multiple { self.lowest } else { last.max(self.lowest) };
        for tag in first..=last {
            let slot = self.slot(tag);
            let intended = std::mem::replace(&mut self.intended[slot], SETTLED);
            if intended != SETTLED {
                self.open -= 1;
                settled(tag, intended);
            }
        }
        while self.lowest < self.next && self.intended[self.slot(self.lowest)] == SETTLED {
            self.lowest += 1;
        }
        Some(before - self.open)
    }

    fn slot(&self, tag: u64) -> usize {
        tag as usize & (self.intended.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_closes_and_opens() {
        let mut confirms = ConfirmWindow::new(3);
        for intended in 10..13 {
            confirms.published(intended);
        }
        assert_eq!((confirms.room(), confirms.open()), (0, 3));
        let mut seen = Vec::new();
        assert_eq!(confirms.settle(2, false, |_, intended| seen.push(intended)), Some(1));
        assert_eq!(confirms.settle(3, true, |_, intended| seen.push(intended)), Some(2));
        assert_eq!(seen, [11, 10, 12]);
        assert_eq!((confirms.room(), confirms.open()), (3, 0));
    }

    #[test]
    fn settling_twice_counts_once_and_unknown_tags_are_refused() {
        let mut confirms = ConfirmWindow::new(2);
        confirms.published(1);
        assert_eq!(confirms.settle(1, false, |_, _| {}), Some(1));
        assert_eq!(confirms.settle(1, false, |_, _| {}), Some(0));
        assert_eq!(confirms.settle(2, false, |_, _| {}), None);
        assert_eq!(confirms.settle(0, false, |_, _| {}), None);
        assert_eq!(confirms.settle(0, true, |_, _| {}), Some(0));
    }

    #[test]
    fn an_old_open_publish_stops_the_producer_before_a_slot_is_reused() {
        let mut confirms = ConfirmWindow::new(2);
        confirms.published(0);
        let mut tag = 1;
        while confirms.room() > 0 {
            confirms.published(tag);
            tag += 1;
            assert_eq!(confirms.settle(tag, false, |_, _| {}), Some(1));
        }
        assert_eq!(tag, 8, "four windows of two");
        assert_eq!(confirms.settle(1, false, |_, _| {}), Some(1));
        assert_eq!(confirms.room(), 2);
    }
}
