//! The one table of keys of the configuration file, which has the format of rabbitmq.conf.

use super::credentials;
use super::defaults;
use super::units::{self, ADDRESS, COUNT, LIMIT, SIZE};
use super::{Config, DurabilityMode, IoMode, LogLevel, Mechanism, MemoryStrategy, SizeLimit};

/// RabbitMQ's hard limit on `max_message_size`.
const MESSAGE_SIZE_MAX: u64 = 536_870_912;
/// The smallest frame_max that clients may answer with. connection.start-ok must fit in it.
const FRAME_MIN: u32 = 4096;

/// A key of the configuration file.
pub struct Key {
    /// A `*` at the end stands for any rest, one between dots for any name without a dot.
    pub name: &'static str,
    /// The values that are allowed, in words.
    pub allowed: &'static str,
    /// Sets the value. Arguments: the part of the name that `*` stands for, then the value. `None`
    /// if the value is not allowed.
    pub set: fn(&mut Config, &str, &str) -> Option<()>,
}

pub const fn key_of(
    name: &'static str,
    allowed: &'static str,
    set: fn(&mut Config, &str, &str) -> Option<()>,
) -> Key {
    Key { name, allowed, set }
}

/// What keys of definitions allow.
pub const DEFINITIONS: &str = "the path of a JSON file, or of a folder of such files";
const BOOLEAN: &str = "true or false";
const CHANNELS: &str = "a whole number from 0 (no limit) to 65535";
const BUFFER: &str = "bytes from 1 to 2147483647, optionally with the unit KB, MB or GB";

