//! What existed when: exchanges, queues and bindings, as far as clients can know; and whether the
//! broker's answers agree with it.

use std::collections::BTreeMap;

use super::{Facts, last_before};
use crate::history::{BindingKey, Fate, History, NEVER, NO_CHANNEL, Op, Span, Time, What};
use crate::names::{EXCHANGES, FIRST_DECLARED, kind};

/// Something that changed, or may have changed, an object.
#[derive(Debug, Clone)]
pub struct Event<E> {
    /// When.
    pub span: Span,
    /// It certainly happened.
    pub sure: bool,
    /// What.
    pub effect: E,
}

/// What an object is after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does not exist.
    Absent,
    /// It exists, owned by this connection if it is exclusive.
    Present(Option<usize>),
}

/// The changes of every object.
#[derive(Debug, Default)]
pub struct Existence {
    /// By queue.
    pub queues: Vec<Vec<Event<State>>>,
    /// By exchange.
    pub exchanges: Vec<Vec<Event<State>>>,
    /// By binding.
    pub bindings: BTreeMap<BindingKey, Vec<Event<State>>>,
}

impl Existence {
    /// Reads the changes from a history.
    pub fn new(h: &History) -> Self {
        let mut this = Self::default();
        let start = Event { span: Span::START, sure: true, effect: State::Absent };
        this.queues = vec![vec![start.clone()]; h.queues.len()];
        this.exchanges = vec![vec![start]; EXCHANGES.len()];
        for exchange in &mut this.exchanges[..FIRST_DECLARED] {
            exchange[0].effect = State::Present(None);
        }
        for (time, change) in changes(h) {
            match change {
                Change::Op(op) => this.operation(&h.ops[op]),
                Change::ConnectionEnd(conn) => this.connection_end(h, conn, time),
                Change::ConsumerEnd(consumer) => this.consumer_end(h, consumer, time),
            }
        }
        this
    }

    fn operation(&mut self, op: &Op) {
        let sure = match op.fate {
            Fate::Done => true,
            Fate::Unknown | Fate::Pending => false,
            Fate::Refused(_) | Fate::Dropped => return,
        };
        let event = |effect| Event { span: op.span, sure, effect };
        let owned = |queue: usize| kind(queue).exclusive.then_some(op.conn);
        match &op.what {
            What::DeclareQueue { queue, passive: false, .. } => {
                self.queues[*queue].push(event(State::Present(owned(*queue))));
            }
            What::DeleteQueue { queue, .. } => self.kill_queue(*queue, event(State::Absent)),
            What::DeclareExchange { exchange, passive: false } => {
                self.exchanges[*exchange].push(event(State::Present(None)));
            }
            What::DeleteExchange { exchange } => {
                self.exchanges[*exchange].push(event(State::Absent));
                self.kill_bindings(|key| key.exchange == *exchange, &event(State::Absent));
            }
            What::Bind(key) => self.binding(*key).push(event(State::Present(None))),
            What::Unbind(key) => self.binding(*key).push(event(State::Absent)),
            _ => {}
        }
    }

    /// The changes of a binding. A deletion of its ends that began before it was first asked for
    /// may have been carried out after it.
    fn binding(&mut self, key: BindingKey) -> &mut Vec<Event<State>> {
        let (queue, exchange) = (&self.queues[key.queue], &self.exchanges[key.exchange]);
        self.bindings.entry(key).or_insert_with(|| {
            let start = Event { span: Span::START, sure: true, effect: State::Absent };
            let ends = queue.iter().chain(exchange);
            let gone = ends.filter(|e| e.effect == State::Absent && e.span != Span::START);
            std::iter::once(start).chain(gone.cloned()).collect()
        })
    }

    fn kill_queue(&mut self, queue: usize, event: Event<State>) {
        self.kill_bindings(|key| key.queue == queue, &event);
        self.queues[queue].push(event);
    }

    fn kill_bindings(&mut self, of: impl Fn(&BindingKey) -> bool, event: &Event<State>) {
        for (_, events) in self.bindings.iter_mut().filter(|(key, _)| of(key)) {
            events.push(event.clone());
        }
    }

