//! The interface of a queue kind: commands with the time in, effects out through [`QueueOutput`].

use crate::ids::{ChannelId, ConnId, ConsumerId};
use crate::message::Message;
use crate::queue::consumer::{ConsumerSpec, Consumers, Slot};
use crate::queue::{
    Dying, EffectiveArguments, Get, QueueOutput, QueueProgress, QueueSnapshot, RestoredMessages,
    Settle, Spilled,
};
use crate::time::Now;

/// What a queue can be told and asked, whatever its kind. The state depends on nothing but the
/// commands, their times and the answers of the output.
pub trait QueueCommands {
    // From publishers.

    /// A message enters. The queue logs it, or holds it ([`QueueOutput::hold`]), as its kind wants.
    /// True: it went straight to a consumer, so that the queue's memory and times are as before.
    fn push(&mut self, message: Message<'_>, now: Now, output: &mut impl QueueOutput) -> bool;

    // From consumers.

    /// Takes one message; the answer comes through the output.
    fn get(&mut self, get: Get, now: Now, output: &mut impl QueueOutput);
    /// Whether a consumer like this may be added (spec: exclusive).
    fn admits(&self, exclusive: bool) -> bool;
    /// Adds a consumer; [`Self::dispatch`] serves it.
    fn consume(&mut self, consumer: ConsumerSpec, now: Now);
    /// Removes a consumer; what it was sent stays unacknowledged. True when that was the last one
    /// of an auto-delete queue, which is frozen then.
    fn cancel(&mut self, consumer: ConsumerId, now: Now, output: &mut impl QueueOutput) -> bool;
    /// Settles one delivery of a channel. An unknown number is ignored: its channel is gone.
    fn settle(
        &mut self,
        channel: ChannelId,
        number: u64,
        how: Settle,
        now: Now,
        output: &mut impl QueueOutput,
    );
    /// Settles all deliveries of a channel up to and including `number`: [`Self::go_on`] does it.
    fn settle_up_to(
        &mut self,
        channel: ChannelId,
        number: u64,
        how: Settle,
        now: Now,
        output: &mut impl QueueOutput,
    );
    /// A channel answers a request for permits: `count` of them, 0 if the consumer is to wait.
    /// Returns how many were not needed.
    fn permitted(
        &mut self,
        slot: Slot,
        consumer: ConsumerId,
        count: u32,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> u32;
    /// The consumers of a channel need its permits from now on, or no more: [`Self::go_on`] tells
    /// them.
    fn limit(&mut self, channel: ChannelId, limited: bool, now: Now, output: &mut impl QueueOutput);
    /// The connection may be sent messages again.
    fn reopen(&mut self, conn: ConnId, now: Now, output: &mut impl QueueOutput);
    /// Requeues what the channel was sent and removes its consumers: [`Self::go_on`] does it.
    fn channel_gone(&mut self, channel: ChannelId, now: Now, output: &mut impl QueueOutput);
    /// Serves waiting gets and consumers as long as there are messages in memory, some of them at
    /// once: if there are more, it is [`Self::unfinished`].
    fn dispatch(&mut self, now: Now, output: &mut impl QueueOutput);

    // What takes long.

    /// Goes on with what is unfinished, for at most `most` units of work.
    fn go_on(&mut self, most: u32, now: Now, output: &mut impl QueueOutput) -> QueueProgress;
    /// True if [`Self::go_on`] has something to do.
    fn unfinished(&self) -> bool;
    /// True while messages are being put back, or a limit is being told to consumers: nothing is
    /// delivered, since it might overtake them, and requests have to wait, since they would see a
    /// part of it.
    fn withholds(&self) -> bool;

    // Its life.

    /// Takes over effective arguments, at creation and whenever they change. Limits apply at once,
    /// the message TTL to what enters from now on, and the queue counts as used now.
    fn reconfigure(
        &mut self,
        arguments: EffectiveArguments,
        now: Now,
        output: &mut impl QueueOutput,
    );
    /// Somebody declares it again, or asks what it holds: it is used, and what has expired is gone.
    fn touch(&mut self, now: Now, output: &mut impl QueueOutput);
    /// Drops the ready messages; returns how many there were. They are gone at once, but their
    /// memory is freed by [`Self::go_on`]. A queue that was out of service is in service again.
    fn purge(&mut self, now: Now, output: &mut impl QueueOutput) -> u32;
    /// The queue is being deleted: what enters is dropped, nothing is delivered.
    fn freeze(&mut self, now: Now, output: &mut impl QueueOutput);
    /// Spilled messages cannot be read: the queue is out of service until it is purged or deleted.
    /// It refuses what enters and delivers nothing; its messages stay, and deliveries can be
    /// settled. Returns its consumers and waiting gets, which it forgets: the caller tells them.
    /// Nothing changes where it is being deleted.
    fn break_down(
        &mut self,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> (Vec<ConsumerSpec>, Vec<Get>);
    /// The queue is being dropped: the store may forget what is in memory. Both are done by
    /// [`Self::go_on`], the last command that a queue is given, again and again.
    fn let_go(&mut self, now: Now, output: &mut impl QueueOutput);

    /// Takes one of the consumers of a queue that is being dropped.
    fn take_consumer(&mut self) -> Option<ConsumerSpec>;
    /// Consumers that acknowledge hold too much memory (`true`): until this is called with `false`,
    /// only one that has settled all it got is sent anything, and no large message.
    /// [`Self::go_on`] delivers then.
    fn hold_back(&mut self, held: bool);

    // Its clock.

    /// When [`Self::tick`] is to be called, in microseconds of the monotonic clock. Looked at after
    /// each command; an earlier call of `tick` does no harm.
    fn next_deadline_us(&self) -> Option<u64>;
    /// Does what is due. True if the queue was unused for as long as it may be; it is frozen then.
    fn tick(&mut self, now: Now, output: &mut impl QueueOutput) -> bool;

    // Its dead letters.

    /// The first message with at least this number that has died and is still held.
    fn dying(&self, from: u64) -> Option<Dying<'_>>;
    /// The dead letter of the message with this number has arrived, or goes nowhere: the message
    /// leaves for good. An unknown number is ignored.
    fn buried(&mut self, number: u64, now: Now, output: &mut impl QueueOutput);

    // Its storage: how much of it is resident is for the kind to decide.

    /// Bytes of messages behind a head of `window` bytes that [`Self::spill`] could spill.
    fn spillable(&self, window: usize) -> usize;
    /// Spills at least `bytes` of messages behind the head, or all there are, the first ones first.
    /// Returns how many bytes were spilled.
    fn spill(
        &mut self,
        window: usize,
        bytes: usize,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> usize;
    /// Whether messages that enter from now on may bypass the log: they are persistent, as far as
    /// the last ones show.
    fn may_bypass_log(&self) -> bool;
    /// Persistent messages that enter from now on bypass the log and memory, if all behind the head
    /// is spilled; returns whether they do. It ends when the store refuses a message, or one stays
    /// in memory behind the head.
    fn begin_to_bypass_log(&mut self) -> bool;
    /// No message stays in a batch of the log before this one: those behind the head are spilled,
    /// the others logged again. Returns how many bytes were spilled.
    fn leave_log(
        &mut self,
        before: u64,
        window: usize,
        now: Now,
        output: &mut impl QueueOutput,
    ) -> usize;
    /// No message with a sequence number from `from` to `to` stays in its segment: those in memory
    /// are logged again, or only in memory from now on.
    fn leave_segment(&mut self, from: u64, to: u64, now: Now, output: &mut impl QueueOutput);
    /// Takes over what was recovered. The queue is new.
    fn restore(&mut self, found: RestoredMessages);
    /// One of the messages that were fetched, in order.
    fn loaded(&mut self, loaded: Spilled<'_>);
    /// All messages that were fetched have been loaded: delivery goes on.
    fn all_loaded(&mut self, now: Now, output: &mut impl QueueOutput);

    // What it is like.

    /// Messages that could be delivered, the spilled ones too.
    fn ready(&self) -> u32;
    /// Messages delivered and not settled.
    fn unacked(&self) -> usize;
    /// The consumers.
    fn consumers(&self) -> &Consumers;
    /// Whether the queue is being deleted.
    fn frozen(&self) -> bool;
    /// Whether it is out of service; see [`Self::break_down`].
    fn broken(&self) -> bool;
    /// Bytes of memory that only this queue holds: chunks and entries.
    fn pinned(&self) -> usize;
    /// Bytes of memory of what was delivered and is not settled, with bodies by reference.
    fn unsettled_bytes(&self) -> usize;
    /// Sequence numbers of the durable messages in memory that have been delivered before.
    fn delivered(&self) -> Vec<u64>;
    /// What the queue is like now.
    fn snapshot(&self) -> QueueSnapshot;
}

/// The signatures of [`QueueCommands`] for a macro that implements them all in one way: commands
/// with `effects` take an output behind their arguments, `silent` ones do not, `looks` change
/// nothing.
macro_rules! queue_commands {
    ($implement:ident) => {
        $implement! {
            effects {
                push(message: Message<'_>, now: Now) -> bool;
                get(get: Get, now: Now);
                cancel(consumer: ConsumerId, now: Now) -> bool;
                settle(channel: ChannelId, number: u64, how: Settle, now: Now);
                settle_up_to(channel: ChannelId, number: u64, how: Settle, now: Now);
                permitted(slot: Slot, consumer: ConsumerId, count: u32, now: Now) -> u32;
                limit(channel: ChannelId, limited: bool, now: Now);
                reopen(conn: ConnId, now: Now);
                channel_gone(channel: ChannelId, now: Now);
                go_on(most: u32, now: Now) -> QueueProgress;
                dispatch(now: Now);
                purge(now: Now) -> u32;
                freeze(now: Now);
                break_down(now: Now) -> (Vec<ConsumerSpec>, Vec<Get>);
                let_go(now: Now);
                tick(now: Now) -> bool;
                reconfigure(arguments: EffectiveArguments, now: Now);
                touch(now: Now);
                buried(number: u64, now: Now);
                spill(window: usize, bytes: usize, now: Now) -> usize;
                leave_log(before: u64, window: usize, now: Now) -> usize;
                leave_segment(from: u64, to: u64, now: Now);
                all_loaded(now: Now);
            }
            silent {
                consume(consumer: ConsumerSpec, now: Now);
                begin_to_bypass_log() -> bool;
                hold_back(held: bool);
                take_consumer() -> Option<ConsumerSpec>;
                restore(found: RestoredMessages);
                loaded(loaded: Spilled<'_>);
            }
            looks {
                admits(exclusive: bool) -> bool;
                next_deadline_us() -> Option<u64>;
                dying(from: u64) -> Option<Dying<'_>>;
                spillable(window: usize) -> usize;
                may_bypass_log() -> bool;
                ready() -> u32;
                unacked() -> usize;
                consumers() -> &Consumers;
                frozen() -> bool;
                broken() -> bool;
                unfinished() -> bool;
                withholds() -> bool;
                pinned() -> usize;
                unsettled_bytes() -> usize;
                delivered() -> Vec<u64>;
                snapshot() -> QueueSnapshot;
            }
        }
    };
}
pub(crate) use queue_commands;

/// Implements [`QueueCommands`] for a type that has methods of its own with the same names.
macro_rules! own_methods {
    (
        effects { $($effects:ident($($a:ident: $at:ty),*) $(-> $ar:ty)?;)* }
        silent { $($silent:ident($($b:ident: $bt:ty),*) $(-> $br:ty)?;)* }
        looks { $($looks:ident($($c:ident: $ct:ty),*) -> $cr:ty;)* }
    ) => {
        $(
            #[inline]
            fn $effects(
                &mut self,
                $($a: $at,)*
                output: &mut impl QueueOutput,
            ) $(-> $ar)? {
                Self::$effects(self, $($a,)* output)
            }
        )*
        $(
            #[inline]
            fn $silent(&mut self, $($b: $bt),*) $(-> $br)? {
                Self::$silent(self, $($b),*)
            }
        )*
        $(
            #[inline]
            fn $looks(&self, $($c: $ct),*) -> $cr {
                Self::$looks(self, $($c),*)
            }
        )*
    };
}
pub(crate) use own_methods;
