//! The queues and the exchange of a run. Existing ones are used, others are declared and deleted at
//! the end.

use amqp::{Method, Table, TableWriter, Value};

use crate::cli::message::MessageFlag;
use crate::cli::run::RunArgs;
use crate::client::connection::ClientConnection;
use crate::messages::bindings::{BoundQueues, ExchangeTypeArg, HEADER};
use crate::messages::routing_keys::random_keys;
use crate::system::error::LoadgenError;

/// Arguments with which a queue may discard messages by age or by length.
const DISCARDING: [&str; 4] = ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"];

/// A queue of the run.
#[derive(Debug)]
struct RunQueue {
    name: String,
    created: bool,
    /// Messages in the queue before the run.
    before: u64,
}

/// The queues and the exchange of a run, and the connection that declares and deletes them.
#[derive(Debug)]
pub struct RunTopology {
    control: ClientConnection,
    queues: Vec<RunQueue>,
    /// The exchange, if this run declared it.
    exchange: Option<String>,
}

impl RunTopology {
    /// Declares and binds what does not exist yet.
    ///
    /// # Errors
    /// The broker refuses, or something is missing with --predeclared.
    pub fn prepare(args: &RunArgs) -> Result<Self, LoadgenError> {
        let control = ClientConnection::open(&args.uri)?;
        let mut topology = Self { control, queues: Vec::new(), exchange: None };
        for name in args.queues() {
            topology.queue(name, args)?;
        }
        if !args.message.exchange.is_empty() {
            topology.exchange(args)?;
            topology.bind(args)?;
        }
        Ok(topology)
    }

    /// The queues of a run, each with its binding keys.
    #[must_use]
    pub fn bound(args: &RunArgs) -> BoundQueues {
        let (queues, keys) = (args.queues(), keys(args));
        let count = queues.len();
        let one = |(number, queue): (usize, String)| {
            let bindings = match (&keys, &args.routing.binding_key) {
                (_, given) if !given.is_empty() => given.clone(),
                (None, _) => vec![queue.clone()],
                (Some(keys), _) if keys.len() == 1 => keys.clone(),
                (Some(keys), _) => keys.iter().skip(number).step_by(count).cloned().collect(),
            };
            (queue, bindings)
        };
        let kind = (!args.message.exchange.is_empty()).then_some(args.routing.kind);
        BoundQueues { kind, queues: queues.into_iter().enumerate().map(one).collect() }
    }

    fn queue(&mut self, name: String, args: &RunArgs) -> Result<(), LoadgenError> {
        if let Some(before) = self.ready(&name)? {
            eprintln!(
                "queue {name} exists with {before} messages: it is used and will not be deleted"
            );
            self.queues.push(RunQueue { name, created: false, before });
            return Ok(());
        }
        if args.routing.predeclared {
            return Err(LoadgenError::Settings(format!(
                "there is no queue {name}: declare it, name another one with --queue, or \
                 remove --predeclared"
            )));
        }
        let durable = args.durable.unwrap_or_else(|| args.message.has(MessageFlag::Persistent));
        let arguments = arguments(&args.queue_args)?;
        let declare = Method::QueueDeclare {
            ticket: 0,
            queue: &name,
            passive: false,
            durable,
            exclusive: false,
            auto_delete: args.auto_delete,
            nowait: false,
            arguments: arguments.table(),
        };
        self.declare(&declare)?;
        self.queues.push(RunQueue { name, created: true, before: 0 });
        Ok(())
    }

    fn declare(&mut self, declare: &Method<'_>) -> Result<u64, LoadgenError> {
        self.control.call(declare, "to queue.declare", |method| match *method {
            Method::QueueDeclareOk { message_count, .. } => Some(u64::from(message_count)),
            _ => None,
        })
    }

    /// How many messages are ready in a queue; `None` if there is no such queue.
    fn ready(&mut self, queue: &str) -> Result<Option<u64>, LoadgenError> {
        let passive = Method::QueueDeclare {
            ticket: 0,
            queue,
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: Table::EMPTY,
        };
        let ready = self.declare(&passive).map(Some);
        self.or_not_found(ready)
    }

    /// Turns a 404 into `None` and opens the channel that it closed again.
    fn or_not_found<T>(
        &mut self,
        answer: Result<Option<T>, LoadgenError>,
    ) -> Result<Option<T>, LoadgenError> {
        if let Err(LoadgenError::Closed { what: "channel", code: 404, .. }) = answer {
            self.control.open_channel()?;
            return Ok(None);
        }
        answer
    }

    fn exchange(&mut self, args: &RunArgs) -> Result<(), LoadgenError> {
        let exchange = args.message.exchange.as_str();
        let declare = |passive| Method::ExchangeDeclare {
            ticket: 0,
            exchange,
            kind: args.routing.kind.name(),
            passive,
            durable: false,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: Table::EMPTY,
        };
        let done =
            |method: &Method<'_>| matches!(method, Method::ExchangeDeclareOk {}).then_some(());
        let there = self.control.call(&declare(true), "to exchange.declare", done).map(Some);
        if self.or_not_found(there)?.is_none() {
            if args.routing.predeclared {
                return Err(LoadgenError::Settings(format!(
                    "there is no exchange {exchange}: declare it, name another one with \
                     --exchange, or remove --predeclared"
                )));
            }
            self.control.call(&declare(false), "to exchange.declare", done)?;
            self.exchange = Some(exchange.to_owned());
        }
        Ok(())
    }

