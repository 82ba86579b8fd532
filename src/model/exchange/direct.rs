//! The direct exchange: a message goes to the bindings whose key is equal to its own.

use super::targets::{Target, TargetSet, Targets};
use crate::hash::{SecretSeed, UntrustedMap};
use crate::topology::spec::Name;

/// The bindings of a direct exchange by key.
#[derive(Debug)]
pub(super) struct Direct(UntrustedMap<Name, TargetSet>);

impl Direct {
    pub fn new(seed: SecretSeed) -> Self {
        Self(UntrustedMap::with_hasher(seed))
    }

    pub fn add(&mut self, key: &str, target: Target) {
        if let Some(set) = self.0.get_mut(key) {
            set.add(target);
        } else {
            self.0.entry(key.into()).or_default().add(target);
        }
    }

    pub fn remove(&mut self, key: &str, target: Target) {
        let Some(set) = self.0.get_mut(key) else {
            return;
        };
        set.remove(target);
        if set.is_empty() {
            self.0.remove(key);
        }
    }

    #[inline]
    pub fn collect(&self, key: &str, targets: &mut Targets) -> bool {
        self.0.get(key).is_none_or(|set| set.collect(targets))
    }
}
