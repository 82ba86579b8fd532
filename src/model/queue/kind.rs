//! The closed enum of queue kinds. With one variant each match compiles to nothing.

use crate::hash::Seed;
use crate::ids::{ChannelId, ConnId, ConsumerId, QueueId};
use crate::message::Message;
use crate::queue::classic::ClassicQueue;
use crate::queue::commands::queue_commands;
use crate::queue::consumer::{ConsumerSpec, Consumers, Slot};
#[cfg(feature = "second-kinds")]
use crate::queue::shuffled::ShuffledQueue;
#[cfg(feature = "mutants")]
use crate::queue::twins::Twins;
use crate::queue::{
    Dying, EffectiveArguments, Get, QueueCommands, QueueOutput, QueueProgress, QueueSnapshot,
    RestoredMessages, Settle, Spilled,
};
use crate::time::Now;

/// The name of a kind, as `x-queue-type` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum KindName {
    /// `classic`, the kind of a queue that asks for none.
    #[default]
    Classic,
    /// `shuffled`: each enqueue is held for a while. For tests of the interface.
    #[cfg(feature = "second-kinds")]
    Shuffled,
}

impl KindName {
    /// The kind with this name. `None`: there is no such kind in this build.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "classic" => Some(Self::Classic),
            #[cfg(feature = "second-kinds")]
            "shuffled" => Some(Self::Shuffled),
            _ => None,
        }
    }
}

/// A queue of any kind. With the feature `mutants` there are two copies of its state, which are
/// compared.
#[derive(Debug)]
pub enum QueueKind {
    /// Messages in order, each gone when it is settled.
    #[cfg(not(feature = "mutants"))]
    Classic(ClassicQueue),
    /// Messages in order, each gone when it is settled.
    #[cfg(feature = "mutants")]
    Classic(Twins<ClassicQueue>),
    /// Holds each enqueue for a while; see [`crate::queue::shuffled`].
    #[cfg(all(feature = "second-kinds", not(feature = "mutants")))]
    Shuffled(ShuffledQueue),
    /// Holds each enqueue for a while; see [`crate::queue::shuffled`].
    #[cfg(all(feature = "second-kinds", feature = "mutants"))]
    Shuffled(Twins<ShuffledQueue>),
}

/// A queue, in as many copies as [`QueueKind`] has of it.
#[cfg(not(feature = "mutants"))]
fn copies<Q>(make: impl Fn(Seed) -> Q, seed: Seed) -> Q {
    make(seed)
}

#[cfg(feature = "mutants")]
fn copies<Q: QueueCommands + std::hash::Hash>(make: impl Fn(Seed) -> Q, seed: Seed) -> Twins<Q> {
    Twins::new(make, seed)
}

impl QueueKind {
    /// An empty queue. If it is `durable`, its persistent messages are logged.
    #[must_use]
    pub fn new(kind: KindName, id: QueueId, durable: bool, auto_delete: bool, seed: Seed) -> Self {
        match kind {
            KindName::Classic => {
                let make = |seed| ClassicQueue::new(id, durable, auto_delete, seed);
                Self::Classic(copies(make, seed))
            }
            #[cfg(feature = "second-kinds")]
            KindName::Shuffled => {
                let make = |seed| ShuffledQueue::new(id, durable, auto_delete, seed);
                Self::Shuffled(copies(make, seed))
            }
        }
    }
}

/// Hands a command to the queue, whatever its kind.
macro_rules! each {
    ($self:ident, $queue:ident => $command:expr) => {
        match $self {
            Self::Classic($queue) => $command,
            #[cfg(feature = "second-kinds")]
            Self::Shuffled($queue) => $command,
        }
    };
}

macro_rules! delegate {
    (
        effects { $($effects:ident($($a:ident: $at:ty),*) $(-> $ar:ty)?;)* }
        silent { $($silent:ident($($b:ident: $bt:ty),*) $(-> $br:ty)?;)* }
        looks { $($looks:ident($($c:ident: $ct:ty),*) -> $cr:ty;)* }
    ) => {
        $(
            #[inline(always)]
            fn $effects(
                &mut self,
                $($a: $at,)*
                output: &mut impl QueueOutput,
            ) $(-> $ar)? {
                each!(self, queue => queue.$effects($($a,)* output))
            }
        )*
        $(
            #[inline]
            fn $silent(&mut self, $($b: $bt),*) $(-> $br)? {
                each!(self, queue => queue.$silent($($b),*))
            }
        )*
        $(
            #[inline]
            fn $looks(&self, $($c: $ct),*) -> $cr {
                each!(self, queue => queue.$looks($($c),*))
            }
        )*
    };
}

impl QueueCommands for QueueKind {
    queue_commands!(delegate);
}
