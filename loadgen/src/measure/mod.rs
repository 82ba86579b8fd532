//! Latency histograms and counts.

pub mod hgrm;
pub mod latency;
pub mod measured_count;
