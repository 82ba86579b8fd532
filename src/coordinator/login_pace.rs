//! The pace of logins: every failed one costs the source it came from time, so that passwords
//! cannot be guessed quickly. A source is an IPv4 address or an IPv6 network of 64 bits.
//!
//! A failure is answered late: the n-th at once behind the one before, each twice as long as that,
//! up to a second. A right password is answered at once, unless more than [`AHEAD_US`] of such
//! delays are due: until the delay is below that, not even a right password from the source is
//! looked at; otherwise many connections together could guess as fast as they like. Other sources
//! are never affected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::Now;

/// The delay of a source's first failure.
const FIRST_US: u64 = 8_000;
/// The longest delay of one failure.
const LONGEST_US: u64 = 1_000_000;
/// With more delay than this due, attempts of the source have to wait.
const AHEAD_US: u64 = 2_000_000;
/// A source without a failure for so long starts again.
const FORGET_US: u64 = 60_000_000;
/// This many sources are remembered; the one that failed longest ago is forgotten first.
const SOURCES_MAX: usize = 4096;

/// Where a login comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum LoginSource {
    Address(u32),
    /// The upper half of an IPv6 address: a host has a whole network of that size.
    Network(u64),
}

impl From<IpAddr> for LoginSource {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::Address(address.to_bits()),
            IpAddr::V6(address) => Self::Network((address.to_bits() >> 64) as u64),
        }
    }
}

/// The failures of a source.
#[derive(Debug, Clone, Copy, Hash)]
struct LoginFailures {
    count: u32,
    /// When the latest is answered, on the monotonic clock.
    answered_us: u64,
}

/// The sources of failed logins.
#[derive(Debug, Default, Hash)]
pub(super) struct LoginPace {
    sources: BTreeMap<LoginSource, LoginFailures>,
    /// The same by time, to forget the oldest.
    by_time: BTreeSet<(u64, LoginSource)>,
}

impl LoginPace {
    /// How many microseconds an attempt from the address has to wait before it may be checked, if
    /// it has to.
    pub fn wait_us(&self, address: IpAddr, now: Now) -> Option<u64> {
        let failures = self.sources.get(&address.into())?;
        let due = failures.answered_us.saturating_sub(now.monotonic_us);
        due.checked_sub(AHEAD_US).filter(|wait| *wait > 0)
    }

    /// A login from the address failed. Returns in how many microseconds that is to be answered.
    pub fn failed(&mut self, address: IpAddr, now: Now) -> u64 {
        self.forget_old(now);
        let source = address.into();
        let before = self.sources.remove(&source);
        let before = before.unwrap_or(LoginFailures { count: 0, answered_us: 0 });
        self.by_time.remove(&(before.answered_us, source));
        let delay = FIRST_US.checked_shl(before.count).unwrap_or(LONGEST_US).min(LONGEST_US);
        let answered_us = before.answered_us.max(now.monotonic_us) + delay;
        // Beyond that count the delay does not rise.
        let count = (before.count + 1).min(16);
        if self.sources.len() >= SOURCES_MAX {
            self.forget_oldest();
        }
        self.sources.insert(source, LoginFailures { count, answered_us });
        self.by_time.insert((answered_us, source));
        answered_us - now.monotonic_us
    }

    fn forget_old(&mut self, now: Now) {
        let is_old = |(us, _): &(u64, _)| us.saturating_add(FORGET_US) <= now.monotonic_us;
        while self.by_time.first().is_some_and(is_old) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, source)) = self.by_time.pop_first() {
            self.sources.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use crate::coordinator::login_pace::*;

    fn at(us: u64) -> Now {
        Now { monotonic_us: us, wall_ms: 0 }
    }

    fn v4(last: u32) -> IpAddr {
        Ipv4Addr::from_bits(last).into()
    }

    #[test]
    fn a_client_that_waits_for_each_answer_makes_one_attempt_a_second() {
        let (mut pace, mut us, mut attempts) = (LoginPace::default(), 0, 0);
        while us < 100_000_000 {
            assert_eq!(pace.wait_us(v4(1), at(us)), None);
            us += pace.failed(v4(1), at(us));
            attempts += 1;
        }
        assert!((100..110).contains(&attempts), "{attempts}");
    }

    #[test]
    fn clients_that_do_not_wait_are_no_faster() {
        let (mut pace, mut attempts) = (LoginPace::default(), 0);
        for us in (0..100_000_000).step_by(1000) {
            if pace.wait_us(v4(1), at(us)).is_none() {
                pace.failed(v4(1), at(us));
                attempts += 1;
            }
        }
        assert!((100..115).contains(&attempts), "{attempts}");
    }

    #[test]
    fn few_failures_do_not_delay_a_right_password() {
        let mut pace = LoginPace::default();
        let delays = [(); 8].map(|()| pace.failed(v4(1), at(0)));
        assert_eq!(delays[..3], [8_000, 24_000, 56_000]);
        assert_eq!(pace.wait_us(v4(1), at(0)), Some(delays[7] - AHEAD_US));
        assert_eq!(pace.wait_us(v4(1), at(delays[7] - AHEAD_US)), None);
        assert_eq!(pace.wait_us(v4(2), at(0)), None);
    }

    #[test]
    fn a_source_starts_again_after_a_minute() {
        let mut pace = LoginPace::default();
        let last = [(); 5].map(|()| pace.failed(v4(1), at(0)))[4];
        assert!(pace.failed(v4(1), at(last + FORGET_US - 1)) > FIRST_US);
        let last = last + FORGET_US + LONGEST_US;
        assert_eq!(pace.failed(v4(1), at(last + FORGET_US)), FIRST_US);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_is_ipv4() {
        let mut pace = LoginPace::default();
        let network = |low| IpAddr::V6(Ipv6Addr::from_bits((7 << 64) | low));
        assert_eq!(pace.failed(network(1), at(0)), FIRST_US);
        assert_eq!(pace.failed(network(u128::from(u64::MAX)), at(0)), 3 * FIRST_US);
        assert_eq!(pace.failed(IpAddr::V6(Ipv6Addr::from_bits(8 << 64)), at(0)), FIRST_US);
        let mapped = Ipv4Addr::from_bits(1).to_ipv6_mapped();
        assert_eq!(pace.failed(mapped.into(), at(0)), FIRST_US);
        assert_eq!(pace.failed(v4(1), at(0)), 3 * FIRST_US);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut pace = LoginPace::default();
        for number in 0..SOURCES_MAX as u32 + 10 {
            pace.failed(v4(number), at(number.into()));
        }
        assert_eq!((pace.sources.len(), pace.by_time.len()), (SOURCES_MAX, SOURCES_MAX));
        let us = at(SOURCES_MAX as u64 + 10);
        assert_eq!(pace.failed(v4(0), us), FIRST_US);
        assert!(pace.failed(v4(SOURCES_MAX as u32), us) > FIRST_US);
    }
}