    /// Exclusive queues go with their connection.
    fn connection_end(&mut self, h: &History, conn: usize, time: Time) {
        let done = h.conns[conn].ended;
        let span = Span { chan: NO_CHANNEL, seq: 0, sent: time, done };
        for queue in 0..self.queues.len() {
            let mine = State::Present(Some(conn));
            let states = self.queue_states(queue, &span);
            if states.contains(&mine) {
                let sure = states.len() == 1;
                self.kill_queue(queue, Event { span, sure, effect: State::Absent });
            }
        }
    }

    /// An auto-delete queue goes with its last consumer.
    fn consumer_end(&mut self, h: &History, consumer: usize, time: Time) {
        let queue = h.consumers[consumer].queue;
        let ended = h.consumer_ended(consumer);
        let span = Span { chan: NO_CHANNEL, seq: 0, sent: time, done: h.quiet_after(ended) };
        let others = |sure: bool| {
            (0..h.consumers.len()).any(|other| {
                other != consumer && h.consumers[other].queue == queue && {
                    let begun = h.ops[h.consumers[other].op].span;
                    if sure {
                        begun.done < span.sent
                            && h.consumer_ending(other) > span.done
                            && !h.consumers[other].cancelled
                    } else {
                        begun.sent < span.done && h.consumer_ended(other) > span.sent
                    }
                }
            })
        };
        if others(true) {
            return;
        }
        let declared = self.queues[queue].iter().any(|event| {
            event.span.sent < span.done && event.span.done > span.sent && event.span != Span::START
        });
        let began = h.ops[h.consumers[consumer].op].fate == Fate::Done;
        let sure = began && !others(false) && !declared && span.done != NEVER;
        self.kill_queue(queue, Event { span, sure, effect: State::Absent });
    }

    /// What the queue may be when an operation is carried out.
    pub fn queue_states(&self, queue: usize, at: &Span) -> Vec<State> {
        let mut states = states(&self.queues[queue], at);
        if kind(queue).limits.expires_ms.is_some() && !states.contains(&State::Absent) {
            states.push(State::Absent);
        }
        states
    }

    /// What the exchange may be.
    pub fn exchange_states(&self, exchange: usize, at: &Span) -> Vec<State> {
        states(&self.exchanges[exchange], at)
    }

    /// Whether the binding certainly is there, and whether it may be.
    pub fn bound(&self, key: &BindingKey, at: &Span) -> (bool, bool) {
        let Some(events) = self.bindings.get(key) else { return (false, false) };
        let states = states(events, at);
        let present = |state: &State| *state != State::Absent;
        (states.iter().all(present), states.iter().any(present))
    }

    /// Whether something that began before `until` may have deleted the queue during or after `at`.
    pub fn deleted_since(&self, queue: usize, at: &Span, until: Time) -> bool {
        self.queues[queue].iter().any(|event| {
            let deletes = event.effect == State::Absent && event.span != Span::START;
            deletes && !event.span.before(at) && event.span.sent < until
        })
    }
}

fn states(events: &[Event<State>], at: &Span) -> Vec<State> {
    let mut states: Vec<State> = Vec::new();
    for event in last_before(events, at) {
        if !states.contains(&event.effect) {
            states.push(event.effect);
        }
        // What did not certainly happen leaves what was before: that is among the others.
    }
    states
}

enum Change {
    Op(usize),
    ConnectionEnd(usize),
    ConsumerEnd(usize),
}

/// Everything that may change an object, in the order it began.
fn changes(h: &History) -> Vec<(Time, Change)> {
    let mut all: Vec<(Time, Change)> = Vec::new();
    all.extend(h.ops.iter().enumerate().map(|(place, op)| (op.span.sent, Change::Op(place))));
    let ends = h.conns.iter().enumerate().filter(|(_, conn)| conn.ending != NEVER);
    all.extend(ends.map(|(place, conn)| (conn.ending, Change::ConnectionEnd(place))));
    for consumer in 0..h.consumers.len() {
        let ending = h.consumer_ending(consumer);
        let began = h.ops[h.consumers[consumer].op].fate;
        // One that was cancelled by the server had lost its queue before.
        let gone = h.consumers[consumer].cancelled;
        let real = !gone && !matches!(began, Fate::Refused(_) | Fate::Dropped);
        if kind(h.consumers[consumer].queue).auto_delete && ending != NEVER && real {
            all.push((ending, Change::ConsumerEnd(consumer)));
        }
    }
    all.sort_by_key(|(time, _)| *time);
    all
}

