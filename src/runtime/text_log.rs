//! The text log. A thread of its own writes it, so that a slow terminal or pipe stalls no shard.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogLevel};
use crate::runtime::net::poller::LOG_TARGET;

/// Lines that may wait for a slow reader. What comes then is dropped and counted.
const LINES: usize = 8192;
/// How long a flush waits for a slow reader.
const FLUSH: Duration = Duration::from_secs(1);

enum Job {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// Takes lines without ever waiting.
#[derive(Debug, Clone)]
struct Lines {
    jobs: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

/// The log, to be flushed.
#[derive(Debug, Clone)]
pub struct TextLog(Lines);

/// Starts the log on standard output.
///
/// # Errors
///
/// The system's: no threads.
pub fn start(format: LogFormat, level: LogLevel) -> io::Result<TextLog> {
    let (jobs, work) = sync_channel(LINES);
    let lines = Lines { jobs, dropped: Arc::default() };
    let dropped = Arc::clone(&lines.dropped);
    thread::Builder::new()
        .name("ringtail-log".to_owned())
        .spawn(move || write(&work, &dropped, io::stdout()))?;
    let level = filter(level);
    // Where io_uring registers no buffers its library goes on without and warns over five lines;
    // the start-up probes have looked at what matters.
    let quiet = level.min(LevelFilter::ERROR);
    let shown = Targets::new().with_default(level).with_target(LOG_TARGET, quiet);
    let lines_of = layer().with_target(false).with_writer(lines.clone());
    let registry = tracing_subscriber::registry().with(shown);
    let set = match format {
        LogFormat::Text => registry.with(lines_of.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(lines_of.json().flatten_event(true)).try_init(),
    };
    set.map_err(io::Error::other)?;
    Ok(TextLog(lines))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::None => LevelFilter::OFF,
    }
}

/// Nobody can be told that standard output is gone: errors end here.
fn write(work: &Receiver<Job>, dropped: &AtomicU64, mut out: impl Write) {
    for job in work {
        match job {
            Job::Line(line) => drop(out.write_all(&line)),
            Job::Flush(done) => {
                drop(out.flush());
                // Who asked may have lost patience.
                let _ = done.send(());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            drop(writeln!(out, "{lost} lines were dropped: the log is not read fast enough"));
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.jobs.try_send(Job::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl TextLog {
    /// Waits until everything so far is written, but not long.
    pub fn flush(&self) {
        let (done, wait) = channel();
        if self.0.jobs.try_send(Job::Flush(done)).is_ok() {
            // Nobody reads the log: it ends without its last lines.
            let _ = wait.recv_timeout(FLUSH);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::text_log::*;

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let (jobs, work) = sync_channel(2);
        let mut lines = Lines { jobs, dropped: Arc::default() };
        for _ in 0..5 {
            lines.write_all(b"line\n").unwrap();
        }
        let dropped = Arc::clone(&lines.dropped);
        drop(lines);
        let mut out = Vec::new();
        write(&work, &dropped, &mut out);
        let text = String::from_utf8(out).unwrap();
        let expected = "line\n3 lines were dropped: the log is not read fast enough\nline\n";
        assert_eq!(text, expected);
    }
}
