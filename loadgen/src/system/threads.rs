//! CPU affinity and timer precision of threads.

use std::num::NonZeroU64;

use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};

use crate::system::error::LoadgenError;

/// Prepares the calling thread: pins it to `cpu`, if given, and sets its timer slack to 1 ns
/// instead of the default 50 microseconds.
///
/// # Errors
/// There is no such CPU, or the process may not run on it.
pub fn prepare(cpu: Option<usize>) -> Result<(), LoadgenError> {
    let exact = NonZeroU64::new(1);
    set_current_timer_slack(exact).map_err(LoadgenError::system("cannot set the timer slack"))?;
    let Some(cpu) = cpu else { return Ok(()) };
    if cpu >= CpuSet::MAX_CPU {
        return Err(LoadgenError::Settings(format!("there is no CPU {cpu}")));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|errno| {
        LoadgenError::Settings(format!("cannot run on CPU {cpu}: {errno}. Name others with --cpus"))
    })
}

/// Parses `0,2-3` as 0, 2, 3.
///
/// # Errors
/// A part that is not a number or a range.
pub fn parse_cpus(text: &str) -> Result<Vec<usize>, String> {
    let number = |part: &str| {
        part.trim().parse::<usize>().map_err(|_| format!("{part:?} is not the number of a CPU"))
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => cpus.extend(number(first)?..=number(last)?),
            None => cpus.push(number(part)?),
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_and_ranges() {
        assert_eq!(parse_cpus("0,2-4, 7").unwrap(), [0, 2, 3, 4, 7]);
        assert!(parse_cpus("a").unwrap_err().contains("\"a\""));
        assert!(parse_cpus("1-").is_err());
    }

    #[test]
    fn a_missing_cpu_is_an_error() {
        let refused = std::thread::spawn(|| prepare(Some(1000))).join().unwrap();
        assert!(refused.unwrap_err().to_string().contains("CPU 1000"));
    }
}
