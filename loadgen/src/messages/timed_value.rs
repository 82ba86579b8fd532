//! Values that change during a run.

use std::str::FromStr;

use crate::system::clock;

/// A value that holds for some time, `VALUE:SECONDS` on the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimedValue {
    /// The value.
    pub value: f64,
    /// How long it holds.
    pub seconds: f64,
}

impl FromStr for TimedValue {
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

/// The value `elapsed` nanoseconds after the start; after the last value the first follows again.
/// `None` without values.
#[must_use]
pub fn span_at(spans: &[TimedValue], elapsed: u64) -> Option<TimedValue> {
    let length = |span: &TimedValue| clock::from_seconds(span.seconds);
    let period: u64 = spans.iter().map(length).sum();
    let mut at = elapsed % period.max(1);
    let found = spans.iter().find(|span| {
        let here = at < length(span);
        at = at.saturating_sub(length(span));
        here
    });
    found.or(spans.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::clock::SECOND;

    #[test]
    fn timed_values_follow_each_other_and_repeat() {
        let spans = ["5:1".parse::<TimedValue>().unwrap(), "7:0.5".parse().unwrap()];
        let at = |elapsed| span_at(&spans, elapsed).unwrap().value;
        assert_eq!((at(0), at(SECOND - 1), at(SECOND), at(3 * SECOND / 2)), (5.0, 5.0, 7.0, 5.0));
        for wrong in ["5", "x:1", "5:0", "-1:2"] {
            assert!(wrong.parse::<TimedValue>().is_err(), "{wrong}");
        }
    }
}
