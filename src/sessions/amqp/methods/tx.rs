//! tx.select, tx.commit, tx.rollback: publishes and settles of a channel wait for its commit.
//!
//! ```text
//!   publish, settle --> held         commit:  publishes --> homes have applied them
//!                        |                                      |
//!      rollback, close   v                    settles   <-------+
//!   publishes dropped, deliveries as before      |
//!                                                +--> homes have applied them --> commit-ok
//! ```
//!
//! Homes answer with their watermarks; behind settles a fence is counted like an enqueue. A commit
//! sends no more than the windows of the homes take; the rest stays held. A settle that is held
//! frees no prefetch: the home does not know of it.

use amqp::Method;
use model::mutant::{self, Mutant};
use model::queue::Settle;
use model::session::tx::{Commit, HeldSettles, SETTLES_MAX, Stage};
use model::session::{DeliveryRun, Transaction};
use model::{ChannelId, ConnId, Message, QueueId, Refusal, ShardId};

use crate::mesh::enqueue::cost;
use crate::sessions::amqp::pending::MethodStep;
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::{BrokerAccess, QueueAt};
use crate::sessions::connections::{ChannelRef, Publisher, Unfinished};
use crate::sessions::output::OUTPUT_MARK;
use crate::sessions::routing::pieces::copies_now;
use crate::sessions::state::Sessions;

/// While memory is short, all transactions of a shard may hold so many bytes together. Beyond it
/// the next publish in one is refused: who is not read cannot commit either, so what such
/// transactions hold would never become less.
const ALARMED_MAX: usize = 32 * 1024 * 1024;

impl Sessions {
    /// Obeys a method of class tx.
    pub(super) fn tx_method(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        match method {
            Method::TxSelect {} => self.tx_select(call),
            Method::TxCommit {} => self.tx_commit(call, broker),
            Method::TxRollback {} => self.tx_rollback(call, broker),
            _ => Err(Refusal::ServersMethod),
        }
    }

    fn tx_select(&mut self, call: MethodCall<'_>) -> Result<(), Refusal> {
        let Some(channel) = self.connections.present(call.at) else { return Ok(()) };
        if channel.confirms.is_some() {
            return Err(Refusal::ConfirmToTx);
        }
        channel.tx.get_or_insert_default();
        self.connections.reply(call.at, &Method::TxSelectOk {});
        Ok(())
    }

    fn tx_commit(
        &mut self,
        call: MethodCall<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        self.transaction(call)?;
        let ticket = self.wait(call.at, call.then(MethodStep::Committed));
        if let Ok(tx) = self.transaction(call) {
            tx.commit = Some(Commit::new(ticket));
        }
        self.advance(call.at.conn, call.at.channel, broker);
        Ok(())
    }

    fn tx_rollback(
        &mut self,
        call: MethodCall<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let mut tx = std::mem::take(self.transaction(call)?);
        let deliveries = self.take_back(&mut tx);
        if let Some(channel) = self.connections.present(call.at)
            && !mutant::active(Mutant::RollbackLosesTags)
        {
            channel.unacked.restore(deliveries);
            channel.settling = 0;
        }
        let publishes = mutant::active(Mutant::RollbackPublishes).then(|| held(call.at));
        self.end_later(tx, publishes, broker);
        self.connections.reply(call.at, &Method::TxRollbackOk {});
        Ok(())
    }

    fn take_back(&mut self, tx: &mut Transaction) -> Vec<DeliveryRun> {
        self.held -= tx.settles_pinned();
        tx.take_back()
    }

    /// Holds a publish until its channel commits, or refuses it.
    #[cold]
    pub(in crate::sessions) fn hold(
        &mut self,
        publisher: Publisher,
        message: Message<'_>,
        queues: &[QueueAt],
        broker: &mut impl BrokerAccess,
    ) {
        if let Err(refusal) = self.hold_publish(publisher, message, queues) {
            let fault = refusal.fault((60, 40));
            self.fail(publisher.conn, publisher.number, &fault, broker);
        }
    }

