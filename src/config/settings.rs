//! The types of settings that are more than a number or a text.

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines of text, for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The least important lines that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens in normal operation.
    Info,
    /// What an operator should look at.
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

/// How shards wait for sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum IoMode {
    /// io_uring where the system allows it, else epoll.
    Auto,
    /// io_uring; the broker does not start where the system refuses it.
    Uring,
    /// epoll.
    Epoll,
}

impl IoMode {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Auto,
            "uring" => Self::Uring,
            "epoll" => Self::Epoll,
            _ => return None,
        })
    }
}

/// What stands in front of a session on the wire of every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageKind {
    /// A line `PEER address:port` that names the client: for tests
    /// (`RINGTAIL_TEST_STAGES=peer-line`).
    #[cfg(feature = "second-kinds")]
    PeerLine,
}

impl StageKind {
    /// Those of a list like `peer-line,peer-line`.
    #[cfg(feature = "second-kinds")]
    pub(super) fn list(text: &str) -> Vec<Self> {
        text.split(',').filter(|name| *name == "peer-line").map(|_| Self::PeerLine).collect()
    }
}

/// An amount of memory or of disk space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SizeLimit {
    /// A part of the memory the process may use.
    Relative(f64),
    /// Bytes.
    Absolute(u64),
}

impl SizeLimit {
    /// The amount in bytes, if the process may use `total` bytes of memory.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub fn limit(self, total: u64) -> u64 {
        match self {
            // Rounded down and capped; a few bytes do not matter.
            Self::Relative(share) => (total as f64 * share) as u64,
            Self::Absolute(bytes) => bytes,
        }
    }
}

/// What counts as used memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryStrategy {
    /// What the broker counts, or what the process has, whichever is more.
    Rss,
    /// What the broker counts.
    Allocated,
}

/// When a message counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurabilityMode {
    /// When it is on stable storage.
    Strict,
    /// When the operating system has it: a power loss may lose messages since the last sync.
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

/// Options of sockets: `tcp_listen_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// Clients that may wait to be accepted; the system caps it.
    pub backlog: u32,
    /// TCP_NODELAY: small writes are sent at once.
    pub nodelay: bool,
    /// SO_KEEPALIVE: the system probes silent peers.
    pub keepalive: bool,
    /// SO_SNDBUF in bytes; `None`: the system's choice.
    pub sndbuf: Option<u32>,
    /// SO_RCVBUF in bytes; `None`: the system's choice.
    pub recbuf: Option<u32>,
    /// SO_LINGER: a closed socket goes on sending for at most `linger_s`.
    pub linger: bool,
    /// Seconds; 0 drops output that was not sent.
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
