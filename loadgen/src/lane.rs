//! A channel of a connection and what it is for.

use crate::consumer::Consumer;
use crate::failure::Failure;
use crate::idle::Idle;
use crate::incoming::Incoming;
use crate::ledger::Ledger;
use crate::producer::{Producer, Results};

/// What a channel is for.
#[derive(Debug)]
pub enum Role {
    /// It publishes.
    Producer(Box<Producer>),
    /// It consumes.
    Consumer(Box<Consumer>),
    /// Its connection is only there.
    Idle(Idle),
}

/// A channel among those of a worker.
#[derive(Debug)]
pub struct Lane {
    /// The number of its connection.
    pub member: usize,
    /// What it is for.
    pub role: Role,
    /// It is in the worker's list of those that go at once, or of those that go later.
    pub scheduled: bool,
}

impl Role {
    /// Takes its frames at the front. Says whether a consumer came to its limit by that.
    ///
    /// # Errors
    /// The broker closed or is out of step.
    pub fn take(
        &mut self,
        incoming: &mut Incoming,
        now: u64,
        (ledger, results): (&mut Ledger, &mut Results),
        out: &mut Vec<u8>,
    ) -> Result<bool, Failure> {
        match self {
            Role::Producer(producer) => producer.take(incoming, now, results, out)?,
            Role::Idle(idle) => idle.take(incoming, out)?,
            Role::Consumer(consumer) => {
                let had_enough = consumer.has_enough();
                consumer.take(incoming, now, ledger, out)?;
                return Ok(consumer.has_enough() && !had_enough);
            }
        }
        Ok(false)
    }

    /// Says goodbye.
    pub fn close(&mut self, now: u64, ledger: &mut Ledger, out: &mut Vec<u8>) {
        match self {
            Role::Producer(producer) => producer.close(out),
            Role::Consumer(consumer) => consumer.close(now, ledger, out),
            Role::Idle(idle) => idle.close(out),
        }
    }

    /// Whether the channel is closed in order; the first one with its connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Role::Producer(producer) => producer.is_closed(),
            Role::Consumer(consumer) => consumer.is_closed(),
            Role::Idle(idle) => idle.is_closed(),
        }
    }

    /// Whether it is a consumer that has more than it can take care of.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Role::Consumer(consumer) if consumer.is_full())
    }

    /// The producer, if it is one.
    #[must_use]
    pub fn producer(&self) -> Option<&Producer> {
        match self {
            Role::Producer(producer) => Some(producer),
            _ => None,
        }
    }
}