    fn hold_publish(
        &mut self,
        publisher: Publisher,
        message: Message<'_>,
        queues: &[QueueAt],
    ) -> Result<(), Refusal> {
        if queues.is_empty() && !publisher.mandatory {
            // It is held by nobody, so it is counted at once.
            self.count_dropped(publisher, message);
            return Ok(());
        }
        let channel = self.connections.channel(publisher.conn, publisher.number);
        let Some(tx) = channel.and_then(|channel| channel.tx.as_mut()) else {
            return Ok(());
        };
        let before = tx.pinned();
        let max = self.transaction_max;
        if !tx.is_empty() && before as u64 + cost(message) > max as u64 {
            return Err(Refusal::TransactionTooLarge { max });
        }
        if self.alarms.memory && self.held > ALARMED_MAX {
            return Err(Refusal::TransactionTooLarge { max: ALARMED_MAX });
        }
        tx.publish(message, queues, publisher.mandatory);
        self.held = self.held + tx.pinned() - before;
        Ok(())
    }

    /// Holds settles until their channel commits.
    pub(super) fn hold_settles(
        &mut self,
        call: MethodCall<'_>,
        tag: u64,
        multiple: bool,
        how: Settle,
    ) -> Result<(), Refusal> {
        let Some(channel) = self.connections.present(call.at) else { return Ok(()) };
        let Some(tx) = channel.tx.as_mut() else { return Ok(()) };
        let before = tx.pinned();
        let unacked = &mut channel.unacked;
        if multiple {
            if tag != 0 && !unacked.contains(tag) {
                return Err(Refusal::UnknownDeliveryTag(tag));
            }
            let up_to = if tag == 0 { u64::MAX } else { tag };
            while let Some(run) = unacked.pop_run_up_to(up_to, usize::MAX) {
                channel.settling += run.len();
                tx.settle(HeldSettles { run, how });
            }
        } else {
            let delivery = unacked.remove(tag).ok_or(Refusal::UnknownDeliveryTag(tag))?;
            channel.settling += 1;
            tx.settle(HeldSettles { run: DeliveryRun::new(tag, delivery), how });
        }
        let (pinned, settles) = (tx.pinned(), tx.settles_pinned());
        self.held = self.held + pinned - before;
        for (bytes, max) in [(settles, SETTLES_MAX), (pinned, self.transaction_max)] {
            if bytes > max {
                return Err(Refusal::TransactionTooLarge { max });
            }
        }
        Ok(())
    }

    /// Goes on with commits that something has become free, or is applied, for. False if there
    /// were none.
    pub(crate) fn go_on_with_commits(&mut self, broker: &mut impl BrokerAccess) -> bool {
        let commits = self.connections.take_committing();
        let any = !commits.is_empty();
        for (id, channel) in commits {
            self.advance(id, channel, broker);
        }
        any
    }

    /// Takes a commit as far as it can go.
    fn advance(&mut self, id: ConnId, channel: ChannelId, broker: &mut impl BrokerAccess) {
        let Some((number, found)) = self.connections.channel_by_id(id, channel) else { return };
        let at = ChannelRef { conn: id, number, channel };
        // Taken out, so that queues may write to any channel, this one too.
        let Some(mut tx) = found.tx.take() else { return };
        let Some(mut commit) = tx.commit.take() else {
            found.tx = Some(tx);
            return;
        };
        let before = tx.pinned();
        let done = self.steps(held(at), &mut tx, &mut commit, broker);
        self.held = self.held + tx.pinned() - before;
        let (ticket, refused) = (commit.ticket, commit.refused);
        tx.commit = (!done).then_some(commit);
        if let Some(channel) = self.connections.present(at) {
            channel.tx = Some(tx);
        }
        if !done || self.connections.answered(ticket).is_none() {
            return;
        }
        if refused {
            let fault = Refusal::CommittedInPart.fault(Method::TxCommit {}.id());
            return self.fail_channel(id, number, &fault, broker);
        }
        self.connections.reply(at, &Method::TxCommitOk {});
    }

