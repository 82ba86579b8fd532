//! A histogram as `.hgrm`: the text form that HdrHistogram's plotters read.

use std::fmt::Write;
use std::path::Path;

use crate::failure::Failure;
use crate::latency::Latency;
use crate::report::Histograms;

/// Steps to each halving of the distance to 100 %, as HdrHistogram's own tools take.
const TICKS_PER_HALF: u32 = 5;

/// Writes what was recorded: to `path`, and confirms beside it.
///
/// # Errors
/// A file cannot be written.
pub fn write(path: &Path, histograms: &Histograms) -> Result<(), Failure> {
    let mut confirms = path.as_os_str().to_owned();
    confirms.push(".confirm");
    for (path, latency) in
        [(path, &histograms.latency), (Path::new(&confirms), &histograms.confirm)]
    {
        let mut latency = latency.clone();
        if !latency.histogram().is_empty() {
            let written = std::fs::write(path, hgrm(&mut latency));
            written.map_err(|source| Failure::File { path: path.to_owned(), source })?;
        }
    }
    Ok(())
}

/// Values in microseconds, their percentiles, counts, and what 1/(1 − percentile) is.
#[must_use]
pub fn hgrm(latency: &mut Latency) -> String {
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
    fn the_median_and_the_end_stand_there() {
        let mut latency = Latency::new();
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
