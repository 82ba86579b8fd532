//! The one table of options: the flags with their environment variables, and the keys of the file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use super::units::{self, ADDRESS, CPU_LIST, SIZE};
use super::{Config, LogFormat, LogLevel, Watermark};

/// More shards than this are a mistake.
const SHARDS_MAX: u16 = 1024;
/// RabbitMQ's hard limit on `max_message_size`.
const MESSAGE_SIZE_MAX: u64 = 536_870_912;
/// The smallest frame_max that clients may answer with, as RabbitMQ's frame-min-size.
const FRAME_MIN: u32 = 8192;

/// A message broker for AMQP 0-9-1 clients. Without options it serves with defaults.
#[derive(Debug, Default, Parser)]
#[command(name = "ringtail", version, about, max_term_width = 100)]
#[command(after_help = "A flag goes before its environment variable, that before the \
    configuration file, that before the default. RABBITMQ_DEFAULT_USER, RABBITMQ_DEFAULT_PASS and \
    RABBITMQ_DEFAULT_VHOST name the first user, who may then log in from anywhere, and the first \
    vhost.")]
pub struct Flags {
    /// Accept clients here; may be given more than once [default: 0.0.0.0:5672]
    #[arg(long, env = "RINGTAIL_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    #[arg(value_parser = address)]
    pub listen: Vec<SocketAddr>,

    /// Keep what must survive a restart in this folder [default: /var/lib/ringtail]
    #[arg(long, env = "RINGTAIL_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Run so many shards, each a thread on a core of its own [default: the cores this process may
    /// use by its affinity and its CPU quota]
    #[arg(long, env = "RINGTAIL_SHARDS", value_name = "N")]
    #[arg(value_parser = shards)]
    pub shards: Option<u16>,

    /// Run the shards on these CPUs, for example 0-3,5 [default: all this process may use]
    #[arg(long, env = "RINGTAIL_CPUS", value_name = "LIST", value_parser = cpus)]
    pub cpus: Option<CpuList>,

    /// Read this file, in the format of rabbitmq.conf
    #[arg(long, env = "RINGTAIL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Write the log as lines of text or of JSON [default: text]
    #[arg(long, env = "RINGTAIL_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// CPU numbers, sorted and each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

fn shards(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|n| (1..=SHARDS_MAX).contains(n));
    number.ok_or_else(|| format!("allowed is a whole number from 1 to {SHARDS_MAX}"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    units::address(text).ok_or_else(|| format!("allowed is {ADDRESS}"))
}

fn cpus(text: &str) -> Result<CpuList, String> {
    units::cpu_list(text).map(CpuList).ok_or_else(|| format!("allowed is {CPU_LIST}"))
}

impl Flags {
    /// Puts what was given over what the file and the defaults say.
    pub fn apply(self, config: &mut Config) {
        if !self.listen.is_empty() {
            config.listen = self.listen;
        }
        config.data_dir = self.data_dir.unwrap_or(std::mem::take(&mut config.data_dir));
        config.shards = self.shards.or(config.shards);
        config.cpus = self.cpus.map(|list| list.0).or(config.cpus.take());
        config.log_format = self.log_format.unwrap_or(config.log_format);
    }
}

/// A key of the configuration file.
pub struct Key {
    /// A name that ends in `.*` stands for all names that begin so.
    pub name: &'static str,
    /// What its value may be, for people.
    pub allowed: &'static str,
    /// Puts the value into the configuration: what stands for `*`, then the value. `None`: the
    /// value is not allowed.
    pub set: fn(&mut Config, &str, &str) -> Option<()>,
}

/// Every key that is understood.
pub const KEYS: &[Key] = &[
    Key {
        name: "listeners.tcp.*",
        allowed: ADDRESS,
        set: |config, _, value| put(units::address(value), |address| config.listen.push(address)),
    },
    Key {
        name: "default_user",
        allowed: "a user name",
        set: |config, _, value| text(&mut config.default_user, value),
    },
    Key {
        name: "default_pass",
        allowed: "a password",
        set: |config, _, value| text(&mut config.default_pass, value),
    },
    Key {
        name: "default_vhost",
        allowed: "a vhost's name",
        set: |config, _, value| text(&mut config.default_vhost, value),
    },
    Key {
        name: "loopback_users",
        allowed: "none",
        set: |config, _, value| (value == "none").then(|| config.loopback_users.clear()),
    },
    Key { name: "loopback_users.*", allowed: "true or false", set: loopback_user },
    Key {
        name: "channel_max",
        allowed: "a whole number from 0 (no limit) to 65535",
        set: |config, _, value| put(value.parse().ok(), |n| config.channel_max = n),
    },
    Key {
        name: "frame_max",
        allowed: "0 (no limit) or octets from 8192 on",
        set: |config, _, value| {
            let octets = value.parse().ok().filter(|&n| n == 0 || n >= FRAME_MIN);
            put(octets, |n| config.frame_max = n)
        },
    },
    Key {
        name: "heartbeat",
        allowed: "seconds from 0 (off) to 65535",
        set: |config, _, value| put(value.parse().ok(), |n| config.heartbeat_s = n),
    },
    Key {
        name: "handshake_timeout",
        allowed: "milliseconds from 1 on",
        set: |config, _, value| {
            let ms = value.parse().ok().filter(|&ms| ms > 0);
            put(ms, |ms| config.handshake_timeout_ms = ms)
        },
    },
    Key {
        name: "max_message_size",
        allowed: "octets from 1 to 536870912",
        set: |config, _, value| {
            let octets = units::size(value).filter(|n| (1..=MESSAGE_SIZE_MAX).contains(n));
            put(octets, |n| config.max_message_size = n)
        },
    },
    Key {
        name: "vm_memory_high_watermark.relative",
        allowed: "a fraction of the memory from 0 to 1",
        set: |config, _, value| {
            let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
            put(share, |share| config.memory = Watermark::Relative(share))
        },
    },
    Key {
        name: "vm_memory_high_watermark.absolute",
        allowed: SIZE,
        set: |config, _, value| {
            put(units::size(value), |octets| config.memory = Watermark::Absolute(octets))
        },
    },
    Key {
        name: "log.console.level",
        allowed: "debug, info, warning, error, critical or none",
        set: |config, _, value| put(LogLevel::named(value), |level| config.log_level = level),
    },
];

/// The key of that name, and what stands for its `*`.
pub fn key(name: &str) -> Option<(&'static Key, &str)> {
    KEYS.iter().find_map(|key| {
        match key.name.strip_suffix('*') {
            Some(prefix) => name.strip_prefix(prefix).filter(|rest| !rest.is_empty()),
            None => (key.name == name).then_some(""),
        }
        .map(|rest| (key, rest))
    })
}

fn put<T>(value: Option<T>, place: impl FnOnce(T)) -> Option<()> {
    value.map(place)
}

fn text(place: &mut String, value: &str) -> Option<()> {
    (!value.is_empty()).then(|| value.clone_into(place))
}

fn loopback_user(config: &mut Config, user: &str, value: &str) -> Option<()> {
    let listed = units::boolean(value)?;
    config.loopback_users.retain(|known| known != user);
    if listed {
        config.loopback_users.push(user.to_owned());
    }
    Some(())
}
