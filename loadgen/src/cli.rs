//! The command line. Flags that PerfTest has are named as there.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::account::STAMP;
use crate::churn::Kind;
use crate::compare::Target;
use crate::failure::Failure;
use crate::flags::{CareArgs, ConnectionArgs, RoutingArgs, VariationArgs};
use crate::sizes::Sizes;
use crate::threads::parse_cpus;
use crate::uri::Uri;

/// How long a run takes when nothing bounds it (s).
const DEFAULT_SECONDS: f64 = 10.0;

/// How long consuming a backlog takes at most when nothing bounds it (s).
const DRAIN_SECONDS: f64 = 300.0;

/// Measures what an AMQP 0-9-1 broker carries and how late it delivers.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What loadgen can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish to a broker and consume from it; account for every message.
    Run(Box<RunArgs>),
    /// Send the same octets through a minimal relay: what this machine can carry at most.
    Ceiling(CeilingArgs),
    /// Let things come and go: connections, channels, queues, bindings, consumers.
    Churn(ChurnArgs),
    /// Run the same scenarios against several brokers, in turn, and compare.
    Compare(CompareArgs),
    /// Compare over the whole standard set of scenarios.
    Suite(CompareArgs),
    /// Draw the report of a comparison again, from its JSON.
    Report(ReportArgs),
}

/// What messages look like.
#[derive(Debug, Clone, Args)]
pub struct MessageArgs {
    /// Octets of body: a number, FROM-TO or a mix such as 100:70,1000:30. The first 16 are a time
    /// stamp and a sequence number
    #[arg(short, long, default_value = "16", value_name = "OCTETS")]
    pub size: Sizes,
    /// Messages a second of each producer, on a fixed schedule: latency counts from the time a
    /// message was due. Without it, as fast as it goes
    #[arg(short, long, value_name = "PER SECOND")]
    pub rate: Option<f64>,
    /// How long to publish
    #[arg(short = 'z', long, value_name = "SECONDS")]
    pub time: Option<f64>,
    /// How much of the beginning is left out of rates and latencies
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pub warmup: f64,
    /// Comma-separated list; persistent also makes the declared queue durable
    #[arg(short, long, value_delimiter = ',', value_name = "FLAG")]
    pub flag: Vec<Flag>,
    /// The exchange; created, and deleted at the end, if it does not exist
    #[arg(short, long, default_value = "", value_name = "NAME")]
    pub exchange: String,
    /// The routing key; without it the queue's name. With %d in it there are several, see
    /// --routing-key-count
    #[arg(short = 'k', long, value_name = "KEY")]
    pub routing_key: Option<String>,
    /// The queue; declared, and deleted at the end, if it does not exist. Without it, one named
    /// for this run
    #[arg(short = 'u', long, value_name = "NAME")]
    pub queue: Option<String>,
    /// CPUs the worker threads are pinned to, such as 0,2-3
    #[arg(long, value_name = "LIST", value_parser = CpuList::parse)]
    pub cpus: Option<CpuList>,
    /// Never sleep: wakes are faster, a CPU for each thread is busy
    #[arg(long)]
    pub spin: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
    /// Write the latencies in HdrHistogram's text form; those of confirms into FILE.confirm
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Show nothing while it runs
    #[arg(long)]
    pub quiet: bool,
}

