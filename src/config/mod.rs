//! The configuration: flags, environment and a file become one plain struct.
//!
//! Absent by design: anything but its inputs. Files and variables are read through functions that
//! the caller passes; only the flag parser reads `RINGTAIL_…` variables itself.

mod conf;
mod credentials;
mod defaults;
mod faults;
mod keys;
mod options;
mod settings;
pub mod units;

pub use self::credentials::{CredentialBackend, CredentialKeys};
pub use self::faults::{DiskAction, DiskEffect, DiskFault, DiskWorker};
pub use self::settings::{
    DurabilityMode, IoMode, LogFormat, LogLevel, Mechanism, MemoryStrategy, SizeLimit, StageKind,
    TcpOptions,
};

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use model::Secret;
use model::access::credentials::PasswordRefused;
use model::access::defaults::VhostDefaults;

use options::Flags;

/// Every setting of the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Addresses that accept clients.
    pub listen: Vec<SocketAddr>,
    /// The folder for everything that survives a restart.
    pub data_dir: PathBuf,
    /// How many shards; `None`: one per core.
    pub shards: Option<u16>,
    /// The CPUs to run on; `None`: all that the process may use.
    pub cpus: Option<Vec<usize>>,
    /// How shards wait for sockets.
    pub io: IoMode,
    /// Text or JSON.
    pub log_format: LogFormat,
    /// The least important lines that are logged.
    pub log_level: LogLevel,
    /// The first user.
    pub default_user: String,
    /// The first user's password.
    pub default_pass: Secret,
    /// The first vhost.
    pub default_vhost: String,
    /// What passwords in clear have to be.
    pub credentials: CredentialKeys,
    /// Limits, operator policies and users that new vhosts get.
    pub vhost_defaults: VhostDefaults,
    /// The file or folder with definitions that every start imports.
    pub load_definitions: Option<PathBuf>,
    /// Users who may log in from this host only.
    pub loopback_users: Vec<String>,
    /// Mechanisms that clients may log in with.
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
    /// Exchanges, with the predeclared ones of every vhost; `None`: no limit.
    pub cluster_exchange_limit: Option<u64>,
    /// Bytes per frame; 0: no limit.
    pub frame_max: u32,
    /// Bytes per frame before tune-ok.
    pub initial_frame_max: u32,
    /// Seconds; 0: off.
    pub heartbeat_s: u16,
    /// Milliseconds a client has for its handshake; `u64::MAX`: no limit.
    pub handshake_timeout_ms: u64,
    /// How long a client may take to settle a delivery; `None`: for ever.
    pub consumer_timeout_ms: Option<u64>,
    /// Bytes per message.
    pub max_message_size: u64,
    /// Transport stages of every connection, before its session opens; only for tests yet.
    pub transport_stages: Vec<StageKind>,
    /// Options of sockets.
    pub tcp: TcpOptions,
    /// The memory above which publishers are blocked.
    pub memory: SizeLimit,
    /// What counts as used of it.
    pub memory_strategy: MemoryStrategy,
    /// The share of that memory, 0 to 1, that messages of queues fill before they spill to disk.
    pub paging_ratio: f64,
    /// The free disk space below which publishers are blocked; a relative one is a multiple of the
    /// memory.
    pub disk_free: SizeLimit,
    /// When a message counts as durable.
    pub durability: DurabilityMode,
    /// Milliseconds between syncs, if the durability is relaxed.
    pub durability_interval_ms: u64,
    /// Faults that are injected into the disk: for tests (`RINGTAIL_TEST_DISK`).
    pub disk_faults: Vec<DiskFault>,
    /// Queues never live where they are declared: for tests (`RINGTAIL_TEST_PLACE=cross`).
    pub place_cross: bool,
    /// Warnings for the log.
    pub warnings: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5672))],
            data_dir: PathBuf::from("/var/lib/ringtail"),
            shards: None,
            cpus: None,
            io: IoMode::Auto,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
            default_user: "guest".to_owned(),
            default_pass: "guest".into(),
            default_vhost: "/".to_owned(),
            credentials: CredentialKeys::default(),
            vhost_defaults: VhostDefaults::default(),
            load_definitions: None,
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
            consumer_timeout_ms: None,
            max_message_size: 134_217_728,
            transport_stages: Vec::new(),
            tcp: TcpOptions::default(),
            memory: SizeLimit::Relative(0.6),
            memory_strategy: MemoryStrategy::Rss,
            paging_ratio: 0.5,
            disk_free: SizeLimit::Absolute(50_000_000),
            durability: DurabilityMode::Strict,
            durability_interval_ms: 100,
            disk_faults: Vec::new(),
            place_cross: false,
            warnings: Vec::new(),
        }
    }
}

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line or a `RINGTAIL_…` variable is wrong, or help or the version was requested.
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
    /// A line of the file is not a setting.
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
        /// The key.
        key: String,
        /// The variable.
        variable: String,
    },
    /// Passwords are to match a pattern, and none is given.
    #[error(
        "credential_validator.validation_backend = rabbit_credential_validator_password_regexp \
         needs credential_validator.regexp"
    )]
    NoRegexp,
    /// A default user has a password that the validator refuses.
    #[error("default_users.{0}.password: {1}")]
    Password(String, PasswordRefused),
    /// `RINGTAIL_TEST_DISK` is not a list of faults.
    #[error("RINGTAIL_TEST_DISK: '{0}' is not a list of faults")]
    Faults(String),
    /// A key of the file has a value that is not allowed.
    #[error("{path}, line {line}: invalid value '{value}' for '{key}': allowed is {allowed}")]
    Value {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The values that are allowed, in words.
        allowed: &'static str,
    },
}

