//! The fanout exchange: a message goes to everything that is bound.

use super::targets::{Target, TargetSet, Targets};

/// The bindings of a fanout exchange; their keys mean nothing.
#[derive(Debug, Default)]
pub(super) struct Fanout(TargetSet);

impl Fanout {
    pub fn add(&mut self, target: Target) {
        self.0.add(target);
    }

    pub fn remove(&mut self, target: Target) {
        self.0.remove(target);
    }

    #[inline]
    pub fn collect(&self, targets: &mut Targets) -> bool {
        self.0.collect(targets)
    }
}