/// `loadgen run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The broker: amqp://user:password@host:port/vhost, percent-encoded
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    pub uri: Uri,
    /// Where messages go.
    #[command(flatten)]
    pub routing: RoutingArgs,
    /// How messages vary.
    #[command(flatten)]
    pub variation: VariationArgs,
    /// What consumers do.
    #[command(flatten)]
    pub care: CareArgs,
    /// What connections there are.
    #[command(flatten)]
    pub connections: ConnectionArgs,
    /// How many producers, each with a connection of its own
    #[arg(short = 'x', long, default_value_t = 1, value_name = "COUNT")]
    pub producers: u16,
    /// How many consumers, each with a connection of its own
    #[arg(short = 'y', long, default_value_t = 1, value_name = "COUNT")]
    pub consumers: u16,
    /// The form of messages and of the run.
    #[command(flatten)]
    pub message: MessageArgs,
    /// Publisher confirms: the most messages of a producer that may wait for theirs
    #[arg(short, long, value_name = "WINDOW", value_parser = clap::value_parser!(u32).range(1..))]
    pub confirm: Option<u32>,
    /// The prefetch count of each consumer; 0 is no limit
    #[arg(short, long, default_value_t = 0, value_name = "PREFETCH")]
    pub qos: u16,
    /// Acknowledge so many messages with one ack
    #[arg(
        short = 'A', long, default_value_t = 1, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub multi_ack_every: u32,
    /// Let the broker take deliveries for acknowledged
    #[arg(short, long)]
    pub autoack: bool,
    /// Messages each producer publishes
    #[arg(short = 'C', long, value_name = "COUNT")]
    pub pmessages: Option<u64>,
    /// Messages each consumer takes
    #[arg(short = 'D', long, value_name = "COUNT")]
    pub cmessages: Option<u64>,
    /// Fill the queues with so many messages before the first consumer comes; without producers
    /// the run ends when they are consumed
    #[arg(long, value_name = "COUNT")]
    pub backlog: Option<u64>,
    /// Several queues: a name with %d in it. Producers and consumers are dealt over them in turn
    #[arg(long, value_name = "NAME", conflicts_with = "queue")]
    pub queue_pattern: Option<String>,
    /// The first number in the pattern
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub queue_pattern_from: u32,
    /// The last number in the pattern
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub queue_pattern_to: u32,
    /// Arguments of declared queues: key=value, comma-separated; digits make a number, true and
    /// false a truth
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE")]
    pub queue_args: Vec<String>,
    /// Whether declared queues go with their last consumer
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub auto_delete: bool,
    /// Whether declared queues are durable; without it, they are with --flag persistent
    #[arg(long, value_name = "BOOL")]
    pub durable: Option<bool>,
    /// Leave the queue that was declared
    #[arg(long)]
    pub keep_queue: bool,
    /// How long confirms and deliveries may take after the last publish
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub drain_timeout: f64,
    /// The broker's process on this machine: its CPU time and memory are reported
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// Threads the connections are dealt over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
}

/// `loadgen ceiling`.
#[derive(Debug, Clone, Args)]
pub struct CeilingArgs {
    /// The form of messages and of the run.
    #[command(flatten)]
    pub message: MessageArgs,
    /// The most messages under way: a closed loop, with 1 a ping-pong
    #[arg(short, long, value_name = "WINDOW", value_parser = clap::value_parser!(u32).range(1..))]
    pub confirm: Option<u32>,
    /// The CPU the relay is pinned to
    #[arg(long, value_name = "LIST", value_parser = CpuList::parse)]
    pub relay_cpus: Option<CpuList>,
    /// Publish to a reader that forgets all, instead of the relay: what the generator can publish,
    /// and with large messages what a pair of sockets carries
    #[arg(long, conflicts_with = "source")]
    pub sink: bool,
    /// Consume from a writer that makes deliveries up, instead of the relay: what the generator
    /// can consume
    #[arg(long)]
    pub source: bool,
    /// Write batches of messages to a file in this folder instead, each on stable storage before
    /// the next: what the disk can carry
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["source", "sink", "rate", "confirm"])]
    pub sync: Option<PathBuf>,
    /// Messages of such a batch
    #[arg(long, default_value_t = 1, value_name = "COUNT", requires = "sync")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
}

