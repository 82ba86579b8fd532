//! Checks and defaults that several commands share.

use crate::system::error::LoadgenError;

/// The duration of a run without a limit (s).
pub const DEFAULT_SECONDS: f64 = 10.0;

pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "must be a number above 0".to_owned())
}

pub fn refuse(sentence: impl Into<String>) -> Result<(), LoadgenError> {
    Err(LoadgenError::Settings(sentence.into()))
}

/// True if a rate is above 0 and finite.
#[must_use]
pub fn is_rate(rate: f64) -> bool {
    rate > 0.0 && rate.is_finite()
}
