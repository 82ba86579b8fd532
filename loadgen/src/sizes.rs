//! How large bodies are: of one size, of a range, a mix, or one size after the other.

use std::str::FromStr;

use crate::clock;

/// Sizes of bodies in octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sizes {
    /// All the same.
    Fixed(usize),
    /// From the first to the second, all equally often.
    Range(usize, usize),
    /// Each with its share.
    Mix(Vec<(usize, u64)>),
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let wrong = "a size is OCTETS, FROM-TO or a mix such as 100:70,1000:30";
            part.trim().parse::<usize>().map_err(|_| format!("{part:?}: {wrong}"))
        };
        if text.contains(':') {
            let pair = |part: &str| {
                let (size, share) = part.split_once(':').unwrap_or((part, "1"));
                Ok((number(size)?, number(share)?.max(1) as u64))
            };
            return text.split(',').map(pair).collect::<Result<_, String>>().map(Sizes::Mix);
        }
        match text.split_once('-') {
            Some((from, to)) => match (number(from)?, number(to)?) {
                (from, to) if from > to => Err(format!("{text:?}: the first is the smaller one")),
                (from, to) => Ok(Sizes::Range(from, to)),
            },
            None => number(text).map(Sizes::Fixed),
        }
    }
}

impl Sizes {
    /// The size that a random number stands for.
    #[must_use]
    pub fn pick(&self, random: u64) -> usize {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Range(from, to) => from + (random % (to - from + 1) as u64) as usize,
            Sizes::Mix(mix) => {
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

    /// The one size, if there is only one.
    #[must_use]
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Sizes::Fixed(size) => Some(*size),
            _ => None,
        }
    }

    /// The least and the greatest.
    #[must_use]
    pub fn bounds(&self) -> (usize, usize) {
        match self {
            Sizes::Fixed(size) => (*size, *size),
            Sizes::Range(from, to) => (*from, *to),
            Sizes::Mix(mix) => {
                let sizes = || mix.iter().map(|(size, _)| *size);
                (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0))
            }
        }
    }

    /// What they are on average.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self {
            Sizes::Fixed(size) => *size as f64,
            Sizes::Range(from, to) => (from + to) as f64 / 2.0,
            Sizes::Mix(mix) => {
                let shares: u64 = mix.iter().map(|(_, share)| share).sum();
                let sum: u64 = mix.iter().map(|(size, share)| *size as u64 * share).sum();
                sum as f64 / shares.max(1) as f64
            }
        }
    }
}

/// A value that holds for a while, `VALUE:SECONDS` on the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The value.
    pub value: f64,
    /// For how long.
    pub seconds: f64,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse::<f64>().ok().filter(|n| *n >= 0.0 && n.is_finite());
        let parts = text.split_once(':').and_then(|(value, seconds)| {
            let seconds = number(seconds).filter(|seconds| *seconds > 0.0)?;
            Some(Self { value: number(value)?, seconds })
        });
        parts.ok_or_else(|| format!("{text:?} is not VALUE:SECONDS, such as 1000:5"))
    }
}

/// The value that holds `elapsed` nanoseconds after the start; the spans are gone through again
/// and again. `None` without spans.
#[must_use]
pub fn span_at(spans: &[Span], elapsed: u64) -> Option<Span> {
    let length = |span: &Span| clock::from_seconds(span.seconds);
    let period: u64 = spans.iter().map(length).sum();
    let mut at = elapsed % period.max(1);
    let found = spans.iter().find(|span| {
        let here = at < length(span);
        at = at.saturating_sub(length(span));
        here
    });
    found.or(spans.last()).copied()
}

/// A number that looks random and is always the same for the same seed (splitmix64).
#[must_use]
pub fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND;

    #[test]
    fn sizes_are_fixed_a_range_or_a_mix() {
        assert_eq!("16".parse(), Ok(Sizes::Fixed(16)));
        let range: Sizes = "100-102".parse().unwrap();
        let seen: std::collections::BTreeSet<usize> = (0..50).map(|n| range.pick(n)).collect();
        assert_eq!(seen, [100, 101, 102].into());
        let mix: Sizes = "100:70,1000:30".parse().unwrap();
        let large = (0..1000).filter(|n| mix.pick(*n) == 1000).count();
        assert_eq!((large, mix.mean(), mix.bounds()), (300, 370.0, (100, 1000)));
        for wrong in ["x", "5-1", "1:x", ""] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_follow_one_another_and_begin_again() {
        let spans = ["5:1".parse::<Span>().unwrap(), "7:0.5".parse().unwrap()];
        let at = |elapsed| span_at(&spans, elapsed).unwrap().value;
        assert_eq!((at(0), at(SECOND - 1), at(SECOND), at(3 * SECOND / 2)), (5.0, 5.0, 7.0, 5.0));
        for wrong in ["5", "x:1", "5:0", "-1:2"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
