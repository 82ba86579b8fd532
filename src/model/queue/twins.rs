//! Two copies of a queue that are given the same commands at the same times: they must have the
//! same effects and reach the same state. Only the simulation is built with them.
//!
//! The output of the first copy is the real one, and its answers are kept for the second. The
//! copies have different hash seeds, so that an effect that depends on a seed is found.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId, RequestId};
use crate::message::Message;
use crate::queue::commands::queue_commands;
use crate::queue::consumer::{Ask, ConsumerSpec, Consumers, Slot};
use crate::queue::stored::Stored;
use crate::queue::{
    Delivery, DropSpilled, DroppedSpilled, Dying, EffectiveArguments, EnqueueEnd, EnqueueId,
    Expiry, Get, Overdue, QueueCommands, QueueOutput, QueueProgress, QueueSnapshot,
    RestoredMessages, Settle, Spilled, Unfit,
};
use crate::replay::{StateHash, StateHasher};
use crate::time::Now;

/// States are compared after this many commands, and after each one while the queue is deleted.
const COMPARED: u32 = 16;

/// A queue and its copy.
#[derive(Debug)]
pub struct Twins<Q> {
    first: Q,
    second: Q,
    commands: u32,
}

impl<Q: QueueCommands + Hash> Twins<Q> {
    /// Two queues; the seed is the first one's.
    pub fn new(make: impl Fn(Seed) -> Q, seed: Seed) -> Self {
        Self { first: make(seed), second: make(Seed::new(0x5EC0)), commands: 0 }
    }

    /// Gives both the same command.
    fn both<O: QueueOutput, R: PartialEq + Debug>(
        &mut self,
        output: &mut O,
        command: impl Fn(&mut Q, &mut Watched<'_, O>) -> R,
    ) -> R {
        let mut answers = VecDeque::new();
        let mut watched = Watched::new(Some(output), &mut answers);
        let result = command(&mut self.first, &mut watched);
        let effects = watched.effects;
        let mut replayed = Watched::new(None, &mut answers);
        let again = command(&mut self.second, &mut replayed);
        assert_eq!(effects.finish(), replayed.effects.finish(), "a replay has other effects");
        assert!(answers.is_empty(), "a replay asks for less");
        assert_eq!(result, again, "a replay has another result");
        self.commands += 1;
        if self.commands.is_multiple_of(COMPARED) || self.first.frozen() {
            self.compare();
        }
        result
    }

    fn compare(&self) {
        let (first, second) = (self.first.state_hash(), self.second.state_hash());
        assert_eq!(first, second, "a replay reaches another state");
    }
}

macro_rules! twice {
    (
        effects { $($effects:ident($($a:ident: $at:ty),*) $(-> $ar:ty)?;)* }
        silent { $($silent:ident($($b:ident: $bt:ty),*) $(-> $br:ty)?;)* }
        looks { $($looks:ident($($c:ident: $ct:ty),*) -> $cr:ty;)* }
    ) => {
        $(
            fn $effects(
                &mut self,
                $($a: $at,)*
                output: &mut impl QueueOutput,
            ) $(-> $ar)? {
                self.both(output, |queue, output| queue.$effects($($a.clone(),)* output))
            }
        )*
        $(
            fn $silent(&mut self, $($b: $bt),*) $(-> $br)? {
                self.first.$silent($($b.clone()),*);
                self.second.$silent($($b),*)
            }
        )*
        $(
            fn $looks(&self, $($c: $ct),*) -> $cr {
                self.first.$looks($($c),*)
            }
        )*
    };
}

#[allow(clippy::clone_on_copy, reason = "some arguments can be copied, others cannot")]
impl<Q: QueueCommands + Hash> QueueCommands for Twins<Q> {
    queue_commands!(twice);
}

/// What the output answered.
#[derive(Debug, Clone, Copy)]
enum OutputAnswer {
    Yes(bool),
    Permits(Option<u32>),
    Place(Stored),
    Held(EnqueueId),
    Dropped(DroppedSpilled),
}

/// An output whose effects are hashed and whose answers are kept; without a real output, the kept
/// answers are given again.
struct Watched<'a, O> {
    output: Option<&'a mut O>,
    answers: &'a mut VecDeque<OutputAnswer>,
    effects: StateHasher,
}

impl<'a, O: QueueOutput> Watched<'a, O> {
    fn new(output: Option<&'a mut O>, answers: &'a mut VecDeque<OutputAnswer>) -> Self {
        Self { output, answers, effects: StateHasher::default() }
    }

    fn effect(&mut self, effect: impl Hash, act: impl FnOnce(&mut O)) {
        effect.hash(&mut self.effects);
        self.output.as_deref_mut().map(act);
    }

    fn answer(
        &mut self,
        effect: impl Hash,
        ask: impl FnOnce(&mut O) -> OutputAnswer,
    ) -> OutputAnswer {
        effect.hash(&mut self.effects);
        match self.output.as_deref_mut().map(ask) {
            Some(answer) => {
                self.answers.push_back(answer);
                answer
            }
            None => self.answers.pop_front().unwrap_or_else(|| panic!("a replay asks for more")),
        }
    }

