//! Body sizes: one size, a range or a mix.

use std::str::FromStr;

/// Body sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodySizes {
    /// One size.
    Fixed(usize),
    /// From the first to the second, all equally likely.
    Range(usize, usize),
    /// Sizes with their shares.
    Mix(Vec<(usize, u64)>),
}

impl FromStr for BodySizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let wrong = "a size must be BYTES, FROM-TO or sizes with shares such as 100:70,1000:30";
            part.trim().parse::<usize>().map_err(|_| format!("{part:?}: {wrong}"))
        };
        if text.contains(':') {
            let pair = |part: &str| {
                let (size, share) = part.split_once(':').unwrap_or((part, "1"));
                Ok((number(size)?, number(share)?.max(1) as u64))
            };
            return text.split(',').map(pair).collect::<Result<_, String>>().map(BodySizes::Mix);
        }
        match text.split_once('-') {
            Some((from, to)) => match (number(from)?, number(to)?) {
                (from, to) if from > to => {
                    Err(format!("{text:?}: the first number must not be greater than the second"))
                }
                (from, to) => Ok(BodySizes::Range(from, to)),
            },
            None => number(text).map(BodySizes::Fixed),
        }
    }
}

impl BodySizes {
    /// The size for a random number.
    #[must_use]
    pub fn pick(&self, random: u64) -> usize {
        match self {
            BodySizes::Fixed(size) => *size,
            BodySizes::Range(from, to) => from + (random % (to - from + 1) as u64) as usize,
            BodySizes::Mix(mix) => {
                let mut at = random % mix.iter().map(|(_, share)| share).sum::<u64>().max(1);
                let found = mix.iter().find(|(_, share)| {
                    let here = at < *share;
                    at = at.saturating_sub(*share);
                    here
                });
                found.or(mix.last()).map_or(0, |(size, _)| *size)
            }
        }
    }

    /// The size, if there is only one.
    #[must_use]
    pub fn fixed(&self) -> Option<usize> {
        match self {
            BodySizes::Fixed(size) => Some(*size),
            _ => None,
        }
    }

    /// The smallest and the largest size.
    #[must_use]
    pub fn bounds(&self) -> (usize, usize) {
        match self {
            BodySizes::Fixed(size) => (*size, *size),
            BodySizes::Range(from, to) => (*from, *to),
            BodySizes::Mix(mix) => {
                let sizes = || mix.iter().map(|(size, _)| *size);
                (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0))
            }
        }
    }

    /// The mean size.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self {
            BodySizes::Fixed(size) => *size as f64,
            BodySizes::Range(from, to) => (from + to) as f64 / 2.0,
            BodySizes::Mix(mix) => {
                let shares: u64 = mix.iter().map(|(_, share)| share).sum();
                let sum: u64 = mix.iter().map(|(size, share)| *size as u64 * share).sum();
                sum as f64 / shares.max(1) as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_fixed_a_range_or_a_mix() {
        assert_eq!("16".parse(), Ok(BodySizes::Fixed(16)));
        let range: BodySizes = "100-102".parse().unwrap();
        let seen: std::collections::BTreeSet<usize> = (0..50).map(|n| range.pick(n)).collect();
        assert_eq!(seen, [100, 101, 102].into());
        let mix: BodySizes = "100:70,1000:30".parse().unwrap();
        let large = (0..1000).filter(|n| mix.pick(*n) == 1000).count();
        assert_eq!((large, mix.mean(), mix.bounds()), (300, 370.0, (100, 1000)));
        for wrong in ["x", "5-1", "1:x", ""] {
            assert!(wrong.parse::<BodySizes>().is_err(), "{wrong}");
        }
    }
}
