//! The one table of flags with their environment variables.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser};

use super::units::{self, ADDRESS, CPU_LIST};
use super::{Config, IoMode, LogFormat, keys};

/// More shards than this are a mistake.
const SHARDS_MAX: u16 = 1024;
/// A name that no variable has, for options without a variable.
const NO_VARIABLE: &str = "RINGTAIL_";

/// A message broker for AMQP 0-9-1 clients. Without options it serves with defaults.
#[derive(Debug, Default, Parser)]
#[command(name = "ringtail", version, about, max_term_width = 100)]
#[command(after_help = "A flag overrides its environment variable, the variable overrides the \
    configuration file, the file overrides the default. RABBITMQ_DEFAULT_USER, \
    RABBITMQ_DEFAULT_PASS and RABBITMQ_DEFAULT_VHOST name the first user, who may then log in from \
    anywhere, and the first vhost.")]
pub struct Flags {
    /// Accept clients here; may be given more than once [default: 0.0.0.0:5672]
    #[arg(long, env = "RINGTAIL_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    #[arg(value_parser = address)]
    pub listen: Vec<SocketAddr>,

    /// Keep everything that survives a restart in this folder [default: /var/lib/ringtail]
    #[arg(long, env = "RINGTAIL_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Number of shards, each a thread on a core of its own [default: the cores this process may
    /// use by its affinity and its CPU quota]
    #[arg(long, env = "RINGTAIL_SHARDS", value_name = "N")]
    #[arg(value_parser = shards)]
    pub shards: Option<u16>,

    /// Run the shards on these CPUs, for example 0-3,5 [default: all this process may use]
    #[arg(long, env = "RINGTAIL_CPUS", value_name = "LIST", value_parser = cpus)]
    pub cpus: Option<CpuList>,

    /// Wait for sockets with io_uring or with epoll; auto: io_uring where the system allows it,
    /// else epoll with a warning [default: auto]
    #[arg(long, env = "RINGTAIL_IO", value_name = "MODE", value_enum)]
    pub io: Option<IoMode>,

    /// Read this file, in the format of rabbitmq.conf
    #[arg(long, env = "RINGTAIL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Write the log as lines of text or of JSON [default: text]
    #[arg(long, env = "RINGTAIL_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// CPU numbers, sorted and without duplicates.
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
    /// Reads the command line and the environment. An empty variable counts as unset.
    ///
    /// # Errors
    ///
    /// A wrong flag or value; a request for the help or the version.
    pub fn read<A>(args: A) -> Result<Self, clap::Error>
    where
        A: IntoIterator,
        A::Item: Into<OsString> + Clone,
    {
        let command = command(&|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
        Self::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    /// Overrides the file and the defaults.
    pub fn apply(self, config: &mut Config) {
        if !self.listen.is_empty() {
            config.listen = self.listen;
        }
        config.data_dir = self.data_dir.unwrap_or(std::mem::take(&mut config.data_dir));
        config.shards = self.shards.or(config.shards);
        config.cpus = self.cpus.map(|list| list.0).or(config.cpus.take());
        config.io = self.io.unwrap_or(config.io);
        config.log_format = self.log_format.unwrap_or(config.log_format);
    }
}

/// The command line, without the variables that are empty and with the keys in its long help.
fn command(is_empty: &dyn Fn(&OsStr) -> bool) -> Command {
    let without_empty = |arg: Arg| match arg.get_env().is_some_and(is_empty) {
        true => arg.env(NO_VARIABLE).hide_env(true),
        false => arg,
    };
    let command = Flags::command().mut_args(without_empty);
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.after_long_help(format!("{help}\n\n{}", keys::help()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_none() {
        let command = command(&|name| name == "RINGTAIL_SHARDS");
        let variable = |id: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_id() == id);
            arg.and_then(|arg| arg.get_env()?.to_str().map(str::to_owned))
        };
        assert_eq!(variable("shards").as_deref(), Some(NO_VARIABLE));
        assert_eq!(variable("cpus").as_deref(), Some("RINGTAIL_CPUS"));
    }

    #[test]
    fn the_long_help_names_every_key() {
        let help = command(&|_| false).render_long_help().to_string();
        for key in keys::all() {
            assert!(help.contains(key.name), "{}", key.name);
        }
    }
}