    fn yes(&mut self, effect: impl Hash, ask: impl FnOnce(&mut O) -> bool) -> bool {
        match self.answer(effect, |output| OutputAnswer::Yes(ask(output))) {
            OutputAnswer::Yes(yes) => yes,
            other => panic!("a replay asks for something else than {other:?}"),
        }
    }

    fn place(&mut self, effect: impl Hash, ask: impl FnOnce(&mut O) -> Stored) -> Stored {
        match self.answer(effect, |output| OutputAnswer::Place(ask(output))) {
            OutputAnswer::Place(place) => place,
            other => panic!("a replay asks for something else than {other:?}"),
        }
    }
}

impl<O: QueueOutput> QueueOutput for Watched<'_, O> {
    fn open(&mut self, queue: QueueId, conn: ConnId) -> bool {
        self.yes(("open", queue, conn), |output| output.open(queue, conn))
    }

    fn open_for(&mut self, queue: QueueId, conn: ConnId, message: Message<'_>) -> bool {
        self.yes(("open for", queue, conn, message.record()), |output| {
            output.open_for(queue, conn, message)
        })
    }

    fn ask(&mut self, queue: QueueId, ask: Ask) -> Option<u32> {
        match self
            .answer(("ask", queue, ask), |output| OutputAnswer::Permits(output.ask(queue, ask)))
        {
            OutputAnswer::Permits(count) => count,
            other => panic!("a replay asks for something else than {other:?}"),
        }
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        let Delivery { to, message } = delivery;
        self.effect(("deliver", to, message.record()), |output| output.deliver(delivery));
    }

    fn got(&mut self, ticket: RequestId, remaining: u32, delivery: Delivery<'_>) {
        let effect = ("got", ticket, remaining, delivery.to, delivery.message.record());
        self.effect(effect, |output| output.got(ticket, remaining, delivery));
    }

    fn empty(&mut self, ticket: RequestId) {
        self.effect(("empty", ticket), |output| output.empty(ticket));
    }

    fn unfit(&mut self, unfit: Unfit) {
        self.effect(("unfit", unfit), |output| output.unfit(unfit));
    }

    fn overdue(&mut self, overdue: Overdue) {
        self.effect(("overdue", overdue), |output| output.overdue(overdue));
    }

    fn refuse(&mut self) {
        self.effect("refuse", O::refuse);
    }

    fn hold(&mut self) -> EnqueueId {
        match self.answer("hold", |output| OutputAnswer::Held(output.hold())) {
            OutputAnswer::Held(enqueue) => enqueue,
            other => panic!("a replay asks for something else than {other:?}"),
        }
    }

    fn finish(&mut self, enqueue: EnqueueId, end: EnqueueEnd) {
        self.effect(("finish", enqueue, end), |output| output.finish(enqueue, end));
    }

    fn log(&mut self, queue: QueueId, seq: u64, expiry: Expiry, message: Message<'_>) -> Stored {
        let effect = ("log", queue, seq, expiry, message.record());
        self.place(effect, |output| output.log(queue, seq, expiry, message))
    }

    fn log_held(&mut self, queue: QueueId, seq: u64, message: Message<'_>) -> Stored {
        let effect = ("log_held", queue, seq, message.record());
        self.place(effect, |output| output.log_held(queue, seq, message))
    }

    fn bypass_log(
        &mut self,
        queue: QueueId,
        seq: u64,
        expiry: Expiry,
        message: Message<'_>,
    ) -> bool {
        let effect = ("bypass_log", queue, seq, expiry, message.record());
        self.yes(effect, |output| output.bypass_log(queue, seq, expiry, message))
    }

    fn log_again(
        &mut self,
        queue: QueueId,
        seq: u64,
        old: (Stored, Expiry),
        message: Message<'_>,
    ) -> Stored {
        let effect = ("log_again", queue, seq, old, message.record());
        self.place(effect, |output| output.log_again(queue, seq, old, message))
    }

    fn settled(&mut self, queue: QueueId, seq: u64, stored: Stored) {
        self.effect(("settled", queue, seq, stored), |output| output.settled(queue, seq, stored));
    }

    fn let_go(&mut self, stored: Stored) {
        self.effect(("let_go", stored), |output| output.let_go(stored));
    }

    fn spill(&mut self, queue: QueueId, spilled: Spilled<'_>) {
        let Spilled { seq, redelivered, stored, expiry, message } = spilled;
        let effect = ("spill", queue, seq, (redelivered, stored, expiry), message.record());
        self.effect(effect, |output| output.spill(queue, spilled));
    }

    fn died(&mut self, queue: QueueId) {
        self.effect(("died", queue), |output| output.died(queue));
    }

    fn fetch(&mut self, queue: QueueId) {
        self.effect(("fetch", queue), |output| output.fetch(queue));
    }

    fn purge(&mut self, queue: QueueId) {
        self.effect(("purge", queue), |output| output.purge(queue));
    }

    fn drop_spilled(&mut self, queue: QueueId, what: DropSpilled) -> DroppedSpilled {
        match self.answer(("drop_spilled", queue, what), |output| {
            OutputAnswer::Dropped(output.drop_spilled(queue, what))
        }) {
            OutputAnswer::Dropped(dropped) => dropped,
            other => panic!("a replay asks for something else than {other:?}"),
        }
    }
}