    /// The stages of a commit; true when it is done.
    fn steps(
        &mut self,
        publisher: Publisher,
        tx: &mut Transaction,
        commit: &mut Commit,
        broker: &mut impl BrokerAccess,
    ) -> bool {
        while commit.waits == 0 {
            commit.stage = match commit.stage {
                Stage::Publishing => {
                    if !self.publish_held(publisher, tx, Some(commit), broker) {
                        return false;
                    }
                    await_publishes(publisher, commit, broker);
                    Stage::Applying
                }
                Stage::Applying => {
                    if !self.settle_held(publisher, tx, commit, broker) {
                        return false;
                    }
                    Stage::Settling
                }
                Stage::Settling => return true,
            };
        }
        false
    }

    /// Sends what is held to its queues, as far as the turn's work allows; if it is for a `commit`,
    /// also windows and the output. False if something stays.
    fn publish_held(
        &mut self,
        publisher: Publisher,
        tx: &mut Transaction,
        mut commit: Option<&mut Commit>,
        broker: &mut impl BrokerAccess,
    ) -> bool {
        let mut queues = std::mem::take(&mut self.routes);
        let mut all = true;
        loop {
            tx.count_front(&self.bodies);
            let Some((message, mandatory)) = tx.front(&mut queues) else { break };
            let publisher = Publisher { mandatory: publisher.mandatory && mandatory, ..publisher };
            let goes_on = match commit {
                Some(_) => self.has_room(publisher, &queues, broker),
                None => !broker.work().is_spent() || mutant::active(Mutant::EndingUncut),
            };
            if !goes_on {
                all = false;
                break;
            }
            // One that is copied often goes in pieces.
            if let Some((QueueId::RELAY, home)) = queues.first().copied() {
                self.publish_relayed(publisher, (home, message), commit.as_deref_mut(), broker);
                tx.pop();
                continue;
            }
            if !tx.front_is_begun() {
                self.count_held(publisher, message, queues.len());
            }
            let (most, units) = copies_now(message, broker);
            queues.truncate(most);
            broker.work().spend(units.saturating_mul(queues.len().max(1) as u32));
            let refused = self.send_held(publisher, message, &mut queues, broker);
            if let Some(commit) = commit.as_deref_mut() {
                commit.refused |= refused;
                queues.iter().for_each(|(_, home)| commit.involve(*home, message.persistent()));
            }
            if tx.sent(queues.len()) {
                tx.pop();
            }
        }
        queues.clear();
        self.routes = queues;
        all
    }

