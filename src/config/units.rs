//! The notations of values: addresses, CPU lists, sizes, booleans.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What [`address`] accepts.
pub const ADDRESS: &str = "ADDRESS:PORT (0.0.0.0:5672, [::]:5672) or a port";
/// What [`cpu_list`] accepts.
pub const CPU_LIST: &str = "a list of CPU numbers and ranges (0-3,5)";
/// What [`size`] accepts.
pub const SIZE: &str = "bytes, or a number with one of the units k, kiB, M, MiB, G, GiB, T, TiB \
                        (powers of 1024) or kB, MB, GB, TB (powers of 1000)";
/// What [`count`] accepts.
pub const COUNT: &str = "infinity or a whole number from 1 on";
/// What [`limit`] accepts.
pub const LIMIT: &str = "infinity or a whole number from 0 on";
/// No machine has more CPUs than Linux counts by default.
const CPU_MAX: usize = 8192;

/// `ADDRESS:PORT`, or a port on every IPv4 address. An IPv6 address stands in brackets.
pub fn address(text: &str) -> Option<SocketAddr> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    match text.parse::<u16>() {
        Ok(port) => Some(SocketAddr::new(any, port)),
        Err(_) => text.parse().ok().or_else(|| bare_v6(text)),
    }
}

/// rabbitmq.conf also has IPv6 addresses without brackets: `::1:5672`.
fn bare_v6(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    Some(SocketAddr::new(IpAddr::V6(address.parse().ok()?), port.parse().ok()?))
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

/// Bytes: a number with an optional unit.
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

/// Bytes, as rabbitmq.conf writes sizes of frames and buffers: there a kB has 1024 bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// `infinity`, which is `Some(None)`, or a number from 0 on.
pub fn limit(text: &str) -> Option<Option<u64>> {
    if text == "infinity" { Some(None) } else { text.parse().ok().map(Some) }
}

/// `infinity`, which is `Some(None)`, or a number from 1 on.
pub fn count(text: &str) -> Option<Option<u64>> {
    limit(text).filter(|&limit| limit != Some(0))
}

/// Milliseconds, or numbers with the units w, d, h, m, s and ms: `1h30m`.
pub fn duration_ms(text: &str) -> Option<u64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    let (mut rest, mut total) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let (factor, after) = unit_ms(behind)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

fn unit_ms(text: &str) -> Option<(u64, &str)> {
    const UNITS: [(&str, u64); 6] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
    ];
    UNITS.iter().find_map(|(unit, factor)| Some((*factor, text.strip_prefix(unit)?)))
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
        assert_eq!(address("::1:5672"), "[::1]:5672".parse().ok());
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
        for (text, bytes) in good {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for wrong in ["", "k", "-1", "1.5G", "1 apple", "99999999999999999T"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_are_counted_in_1024() {
        assert_eq!(
            ["0", "131072", "128KB", "1mb", "2GB"].map(bytes),
            [Some(0), Some(131_072), Some(131_072), Some(1 << 20), Some(2 << 30),]
        );
        assert_eq!(["", "KB", "1 KB", "1kiB", "-1"].map(bytes), [None; 5]);
    }

    #[test]
    fn counts() {
        assert_eq!(
            ["infinity", "1", "70000"].map(count),
            [Some(None), Some(Some(1)), Some(Some(70_000))]
        );
        assert_eq!(["", "0", "-1", "unlimited", "1.5"].map(count), [None; 5]);
        assert_eq!(["infinity", "0", "-1"].map(limit), [Some(None), Some(Some(0)), None]);
    }

    #[test]
    fn durations() {
        let good =
            [("0", 0), ("1500", 1500), ("10s", 10_000), ("1h30m", 5_400_000), ("1s5ms", 1005)];
        for (text, ms) in good {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for wrong in ["", "s", "1 s", "1.5s", "-1", "10s5", "99999999999999999w"] {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
    }
}
