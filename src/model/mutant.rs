//! Mutants: deliberate faults that tests must catch, which shows that the tests check something.
//!
//! Without the feature `mutants`, [`active`] is always false, so the branches are not compiled.
//! With it, each thread may select one mutant.

macro_rules! mutants {
    ($($(#[$doc:meta])* $rule:literal $name:ident)*) => {
        /// A deliberate fault; each breaks a rule of docs/rules.md.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant { $($(#[$doc])* $name),* }

        impl Mutant {
            /// All mutants.
            pub const ALL: &[Mutant] = &[$(Mutant::$name),*];

            /// Mutants of the store, caught by its own simulation.
            pub const STORE: &[Mutant] = &[
                Mutant::ConfirmBeforeSync,
                Mutant::SyncSkipped,
                Mutant::CrcUnchecked,
                Mutant::LogGoesTooEarly,
                Mutant::SettleForgotten,
                Mutant::FolderNotSynced,
                Mutant::SegmentNotAwaited,
                Mutant::MissingWriteSynced,
                Mutant::ExpiryLost,
            ];

            /// Mutants of rights, caught by the tests of restricted users and of the coordinator.
            pub const ACCESS: &[Mutant] = &[
                Mutant::RightsIgnored,
                Mutant::MethodsUnchecked,
                Mutant::PublishUnchecked,
                Mutant::TopicsUnchecked,
                Mutant::RightsKept,
                Mutant::DeletedUserStays,
                Mutant::PolicyAnsweredEarly,
            ];

            /// Mutants of limits of vhosts and users, caught by the tests of these.
            pub const LIMITS: &[Mutant] = &[
                Mutant::OwnLimitIgnored,
                Mutant::VhostQueuesIgnored,
                Mutant::OpenChannelsUntold,
            ];

            /// Mutants of policies for exchanges, caught by the tests of these.
            pub const POLICIES: &[Mutant] = &[Mutant::AlternateKept];

            /// Mutants of priorities, caught by the random run of a queue with priorities.
            pub const LANES: &[Mutant] =
                &[Mutant::LaneIgnored, Mutant::LaneUnordered, Mutant::LaneOvertaken];

            /// Mutants of exchange types beyond AMQP's, caught by tests of these types.
            pub const EXCHANGES: &[Mutant] = &[
                Mutant::HashByPlace,
                Mutant::ChanceRemembered,
                Mutant::NoStoreIgnored,
                Mutant::ReplayUnsettled,
                Mutant::RelayConfirmedEarly,
                Mutant::DuplicatePasses,
                Mutant::SeenForEver,
                Mutant::HeldValueIgnored,
                Mutant::HeldValueStays,
            ];

            /// Mutants of what counts as memory, caught by the tests of ledgers.
            pub const MEMORY: &[Mutant] = &[
                Mutant::UnackedUncounted,
                Mutant::LedgerKept,
                Mutant::BodiesUncounted,
                Mutant::OutputUncounted,
                Mutant::TagsUncounted,
                Mutant::ConsumersUncounted,
                Mutant::QuestionsUncounted,
                Mutant::InputUncounted,
                Mutant::TransactionsUncounted,
                Mutant::PartialUncounted,
                Mutant::ArgumentsUncounted,
                Mutant::CopiesUncounted,
                Mutant::ConnectionKept,
                Mutant::GetsUnlimited,
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
    /// Every right counts as given.
    24 RightsIgnored
    /// Rights to declare, bind and consume are not looked at.
    24 MethodsUnchecked
    /// Rights to publish are not looked at.
    24 PublishUnchecked
    /// Rights to routing keys are not looked at.
    24 TopicsUnchecked
    /// Rights that changed while a client is connected change nothing for it.
    24 RightsKept
    /// Connections of a deleted user stay.
    24 DeletedUserStays
    /// A policy is answered before every queue obeys it.
    24 PolicyAnsweredEarly
    /// The last place that a vhost's or a user's limit leaves is given away again and again.
    26 OwnLimitIgnored
    /// A vhost takes more queues than it may.
    26 VhostQueuesIgnored
    /// When the channels of a user begin to count, those that are open do not.
    26 OpenChannelsUntold
    /// An enqueue for a deleted queue is not confirmed.
    1 DeadEnqueueUnanswered
    /// Alternate exchanges are ignored.
    2 AlternateIgnored
    /// An exchange keeps the alternate exchange of a policy that is gone.
    2 AlternateKept
    /// A version counts as settled when the first shard has applied it.
    2 SettledTooEarly
    /// Requests for a frozen queue get 404 at once, declares too.
    3 FrozenNotFound
    /// if-unused is ignored.
    3 IfUnusedIgnored
    /// if-empty is ignored.
    3 IfEmptyIgnored
    /// Exclusive queues of other connections may be used.
    3 LockIgnored
    /// Later methods do not wait for a method decided elsewhere.
    4 NoBarrier
    /// Methods parked behind a failed one are executed.
    4 ParkedObeyed
    /// A cancelled consumer still gets messages.
    5 CancelKeepsConsumer
    /// A new consumer gets messages before consume-ok.
    5 DeliverBeforeConsumeOk
    /// Requeued messages go to the tail.
    6 RequeueToTail
    /// A multiple settle settles all deliveries of the channel.
    6 SettleTooMuch
    /// Requeued messages are not flagged redelivered.
    6 FlagLost
    /// close-ok does not wait for the home shards.
    7 CloseOkTooEarly
    /// Exclusive queues outlive their connection.
    7 ExclusiveSurvives
    /// Auto-delete queues outlive their last consumer.
    7 AutoDeleteNever
    /// The unacknowledged messages of a closed channel are not requeued.
    7 ChannelKeepsUnacked
    /// A consumer gets one message more than its prefetch.
    8 PrefetchPlusOne
    /// A settle frees no prefetch.
    8 PrefetchNotReturned
    /// Flow credit of other shards does not return.
    8 CreditNotReturned
    /// Messages are delivered without flow credit.
    8 CreditIgnored
    /// A confirm does not wait for other home shards.
    9 ConfirmTooEarly
    /// A confirm waits only for the first home shard.
    9 ConfirmByFirst
    /// The deadline of a queue is forgotten.
    9 QueueTimerLost
    /// An enqueue that a queue holds is confirmed by the watermark.
    9 HeldConfirmed
    /// Enqueues that a queue holds are applied before their time.
    9 HeldTooShort
    /// An enqueue that a queue held is listed before its record is durable.
    9 ListedTooEarly
    /// Mandatory messages are confirmed before they are returned.
    9 AckBeforeReturn
    /// commit-ok does not wait for the publishes.
    10 CommitOkTooEarly
    /// Publishes that are rolled back are sent.
    10 RollbackPublishes
    /// Settles of a transaction do not wait for its commit.
    10 TxSettlesAtOnce
    /// Publishes of a transaction do not wait for its commit.
    10 TxPublishesAtOnce
    /// A rollback drops the deliveries of held settles.
    10 RollbackLosesTags
    /// A commit drops its settles.
    10 CommitDropsSettles
    /// commit-ok does not wait for the settles.
    10 CommitOkBeforeSettles
    /// A dead letter that comes to a queue in a circle without rejections enters it.
    11 CycleUndetected
    /// A second death of a message in one queue for one reason is not counted.
    11 DeathNotCounted
    /// A later death replaces the headers that tell of the first one.
    11 FirstDeathOverwritten
    /// A dead letter keeps its expiration.
    11 DeadLetterExpires
    /// The dead-letter routing key of a queue is ignored.
    11 DeadLetterKeepsKeys
    /// A dead message is settled before its letter has arrived.
    11 BuriedTooEarly
    /// A dead message is settled before its letter is durable.
    11 BuriedBeforeDurable
    /// A dead letter that meets a closed window is dropped.
    11 DeadLetterNotKept
    /// A dead message is never settled.
    11 NeverBuried
    /// Windows are ignored: publishers are always read.
    12 WindowIgnored
    /// A paused connection is dropped for its silence.
    12 PausedDropped
    /// The bound of partial messages stops the oldest too.
    13 OldestStopped
    /// The last piece of a large body is lost.
    14 PieceLost
    /// A spilled message is overtaken by those behind it.
    15 SpilledOvertaken
    /// A message bypasses the log although resident messages are ahead of it.
    15 BypassOvertakes
    /// The first of several spilled messages is lost.
    15 SpillSkipsOne
    /// Fetched messages are put back in the wrong order.
    15 LoadedBackwards
    /// A fetched message loses its flag redelivered.
    15 LoadedAsNew
    /// The store is not told that a message was settled.
    16 SettleNotTold
    /// Compaction leaves a resident message in the segment that is deleted.
    17 StaysInLog
    /// A purge leaves the last message.
    3 PurgeKeepsOne
    /// The first consumer always comes first.
    8 AlwaysTheFirst
    /// Names come from randomness that was not injected.
    19 OutsideRandomness
    /// The order in which a hash map has channels decides the order of records in the log.
    19 HashOrderLogged
    /// A queue does what takes long in one turn.
    23 SettlesUncut
    /// A queue delivers all it can in one turn.
    23 DispatchUncut
    /// All queues of a channel that is gone are told in one turn.
    23 WalksUncut
    /// The tags of a multiple settle are taken off their channel in one turn.
    23 TagsUncut
    /// All bindings of what is deleted go in one turn.
    23 BindingsUncut
    /// All exclusive queues of a connection go in one turn.
    23 ExclusiveUncut
    /// All channels of a connection are released in one turn.
    23 TeardownUncut
    /// A route that has paused goes on at patterns that took the place of others.
    23 ReusedNodeVisited
    /// A publish is routed by all its keys in one turn.
    23 RouteUncut
    /// A publish is copied to all its queues in one turn.
    23 CopiesUncut
    /// A commit publishes everything in one turn.
    23 CommitUncut
    /// A deleted queue is dropped in one turn.
    23 DropsUncut
    /// A message is sent to its queues, however few at once, in one turn.
    23 SendingUncut
    /// Settles that are done one by one are done in one turn.
    23 SinglesUncut
    /// Publishes of a transaction that is rolled back are dropped in one turn.
    23 RollbackUncut
    /// What a transaction of a client that is gone has committed is published in one turn.
    23 EndingUncut
    /// All queues whose time has come are ticked in one turn.
    23 TicksUncut
    /// All requests that waited for a queue are answered in one turn.
    23 AnswersUncut
    /// What earlier turns put off has as much as a turn's own work.
    23 ReserveDoubled
    /// All dead letters leave in one turn.
    23 LettersUncut
    /// Deliveries that are not settled take no memory at their queue.
    29 UnackedUncounted
    /// What they take is not given back when many are settled at once.
    29 LedgerKept
    /// Large bodies take no memory.
    29 BodiesUncounted
    /// What waits for a socket takes no memory.
    29 OutputUncounted
    /// The tags of deliveries take no memory at their channel.
    29 TagsUncounted
    /// Consumers take no memory.
    29 ConsumersUncounted
    /// Methods that wait for an answer take no memory.
    29 QuestionsUncounted
    /// Input that is not looked at yet takes no memory.
    29 InputUncounted
    /// Transactions take no memory.
    29 TransactionsUncounted
    /// Messages that have not arrived as a whole take no memory.
    29 PartialUncounted
    /// What is declared takes no memory on a shard.
    29 ArgumentsUncounted
    /// What is declared takes no memory at the coordinator.
    29 CopiesUncounted
    /// The memory of a connection that is gone is not given back.
    29 ConnectionKept
    /// A connection may wait for any number of messages that it gets.
    29 GetsUnlimited
    /// A client is given up before what it sent is read.
    12 LateJudged
    /// No heartbeats are sent.
    12 NoHeartbeats
    /// A connection that takes nothing of a large message keeps all others from theirs.
    8 StuckBlocksAll
    /// Consumers that wait for room for a large message are not told that there is some.
    8 LargeTurnForgotten
    /// A channel gets one message more than its limit.
    8 LimitPlusOne
    /// Unused permits are lost.
    8 PermitNotReturned
    /// A settle frees nothing of the channel's limit.
    8 LimitNotReturned
    /// Deliveries of basic.get do not count against the channel's limit.
    8 GetNotCounted
    /// basic.qos is answered before every home shard knows the limit.
    8 LimitedTooEarly
    /// Priorities of consumers are ignored.
    8 PriorityIgnored
    /// A queue with a single active consumer serves two.
    8 SecondActive
    /// The consumer that registered last takes the place of the active one.
    8 FailOverToNewest
    /// Nobody takes the place of an active consumer that is gone.
    8 ActiveOutlived
    /// A consumer that waits to become the active one survives its cancel.
    5 PassiveKept
    /// Deliveries may be unacknowledged for ever.
    6 TimeoutIgnored
    /// A delivery starts the time for all unacknowledged ones of its channel anew.
    6 TimeoutOfNewest
    /// The time for an acknowledgement is half as long.
    6 TimeoutTooEarly
    /// A confirm does not wait for the disk, only for the queue.
    9 ConfirmByApplied
    /// commit-ok does not wait for the disk.
    10 CommitOkBeforeDurable
    /// The settles of a commit do not request a flush: commit-ok may come before they are durable.
    10 FenceNotFlushed
    /// Decisions are sent before their facts are handed out.
    2 RecordedTooLate
    /// A batch of the log counts as durable once it is handed out.
    9 ConfirmBeforeSync
    /// A batch of the log does not wait for the syncs of messages that bypassed it.
    9 SegmentNotAwaited
    /// A sync counts although an earlier write failed and will be repeated.
    17 MissingWriteSynced
    /// The log is written and not synced.
    9 SyncSkipped
    /// A sync that failed counts as done.
    17 FailedSyncIgnored
    /// Checksums of chunks are not checked.
    17 CrcUnchecked
    /// A segment of the log is deleted with live messages in it.
    16 LogGoesTooEarly
    /// Settles of spilled messages are lost with their segment of the log.
    17 SettleForgotten
    /// Recovery deletes old logs before its own segments are stable.
    16 FolderNotSynced
    /// The metadata log is written and not synced.
    17 MetaSyncSkipped
    /// The folder is not synced after a new metadata log got its name.
    17 MetaFolderUnsynced
    /// Checksums of the metadata log are not checked.
    17 MetaCrcUnchecked
    /// A list in chunks leaves out what comes behind a chunk.
    20 ChunkSkipsOne
    /// A chunk of a list may have any number of rows.
    20 ChunkUnbounded
    /// A list of queues ends where the last queue of its last chunk was deleted.
    20 WalkEndsWithQueue
    /// A purge from outside is not answered if its queue is being deleted.
    20 PurgeUnanswered
    /// A connection that an operator closes is not told why.
    20 ClosedWithoutReason
    /// Messages that have expired are delivered.
    21 ExpiredDelivered
    /// Of the two times that a message may live, the higher one counts.
    21 HigherTtlWins
    /// A message that may not live at all is dropped although a consumer waits.
    21 ZeroTtlDropped
    /// A message that was spilled and loaded does not expire any more.
    21 LoadedForEver
    /// A restart forgets when messages of the log expire.
    21 ExpiryLost
    /// A queue with x-expires is never deleted.
    21 UnusedQueueStays
    /// basic.get does not count as a use of the queue.
    21 GetIsNoUse
    /// A queue that refuses what is too much takes it.
    22 LimitIgnored
    /// At its limit a queue drops the last message instead of the first.
    22 DropTail
    /// Bytes of unacknowledged messages count against the limit of a queue.
    22 UnackedBytesCount
    /// With spilled messages, a queue holds one more than its limit.
    22 SpilledLimitPlusOne
    /// A hash exchange counts its destinations, so that others move when one joins or leaves.
    26 HashByPlace
    /// A channel remembers where chance led its last message.
    26 ChanceRemembered
    /// A history keeps messages that say that they are not to be kept.
    27 NoStoreIgnored
    /// A binding is settled before the queue has got the exchange's history.
    27 ReplayUnsettled
    /// A value that was seen counts as new.
    27 DuplicatePasses
    /// A queue takes a message although it has one with the same value.
    27 HeldValueIgnored
    /// The value of a message that has left a queue keeps others out.
    27 HeldValueStays
    /// Values that were seen are not forgotten in time.
    27 SeenForEver
    /// A message that was relayed is confirmed before it is in its queues.
    27 RelayConfirmedEarly
    /// A queue with priorities ignores those of its messages.
    25 LaneIgnored
    /// Messages of one priority that are put back lose their order.
    25 LaneUnordered
    /// A message in memory overtakes spilled ones of a higher priority.
    25 LaneOvertaken
}

#[cfg(feature = "mutants")]
thread_local! {
    static SELECTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Selects the mutant of this thread.
#[cfg(feature = "mutants")]
pub fn select(mutant: Option<Mutant>) {
    SELECTED.set(mutant);
}

/// Whether this thread's broker has the mutant.
#[cfg(feature = "mutants")]
#[must_use]
pub fn active(mutant: Mutant) -> bool {
    SELECTED.get() == Some(mutant)
}

/// Whether this thread's broker has the mutant: never.
#[cfg(not(feature = "mutants"))]
#[must_use]
#[inline(always)]
pub const fn active(_: Mutant) -> bool {
    false
}
