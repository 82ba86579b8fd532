//! `loadgen churn`: things that come and go, one after the other, as fast as the broker answers.
//!
//! One operation is a whole life: a connection is opened and closed, a queue declared and deleted.
//! Each client is a thread with blocking calls; what is measured is the broker's own work, not how
//! well this program overlaps it.

use std::sync::Mutex;

use amqp::{Method, Table};
use clap::ValueEnum;

use crate::broker::Watch;
use crate::cli::ChurnArgs;
use crate::clock::{self, SECOND};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::figures::Churn;
use crate::interrupt;
use crate::latency::Latency;
use crate::report::Report;

/// What comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Connections with a channel each.
    Connection,
    /// Channels of one connection.
    Channel,
    /// Queues of one channel.
    Queue,
    /// Bindings of one queue.
    Binding,
    /// Consumers of one queue.
    Consumer,
}

/// What one client did.
#[derive(Debug, Default)]
struct Lives {
    operations: u64,
    latency: Latency,
}

/// Runs the clients and reports; a signal ends them early.
///
/// # Errors
/// The first client that is refused.
pub fn churn(args: &ChurnArgs) -> Result<Report, Failure> {
    let watch = args.broker_pid.map(|pid| Watch::start(pid, clock::now())).transpose()?;
    let begin = clock::now() + clock::from_seconds(args.warmup);
    let end = clock::now() + clock::from_seconds(args.time);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..args.clients {
            let results = &results;
            scope.spawn(move || {
                let lives = live(args, number, begin, end);
                // A poisoned lock would mean that a push panicked.
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(lives);
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut all = Lives::default();
    for lives in results {
        let lives = lives?;
        all.operations += lives.operations;
        all.latency.add(lives.latency);
    }
    let seconds = clock::now().saturating_sub(begin) as f64 / SECOND as f64;
    let rate = if seconds > 0.0 { all.operations as f64 / seconds } else { 0.0 };
    let churn = Churn { operations: all.operations, seconds, rate };
    let broker = watch.and_then(|watch| watch.end(clock::now(), all.operations));
    let mut report = Report::of_churn(churn, all.latency, broker);
    report.interrupted();
    Ok(report)
}

fn live(args: &ChurnArgs, number: u16, begin: u64, end: u64) -> Result<Lives, Failure> {
    let mut connection = Connection::open(&args.uri)?;
    let name = format!("loadgen.churn.{:x}.{number}", std::process::id());
    if matches!(args.kind, Kind::Binding | Kind::Consumer) {
        declare(&mut connection, &name)?;
    }
    let mut lives = Lives::default();
    loop {
        let start = clock::now();
        if start >= end || interrupt::came() {
            break;
        }
        one(args, &mut connection, &name, lives.operations)?;
        if start >= begin {
            lives.operations += 1;
            lives.latency.record(clock::now() - start);
        }
    }
    // The queues are exclusive and go with the connection.
    connection.close()?;
    Ok(lives)
}

fn one(
    args: &ChurnArgs,
    connection: &mut Connection,
    name: &str,
    number: u64,
) -> Result<(), Failure> {
    match args.kind {
        Kind::Connection => Connection::open(&args.uri)?.close(),
        Kind::Channel => connection.close_channel().and_then(|()| connection.open_channel()),
        Kind::Queue => {
            declare(connection, name)?;
            delete(connection, name)
        }
        Kind::Binding => bind(connection, name, number),
        Kind::Consumer => consume(connection, name),
    }
}

fn declare(connection: &mut Connection, queue: &str) -> Result<(), Failure> {
    let declare = Method::QueueDeclare {
        ticket: 0,
        queue,
        passive: false,
        durable: false,
        exclusive: true,
        auto_delete: false,
        nowait: false,
        arguments: Table::EMPTY,
    };
    connection.call(&declare, "to queue.declare", |method| {
        matches!(method, Method::QueueDeclareOk { .. }).then_some(())
    })
}

fn delete(connection: &mut Connection, queue: &str) -> Result<(), Failure> {
    let delete =
        Method::QueueDelete { ticket: 0, queue, if_unused: false, if_empty: false, nowait: false };
    connection.call(&delete, "to queue.delete", |method| {
        matches!(method, Method::QueueDeleteOk { .. }).then_some(())
    })
}

fn bind(connection: &mut Connection, queue: &str, number: u64) -> Result<(), Failure> {
    let (exchange, arguments) = ("amq.topic", Table::EMPTY);
    let routing_key = &format!("{queue}.{number}.#");
    let bind =
        Method::QueueBind { ticket: 0, queue, exchange, routing_key, nowait: false, arguments };
    connection.call(&bind, "to queue.bind", |method| {
        matches!(method, Method::QueueBindOk {}).then_some(())
    })?;
    let unbind = Method::QueueUnbind { ticket: 0, queue, exchange, routing_key, arguments };
    connection.call(&unbind, "to queue.unbind", |method| {
        matches!(method, Method::QueueUnbindOk {}).then_some(())
    })
}

fn consume(connection: &mut Connection, queue: &str) -> Result<(), Failure> {
    let consumer_tag = "churn";
    let consume = Method::BasicConsume {
        ticket: 0,
        queue,
        consumer_tag,
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: false,
        arguments: Table::EMPTY,
    };
    connection.call(&consume, "to basic.consume", |method| {
        matches!(method, Method::BasicConsumeOk { .. }).then_some(())
    })?;
    connection.call(
        &Method::BasicCancel { consumer_tag, nowait: false },
        "to basic.cancel",
        |method| matches!(method, Method::BasicCancelOk { .. }).then_some(()),
    )
}