    fn bind(&mut self, args: &RunArgs) -> Result<(), LoadgenError> {
        if args.routing.predeclared {
            return Ok(());
        }
        let BoundQueues { kind, queues } = Self::bound(args);
        for (queue, keys) in &queues {
            for key in keys {
                self.bind_one(&args.message.exchange, kind, queue, key)?;
            }
        }
        Ok(())
    }

    fn bind_one(
        &mut self,
        exchange: &str,
        kind: Option<ExchangeTypeArg>,
        queue: &str,
        routing_key: &str,
    ) -> Result<(), LoadgenError> {
        let by_header = TableWriter::new()
            .with("x-match", Value::LongString(b"all"))
            .with(HEADER, Value::LongString(routing_key.as_bytes()));
        let arguments = match kind {
            Some(ExchangeTypeArg::Headers) => by_header.table(),
            _ => Table::EMPTY,
        };
        let bind =
            Method::QueueBind { ticket: 0, queue, exchange, routing_key, nowait: false, arguments };
        self.control.call(&bind, "to queue.bind", |method| {
            matches!(method, Method::QueueBindOk {}).then_some(())
        })
    }

    /// How many messages of this run are in the queues. Messages from before the run are
    /// subtracted, except `foreign` ones that have been consumed. A queue that is gone holds none.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn left(&mut self, foreign: u64) -> Result<u64, LoadgenError> {
        let names: Vec<String> = self.queues.iter().map(|queue| queue.name.clone()).collect();
        let mut now = 0;
        for name in names {
            now += self.ready(&name)?.unwrap_or(0);
        }
        let before: u64 = self.queues.iter().map(|queue| queue.before).sum();
        Ok(now.saturating_sub(before.saturating_sub(foreign)))
    }

    /// Counts everything that is in the queues now as from before the run.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn recount(&mut self) -> Result<(), LoadgenError> {
        for number in 0..self.queues.len() {
            let name = self.queues[number].name.clone();
            self.queues[number].before = self.ready(&name)?.unwrap_or(0);
        }
        Ok(())
    }

    /// Deletes what this run declared (queues only if `queues`) and closes the connection.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn tear_down(mut self, queues: bool) -> Result<(), LoadgenError> {
        for queue in std::mem::take(&mut self.queues) {
            if queue.created && queues {
                self.delete_queue(&queue.name)?;
            }
        }
        if let Some(exchange) = self.exchange.take() {
            let delete = Method::ExchangeDelete {
                ticket: 0,
                exchange: &exchange,
                if_unused: false,
                nowait: false,
            };
            self.control.call(&delete, "to exchange.delete", |method| {
                matches!(method, Method::ExchangeDeleteOk {}).then_some(())
            })?;
        }
        self.control.close()
    }

    fn delete_queue(&mut self, queue: &str) -> Result<(), LoadgenError> {
        let delete = Method::QueueDelete {
            ticket: 0,
            queue,
            if_unused: false,
            if_empty: false,
            nowait: false,
        };
        let deleted = self.control.call(&delete, "to queue.delete", |method| {
            matches!(method, Method::QueueDeleteOk { .. }).then_some(())
        });
        // An auto-delete queue may have been deleted with its last consumer.
        self.or_not_found(deleted.map(Some)).map(|_| ())
    }
}

/// The routing keys of a run, if they are not the queues' names.
#[must_use]
pub fn keys(args: &RunArgs) -> Option<Vec<String>> {
    if args.routing.random_routing_key {
        return Some(random_keys(args.routing.routing_key_cache_size));
    }
    let key = args.message.routing_key.as_ref()?;
    Some(match key.contains("%d") {
        false => vec![key.clone()],
        true => (1..=args.routing.routing_key_count)
            .map(|number| key.replace("%d", &number.to_string()))
            .collect(),
    })
}

/// True if a queue with these arguments may discard messages that were not consumed.
#[must_use]
pub fn may_discard(pairs: &[String]) -> bool {
    let key = |pair: &String| pair.split('=').next().map(str::to_owned);
    pairs.iter().filter_map(key).any(|key| DISCARDING.contains(&key.as_str()))
}

fn arguments(pairs: &[String]) -> Result<TableWriter, LoadgenError> {
    let mut table = TableWriter::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            LoadgenError::Settings(format!("--queue-args takes key=value, not {pair:?}"))
        })?;
        table = match (value.parse(), value.parse()) {
            (Ok(number), _) => table.with(key, Value::Long(number)),
            (_, Ok(yes)) => table.with(key, Value::Bool(yes)),
            _ => table.with(key, Value::LongString(value.as_bytes())),
        };
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_numbers_booleans_or_strings() {
        let pairs = ["x-queue-type=quorum", "x-max-length=5", "x-single-active-consumer=true"];
        let pairs = pairs.map(str::to_owned);
        let table = arguments(&pairs).unwrap();
        assert_eq!(table.table().get("x-queue-type"), Some(Value::LongString(b"quorum")));
        assert_eq!(table.table().get("x-max-length"), Some(Value::Long(5)));
        assert_eq!(table.table().get("x-single-active-consumer"), Some(Value::Bool(true)));
        assert!(arguments(&["x".to_owned()]).is_err());
        assert!(may_discard(&pairs) && !may_discard(&pairs[..1]));
    }
}