/// `loadgen churn`.
#[derive(Debug, Clone, Args)]
pub struct ChurnArgs {
    /// What comes and goes
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// The broker: amqp://user:password@host:port/vhost, percent-encoded
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    pub uri: Uri,
    /// How many clients at once, each a connection and a thread
    #[arg(short = 'x', long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub clients: u16,
    /// How long
    #[arg(short = 'z', long, default_value_t = DEFAULT_SECONDS, value_name = "SECONDS")]
    #[arg(value_parser = positive)]
    pub time: f64,
    /// How much of the beginning is left out
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pub warmup: f64,
    /// The broker's process on this machine: its CPU time and memory are reported
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// Write the latencies of the operations in HdrHistogram's text form
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

impl ChurnArgs {
    /// Refuses settings that cannot work together.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self) -> Result<(), Failure> {
        if !(self.warmup >= 0.0 && self.warmup < self.time) {
            return refuse("--warmup is part of --time and must be shorter".to_owned());
        }
        Ok(())
    }
}

/// `loadgen compare` and `loadgen suite`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// A broker and what to call it, name=amqp://user:password@host:port/vhost; with ,pid=N behind
    /// it, its CPU time and memory are read. Repeat it for each broker: the first is what the
    /// others are compared with
    #[arg(short, long, required = true, value_name = "NAME=URI[,pid=N]")]
    pub target: Vec<Target>,
    /// A scenario of the standard set by name, or a file; may be repeated. Without it, the whole
    /// standard set
    #[arg(long, value_name = "NAME")]
    pub scenario: Vec<String>,
    /// How often each run is made
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// How long each run publishes, where its scenario does not say
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = positive)]
    pub seconds: f64,
    /// Warm-up before that, where the scenario does not say
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = positive)]
    pub warmup: f64,
    /// CPUs the worker threads are pinned to, such as 0,2-3
    #[arg(long, value_name = "LIST", value_parser = CpuList::parse)]
    pub cpus: Option<CpuList>,
    /// The CPU the relay is pinned to
    #[arg(long, value_name = "LIST", value_parser = CpuList::parse)]
    pub relay_cpus: Option<CpuList>,
    #[command(flatten)]
    pub pictures: Pictures,
    /// Write all figures of all runs
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// How a comparison is shown beside the table.
#[derive(Debug, Clone, Args)]
pub struct Pictures {
    /// Write the report as one HTML file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write one picture of all scenarios, the first target against the second
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// `loadgen report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// What --json of compare or suite has written
    pub file: PathBuf,
    #[command(flatten)]
    pub pictures: Pictures,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "allowed is a number above 0".to_owned())
}

/// A property of published messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flag {
    /// Delivery mode 2.
    Persistent,
    /// What cannot be routed comes back.
    Mandatory,
}

/// Numbers of CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl CpuList {
    fn parse(text: &str) -> Result<Self, String> {
        parse_cpus(text).map(Self)
    }
}

impl MessageArgs {
    /// Whether a flag is set.
    #[must_use]
    pub fn has(&self, flag: Flag) -> bool {
        self.flag.contains(&flag)
    }

    /// The CPUs to pin to, none if it does not matter.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        self.cpus.as_ref().map_or(&[], |list| &list.0)
    }

    fn check(&self) -> Result<(), Failure> {
        if self.size.bounds().0 < STAMP {
            return refuse(format!("--size is at least {STAMP}: the stamp is in the body"));
        }
        let positive = |value: f64| value > 0.0 && value.is_finite();
        if self.rate.is_some_and(|rate| !positive(rate)) {
            return refuse("--rate is above 0; leave it out to go as fast as possible".to_owned());
        }
        if self.time.is_some_and(|time| !positive(time)) {
            return refuse("--time is above 0".to_owned());
        }
        if !(self.warmup >= 0.0 && self.warmup.is_finite()) {
            return refuse("--warmup is not negative".to_owned());
        }
        if self.time.is_some_and(|time| time <= self.warmup) {
            return refuse("--warmup is part of --time and must be shorter".to_owned());
        }
        Ok(())
    }
}

fn refuse(sentence: String) -> Result<(), Failure> {
    Err(Failure::Settings(sentence))
}