/// Reads an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;
/// Reads a file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

impl Config {
    /// Reads all sources. Flags override the environment, the environment the file, the file the
    /// defaults.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`]; each names the option, its value and the values that are allowed.
    pub fn load<A>(args: A, env: Env<'_>, read: ReadFile<'_>) -> Result<Self, ConfigError>
    where
        A: IntoIterator,
        A::Item: Into<OsString> + Clone,
    {
        let flags = Flags::read(args)?;
        let mut config = Self::default();
        if let Some(path) = &flags.config {
            let name = path.display().to_string();
            let text =
                read(path).map_err(|why| ConfigError::Unreadable { path: name.clone(), why })?;
            config.apply_file(name, &text, env)?;
        }
        config.apply_env(env)?;
        flags.apply(&mut config);
        Ok(config)
    }

    fn apply_file(&mut self, path: String, text: &str, env: Env<'_>) -> Result<(), ConfigError> {
        let settings = match conf::parse(text) {
            Ok(settings) => settings,
            Err(line) => return Err(ConfigError::Line { path, line }),
        };
        self.begin_lists(&settings);
        for setting in settings {
            self.apply_setting(&path, &setting, env)?;
        }
        defaults::check(self);
        credentials::check(self)
    }

    fn apply_setting(
        &mut self,
        path: &str,
        setting: &conf::Setting<'_>,
        env: Env<'_>,
    ) -> Result<(), ConfigError> {
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
            Err(variable) => return Err(ConfigError::Variable { path, line, key, variable }),
        };
        if (known.set)(self, rest, &value).is_none() {
            return Err(ConfigError::Value { path, line, key, value, allowed: known.allowed });
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

    fn apply_env(&mut self, env: Env<'_>) -> Result<(), ConfigError> {
        if let Some(user) = env("RABBITMQ_DEFAULT_USER") {
            self.default_user = user;
            self.loopback_users.retain(|known| *known != self.default_user);
        }
        if let Some(password) = env("RABBITMQ_DEFAULT_PASS") {
            self.default_pass = password.into();
        }
        if let Some(vhost) = env("RABBITMQ_DEFAULT_VHOST") {
            self.default_vhost = vhost;
        }
        self.place_cross = env("RINGTAIL_TEST_PLACE").as_deref() == Some("cross");
        #[cfg(feature = "second-kinds")]
        if let Some(text) = env("RINGTAIL_TEST_STAGES") {
            self.transport_stages = StageKind::list(&text);
        }
        if let Some(text) = env("RINGTAIL_TEST_DISK") {
            self.disk_faults = faults::faults(&text).ok_or(ConfigError::Faults(text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
