//! The actions of a client on exchanges and bindings.

use amqp::{Method, TableWriter, Value};

use crate::actions::{Actor, takes_publishes};
use crate::history::{BindingKey, What};
use crate::names::{
    EXCHANGES, FIRST_DECLARED, KEYS, MATCHES, NOWHERE, RETRY, alternate, headers, kind,
};
use crate::plan::one_of;
use crate::run::FANOUT;

impl Actor<'_> {
    pub(super) fn exchange(&mut self) -> usize {
        self.rng.usize(1..NOWHERE)
    }

    /// An exchange that somebody declared.
    pub(super) fn known_exchange(&mut self) -> usize {
        let exchange = self.exchange();
        let declared = self.h.ops.iter().rev().take(80).any(
            |op| matches!(op.what, What::DeclareExchange { exchange: e, .. } if e == exchange),
        );
        if exchange < FIRST_DECLARED || declared { exchange } else { 1 + exchange % 4 }
    }

    pub(super) fn bind(&mut self) {
        let queue = match takes_publishes(self.usable_queue()) {
            RETRY if self.plan.expirations => 0,
            queue => queue,
        };
        let exchange = self.known_exchange();
        let key = self.rng.usize(..KEYS.len());
        let matches =
            if EXCHANGES[exchange].1 == "headers" { self.rng.usize(1..MATCHES.len()) } else { 0 };
        let nowait = self.rng.u8(..6) == 0;
        self.bind_to(BindingKey { exchange, queue, key, matches }, nowait);
    }

    /// Binds a queue.
    pub fn bind_to(&mut self, binding: BindingKey, nowait: bool) {
        let BindingKey { exchange, queue, key, matches } = binding;
        let (name, (x_match, mask)) = (self.h.queues[queue].clone(), MATCHES[matches]);
        let table = headers(x_match, mask);
        let method = Method::QueueBind {
            ticket: 0,
            queue: &name,
            exchange: EXCHANGES[exchange].0,
            routing_key: KEYS[key],
            nowait,
            arguments: table.table(),
        };
        self.ask(What::Bind(binding), &method, nowait);
    }

    /// Declares a queue and binds it to the fanout exchange.
    pub fn declare_bound(&mut self, queue: usize) {
        self.declare(queue, false, false);
        self.bind_to(BindingKey { exchange: FANOUT, queue, key: 0, matches: 0 }, false);
    }

    pub(super) fn unbind(&mut self) {
        let bound: Vec<BindingKey> = self
            .h
            .ops
            .iter()
            .filter_map(|op| match op.what {
                What::Bind(key) => Some(key),
                _ => None,
            })
            .collect();
        if bound.is_empty() {
            return;
        }
        let binding = *one_of(self.rng, &bound);
        let owner = kind(binding.queue).exclusive;
        if owner && self.rng.u8(..4) != 0 {
            return;
        }
        let (name, (x_match, mask)) =
            (self.h.queues[binding.queue].clone(), MATCHES[binding.matches]);
        let table = headers(x_match, mask);
        let method = Method::QueueUnbind {
            ticket: 0,
            queue: &name,
            exchange: EXCHANGES[binding.exchange].0,
            routing_key: KEYS[binding.key],
            arguments: table.table(),
        };
        self.ask(What::Unbind(binding), &method, false);
    }

    pub(super) fn declare_exchange(&mut self) {
        let exchange = self.exchange();
        self.declare_exchange_of(exchange);
    }

    /// Declares an exchange with its alternate exchange, or asks for one that is always there.
    pub fn declare_exchange_of(&mut self, exchange: usize) {
        let passive = exchange < FIRST_DECLARED;
        let table = alternate(exchange).map_or(TableWriter::new(), |other| {
            let name = Value::LongString(EXCHANGES[other].0.as_bytes());
            TableWriter::new().with("alternate-exchange", name)
        });
        let method = Method::ExchangeDeclare {
            ticket: 0,
            exchange: EXCHANGES[exchange].0,
            kind: EXCHANGES[exchange].1,
            passive,
            durable: false,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: table.table(),
        };
        self.ask(What::DeclareExchange { exchange, passive }, &method, false);
    }

    pub(super) fn delete_exchange(&mut self) {
        let exchange = self.rng.usize(FIRST_DECLARED..NOWHERE);
        self.delete_exchange_of(exchange);
    }

    /// Deletes an exchange.
    pub fn delete_exchange_of(&mut self, exchange: usize) {
        let name = EXCHANGES[exchange].0;
        let method =
            Method::ExchangeDelete { ticket: 0, exchange: name, if_unused: false, nowait: false };
        self.ask(What::DeleteExchange { exchange }, &method, false);
    }
}