impl RunArgs {
    /// Refuses settings that cannot work together and fills in what depends on others.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&mut self) -> Result<(), Failure> {
        self.message.check()?;
        let MessageArgs { routing_key, exchange, .. } = &self.message;
        self.routing.check(routing_key.as_deref(), exchange)?;
        self.variation.check()?;
        self.care.check(self.autoack)?;
        self.check_channels()?;
        if let Some(interval) = self.variation.publishing_interval {
            self.message.rate = Some(1.0 / interval);
        }
        if self.producers == 0 && self.consumers == 0 && self.connections.idle_connections == 0 {
            return refuse("neither --producers nor --consumers: nothing to do".to_owned());
        }
        if !self.autoack && self.qos > 0 && self.multi_ack_every > u32::from(self.qos) {
            return refuse(format!(
                "--multi-ack-every {} never happens with --qos {}: make it smaller",
                self.multi_ack_every, self.qos
            ));
        }
        if self.queue_pattern.as_ref().is_some_and(|pattern| !pattern.contains("%d")) {
            return refuse("--queue-pattern has %d where the number goes".to_owned());
        }
        if self.queue_pattern_from > self.queue_pattern_to {
            return refuse("--queue-pattern-from is not above --queue-pattern-to".to_owned());
        }
        if !(self.drain_timeout >= 0.0 && self.drain_timeout.is_finite()) {
            return refuse("--drain-timeout is not negative".to_owned());
        }
        let bounded = self.pmessages.is_some() && self.producers > 0
            || self.cmessages.is_some() && self.consumers > 0;
        if self.backlog.is_some() && self.consumers == 0 {
            return refuse("--backlog is there to be consumed: add --consumers".to_owned());
        }
        if self.message.time.is_none() && !bounded {
            let seconds = if self.drains() { DRAIN_SECONDS } else { DEFAULT_SECONDS };
            self.message.time = Some(seconds + self.message.warmup);
        }
        Ok(())
    }

    fn check_channels(&self) -> Result<(), Failure> {
        if self.all_producers() > usize::from(u16::MAX) {
            return refuse("--producers times --producer-channel-count is below 65536".to_owned());
        }
        if self.confirm.is_some() && self.connections.ptxsize.is_some() {
            return refuse("--confirm or --ptxsize: a channel cannot have both".to_owned());
        }
        Ok(())
    }

    /// How many channels publish.
    #[must_use]
    pub fn all_producers(&self) -> usize {
        usize::from(self.producers) * usize::from(self.connections.producer_channel_count)
    }

    /// Messages a second of each producer, if they are the same all the time.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let share = |total: f64| total / self.all_producers().max(1) as f64;
        self.message.rate.or(self.variation.total_rate.map(share))
    }

    /// Whether it only consumes what it has filled in before.
    #[must_use]
    pub fn drains(&self) -> bool {
        self.backlog.is_some() && self.producers == 0
    }

    /// The names of the queues, at least one.
    #[must_use]
    pub fn queues(&self) -> Vec<String> {
        match &self.queue_pattern {
            Some(pattern) => (self.queue_pattern_from..=self.queue_pattern_to)
                .map(|number| pattern.replacen("%d", &number.to_string(), 1))
                .collect(),
            None => vec![self.message.queue_name()],
        }
    }
}

impl CeilingArgs {
    /// Refuses settings that cannot work together and fills in what depends on others.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&mut self) -> Result<(), Failure> {
        self.message.check()?;
        if self.message.size.fixed().is_none() {
            return refuse("the ceiling is of messages of one --size".to_owned());
        }
        self.message.time.get_or_insert(DEFAULT_SECONDS + self.message.warmup);
        Ok(())
    }

    /// Whether the relay carries as much as it can.
    #[must_use]
    pub fn is_flat_out(&self) -> bool {
        let bounded = self.message.rate.is_some() || self.confirm.is_some();
        !self.sink && !self.source && self.sync.is_none() && !bounded
    }
}

