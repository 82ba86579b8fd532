//! Deliberate faults, for the simulation to catch: a check that catches nothing checks nothing.
//!
//! Without the feature `mutants` every question is answered `false` by a constant, so the branches
//! are not compiled. With it, one fault may be selected per thread.

macro_rules! mutants {
    ($($(#[$doc:meta])* $rule:literal $name:ident)*) => {
        /// A deliberate fault, and the rule of ARCHITECTURE.md that it breaks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant { $($(#[$doc])* $name),* }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$name),*];

            /// Those of the store, whose own simulation catches them.
            pub const STORE: &[Mutant] = &[
                Mutant::ConfirmBeforeSync,
                Mutant::SyncSkipped,
                Mutant::CrcUnchecked,
                Mutant::LogGoesTooEarly,
                Mutant::SettleForgotten,
                Mutant::FolderNotSynced,
                Mutant::SegmentNotAwaited,
                Mutant::MissingWriteSynced,
            ];

            /// The number of the rule it breaks.
            #[must_use]
            pub fn rule(self) -> u8 {
                match self { $(Mutant::$name => $rule),* }
            }
        }
    };
}

mutants! {
    /// An enqueue for a queue that is gone is not confirmed.
    1 DeadEnqueueUnanswered
    /// What an exchange cannot route is dropped, its alternate exchange ignored.
    2 AlternateIgnored
    /// Changes are called settled when the first shard has applied them.
    2 SettledTooEarly
    /// The use of a frozen queue is answered with 404 at once, declares too.
    3 FrozenNotFound
    /// if-unused is not looked at.
    3 IfUnusedIgnored
    /// if-empty is not looked at.
    3 IfEmptyIgnored
    /// The queue of another connection may be used.
    3 LockIgnored
    /// Later methods do not wait for a method decided elsewhere.
    4 NoBarrier
    /// Methods parked behind one that failed are obeyed.
    4 ParkedObeyed
    /// A cancelled consumer stays in the round.
    5 CancelKeepsConsumer
    /// A new consumer is served before it is answered.
    5 DeliverBeforeConsumeOk
    /// What is given back goes to the tail.
    6 RequeueToTail
    /// Settling up to a number settles everything of the channel.
    6 SettleTooMuch
    /// What was delivered before is not flagged.
    6 FlagLost
    /// close-ok does not wait for the homes.
    7 CloseOkTooEarly
    /// Exclusive queues outlive their connection.
    7 ExclusiveSurvives
    /// Auto-delete queues outlive their last consumer.
    7 AutoDeleteNever
    /// A channel's unacknowledged messages are not given back.
    7 ChannelKeepsUnacked
    /// One message more than the prefetch.
    8 PrefetchPlusOne
    /// A settle gives no room for the next message.
    8 PrefetchNotReturned
    /// Flow credit of other shards does not return.
    8 CreditNotReturned
    /// Messages are delivered without flow credit.
    8 CreditIgnored
    /// A confirm does not wait for homes on other shards.
    9 ConfirmTooEarly
    /// A confirm waits for the first home only.
    9 ConfirmByFirst
    /// Mandatory messages are confirmed before they are returned.
    9 AckBeforeReturn
    /// commit-ok does not wait until homes have the publishes.
    10 CommitOkTooEarly
    /// What is rolled back is published.
    10 RollbackPublishes
    /// Settles of a transaction do not wait for its commit.
    10 TxSettlesAtOnce
    /// Publishes of a transaction do not wait for its commit.
    10 TxPublishesAtOnce
    /// Settles that are rolled back are forgotten together with their deliveries.
    10 RollbackLosesTags
    /// Settles of a transaction are never carried out.
    10 CommitDropsSettles
    /// commit-ok does not wait until homes have the settles.
    10 CommitOkBeforeSettles
    /// Publishers are read however much is under way.
    12 WindowIgnored
    /// A connection that is not read is dropped for its silence.
    12 PausedDropped
    /// The cap on half-received messages stops the oldest too.
    13 OldestStopped
    /// The last piece of a large body is lost.
    14 PieceLost
    /// A message that is away is overtaken by those behind it.
    15 AwayOvertaken
    /// A message goes to the store at once although some in front of it are in memory.
    15 ThroughOvertakes
    /// The first of several messages that go to the store does not arrive there.
    15 SpillSkipsOne
    /// Messages that were fetched are put into their place in the wrong order.
    15 LoadedBackwards
    /// A message that was delivered before is not flagged when the store brings it back.
    15 LoadedAsNew
    /// The store is not told that a message was settled.
    16 SettleNotTold
    /// A message in the queue's memory stays in the part of the log that is to go.
    17 StaysInLog
    /// A purge leaves what is at the tail.
    3 PurgeKeepsOne
    /// The first consumer always comes first.
    8 AlwaysTheFirst
    /// Names are made from randomness that was not injected.
    19 OutsideRandomness
    /// No heartbeats are sent.
    12 NoHeartbeats
    /// One message more than the channel's limit.
    8 LimitPlusOne
    /// A permit that was not used is lost.
    8 PermitNotReturned
    /// A settle gives no room under the channel's limit.
    8 LimitNotReturned
    /// What basic.get brought does not count under the channel's limit.
    8 GetNotCounted
    /// basic.qos is answered before every home limits the channel's consumers.
    8 LimitedTooEarly
    /// Consumers are served in turn whatever their priority.
    8 PriorityIgnored
    /// A confirm does not wait for the disk, only for the queue.
    9 ConfirmByApplied
    /// commit-ok does not wait for the disk.
    10 CommitOkBeforeDurable
    /// Settles that a commit waits for are not owed: it may be told before they are on the disk.
    10 FenceNotOwed
    /// What is decided is told before it is handed out to be made durable.
    2 RecordedTooLate
    /// A batch of the log counts as durable when it is handed out.
    9 ConfirmBeforeSync
    /// A batch of the log does not wait for the segments that its messages were written to.
    9 SegmentNotAwaited
    /// A sync counts although a write in front of it found no room and is to come again.
    17 MissingWriteSynced
    /// The log is written and not synced.
    9 SyncSkipped
    /// A sync that failed counts as done.
    17 FailedSyncIgnored
    /// What is read back is believed without a look at its checksum.
    17 CrcUnchecked
    /// A segment of the log goes although there are live messages in it.
    16 LogGoesTooEarly
    /// Settles of spilled messages go with the segment of the log that tells of them.
    17 SettleForgotten
    /// Recovery deletes old logs before what it made of them is on stable storage.
    16 FolderNotSynced
    /// A change of the topology is answered before it is on stable storage.
    17 MetaSyncSkipped
    /// The folder is not synced after a new file of metadata got its name.
    17 MetaFolderUnsynced
    /// Checksums of metadata are not looked at.
    17 MetaCrcUnchecked
}

#[cfg(feature = "mutants")]
thread_local! {
    static SELECTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Selects the fault of this thread.
#[cfg(feature = "mutants")]
pub fn select(mutant: Option<Mutant>) {
    SELECTED.set(mutant);
}

/// Whether this thread's broker has the fault.
#[cfg(feature = "mutants")]
#[must_use]
pub fn active(mutant: Mutant) -> bool {
    SELECTED.get() == Some(mutant)
}

/// Whether this thread's broker has the fault: never.
#[cfg(not(feature = "mutants"))]
#[must_use]
#[inline(always)]
pub const fn active(_: Mutant) -> bool {
    false
}
