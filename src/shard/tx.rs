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
use model::session::tx::{Commit, HeldSettle, Stage};
use model::session::{Channel, Transaction};
use model::{ChannelId, ConnId, Message, Now, QueueId, Refusal, ShardId};

use super::clients::Then;
use super::conn::OUTPUT_MARK;
use super::home::cost;
use super::machine::Shard;
use super::peers::Awaiting;
use super::publish::Publisher;
use super::questions::Call;

/// While memory is short, all transactions of a shard may hold so many octets together. Beyond it
/// the next publish in one is refused: who is not read cannot commit either, so what such
/// transactions hold would never become less.
const ALARMED_MAX: usize = 32 * 1024 * 1024;

impl Shard {
    /// Obeys a method of class tx.
    pub(super) fn tx_method(&mut self, call: Call<'_>, method: &Method<'_>) -> Result<(), Refusal> {
        match method {
            Method::TxSelect {} => self.tx_select(call),
            Method::TxCommit {} => self.tx_commit(call),
            Method::TxRollback {} => self.tx_rollback(call),
            _ => Err(Refusal::ServersMethod),
        }
    }

    fn tx_select(&mut self, call: Call<'_>) -> Result<(), Refusal> {
        let Some(channel) = self.channel_of(call) else { return Ok(()) };
        if channel.confirms.is_some() {
            return Err(Refusal::ConfirmToTx);
        }
        channel.tx.get_or_insert_default();
        self.clients.send(call.conn, call.number, &Method::TxSelectOk {});
        Ok(())
    }

    fn tx_commit(&mut self, call: Call<'_>) -> Result<(), Refusal> {
        self.transaction(call)?;
        let ticket = self.wait(call, Then::Committed);
        if let Ok(tx) = self.transaction(call) {
            tx.commit = Some(Commit::new(ticket));
        }
        self.advance(call.conn, call.channel);
        Ok(())
    }

    fn tx_rollback(&mut self, call: Call<'_>) -> Result<(), Refusal> {
        let tx = std::mem::take(self.transaction(call)?);
        let mut tx = self.let_go_of(tx);
        if mutant::active(Mutant::RollbackPublishes) {
            self.publish_held(Publisher::held(call.conn, call.number, call.channel), &mut tx, None);
        }
        let deliveries = tx.rollback();
        if let Some(channel) = self.channel_of(call)
            && !mutant::active(Mutant::RollbackLosesTags)
        {
            channel.unacked.restore(deliveries);
            channel.settling = 0;
        }
        self.clients.send(call.conn, call.number, &Method::TxRollbackOk {});
        Ok(())
    }

    /// Holds a publish until its channel commits, or refuses it.
    #[cold]
    pub(super) fn hold(
        &mut self,
        publisher: Publisher,
        message: Message<'_>,
        queues: &[(QueueId, ShardId)],
        now: Now,
    ) {
        if let Err(refusal) = self.hold_publish(publisher, message, queues) {
            self.fail(publisher.id, publisher.number, &refusal.fault((60, 40)), now);
        }
    }

    fn hold_publish(
        &mut self,
        publisher: Publisher,
        message: Message<'_>,
        queues: &[(QueueId, ShardId)],
    ) -> Result<(), Refusal> {
        if queues.is_empty() && !publisher.mandatory {
            return Ok(());
        }
        let channel = self.clients.get(publisher.id).and_then(|c| c.channel(publisher.number));
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
        call: Call<'_>,
        tag: u64,
        multiple: bool,
        how: Settle,
    ) -> Result<(), Refusal> {
        let Some(channel) = self.channel_of(call) else { return Ok(()) };
        let Some(tx) = channel.tx.as_mut() else { return Ok(()) };
        let before = tx.pinned();
        let unacked = &mut channel.unacked;
        if multiple {
            if tag != 0 && unacked.get_mut(tag).is_none() {
                return Err(Refusal::UnknownDeliveryTag(tag));
            }
            let up_to = if tag == 0 { u64::MAX } else { tag };
            while let Some((tag, delivery)) = unacked.pop_up_to(up_to) {
                tx.settle(HeldSettle { tag, delivery, how });
            }
        } else {
            let delivery = unacked.remove(tag).ok_or(Refusal::UnknownDeliveryTag(tag))?;
            tx.settle(HeldSettle { tag, delivery, how });
        }
        channel.settling = tx.settles();
        let pinned = tx.pinned();
        self.held = self.held + pinned - before;
        let max = self.transaction_max;
        if pinned > max { Err(Refusal::TransactionTooLarge { max }) } else { Ok(()) }
    }