impl MessageArgs {
    /// The queue's name; the default has the same length in every run.
    #[must_use]
    pub fn queue_name(&self) -> String {
        self.queue.clone().unwrap_or_else(|| format!("loadgen.{:08x}", std::process::id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &str) -> Result<RunArgs, String> {
        let words = ["loadgen", "run"].into_iter().chain(arguments.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Run(mut args) = cli.command else { panic!("run was asked for") };
        args.check().map_err(|failure| failure.to_string())?;
        Ok(*args)
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_those_of_perftest() {
        let args =
            run("--uri amqp://a:b@h:1/v -x 2 -y 3 -s 100 -c 10 -q 50 -A 25 -r 1000 -z 5 -u q \
             -f persistent,mandatory -k key -e ex --cpus 0-1 --auto-delete true")
            .unwrap();
        assert_eq!((args.producers, args.consumers, args.message.size.fixed()), (2, 3, Some(100)));
        assert!(args.message.has(Flag::Persistent) && args.message.has(Flag::Mandatory));
        assert_eq!((args.message.cpus(), args.auto_delete), (&[0, 1][..], true));
        assert_eq!(args.queues(), ["q"]);
        let many = run("--queue-pattern q-%d --queue-pattern-to 3").unwrap();
        assert_eq!(many.queues(), ["q-1", "q-2", "q-3"]);
    }

    #[test]
    fn shares_may_stand_alone_and_a_total_rate_is_shared() {
        let args = run("--nack --requeue 0.25 --total-rate 100 -x 2 -X 5").unwrap();
        assert_eq!((args.care.nack, args.care.requeue), (1.0, 0.25));
        assert_eq!((args.all_producers(), args.rate()), (10, Some(10.0)));
        assert_eq!(run("-P 0.1 -x 2").unwrap().rate(), Some(10.0));
        let spans = run("--variable-rate 10:1 --variable-rate 0:2.5").unwrap();
        assert_eq!(spans.variation.variable_rate.len(), 2);
    }

    #[test]
    fn a_run_always_ends() {
        assert_eq!(run("").unwrap().message.time, Some(10.0));
        assert_eq!(run("-C 5").unwrap().message.time, None);
        assert_eq!(run("-C 5 -x 0").unwrap().message.time, Some(10.0));
    }

    #[test]
    fn wrong_settings_are_told_by_name() {
        for (arguments, expected) in [
            ("-s 15", "--size"),
            ("-x 0 -y 0", "nothing to do"),
            ("-q 10 -A 11", "--multi-ack-every 11"),
            ("-r 0", "--rate"),
            ("-z 1 --warmup 1", "--warmup"),
            ("--queue-pattern q", "%d"),
            ("-c 0", "--confirm"),
            ("--uri http://x", "amqp://"),
            ("-f durable", "persistent"),
            ("--backlog 5 -y 0", "--consumers"),
            ("-e x --routing-key a --routing-key-count 3", "%d"),
            ("--type fanout", "--exchange"),
            ("-e x -t fanout --random-routing-key -k a", "--random-routing-key"),
            ("--requeue", "--nack"),
            ("--nack 2", "from 0 to 1"),
            ("--nack -a", "--autoack"),
            ("-m 10 -c 10", "--ptxsize"),
            ("-r 5 --total-rate 5", "--total-rate"),
            ("-P 0", "--publishing-interval"),
            ("-P 1 -r 1", "--publishing-interval"),
            ("-L 5 --variable-latency 5:1", "--variable-latency"),
            ("--variable-rate 0:5", "--variable-rate"),
            ("--variable-size 15:5", "--variable-size"),
            ("-x 300 -X 300", "--producer-channel-count"),
            ("-s 9-100", "--size"),
        ] {
            let error = run(arguments).unwrap_err();
            assert!(error.contains(expected), "{arguments}: {error}");
        }
    }
}
