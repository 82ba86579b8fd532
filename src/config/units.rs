//! The notations of values: addresses, CPU lists, sizes, booleans.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What [`address`] takes.
pub const ADDRESS: &str = "ADDRESS:PORT (0.0.0.0:5672, [::]:5672) or a port";
/// What [`cpu_list`] takes.
pub const CPU_LIST: &str = "a list of CPU numbers and ranges (0-3,5)";
/// What [`size`] takes.
pub const SIZE: &str = "octets, or a number with one of the units k, kiB, M, MiB, G, GiB, T, TiB \
                        (powers of 1024) or kB, MB, GB, TB (powers of 1000)";
/// No machine has more CPUs than Linux counts by default.
const CPU_MAX: usize = 8192;

/// `ADDRESS:PORT`, or a port on every IPv4 address. An IPv6 address stands in brackets.
pub fn address(text: &str) -> Option<SocketAddr> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    match text.parse::<u16>() {
        Ok(port) => Some(SocketAddr::new(any, port)),
        Err(_) => text.parse().ok(),
    }
}

/// `0-3,5` → 0 1 2 3 5, sorted and each once.
pub fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (cpu(first)?, cpu(last)?);
        if first > last {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

fn cpu(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|&cpu| cpu < CPU_MAX)
}

/// Octets: a number and perhaps a unit.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "b" | "B" => 1,
        "k" | "K" | "kiB" | "KiB" | "ki" | "Ki" => 1 << 10,
        "m" | "M" | "miB" | "MiB" | "mi" | "Mi" => 1 << 20,
        "g" | "G" | "giB" | "GiB" | "gi" | "Gi" => 1 << 30,
        "t" | "T" | "tiB" | "TiB" | "ti" | "Ti" => 1 << 40,
        "kB" | "KB" | "kb" => 1_000,
        "MB" | "mb" => 1_000_000,
        "GB" | "gb" => 1_000_000_000,
        "TB" | "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// `true` or `false`, or their synonyms in rabbitmq.conf.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "on" | "yes" => Some(true),
        "false" | "off" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address("5673"), "0.0.0.0:5673".parse().ok());
        assert_eq!(address("127.0.0.1:1"), "127.0.0.1:1".parse().ok());
        assert_eq!(address("[::1]:5672"), "[::1]:5672".parse().ok());
        for wrong in ["", "localhost:5672", "127.0.0.1", "70000", "::1:5672x"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(cpu_list("0-3,5"), Some(vec![0, 1, 2, 3, 5]));
        assert_eq!(cpu_list("5, 1,1-2\n"), Some(vec![1, 2, 5]));
        for wrong in ["", "a", "3-1", "1-", ",", "-1", "99999999"] {
            assert_eq!(cpu_list(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        let good = [("0", 0), ("17", 17), ("1k", 1024), ("2 MiB", 2 << 20), ("3GB", 3_000_000_000)];
        for (text, octets) in good {
            assert_eq!(size(text), Some(octets), "{text}");
        }
        for wrong in ["", "k", "-1", "1.5G", "1 apple", "99999999999999999T"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