    /// Sends a message that is held to the stateful exchanges that it comes to.
    fn publish_relayed(
        &mut self,
        publisher: Publisher,
        held: (ShardId, Message<'_>),
        commit: Option<&mut Commit>,
        broker: &mut impl BrokerAccess,
    ) {
        let mut found = self.relay_held(publisher, held, broker);
        let here = !found.iter().any(|(queue, _)| *queue == QueueId::RELAY);
        if here {
            self.count_held(publisher, held.1, found.len());
        }
        let refused = here && self.send_held(publisher, held.1, &mut found, broker);
        if let Some(commit) = commit {
            commit.refused |= refused;
            found.iter().for_each(|(_, home)| commit.involve(*home, held.1.persistent()));
        }
    }

    /// True if a commit may send its next message now; else it is told when.
    fn has_room(
        &mut self,
        publisher: Publisher,
        queues: &[QueueAt],
        broker: &mut impl BrokerAccess,
    ) -> bool {
        if !broker.has_room(publisher, queues) {
            return false;
        }
        // What may come back: without queues, or to reply consumers that are gone by now.
        let replies = || queues.iter().any(|(queue, _)| queue.is_direct_reply());
        let returns = publisher.mandatory && (queues.is_empty() || replies());
        let Some(conn) = self.connections.get(publisher.conn) else { return true };
        if returns && conn.output.unsent() > OUTPUT_MARK {
            conn.output.hold_commit(publisher.channel);
            return false;
        }
        true
    }

    /// Sends the settles, as many as the turn's work allows; false if there are more. The commit
    /// goes on when all homes have applied them.
    fn settle_held(
        &mut self,
        publisher: Publisher,
        tx: &mut Transaction,
        commit: &mut Commit,
        broker: &mut impl BrokerAccess,
    ) -> bool {
        let mut settles = commit.settles.take().unwrap_or_else(|| tx.take_settles().into_iter());
        if mutant::active(Mutant::CommitDropsSettles) {
            return true;
        }
        while let Some(HeldSettles { run, how }) = settles.as_mut_slice().first_mut() {
            if !broker.has_room(publisher, &[]) {
                commit.settles = Some(settles);
                return false;
            }
            let (delivery, how) = (run.pop_first(), *how);
            let Some(delivery) = delivery else {
                settles.next();
                continue;
            };
            broker.work().spend(1);
            if let Some(channel) = self.connections.channel(publisher.conn, publisher.number) {
                channel.settling -= 1;
                channel.count_acks(how, 1);
            }
            commit.involve(delivery.home, true);
            self.settle_at_home(delivery, publisher.channel, false, how, broker);
        }
        self.await_settles(publisher, commit, broker);
        true
    }

    /// All settles of a commit are sent.
    fn await_settles(
        &mut self,
        publisher: Publisher,
        commit: &mut Commit,
        broker: &mut impl BrokerAccess,
    ) {
        self.permit(publisher.conn, publisher.number, broker);
        for (home, durable) in std::mem::take(&mut commit.homes) {
            if mutant::active(Mutant::CommitOkBeforeSettles) {
                continue;
            }
            broker.await_settled(publisher, home, durable);
            commit.waits += 1;
        }
    }

    /// The channel is gone. What it held is forgotten, but a commit that has begun publishes
    /// everything.
    pub(in crate::sessions) fn end_transaction(
        &mut self,
        at: ChannelRef,
        mut tx: Transaction,
        broker: &mut impl BrokerAccess,
    ) {
        self.take_back(&mut tx);
        let publisher = Publisher { mandatory: false, ..held(at) };
        let publishes = tx.commit.take().map(|_| publisher);
        self.end_later(tx, publishes, broker);
    }

    /// The publishes of a transaction that is over are dropped, or sent: in pieces, since there may
    /// be millions.
    fn end_later(
        &mut self,
        tx: Transaction,
        publisher: Option<Publisher>,
        broker: &mut impl BrokerAccess,
    ) {
        if tx.publishes() > 0 {
            self.ending.push_back((tx, publisher));
            self.go_on_ending(broker);
        } else {
            self.held -= tx.pinned();
        }
    }

    /// Goes on with transactions that are over.
    pub(in crate::sessions) fn go_on_ending(&mut self, broker: &mut impl BrokerAccess) {
        while let Some((mut tx, publisher)) = self.ending.pop_front() {
            let before = tx.pinned();
            let done = match publisher {
                Some(publisher) => self.publish_held(publisher, &mut tx, None, broker),
                None => drop_held(&mut tx, broker),
            };
            self.held = self.held + tx.pinned() - before;
            if !done {
                self.ending.push_front((tx, publisher));
                return self.connections.go_on_later(Unfinished::Transactions);
            }
        }
    }

    fn transaction(&mut self, call: MethodCall<'_>) -> Result<&mut Transaction, Refusal> {
        let tx = self.connections.present(call.at).and_then(|channel| channel.tx.as_deref_mut());
        tx.ok_or(Refusal::NotTransactional)
    }
}

/// Drops publishes, as many as the turn's work allows; false if there are more.
fn drop_held(tx: &mut Transaction, broker: &mut impl BrokerAccess) -> bool {
    while tx.publishes() > 0 {
        if broker.work().is_spent() && !mutant::active(Mutant::RollbackUncut) {
            return false;
        }
        broker.work().spend(1);
        tx.pop();
    }
    true
}

/// The commit goes on when all homes have applied its publishes.
fn await_publishes(publisher: Publisher, commit: &mut Commit, broker: &mut impl BrokerAccess) {
    let homes = std::mem::take(&mut commit.homes);
    if mutant::active(Mutant::CommitOkTooEarly) {
        return;
    }
    for (home, persistent) in homes {
        commit.waits += usize::from(broker.await_published(publisher, home, persistent));
    }
}

/// Who publishes what was held; each publish has its own mandatory flag.
fn held(at: ChannelRef) -> Publisher {
    let ChannelRef { conn, number, channel } = at;
    Publisher { conn, number, channel, confirms: false, tx: true, mandatory: true }
}
