//! What the broker is told at its start: flags, environment and a file become one plain struct.
//!
//! Absent by design: anything that is not an input here. Files and variables are read through
//! functions that the caller gives; only `RINGTAIL_…` variables are read by the flag parser itself.

mod conf;
mod faults;
mod keys;
mod options;
mod settings;
pub mod units;

pub use self::faults::{DiskDeed, DiskEffect, DiskFault, DiskLane};
pub use self::settings::{Durability, LogFormat, LogLevel, Mechanism, TcpOptions, Watermark};

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use options::Flags;

/// Everything the broker is told at its start.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients are accepted.
    pub listen: Vec<SocketAddr>,
    /// What must survive a restart is kept here.
    pub data_dir: PathBuf,
    /// How many shards; `None`: one a core.
    pub shards: Option<u16>,
    /// The CPUs to run on; `None`: all that the process may use.
    pub cpus: Option<Vec<usize>>,
    /// Text or JSON.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: LogLevel,
    /// The first user.
    pub default_user: String,
    /// The first user's password.
    pub default_pass: String,
    /// The first vhost.
    pub default_vhost: String,
    /// Users who may log in from this host only.
    pub loopback_users: Vec<String>,
    /// What clients may log in with.
    pub auth_mechanisms: Vec<Mechanism>,
    /// Channels per connection; 0: no limit.
    pub channel_max: u16,
    /// Channels of all connections; `None`: no limit.
    pub channel_max_per_node: Option<u64>,
    /// Connections that may be open; `None`: no limit.
    pub connection_max: Option<u64>,
    /// Consumers per channel; `None`: no limit.
    pub consumer_max_per_channel: Option<u64>,
    /// Queues that may be declared; `None`: no limit.
    pub cluster_queue_limit: Option<u64>,
    /// Exchanges there may be, those of every vhost included; `None`: no limit.
    pub cluster_exchange_limit: Option<u64>,
    /// Octets per frame; 0: no limit.
    pub frame_max: u32,
    /// Octets per frame before tune-ok.
    pub initial_frame_max: u32,
    /// Seconds; 0: off.
    pub heartbeat_s: u16,
    /// Milliseconds a client has for its handshake; `u64::MAX`: no limit.
    pub handshake_timeout_ms: u64,
    /// Octets per message.
    pub max_message_size: u64,
    /// What is set on sockets.
    pub tcp: TcpOptions,
    /// From where on publishers are blocked.
    pub memory: Watermark,
    /// The part of that memory, 0 to 1, which messages of queues fill before they go to disk.
    pub paging_ratio: f64,
    /// Publishers are blocked while less than that is free where the data folder is; a part is
    /// one of the memory.
    pub disk_free: Watermark,
    /// When a message counts as durable.
    pub durability: Durability,
    /// Milliseconds between syncs, if the durability is relaxed.
    pub durability_interval_ms: u64,
    /// Faults of the disk: for tests (`RINGTAIL_TEST_DISK`).
    pub disk_faults: Vec<DiskFault>,
    /// Queues never live where they are declared: for tests (`RINGTAIL_TEST_PLACE=cross`).
    pub place_cross: bool,
    /// What was strange but no reason to stop; to be logged.
    pub warnings: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5672))],
            data_dir: PathBuf::from("/var/lib/ringtail"),
            shards: None,
            cpus: None,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
            default_user: "guest".to_owned(),
            default_pass: "guest".to_owned(),
            default_vhost: "/".to_owned(),
            loopback_users: vec!["guest".to_owned()],
            auth_mechanisms: vec![Mechanism::Plain, Mechanism::AmqPlain],
            channel_max: 2047,
            channel_max_per_node: None,
            connection_max: None,
            consumer_max_per_channel: None,
            cluster_queue_limit: None,
            cluster_exchange_limit: None,
            frame_max: 131_072,
            initial_frame_max: 8192,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            max_message_size: 134_217_728,
            tcp: TcpOptions::default(),
            memory: Watermark::Relative(0.6),
            paging_ratio: 0.5,
            disk_free: Watermark::Absolute(50_000_000),
            durability: Durability::Strict,
            durability_interval_ms: 100,
            disk_faults: Vec::new(),
            place_cross: false,
            warnings: Vec::new(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The command line or a `RINGTAIL_…` variable is wrong; or help or the version was asked for.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// The file cannot be read.
    #[error("--config {path}: cannot read the file: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        why: io::Error,
    },
    /// A line of the file is no setting.
    #[error("{path}, line {line}: a line is `key = value` or a comment behind `#`")]
    Line {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
    },
    /// A value of the file names an environment variable that is not set.
    #[error("{path}, line {line}: the value of '{key}' needs the environment variable {variable}")]
    Variable {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// The option.
        key: String,
        /// The variable.
        variable: String,
    },
    /// `RINGTAIL_TEST_DISK` is no list of faults.
    #[error("RINGTAIL_TEST_DISK: '{0}' is no list of faults")]
    Faults(String),
    /// A key of the file has a value that is not allowed.
    #[error("{path}, line {line}: invalid value '{value}' for '{key}': allowed is {allowed}")]
    Value {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// The option.
        key: String,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// Reads an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;
/// Reads a file.
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

impl Config {
    /// Flags before environment before file before defaults.
    ///
    /// # Errors
    ///
    /// See [`Refused`]; each names the option, what was given and what is allowed.
    pub fn load<A>(args: A, env: Env<'_>, read: Read<'_>) -> Result<Self, Refused>
    where
        A: IntoIterator,
        A::Item: Into<OsString> + Clone,
    {
        let flags = Flags::read(args)?;
        let mut config = Self::default();
        if let Some(path) = &flags.config {
            let name = path.display().to_string();
            let text = read(path).map_err(|why| Refused::Unreadable { path: name.clone(), why })?;
            config.apply_file(name, &text, env)?;
        }
        config.apply_env(env)?;
        flags.apply(&mut config);
        Ok(config)
    }

    fn apply_file(&mut self, path: String, text: &str, env: Env<'_>) -> Result<(), Refused> {
        let settings = match conf::parse(text) {
            Ok(settings) => settings,
            Err(line) => return Err(Refused::Line { path, line }),
        };
        self.begin_lists(&settings);
        for setting in settings {
            self.apply_setting(&path, &setting, env)?;
        }
        Ok(())
    }

    fn apply_setting(
        &mut self,
        path: &str,
        setting: &conf::Setting<'_>,
        env: Env<'_>,
    ) -> Result<(), Refused> {
        let conf::Setting { line, key, value } = *setting;
        let Some((known, rest)) = keys::key(key) else {
            let meant = keys::nearest(key).map(|key| format!("; is '{key}' meant?"));
            let meant = meant.unwrap_or_default();
            let warning = format!("{path}, line {line}: unknown key '{key}' is ignored{meant}");
            self.warnings.push(warning);
            return Ok(());
        };
        let (path, key) = (path.to_owned(), key.to_owned());
        let value = match conf::interpolate(value, env) {
            Ok(value) => value,
            Err(variable) => return Err(Refused::Variable { path, line, key, variable }),
        };
        if (known.set)(self, rest, &value).is_none() {
            return Err(Refused::Value { path, line, key, value, allowed: known.allowed });
        }
        Ok(())
    }

    /// A list that the file mentions replaces the default.
    fn begin_lists(&mut self, settings: &[conf::Setting<'_>]) {
        let mentioned = |prefix: &str| settings.iter().any(|s| s.key.starts_with(prefix));
        if mentioned("listeners.tcp.") {
            self.listen.clear();
        }
        if mentioned("loopback_users.") {
            self.loopback_users.clear();
        }
        if mentioned("auth_mechanisms.") {
            self.auth_mechanisms.clear();
        }
    }

    fn apply_env(&mut self, env: Env<'_>) -> Result<(), Refused> {
        if let Some(user) = env("RABBITMQ_DEFAULT_USER") {
            self.default_user = user;
            self.loopback_users.retain(|known| *known != self.default_user);
        }
        if let Some(password) = env("RABBITMQ_DEFAULT_PASS") {
            self.default_pass = password;
        }
        if let Some(vhost) = env("RABBITMQ_DEFAULT_VHOST") {
            self.default_vhost = vhost;
        }
        self.place_cross = env("RINGTAIL_TEST_PLACE").as_deref() == Some("cross");
        if let Some(text) = env("RINGTAIL_TEST_DISK") {
            self.disk_faults = faults::faults(&text).ok_or(Refused::Faults(text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
