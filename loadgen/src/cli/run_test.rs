//! Which command lines `loadgen run` accepts and what they mean.

use clap::Parser;

use super::*;
use crate::cli::commands::{Cli, CliCommand};
use crate::cli::message::MessageFlag;

fn run(arguments: &str) -> Result<RunArgs, String> {
    let words = ["loadgen", "run"].into_iter().chain(arguments.split_whitespace());
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let CliCommand::Run(mut args) = cli.command else { panic!("run was asked for") };
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
    let args = run("--uri amqp://a:b@h:1/v -x 2 -y 3 -s 100 -c 10 -q 50 -A 25 -r 1000 -z 5 -u q \
         -f persistent,mandatory -k key -e ex --cpus 0-1 --auto-delete true")
    .unwrap();
    assert_eq!((args.producers, args.consumers, args.message.size.fixed()), (2, 3, Some(100)));
    assert!(args.message.has(MessageFlag::Persistent) && args.message.has(MessageFlag::Mandatory));
    assert_eq!((args.message.cpus(), args.auto_delete), (&[0, 1][..], true));
    assert_eq!(args.queues(), ["q"]);
    let many = run("--queue-pattern q-%d --queue-pattern-to 3").unwrap();
    assert_eq!(many.queues(), ["q-1", "q-2", "q-3"]);
}

#[test]
fn shares_may_stand_alone_and_a_total_rate_is_shared() {
    let args = run("--nack --requeue 0.25 --total-rate 100 -x 2 -X 5").unwrap();
    assert_eq!((args.ack_policy.nack, args.ack_policy.requeue), (1.0, 0.25));
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
fn wrong_settings_are_named() {
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
