//! Axes with their marks, and numbers as text.

/// An axis: maps figures from `low` to `high` to positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// A linear axis from 0 to a round number.
    #[must_use]
    pub fn linear(highest: f64, from: f64, to: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = round_step(highest / 3.0);
        Self { low: 0.0, high: (highest / step).ceil() * step, from, to, log: false }
    }

    /// A logarithmic axis between powers of ten.
    #[must_use]
    pub fn log(lowest: f64, highest: f64, from: f64, to: f64) -> Self {
        let low = 10f64.powf(lowest.max(1e-3).log10().floor());
        let high = 10f64.powf(highest.max(low * 1.001).log10().ceil());
        Self { low, high, from, to, log: true }
    }

    /// A logarithmic axis between exact figures.
    #[must_use]
    pub fn between(low: f64, high: f64, from: f64, to: f64) -> Self {
        Self { low, high, from, to, log: true }
    }

    /// The position of a figure; figures outside are at the edge.
    #[must_use]
    pub fn at(&self, figure: f64) -> f64 {
        let figure = figure.clamp(self.low, self.high);
        let share = if self.log {
            (figure / self.low).log10() / (self.high / self.low).log10()
        } else {
            (figure - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    /// The figures with marks: powers of ten, or equal steps.
    #[must_use]
    pub fn marks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10().round() as i32;
            return (0..=decades).map(|decade| self.low * 10f64.powi(decade)).collect();
        }
        let step = round_step(self.high / 3.0);
        let count = (self.high / step).round() as u32;
        (0..=count).map(|number| f64::from(number) * step).collect()
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.map(|step| step * power).into_iter().find(|step| *step >= least * 0.999).unwrap_or(power)
}

/// A figure with three digits and a unit prefix: 3.86 M, 73.7 k, 59.0.
#[must_use]
pub fn short(figure: f64) -> String {
    let (value, letter) = match figure.abs() {
        size if size >= 999.5e6 => (figure / 1e9, " G"),
        size if size >= 999.5e3 => (figure / 1e6, " M"),
        size if size >= 999.5 => (figure / 1e3, " k"),
        _ => (figure, ""),
    };
    let digits = match value.abs() {
        size if size >= 99.95 || size == 0.0 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{letter}")
}

/// A duration in microseconds with three digits: 59.0 µs, 1.20 ms, 6.15 s.
#[must_use]
pub fn span(microseconds: f64) -> String {
    match microseconds {
        span if span >= 999.5e3 => format!("{} s", short(span / 1e6)),
        span if span >= 999.5 => format!("{} ms", short(span / 1e3)),
        span => format!("{} µs", short(span)),
    }
}

/// As [`short`], without trailing zeros, for the marks of an axis.
#[must_use]
pub fn mark(figure: f64) -> String {
    let text = short(figure);
    let (number, letter) = text.split_once(' ').unwrap_or((&text, ""));
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    [number, letter].join(if letter.is_empty() { "" } else { " " })
}

/// As [`span`], for the marks of an axis.
#[must_use]
pub fn span_mark(microseconds: f64) -> String {
    match microseconds {
        span if span >= 1e6 => format!("{} s", mark(span / 1e6)),
        span if span >= 1e3 => format!("{} ms", mark(span / 1e3)),
        span => format!("{} µs", mark(span)),
    }
}

/// A ratio as text.
#[must_use]
pub fn times(ratio: f64) -> String {
    let digits = match ratio {
        ratio if ratio >= 99.5 => 0,
        ratio if ratio >= 9.95 => 1,
        _ => 2,
    };
    format!("{ratio:.digits$}×")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let all =
            [(0.0, "0"), (1.234, "1.23"), (59.04, "59.0"), (999.9, "1.00 k"), (73_749.0, "73.7 k")];
        for (figure, expected) in all {
            assert_eq!(short(figure), expected);
        }
        assert_eq!(short(3_860_000.0), "3.86 M");
        assert_eq!(
            [mark(1000.0), mark(2.5e6), mark(0.1), mark(50.0)],
            ["1 k", "2.5 M", "0.1", "50"]
        );
        assert_eq!([span(59.0), span(1200.0), span(6.15e6)], ["59.0 µs", "1.20 ms", "6.15 s"]);
        assert_eq!([span_mark(10.0), span_mark(1e5), span_mark(1e6)], ["10 µs", "100 ms", "1 s"]);
        assert_eq!([times(1.0), times(52.34), times(360.0)], ["1.00×", "52.3×", "360×"]);
    }

    #[test]
    fn figures_are_mapped_to_positions() {
        let linear = Scale::linear(3.86e6, 0.0, 100.0);
        assert_eq!(linear.marks(), [0.0, 2e6, 4e6]);
        assert_eq!([linear.at(0.0), linear.at(2e6), linear.at(9e9)], [0.0, 50.0, 100.0]);
        let log = Scale::log(40.0, 900.0, 200.0, 0.0);
        assert_eq!(log.marks(), [10.0, 100.0, 1000.0]);
        assert_eq!([log.at(10.0), log.at(100.0), log.at(1.0)], [200.0, 100.0, 200.0]);
        assert_eq!(Scale::linear(0.0, 0.0, 1.0).marks().len(), 3);
    }
}
