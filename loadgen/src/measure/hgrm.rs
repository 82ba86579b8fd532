//! Latency histograms as `.hgrm`, the text format that HdrHistogram's plotters read.

use std::fmt::Write;
use std::path::Path;

use crate::measure::latency::LatencyRecorder;
use crate::system::error::LoadgenError;

/// Steps per halving of the distance to 100 %, the default of HdrHistogram's own tools.
const TICKS_PER_HALF: u32 = 5;

/// The latencies of a run with all their values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatencyHistograms {
    /// From end to end, or of the operations of a churn run.
    pub latency: LatencyRecorder,
    /// From the intended send time to the confirm.
    pub confirm: LatencyRecorder,
}

/// Writes the latencies to `path` and those of confirms to `path.confirm`. An empty histogram
/// writes no file.
///
/// # Errors
/// A file cannot be written.
pub fn write(path: &Path, histograms: &LatencyHistograms) -> Result<(), LoadgenError> {
    let mut confirms = path.as_os_str().to_owned();
    confirms.push(".confirm");
    for (path, latency) in
        [(path, &histograms.latency), (Path::new(&confirms), &histograms.confirm)]
    {
        let mut latency = latency.clone();
        if !latency.histogram().is_empty() {
            let written = std::fs::write(path, hgrm(&mut latency));
            written.map_err(|source| LoadgenError::File { path: path.to_owned(), source })?;
        }
    }
    Ok(())
}

/// Values (microseconds), percentiles, counts and 1/(1 − percentile), one line each.
#[must_use]
pub fn hgrm(latency: &mut LatencyRecorder) -> String {
    let histogram = latency.histogram();
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for seen in histogram.iter_quantiles(TICKS_PER_HALF) {
        let (value, quantile) =
            (seen.value_iterated_to() as f64 / 1e3, seen.quantile_iterated_to());
        let count = histogram.count_between(0, seen.value_iterated_to());
        let _ = write!(text, "{value:>12.3} {quantile:>14.12} {count:>10}");
        let _ = match quantile < 1.0 {
            true => writeln!(text, " {:>14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(text),
        };
    }
    let (mean, deviation) = (histogram.mean() / 1e3, histogram.stdev() / 1e3);
    let (max, total) = (histogram.max() as f64 / 1e3, histogram.len());
    let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {total:>12}]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_median_and_the_maximum() {
        let mut latency = LatencyRecorder::new();
        (1..=1000).for_each(|microsecond| latency.record(microsecond * 1000));
        let text = hgrm(&mut latency);
        let median = text.lines().find(|line| line.contains(" 0.500000000000 ")).unwrap();
        let fields: Vec<&str> = median.split_whitespace().collect();
        assert!(fields[0].starts_with("500."), "{median}");
        assert_eq!((fields[2], fields[3]), ("500", "2.00"));
        assert!(text.contains("1.000000000000       1000\n"), "{text}");
        assert!(text.contains("Total count    =         1000]"));
    }
}