/// Every known key, but for those of defaults.
pub const KEYS: &[Key] = &[
    key_of("listeners.tcp", "none", |config, _, value| {
        (value == "none").then(|| config.listen.clear())
    }),
    key_of("listeners.tcp.*", ADDRESS, |config, _, value| {
        put(units::address(value), |address| config.listen.push(address))
    }),
    key_of("num_acceptors.tcp", "a whole number from 1 on", |_, _, value| {
        // One thread accepts for all listeners; it hands each client on at once.
        put(value.parse::<u32>().ok().filter(|&n| n > 0), drop)
    }),
    key_of("tcp_listen_options.backlog", "a whole number from 1 to 65535", |config, _, value| {
        let backlog = value.parse::<u16>().ok().filter(|&n| n > 0);
        put(backlog, |n| config.tcp.backlog = n.into())
    }),
    key_of("tcp_listen_options.nodelay", BOOLEAN, |config, _, value| {
        put(units::boolean(value), |yes| config.tcp.nodelay = yes)
    }),
    key_of("tcp_listen_options.keepalive", BOOLEAN, |config, _, value| {
        put(units::boolean(value), |yes| config.tcp.keepalive = yes)
    }),
    key_of("tcp_listen_options.sndbuf", BUFFER, |config, _, value| {
        put(buffer(value), |bytes| config.tcp.sndbuf = Some(bytes))
    }),
    key_of("tcp_listen_options.recbuf", BUFFER, |config, _, value| {
        put(buffer(value), |bytes| config.tcp.recbuf = Some(bytes))
    }),
    key_of("tcp_listen_options.linger.on", BOOLEAN, |config, _, value| {
        put(units::boolean(value), |yes| config.tcp.linger = yes)
    }),
    key_of("tcp_listen_options.linger.timeout", "seconds from 0 to 65535", |config, _, value| {
        put(value.parse().ok(), |seconds| config.tcp.linger_s = seconds)
    }),
    // About a process of Erlang that does not exist here. Accepted without effect.
    key_of("tcp_listen_options.exit_on_close", BOOLEAN, |_, _, value| {
        put(units::boolean(value), drop)
    }),
    key_of("default_user", "a user name", |config, _, value| text(&mut config.default_user, value)),
    key_of("default_pass", "a password", |config, _, value| {
        (!value.is_empty()).then(|| config.default_pass = value.into())
    }),
    key_of("default_vhost", "a vhost's name", |config, _, value| {
        text(&mut config.default_vhost, value)
    }),
    key_of("load_definitions", DEFINITIONS, load_definitions),
    key_of("management.load_definitions", DEFINITIONS, load_definitions),
    key_of("definitions.import_backend", "local_filesystem", |_, _, value| {
        (value == "local_filesystem").then_some(())
    }),
    key_of("definitions.local.path", DEFINITIONS, load_definitions),
    key_of("loopback_users", "none", |config, _, value| {
        (value == "none").then(|| config.loopback_users.clear())
    }),
    key_of("loopback_users.*", BOOLEAN, loopback_user),
    key_of("auth_mechanisms.*", "the name of a mechanism in capitals", mechanism),
    key_of("channel_max", CHANNELS, channel_max),
    key_of("max_channels_per_connection", CHANNELS, channel_max),
    key_of("channel_max_per_node", COUNT, |config, _, value| {
        put(units::count(value), |n| config.channel_max_per_node = n)
    }),
    key_of("connection_max", LIMIT, connection_max),
    key_of("max_connections", LIMIT, connection_max),
    key_of("consumer_max_per_channel", COUNT, |config, _, value| {
        put(units::count(value), |n| config.consumer_max_per_channel = n)
    }),
    key_of("cluster_queue_limit", COUNT, |config, _, value| {
        put(units::count(value), |n| config.cluster_queue_limit = n)
    }),
    key_of("cluster_exchange_limit", LIMIT, |config, _, value| {
        put(units::limit(value), |n| config.cluster_exchange_limit = n)
    }),
    key_of(
        "frame_max",
        "0 (no limit) or bytes from 4096 on, optionally with the unit KB, MB or GB",
        |config, _, value| {
            let bytes = frame(value).filter(|&n| n == 0 || n >= FRAME_MIN);
            put(bytes, |n| config.frame_max = n)
        },
    ),
    key_of("initial_frame_max", "bytes from 4096 on", |config, _, value| {
        let bytes = frame(value).filter(|&n| n >= FRAME_MIN);
        put(bytes, |n| config.initial_frame_max = n)
    }),
    key_of("heartbeat", "seconds from 0 (off) to 65535", |config, _, value| {
        put(value.parse().ok(), |n| config.heartbeat_s = n)
    }),
    key_of("handshake_timeout", TIMEOUT, |config, _, value| {
        let ms = if value == "infinity" { Some(u64::MAX) } else { units::duration_ms(value) };
        put(ms.filter(|&ms| ms > 0), |ms| config.handshake_timeout_ms = ms)
    }),
    key_of("consumer_timeout", CONSUMER_TIMEOUT, |config, _, value| {
        let off = value == "infinity" || value == "undefined";
        let ms = units::duration_ms(value).filter(|&ms| ms > 0);
        put(if off { Some(None) } else { ms.map(Some) }, |ms| config.consumer_timeout_ms = ms)
    }),
    key_of("max_message_size", "bytes from 1 to 536870912", |config, _, value| {
        let bytes = units::size(value).filter(|n| (1..=MESSAGE_SIZE_MAX).contains(n));
        put(bytes, |n| config.max_message_size = n)
    }),
    key_of(
        "vm_memory_high_watermark.relative",
        "a fraction of the memory from 0 to 1",
        |config, _, value| {
            let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
            put(share, |share| config.memory = SizeLimit::Relative(share))
        },
    ),
    key_of("vm_memory_high_watermark.absolute", SIZE, |config, _, value| {
        put(units::size(value), |bytes| config.memory = SizeLimit::Absolute(bytes))
    }),
    key_of("vm_memory_calculation_strategy", "rss or allocated", |config, _, value| {
        let strategy = match value {
            "rss" => Some(MemoryStrategy::Rss),
            "allocated" => Some(MemoryStrategy::Allocated),
            _ => None,
        };
        put(strategy, |strategy| config.memory_strategy = strategy)
    }),
    key_of(
        "vm_memory_high_watermark_paging_ratio",
        "a fraction of the watermark above 0 and up to 1",
        |config, _, value| {
            let share = value.parse().ok().filter(|&share: &f64| 0.0 < share && share <= 1.0);
            put(share, |share| config.paging_ratio = share)
        },
    ),
    key_of("disk_free_limit.relative", "a multiple of the memory from 0 on", |config, _, value| {
        let share = value.parse().ok().filter(|&share: &f64| 0.0 <= share && share.is_finite());
        put(share, |share| config.disk_free = SizeLimit::Relative(share))
    }),
    key_of("disk_free_limit.absolute", SIZE, |config, _, value| {
        put(units::size(value), |bytes| config.disk_free = SizeLimit::Absolute(bytes))
    }),
    key_of(
        "durability",
        "strict (a confirm means stable storage) or relaxed (a power loss may lose messages since \
         the last sync)",
        |config, _, value| {
            let durability = match value {
                "strict" => Some(DurabilityMode::Strict),
                "relaxed" => Some(DurabilityMode::Relaxed),
                _ => None,
            };
            put(durability, |durability| config.durability = durability)
        },
    ),
    key_of(
        "durability.interval",
        "milliseconds between syncs from 1 on, or a duration like 1s; used with relaxed durability",
        |config, _, value| {
            let ms = units::duration_ms(value).filter(|&ms| ms > 0);
            put(ms, |ms| config.durability_interval_ms = ms)
        },
    ),
    key_of(
        "io",
        "auto (io_uring where allowed, else epoll), uring or epoll",
        |config, _, value| put(IoMode::named(value), |mode| config.io = mode),
    ),
    key_of(
        "log.console.level",
        "debug, info, warning, error, critical or none",
        |config, _, value| put(LogLevel::named(value), |level| config.log_level = level),
    ),
];

