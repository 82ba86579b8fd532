//! The types of settings that are more than a number or a text.

/// Where the log's lines go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important lines that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happened.
    Info,
    /// What somebody should look at.
    Warning,
    /// What went wrong.
    Error,
    /// Nothing.
    None,
}

impl LogLevel {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "debug" => Self::Debug,
            "info" | "notice" => Self::Info,
            "warning" => Self::Warning,
            "error" | "critical" => Self::Error,
            "none" => Self::None,
            _ => return None,
        })
    }
}

/// An amount of memory, or of disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Watermark {
    /// A part of the memory the process may use.
    Relative(f64),
    /// Octets.
    Absolute(u64),
}

impl Watermark {
    /// Octets, where the process may use `total`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub fn limit(self, total: u64) -> u64 {
        match self {
            // What does not fit is cut off; being a few octets off does not matter.
            Self::Relative(share) => (total as f64 * share) as u64,
            Self::Absolute(octets) => octets,
        }
    }
}

/// When a message counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on stable storage.
    Strict,
    /// When the operating system has it: a power loss takes what came since the last sync.
    Relaxed,
}

/// A way to log in that is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// RabbitMQ's own.
    AmqPlain,
}

/// What is set on sockets: `tcp_listen_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// Clients that may wait to be accepted; the system has a limit of its own.
    pub backlog: u32,
    /// Small writes are sent at once.
    pub nodelay: bool,
    /// The system looks whether a silent peer is still there.
    pub keepalive: bool,
    /// Octets of the system's buffer for what is sent; `None`: its own choice.
    pub sndbuf: Option<u32>,
    /// Octets of the system's buffer for what is received; `None`: its own choice.
    pub recbuf: Option<u32>,
    /// A closed socket goes on sending for at most `linger_s`.
    pub linger: bool,
    /// Seconds; 0 drops what was not sent.
    pub linger_s: u16,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            nodelay: true,
            keepalive: false,
            sndbuf: None,
            recbuf: None,
            linger: false,
            linger_s: 0,
        }
    }
}