    /// Goes on with commits that something has become free, or is applied, for. False if there
    /// were none.
    pub(super) fn go_on_with_commits(&mut self) -> bool {
        let commits = std::mem::take(&mut self.clients.committing);
        let any = !commits.is_empty();
        for (id, channel) in commits {
            self.advance(id, channel);
        }
        any
    }

    /// Takes a commit as far as it can go.
    fn advance(&mut self, id: ConnId, channel: ChannelId) {
        let Some((number, found)) = self.clients.get(id).and_then(|c| c.channel_by_id(channel))
        else {
            return;
        };
        // Taken out, so that queues may write to any channel, this one too.
        let Some(mut tx) = found.tx.take() else { return };
        let Some(mut commit) = tx.commit.take() else {
            found.tx = Some(tx);
            return;
        };
        let before = tx.pinned();
        let done = self.steps(Publisher::held(id, number, channel), &mut tx, &mut commit);
        self.held = self.held + tx.pinned() - before;
        let (ticket, refused) = (commit.ticket, commit.refused);
        tx.commit = (!done).then_some(commit);
        if let Some(channel) = self.clients.get(id).and_then(|conn| conn.channel(number)) {
            channel.tx = Some(tx);
        }
        if !done || self.clients.answered(ticket).is_none() {
            return;
        }
        if refused {
            let fault = Refusal::CommittedInPart.fault(Method::TxCommit {}.id());
            return self.fail_channel(id, number, &fault);
        }
        self.clients.send(id, number, &Method::TxCommitOk {});
    }

    /// The stages of a commit; true when it is done.
    fn steps(&mut self, publisher: Publisher, tx: &mut Transaction, commit: &mut Commit) -> bool {
        while commit.waits == 0 {
            commit.stage = match commit.stage {
                Stage::Publishing => {
                    if !self.publish_held(publisher, tx, Some(commit)) {
                        return false;
                    }
                    self.await_publishes(publisher, commit);
                    Stage::Applying
                }
                Stage::Applying => {
                    self.settle_held(publisher, tx, commit);
                    Stage::Settling
                }
                Stage::Settling => return true,
            };
        }
        false
    }

    /// Sends what is held to its queues, as far as windows and the output have room if it is
    /// for a `commit`; false if something stays.
    fn publish_held(
        &mut self,
        publisher: Publisher,
        tx: &mut Transaction,
        mut commit: Option<&mut Commit>,
    ) -> bool {
        let mut queues = std::mem::take(&mut self.routes);
        let mut all = true;
        while let Some((message, mandatory)) = tx.front(&mut queues) {
            let publisher = Publisher { mandatory: publisher.mandatory && mandatory, ..publisher };
            if commit.is_some() && !self.has_room(publisher, &queues) {
                all = false;
                break;
            }
            self.routed_late(publisher, message, &mut queues);
            let refused = std::mem::take(&mut self.refused);
            if let Some(commit) = commit.as_deref_mut() {
                commit.refused |= refused;
                queues.iter().for_each(|(_, home)| commit.involve(*home, message.persistent()));
            }
            tx.pop();
        }
        queues.clear();
        self.routes = queues;
        all
    }

