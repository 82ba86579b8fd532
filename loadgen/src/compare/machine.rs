//! A description of the machine, so that figures of different machines are not mixed up.

use std::fs;

/// Processor, memory and kernel in one line, as far as /proc tells.
#[must_use]
pub fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let memory = field("/proc/meminfo", "MemTotal").and_then(|text| gibibytes(&text));
    let memory = memory.map_or(String::new(), |size| format!(", {size} GiB"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split(['-', '\n']).next().unwrap_or_default().to_owned();
    format!("{cpus} × {model}{memory}, Linux {kernel}")
}

/// The value after a name and a colon.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn gibibytes(kibibytes: &str) -> Option<u64> {
    let size: u64 = kibibytes.split_whitespace().next()?.parse().ok()?;
    Some((size + (1 << 19)) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_processor_and_the_kernel() {
        let line = machine();
        assert!(line.contains(" × ") && line.contains(", Linux "), "{line}");
        assert_eq!(gibibytes("24689388 kB"), Some(24));
    }
}
