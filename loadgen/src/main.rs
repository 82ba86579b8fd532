//! A load generator for AMQP 0-9-1 brokers: how much a broker carries, how late it delivers, and
//! what became of every single message.
//!
//! `run` drives a broker, `ceiling` sends the same octets through a minimal relay, `compare` and
//! `suite` run scenarios against several brokers in turn and draw what came of it. The floors:
//! [`publishes`], [`delivery`], [`confirms`], [`account`], [`pace`] know octets and numbers;
//! [`producer`] and [`consumer`] are machines without sockets; [`worker`] is one thread's event
//! loop over them; [`drive`] leads the workers through a run.

mod account;
mod broker;
mod care;
mod cast;
mod ceiling;
mod churn;
mod cli;
mod clock;
mod compare;
mod confirms;
mod connection;
mod consumer;
mod delivery;
mod drive;
mod ends;
mod failure;
mod figures;
mod flags;
mod handshake;
mod hgrm;
mod idle;
mod incoming;
mod interrupt;
mod lane;
mod latency;
mod ledger;
mod live;
mod methods;
mod pace;
mod pair;
mod plan;
mod poll;
mod producer;
mod publishes;
mod relay;
mod report;
mod routes;
mod run;
mod sequences;
mod shared;
mod sizes;
mod socket;
mod synced;
mod threads;
mod topology;
mod uri;
mod varied;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("loadgen: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    interrupt::watch()?;
    let (report, json, hgrm) = match command {
        Command::Run(mut args) => {
            args.check()?;
            (run::run(&args)?, args.message.json, args.message.hgrm)
        }
        Command::Ceiling(mut args) => {
            args.check()?;
            (ceiling::ceiling(&args)?, args.message.json, args.message.hgrm)
        }
        Command::Churn(args) => {
            args.check()?;
            (churn::churn(&args)?, args.json, args.hgrm)
        }
        Command::Compare(args) | Command::Suite(args) => return compare::compare(&args),
        Command::Report(args) => return compare::report(&args),
    };
    print(&report, json)?;
    if let Some(path) = hgrm {
        hgrm::write(&path, &report.histograms)?;
    }
    report.complete().map(|_| ())
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string(report)
            .map_err(|error| Failure::io("cannot print the report")(error.into()))?;
        println!("{text}");
    } else {
        print!("{report}");
    }
    Ok(())
}
