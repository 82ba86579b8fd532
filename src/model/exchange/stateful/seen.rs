//! The deduplication headers that an exchange of type `x-message-deduplication` has seen.

use std::collections::VecDeque;
use std::sync::Arc;

use amqp::{Basic, Properties, Table};

use crate::exchange::headers::canonical;
use crate::hash::{SecretSeed, UntrustedMap};
use crate::mutant::{self, Mutant};

/// The header whose value must not have been seen.
const HEADER: &str = "x-deduplication-header";
/// Headers that say for how many milliseconds a value counts as seen, the first that is there.
const TTL_HEADERS: [&str; 2] = ["x-cache-ttl", "x-deduplication-ttl"];
/// Bytes that a value takes beside its own.
const OVERHEAD: usize = 96;
const NEVER_US: u64 = u64::MAX;

/// The value that a message is compared by, in a form that only equal values have in common.
pub fn deduplication_value(properties: Properties<'_>) -> Option<Arc<[u8]>> {
    let headers = properties.basic().headers?;
    headers.get(HEADER).map(|value| canonical::written(value).into())
}

/// What an exchange says about its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exchange) struct SeenLimits {
    /// Most values.
    pub size: usize,
    /// How long a value counts as seen, in milliseconds.
    pub ttl_ms: Option<u64>,
}

/// The values that an exchange has seen, each until its time is over or newer ones need its room.
#[derive(Debug)]
pub(super) struct SeenValues {
    /// When each is forgotten, in microseconds of the monotonic clock.
    until_us: UntrustedMap<Arc<[u8]>, u64>,
    /// From the oldest on. One that was forgotten and seen again is at both its places.
    order: VecDeque<(Arc<[u8]>, u64)>,
    bytes: usize,
}

impl SeenValues {
    pub fn new(seed: SecretSeed) -> Self {
        let until_us = UntrustedMap::with_hasher(seed);
        Self { until_us, order: VecDeque::new(), bytes: 0 }
    }

    /// Bytes of memory that it holds.
    pub fn pinned(&self) -> usize {
        self.bytes
    }

    /// True if the message's value has not been seen; from now on it has. A message without a value
    /// is always new.
    pub fn admit(&mut self, message: &Basic<'_>, limits: SeenLimits, now_us: u64) -> bool {
        let headers = message.headers.unwrap_or(Table::EMPTY);
        let Some(value) = headers.get(HEADER) else { return true };
        let value: Arc<[u8]> = canonical::written(value).into();
        self.forget_old(now_us);
        let seen = self.until_us.get(&value).is_some_and(|until| now_us < *until);
        if seen && !mutant::active(Mutant::DuplicatePasses) {
            return false;
        }
        let ttl = TTL_HEADERS.iter().find_map(|name| headers.get(name)?.as_integer());
        let ttl_ms = ttl.and_then(|ms| u64::try_from(ms).ok()).or(limits.ttl_ms);
        let until = ttl_ms.map_or(NEVER_US, |ms| now_us.saturating_add(ms.saturating_mul(1000)));
        self.insert(value, until, limits.size);
        true
    }

    fn insert(&mut self, value: Arc<[u8]>, until_us: u64, size: usize) {
        while self.order.len() >= size.max(1) {
            self.forget_first();
        }
        self.bytes += value.len() + OVERHEAD;
        self.until_us.insert(value.clone(), until_us);
        self.order.push_back((value, until_us));
    }

    /// Forgets the oldest values as far as their time is over.
    fn forget_old(&mut self, now_us: u64) {
        if mutant::active(Mutant::SeenForEver) {
            return;
        }
        while self.order.front().is_some_and(|(_, until)| *until <= now_us) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((value, until_us)) = self.order.pop_front() else { return };
        self.bytes -= value.len() + OVERHEAD;
        if self.until_us.get(&value) == Some(&until_us) {
            self.until_us.remove(&value);
        }
    }
}

#[cfg(test)]
mod tests {
    use amqp::{TableWriter, Value};

    use super::*;
    use crate::random::Entropy;

