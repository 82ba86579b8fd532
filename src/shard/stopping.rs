//! The orderly stop: clients are told, and when nobody is left the store is told what has been
//! delivered, so that the next start knows it exactly.

/// How far the end of the broker is on one shard.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopping {
    asked: bool,
    /// The others know that no connection is left here.
    told: bool,
    /// Shards that have said so themselves.
    left: u16,
    /// The store was told.
    done: bool,
}

/// What is to be done for the end of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopAction {
    Nothing,
    /// Tell the other shards that no connection is left here.
    TellOthers,
    /// Tell the store: no connection is left anywhere.
    StopStore,
}

impl Stopping {
    /// The broker goes down.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// A shard has no connection left: what its clients did is all here.
    pub fn peer_left(&mut self) {
        self.left += 1;
    }

    /// What is to be done next. `connections`: how many are left here; `letters`: whether dead
    /// letters have to leave or to arrive; `others`: the other shards.
    pub fn next(&mut self, connections: usize, letters: bool, others: u16) -> StopAction {
        let letters = !self.told && letters;
        if !self.asked || self.done || connections > 0 || letters {
            StopAction::Nothing
        } else if !self.told {
            self.told = true;
            StopAction::TellOthers
        } else if self.left == others {
            self.done = true;
            StopAction::StopStore
        } else {
            StopAction::Nothing
        }
    }

    /// True if the others were told that nothing follows from here.
    pub fn has_left(self) -> bool {
        self.told
    }

    /// True if the end has not begun, or the store was told.
    pub fn is_settled(self) -> bool {
        self.asked == self.done
    }
}
