//! `loadgen churn`: creates and deletes connections, channels, queues, bindings or consumers, one
//! after the other, as fast as the broker answers.
//!
//! One operation creates and deletes one object. Each client is a thread with blocking calls, so
//! the figures show the broker's own work.

use crate::cli::churn::ChurnKind;
use std::sync::Mutex;

use amqp::{Method, Table};

use crate::cli::churn::ChurnArgs;
use crate::client::connection::ClientConnection;
use crate::measure::latency::LatencyRecorder;
use crate::report::figures::ChurnFigures;
use crate::report::load_report::LoadReport;
use crate::system::clock::{self, SECOND};
use crate::system::error::LoadgenError;
use crate::system::interrupt;
use crate::system::process_usage::UsageMonitor;

/// The operations of one client.
#[derive(Debug, Default)]
struct ClientOperations {
    count: u64,
    latency: LatencyRecorder,
}

/// Runs the clients and reports; a signal ends them early.
///
/// # Errors
/// The error of the first client that fails.
pub fn churn(args: &ChurnArgs) -> Result<LoadReport, LoadgenError> {
    let monitor = args.broker_pid.map(|pid| UsageMonitor::start(pid, clock::now())).transpose()?;
    let begin = clock::now() + clock::from_seconds(args.warmup);
    let end = clock::now() + clock::from_seconds(args.time);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..args.clients {
            let results = &results;
            scope.spawn(move || {
                let operations = run_client(args, number, begin, end);
                // The lock is poisoned only if a push panicked; the vector is still valid.
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(operations);
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut all = ClientOperations::default();
    for operations in results {
        let operations = operations?;
        all.count += operations.count;
        all.latency.add(operations.latency);
    }
    let seconds = clock::now().saturating_sub(begin) as f64 / SECOND as f64;
    let rate = if seconds > 0.0 { all.count as f64 / seconds } else { 0.0 };
    let churn = ChurnFigures { operations: all.count, seconds, rate };
    let broker = monitor.and_then(|monitor| monitor.end(clock::now(), all.count));
    let mut report = LoadReport::of_churn(churn, all.latency, broker);
    report.mark_interrupted();
    Ok(report)
}

fn run_client(
    args: &ChurnArgs,
    number: u16,
    begin: u64,
    end: u64,
) -> Result<ClientOperations, LoadgenError> {
    let mut connection = ClientConnection::open(&args.uri)?;
    let name = format!("loadgen.churn.{:x}.{number}", std::process::id());
    if matches!(args.kind, ChurnKind::Binding | ChurnKind::Consumer) {
        declare(&mut connection, &name)?;
    }
    let mut operations = ClientOperations::default();
    loop {
        let start = clock::now();
        if start >= end || interrupt::is_requested() {
            break;
        }
        operate(args, &mut connection, &name, operations.count)?;
        if start >= begin {
            operations.count += 1;
            operations.latency.record(clock::now() - start);
        }
    }
    // The queues are exclusive: the broker deletes them with the connection.
    connection.close()?;
    Ok(operations)
}

fn operate(
    args: &ChurnArgs,
    connection: &mut ClientConnection,
    name: &str,
    number: u64,
) -> Result<(), LoadgenError> {
    match args.kind {
        ChurnKind::Connection => ClientConnection::open(&args.uri)?.close(),
        ChurnKind::Channel => connection.close_channel().and_then(|()| connection.open_channel()),
        ChurnKind::Queue => {
            declare(connection, name)?;
            delete(connection, name)
        }
        ChurnKind::Binding => bind(connection, name, number),
        ChurnKind::Consumer => consume(connection, name),
    }
}

fn declare(connection: &mut ClientConnection, queue: &str) -> Result<(), LoadgenError> {
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

fn delete(connection: &mut ClientConnection, queue: &str) -> Result<(), LoadgenError> {
    let delete =
        Method::QueueDelete { ticket: 0, queue, if_unused: false, if_empty: false, nowait: false };
    connection.call(&delete, "to queue.delete", |method| {
        matches!(method, Method::QueueDeleteOk { .. }).then_some(())
    })
}

fn bind(connection: &mut ClientConnection, queue: &str, number: u64) -> Result<(), LoadgenError> {
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

fn consume(connection: &mut ClientConnection, queue: &str) -> Result<(), LoadgenError> {
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