const CONSUMER_TIMEOUT: &str =
    "infinity or undefined (off), milliseconds from 1 on, or a duration like 30m";
const TIMEOUT: &str = "infinity, milliseconds from 1 on, or a duration like 10s or 1m30s";

/// All keys.
pub fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(defaults::KEYS).chain(credentials::KEYS)
}

/// The key with this name, and what its `*` stands for.
pub fn key(name: &str) -> Option<(&'static Key, &str)> {
    all().find_map(|key| Some((key, key.stands_for(name)?)))
}

impl Key {
    /// What the `*` of the key stands for in a name.
    fn stands_for<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self.name.split_once('*') {
            None => (self.name == name).then_some(""),
            Some((prefix, suffix)) => {
                let rest = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
                let fits = !rest.is_empty() && (suffix.is_empty() || !rest.contains('.'));
                fits.then_some(rest)
            }
        }
    }

    /// The name of this key that is nearest to another: the parts that `*` stands for are its own.
    fn nearest_to(&self, name: &str) -> String {
        let last = name.rsplit('.').next().unwrap_or_default();
        match self.name.split_once('*') {
            None => self.name.to_owned(),
            Some((prefix, "")) => format!("{prefix}{last}"),
            Some((prefix, suffix)) => {
                let part = name.split('.').nth(prefix.matches('.').count()).unwrap_or_default();
                format!("{prefix}{part}{suffix}")
            }
        }
    }
}

/// The known key that is probably meant by an unknown one: at most one typo in four characters.
pub fn nearest(name: &str) -> Option<String> {
    let candidates = all().map(|key| key.nearest_to(name));
    let far = name.len() / 4;
    let distances = candidates.map(|key| (strsim::damerau_levenshtein(name, &key), key));
    let (distance, key) = distances.min()?;
    (distance <= far).then_some(key)
}

/// All keys with their allowed values, for the help.
pub fn help() -> String {
    let lines = all().map(|key| format!("  {}\n          {}", key.name, key.allowed));
    let lines: Vec<_> = lines.collect();
    format!(
        "Keys of the configuration file, which has the format of rabbitmq.conf:\n{}",
        lines.join("\n")
    )
}

fn put<T>(value: Option<T>, place: impl FnOnce(T)) -> Option<()> {
    value.map(place)
}

fn text(place: &mut String, value: &str) -> Option<()> {
    (!value.is_empty()).then(|| value.clone_into(place))
}

fn frame(value: &str) -> Option<u32> {
    u32::try_from(units::bytes(value)?).ok()
}

fn buffer(value: &str) -> Option<u32> {
    let bytes = u32::try_from(units::bytes(value)?).ok()?;
    (bytes > 0 && i32::try_from(bytes).is_ok()).then_some(bytes)
}

fn load_definitions(config: &mut Config, _: &str, value: &str) -> Option<()> {
    (!value.is_empty()).then(|| config.load_definitions = Some(value.into()))
}

fn channel_max(config: &mut Config, _: &str, value: &str) -> Option<()> {
    put(value.parse().ok(), |n| config.channel_max = n)
}

fn connection_max(config: &mut Config, _: &str, value: &str) -> Option<()> {
    put(units::limit(value), |n| config.connection_max = n)
}

fn loopback_user(config: &mut Config, user: &str, value: &str) -> Option<()> {
    let listed = units::boolean(value)?;
    config.loopback_users.retain(|known| known != user);
    if listed {
        config.loopback_users.push(user.to_owned());
    }
    Some(())
}

/// A mechanism that is not built is not offered, like one of RabbitMQ without its plugin.
fn mechanism(config: &mut Config, place: &str, value: &str) -> Option<()> {
    let name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if value.is_empty() || !value.chars().all(name) {
        return None;
    }
    let mechanism = match value {
        "PLAIN" => Mechanism::Plain,
        "AMQPLAIN" => Mechanism::AmqPlain,
        other => {
            let warning = format!("auth_mechanisms.{place}: {other} is not built and not offered");
            config.warnings.push(warning);
            return Some(());
        }
    };
    if !config.auth_mechanisms.contains(&mechanism) {
        config.auth_mechanisms.push(mechanism);
    }
    Some(())
}