    const LIMITS: SeenLimits = SeenLimits { size: 3, ttl_ms: None };

    fn seen() -> SeenValues {
        SeenValues::new(Entropy::from_seed(1).map_seed())
    }

    fn admit(seen: &mut SeenValues, headers: &TableWriter, limits: SeenLimits, ms: u64) -> bool {
        let basic = Basic { headers: Some(headers.table()), ..Basic::default() };
        seen.admit(&basic, limits, ms * 1000)
    }

    fn value(value: Value<'_>) -> TableWriter {
        TableWriter::new().with(HEADER, value)
    }

    #[test]
    fn a_value_is_new_once() {
        let mut seen = seen();
        for (value_of, is_new) in [
            (Value::LongString(b"a"), true),
            (Value::LongString(b"a"), false),
            (Value::Binary(b"a"), false),
            (Value::Int(7), true),
            (Value::Long(7), false),
        ] {
            assert_eq!(admit(&mut seen, &value(value_of), LIMITS, 0), is_new, "{value_of:?}");
        }
        let none = TableWriter::new();
        assert!(admit(&mut seen, &none, LIMITS, 0) && admit(&mut seen, &none, LIMITS, 0));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut seen = seen();
        for number in 0..4 {
            assert!(admit(&mut seen, &value(Value::Int(number)), LIMITS, 0));
        }
        assert!(!admit(&mut seen, &value(Value::Int(1)), LIMITS, 0));
        assert!(admit(&mut seen, &value(Value::Int(0)), LIMITS, 0));
        assert_eq!((seen.until_us.len(), seen.order.len()), (3, 3));
    }

    #[test]
    fn a_value_counts_for_its_time() {
        let mut seen = seen();
        let limits = SeenLimits { ttl_ms: Some(100), ..LIMITS };
        let short = |ttl| value(Value::Int(1)).with(ttl, Value::Int(10));
        assert!(admit(&mut seen, &value(Value::Int(1)), limits, 0));
        assert!(!admit(&mut seen, &value(Value::Int(1)), limits, 99));
        assert!(admit(&mut seen, &short("x-cache-ttl"), limits, 100));
        assert!(!admit(&mut seen, &value(Value::Int(1)), limits, 109));
        assert!(admit(&mut seen, &short("x-deduplication-ttl"), limits, 110));
        assert!(admit(&mut seen, &value(Value::Int(1)), limits, 120));
    }

    #[test]
    fn one_whose_time_is_over_behind_others_is_seen_anew_and_leaves_no_memory() {
        let mut seen = seen();
        let limits = SeenLimits { size: 100, ttl_ms: Some(50) };
        assert!(admit(&mut seen, &value(Value::Int(0)), SeenLimits { ttl_ms: None, ..limits }, 0));
        for ms in [0, 60, 120] {
            assert!(admit(&mut seen, &value(Value::Int(1)), limits, ms));
        }
        assert!(!admit(&mut seen, &value(Value::Int(0)), limits, 1000));
        while !seen.order.is_empty() {
            seen.forget_first();
        }
        assert_eq!((seen.bytes, seen.until_us.len()), (0, 0));
    }

    /// A cache that lets duplicates pass, or keeps values for ever, is found.
    #[cfg(feature = "mutants")]
    #[test]
    fn faults_of_deduplication_are_found() {
        for (mutant, test) in [
            (Mutant::DuplicatePasses, a_value_is_new_once as fn()),
            (Mutant::SeenForEver, the_front_is_forgotten),
        ] {
            mutant::select(Some(mutant));
            let found = std::panic::catch_unwind(test).is_err();
            mutant::select(None);
            assert!(found, "{mutant:?} is not found");
        }
    }

    #[test]
    fn the_front_is_forgotten() {
        let mut seen = seen();
        let limits = SeenLimits { size: 100, ttl_ms: Some(1) };
        for ms in 0..50 {
            admit(&mut seen, &value(Value::Int(ms)), limits, 2 * ms as u64);
        }
        assert_eq!(seen.order.len(), 1);
    }
}