/// Every answer must be possible in the state its object may have been in.
pub fn check(h: &History, facts: &Facts) -> Result<(), String> {
    for (place, op) in h.ops.iter().enumerate() {
        let answered = match op.fate {
            Fate::Done if !op.silent => None,
            Fate::Refused(code) => Some(code),
            _ => continue,
        };
        if !possible(h, facts, op, answered) {
            return Err(format!("op {place} ended as {:?}, which cannot be: {:?}", op.fate, op));
        }
    }
    for (place, message) in h.messages.iter().enumerate() {
        let op = &h.ops[message.op];
        let states = facts.existence.exchange_states(message.exchange, &op.span);
        if op.fate == Fate::Done && !states.contains(&State::Present(None)) {
            return Err(format!("message {place} was taken by an exchange that is not there"));
        }
    }
    Ok(())
}

/// Whether the operation may have been answered so.
fn possible(h: &History, facts: &Facts, op: &Op, answered: Option<u16>) -> bool {
    match &op.what {
        What::DeclareQueue { queue, passive, mismatch, .. } => {
            let states = facts.existence.queue_states(*queue, &op.span);
            declare(&states, op.conn, *passive, *mismatch, answered)
        }
        What::Purge { queue } | What::Get { queue, .. } => {
            used(&facts.existence.queue_states(*queue, &op.span), op.conn, answered)
        }
        What::Consume { consumer } => {
            let queue = h.consumers[*consumer].queue;
            used(&facts.existence.queue_states(queue, &op.span), op.conn, answered)
        }
        What::DeleteQueue { queue, if_unused, if_empty } => {
            let states = facts.existence.queue_states(*queue, &op.span);
            let conditional = *if_unused || *if_empty;
            match answered {
                None => states.iter().any(|s| *s == State::Absent || open(s, op.conn)),
                Some(406) => conditional && states.iter().any(|s| open(s, op.conn)),
                code => used(&states, op.conn, code) && code == Some(405),
            }
        }
        What::Bind(key) => {
            let queue = facts.existence.queue_states(key.queue, &op.span);
            let exchange = facts.existence.exchange_states(key.exchange, &op.span);
            let absent = exchange.contains(&State::Absent);
            let present = exchange.contains(&State::Present(None));
            match answered {
                None => present && used(&queue, op.conn, None),
                Some(404) => absent || used(&queue, op.conn, Some(404)),
                code => used(&queue, op.conn, code),
            }
        }
        What::Unbind(key) => match answered {
            None => true,
            Some(code) => {
                code == 405
                    && used(&facts.existence.queue_states(key.queue, &op.span), op.conn, Some(code))
            }
        },
        What::DeclareExchange { exchange, passive } => {
            let states = facts.existence.exchange_states(*exchange, &op.span);
            match answered {
                None => !passive || states.contains(&State::Present(None)),
                Some(404) => *passive && states.contains(&State::Absent),
                Some(_) => false,
            }
        }
        What::Publish { message } => {
            let exchange = h.messages[*message].exchange;
            let states = facts.existence.exchange_states(exchange, &op.span);
            answered == Some(404) && states.contains(&State::Absent)
        }
        What::Settle { tag, .. } => answered == Some(406) && *tag >= 1_000_000,
        _ => answered.is_none(),
    }
}

/// The connection may use the queue in this state.
fn open(state: &State, conn: usize) -> bool {
    matches!(state, State::Present(owner) if owner.is_none_or(|owner| owner == conn))
}

fn locked(state: &State, conn: usize) -> bool {
    *state != State::Absent && !open(state, conn)
}

/// Whether the use of a queue may have been answered so.
fn used(states: &[State], conn: usize, answered: Option<u16>) -> bool {
    match answered {
        None => states.iter().any(|state| open(state, conn)),
        Some(404) => states.contains(&State::Absent),
        Some(405) => states.iter().any(|state| locked(state, conn)),
        Some(_) => false,
    }
}

fn declare(
    states: &[State],
    conn: usize,
    passive: bool,
    mismatch: bool,
    answered: Option<u16>,
) -> bool {
    match answered {
        None if passive => states.iter().any(|state| open(state, conn)),
        None => states.iter().any(|s| *s == State::Absent || (open(s, conn) && !mismatch)),
        Some(406) => mismatch && states.iter().any(|state| open(state, conn)),
        Some(404) => passive && states.contains(&State::Absent),
        Some(405) => states.iter().any(|state| locked(state, conn)),
        Some(_) => false,
    }
}