    /// Whether a commit may send its next message now; else it is told when.
    fn has_room(&mut self, publisher: Publisher, queues: &[(QueueId, ShardId)]) -> bool {
        let Publisher { id, channel, .. } = publisher;
        if queues.len() > 1 && self.copied_enough() {
            self.later.push((id, channel));
            return false;
        }
        for (_, home) in queues {
            let here = *home == self.me;
            let full = if here { self.crowded } else { self.peers.full(*home) };
            if full {
                self.peers.get(*home).commits.push((id, channel));
                return false;
            }
        }
        // What may come back: without queues, or to reply consumers that are gone by now.
        let replies = || queues.iter().any(|(queue, _)| self.is_reply_queue(*queue));
        let returns = publisher.mandatory && (queues.is_empty() || replies());
        let Some(conn) = self.clients.get(id) else { return true };
        if returns && conn.unsent() > OUTPUT_MARK {
            conn.commits.push(channel);
            return false;
        }
        true
    }

    /// The commit goes on when all homes have applied its publishes.
    fn await_publishes(&mut self, publisher: Publisher, commit: &mut Commit) {
        let homes = std::mem::take(&mut commit.homes);
        if mutant::active(Mutant::CommitOkTooEarly) {
            return;
        }
        for (home, persistent) in homes {
            // What is not persistent was applied here at once.
            if home != self.me || persistent {
                let enqueue = self.peers.get(home).sent();
                self.await_home(publisher, (home, enqueue), persistent);
                commit.waits += 1;
            }
        }
    }

    /// Sends the settles; the commit goes on when all homes have applied them.
    fn settle_held(&mut self, publisher: Publisher, tx: &mut Transaction, commit: &mut Commit) {
        let settles = tx.take_settles();
        if mutant::active(Mutant::CommitDropsSettles) {
            return;
        }
        let conn = self.clients.get(publisher.id);
        if let Some(channel) = conn.and_then(|conn| conn.channel(publisher.number)) {
            channel.settling = 0;
        }
        for HeldSettle { delivery, how, .. } in settles {
            commit.involve(delivery.home, true);
            self.settle_at_home(delivery, publisher.channel, false, how);
        }
        self.permit(publisher.id, publisher.number);
        for (home, durable) in std::mem::take(&mut commit.homes) {
            if mutant::active(Mutant::CommitOkBeforeSettles) {
                continue;
            }
            if home == self.me {
                self.fence(home);
            } else {
                self.peers.get(home).out.fence();
            }
            let fence = self.peers.get(home).send(0);
            self.await_home(publisher, (home, fence), durable);
            commit.waits += 1;
        }
    }

    fn await_home(&mut self, to: Publisher, (home, enqueue): (ShardId, u64), durable: bool) {
        let Publisher { id: conn, channel, .. } = to;
        let awaiting = Awaiting { enqueue, conn, channel, publish: 0 };
        let durable = durable && !mutant::active(Mutant::CommitOkBeforeDurable);
        self.peers.get(home).wait(awaiting, durable);
    }

    /// The channel is gone. What it held is forgotten, but a commit that has begun publishes
    /// everything.
    pub(super) fn end_transaction(
        &mut self,
        id: ConnId,
        number: u16,
        channel: ChannelId,
        tx: Transaction,
    ) {
        let mut tx = self.let_go_of(tx);
        if tx.commit.is_some() {
            let publisher = Publisher { mandatory: false, ..Publisher::held(id, number, channel) };
            self.publish_held(publisher, &mut tx, None);
        }
    }

    fn let_go_of(&mut self, tx: Transaction) -> Transaction {
        self.held -= tx.pinned();
        tx
    }

    fn channel_of(&mut self, call: Call<'_>) -> Option<&mut Channel> {
        self.clients.get(call.conn).and_then(|conn| conn.channel(call.number))
    }

    fn transaction(&mut self, call: Call<'_>) -> Result<&mut Transaction, Refusal> {
        let tx = self.channel_of(call).and_then(|channel| channel.tx.as_deref_mut());
        tx.ok_or(Refusal::NotTransactional)
    }
}

impl Publisher {
    /// Who publishes what was held; each publish has its own mandatory flag.
    fn held(id: ConnId, number: u16, channel: ChannelId) -> Self {
        Self { id, number, channel, confirms: false, tx: true, mandatory: true }
    }
}
