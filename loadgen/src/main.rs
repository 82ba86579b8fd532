//! A load generator for AMQP 0-9-1 brokers. It measures throughput and latency and accounts for
//! every message.
//!
//! `run` drives a broker, `ceiling` sends the same bytes through a minimal relay, `churn` creates
//! and deletes objects, `compare` and `suite` run scenarios against several brokers in turn and
//! draw the results.
//!
//! The folders from the ground up: [`system`], [`messages`], [`client`], [`measure`], [`account`],
//! [`publish`] and [`consume`] (state machines without sockets), [`cli`], [`worker`] (one thread's
//! event loop), [`report`], `run`, [`baseline`], [`compare`].

mod account;
mod baseline;
mod churn;
mod cli;
mod client;
mod compare;
mod consume;
mod measure;
mod messages;
mod publish;
mod report;
mod run;
mod system;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::baseline::ceiling::ceiling;
use crate::churn::churn;
use crate::cli::commands::{Cli, CliCommand};
use crate::compare::command;
use crate::measure::hgrm;
use crate::report::load_report::LoadReport;
use crate::run::command::run;
use crate::system::error::LoadgenError;
use crate::system::interrupt;

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

fn execute(command: CliCommand) -> Result<(), LoadgenError> {
    interrupt::watch()?;
    let (report, json, hgrm) = match command {
        CliCommand::Run(mut args) => {
            args.check()?;
            (run(&args)?, args.message.json, args.message.hgrm)
        }
        CliCommand::Ceiling(mut args) => {
            args.check()?;
            (ceiling(&args)?, args.message.json, args.message.hgrm)
        }
        CliCommand::Churn(args) => {
            args.check()?;
            (churn(&args)?, args.json, args.hgrm)
        }
        CliCommand::Compare(args) | CliCommand::Suite(args) => return command::compare(&args),
        CliCommand::Report(args) => return command::report(&args),
    };
    print(&report, json)?;
    if let Some(path) = hgrm {
        hgrm::write(&path, &report.histograms)?;
    }
    report.complete().map(|_| ())
}

fn print(report: &LoadReport, json: bool) -> Result<(), LoadgenError> {
    if json {
        let text = serde_json::to_string(report)
            .map_err(|error| LoadgenError::io("cannot print the report")(error.into()))?;
        println!("{text}");
    } else {
        print!("{report}");
    }
    Ok(())
}
