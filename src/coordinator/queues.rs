//! The life cycle of a queue: declared, created, frozen, deleted.

use std::collections::{BTreeMap, VecDeque};

use model::mutant::{self, Mutant};
use model::refusal::excess::Excess;
use model::topology::Change;
use model::topology::spec::Name;
use model::{ConnId, QueueId, QueueSpec, Refusal, Resource};

use crate::coordinator::admin::policies::Policies;
use crate::coordinator::admin::windows::{GoingVhost, Telling, WINDOW};
use crate::coordinator::decisions::Decisions;
use crate::coordinator::directory::{Directory, QueueCommand, QueueDelete, QueueStage};
use crate::coordinator::limits::NodeLimits;
use crate::coordinator::removals::Removals;
use crate::coordinator::versions::Requester;
use crate::mesh::control::{Answer, Control};
use crate::store::meta::Fact;

/// Creates and deletes queues.
#[derive(Debug, Hash)]
pub(super) struct QueueLifeCycle {
    pub directory: Directory,
    pub limits: NodeLimits,
    /// The most queues of a vhost, by vhost.
    pub vhost_limits: BTreeMap<Name, u64>,
    pub policies: Policies,
    /// Vhosts that are gone, but for their queues.
    pub going: BTreeMap<Name, GoingVhost>,
    /// Exclusive queues of connections that are gone, which were not told yet.
    pub leaving: BTreeMap<ConnId, VecDeque<QueueId>>,
    /// Queues that are to be told what is in force for them now.
    pub telling: Telling,
    /// Exchanges and queues that go with their bindings.
    pub removals: Removals,
}

impl QueueLifeCycle {
    /// Executes a command and answers it, unless it has to wait for another stage of its queue.
    pub fn execute(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        command: QueueCommand,
    ) {
        let answer = match command {
            QueueCommand::Declare(vhost, spec) => self.declare(decisions, requester, vhost, spec),
            QueueCommand::Delete(delete) => self.delete(decisions, requester, delete),
        };
        if let Some(answer) = answer {
            decisions.answer(requester, answer);
        }
    }

    fn declare(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        vhost: Name,
        spec: QueueSpec,
    ) -> Option<Answer> {
        if let Err(answer) = decisions.vhost(&vhost) {
            return Some(answer);
        }
        let queue = match self.directory.by_name(&vhost, &spec.name) {
            Some(queue) if self.directory.get(queue)?.stage == QueueStage::Ready => {
                return Some(Answer::Done);
            }
            Some(queue) => queue,
            None => match self.create(decisions, requester, &vhost, &spec) {
                Ok(queue) => queue,
                Err(refusal) => return Some(refusal.into()),
            },
        };
        // It is executed again when the queue exists, or is gone.
        self.directory.park(queue, requester, QueueCommand::Declare(vhost, spec));
        None
    }

    fn create(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        vhost: &Name,
        spec: &QueueSpec,
    ) -> Result<QueueId, Refusal> {
        if spec.owner.is_some_and(|owner| self.directory.is_gone(owner)) {
            // The connection went while its declare was waiting; nobody reads the answer.
            return Err(Refusal::NotFound(Resource::queue(vhost, &spec.name)));
        }
        self.check_vhost(vhost, &spec.name)?;
        self.limits.check_queues(self.directory.len(), &spec.name)?;
        self.limits.check_topology(decisions.topology())?;
        let created = self.directory.create(vhost.clone(), spec.clone(), requester.shard);
        // Ids of queues that are not durable are reserved too, since messages that such a queue
        // spilled may still be on the disk after a crash.
        if let Some(below) = self.directory.reserve() {
            decisions.record(Fact::QueuesBelow(below));
        }
        let queue = created.id;
        decisions.send(created.home, Control::Create(vhost.clone(), created));
        if self.policies.resolve(queue, vhost, &spec.name) {
            self.tell_policy(decisions, queue);
        }
        Ok(queue)
    }

    /// Refuses a queue if its vhost has as many as it may.
    fn check_vhost(&self, vhost: &Name, name: &Name) -> Result<(), Refusal> {
        match self.vhost_limits.get(vhost) {
            Some(limit)
                if self.directory.len_in(vhost) >= *limit
                    && !mutant::active(Mutant::VhostQueuesIgnored) =>
            {
                Err(Refusal::Excess(Excess::VhostQueues(Resource::queue(vhost, name), *limit)))
            }
            _ => Ok(()),
        }
    }

    fn delete(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        delete: QueueDelete,
    ) -> Option<Answer> {
        if let Err(answer) = decisions.vhost(&delete.vhost) {
            return Some(answer);
        }
        let Some(queue) = self.directory.by_name(&delete.vhost, &delete.name) else {
            return Some(Answer::Deleted(0));
        };
        let entry = self.directory.get_mut(queue)?;
        if entry.spec.owner.is_some_and(|owner| owner != delete.conn) {
            let resource = Resource::queue(&delete.vhost, &delete.name);
            return Some(Refusal::Locked(resource).into());
        }
        if entry.stage == QueueStage::Ready {
            entry.deleter = Some(requester);
            self.freeze(decisions, queue, delete.if_unused, delete.if_empty);
        } else {
            self.directory.park(queue, requester, QueueCommand::Delete(delete));
        }
        None
    }

    /// True if no queue is created, deleted or told of a policy, and no request waits for one.
    pub fn is_idle(&self) -> bool {
        let removed = self.removals.is_empty() && self.going.is_empty();
        removed && self.directory.is_idle() && self.telling.under_way == 0
    }

    /// Answers when the queue is gone.
    pub fn await_deleted(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        queue: QueueId,
    ) {
        match self.directory.get_mut(queue) {
            Some(entry) => entry.awaiting.push(requester),
            None => decisions.answer(requester, Answer::Done),
        }
    }

    /// The connection is gone: deletes its exclusive queues, then answers.
    pub fn connection_gone(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        conn: ConnId,
    ) {
        let queues = self.directory.owner_gone(conn, requester);
        if !queues.is_empty() {
            self.leaving.insert(conn, queues.into());
        }
        let most = if mutant::active(Mutant::ExclusiveUncut) { usize::MAX } else { WINDOW };
        for _ in 0..most {
            if !self.delete_next_exclusive(decisions, conn) {
                break;
            }
        }
        if self.directory.release(conn).is_some() {
            decisions.answer(requester, Answer::Done);
        }
    }

    /// Deletes the next exclusive queue of a connection that is gone; false if that was the last.
    fn delete_next_exclusive(&mut self, decisions: &mut Decisions, conn: ConnId) -> bool {
        let Some(queues) = self.leaving.get_mut(&conn) else { return false };
        let Some(queue) = queues.pop_front() else {
            self.leaving.remove(&conn);
            return false;
        };
        if let Some(entry) = self.directory.get_mut(queue) {
            entry.doomed = true;
            self.freeze_doomed(decisions, queue);
        }
        true
    }

    /// The home has the queue: from now on it is in the topology.
    pub fn created(&mut self, decisions: &mut Decisions, queue: QueueId) {
        let Some(entry) = self.directory.get(queue) else {
            return;
        };
        if entry.stage != QueueStage::Creating {
            return;
        }
        let doomed = entry.doomed;
        decisions.decide(Change::QueueCreated(entry.vhost.clone(), entry.spec.clone()));
        self.directory.set_stage(queue, QueueStage::Ready);
        self.retry_parked(decisions, queue);
        if doomed {
            self.freeze_doomed(decisions, queue);
        }
    }

    /// The home froze the queue, or says why not.
    pub fn frozen(
        &mut self,
        decisions: &mut Decisions,
        queue: QueueId,
        result: Result<u32, Refusal>,
    ) {
        let Some(entry) = self.directory.get_mut(queue) else {
            return;
        };
        match (entry.stage, result) {
            (QueueStage::Freezing, Ok(messages)) => {
                entry.messages = messages;
                self.remove_from_topology(decisions, queue, false);
            }
            (QueueStage::Freezing, Err(refusal)) => self.freeze_refused(decisions, queue, refusal),
            (QueueStage::Deleting { frozen_due: true, settled }, result) => {
                // The home had frozen it by itself; it says so again, with the same number.
                entry.messages = result.unwrap_or(entry.messages);
                let stage = QueueStage::Deleting { frozen_due: false, settled };
                self.directory.set_stage(queue, stage);
                if settled {
                    self.finish(decisions, queue);
                }
            }
            _ => {}
        }
    }

    /// The home froze the queue by itself when its last consumer went.
    pub fn unused(&mut self, decisions: &mut Decisions, queue: QueueId) {
        match self.directory.get(queue).map(|entry| entry.stage) {
            Some(QueueStage::Ready) => self.remove_from_topology(decisions, queue, false),
            Some(QueueStage::Freezing) => self.remove_from_topology(decisions, queue, true),
            _ => {}
        }
    }

    /// No shard knows the queue any more.
    pub fn forgotten(&mut self, decisions: &mut Decisions, queue: QueueId) {
        let stage = self.directory.get(queue).map(|entry| entry.stage);
        let Some(QueueStage::Deleting { frozen_due, .. }) = stage else {
            return;
        };
        self.directory.set_stage(queue, QueueStage::Deleting { frozen_due, settled: true });
        if !frozen_due {
            self.finish(decisions, queue);
        }
    }

    fn freeze_refused(&mut self, decisions: &mut Decisions, queue: QueueId, refusal: Refusal) {
        let Some(entry) = self.directory.get_mut(queue) else {
            return;
        };
        let deleter = entry.deleter.take();
        let doomed = entry.doomed;
        self.directory.set_stage(queue, QueueStage::Ready);
        if let Some(requester) = deleter {
            decisions.answer(requester, refusal.into());
        }
        if doomed {
            self.freeze_doomed(decisions, queue);
        } else {
            self.retry_parked(decisions, queue);
        }
    }

    /// Freezes the queue of a connection that is gone, unless it is being created, or frozen
    /// already.
    pub fn freeze_doomed(&mut self, decisions: &mut Decisions, queue: QueueId) {
        if self.directory.get(queue).is_some_and(|entry| entry.stage == QueueStage::Ready) {
            self.freeze(decisions, queue, false, false);
        }
    }

    fn freeze(
        &mut self,
        decisions: &mut Decisions,
        queue: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) {
        let Some(entry) = self.directory.get(queue) else {
            return;
        };
        let home = entry.spec.home;
        self.directory.set_stage(queue, QueueStage::Freezing);
        decisions.send(home, Control::Freeze { queue, if_unused, if_empty });
    }

    /// Removes a frozen queue from the topology; it is gone when that is settled.
    fn remove_from_topology(
        &mut self,
        decisions: &mut Decisions,
        queue: QueueId,
        frozen_due: bool,
    ) {
        self.directory.set_stage(queue, QueueStage::Deleting { frozen_due, settled: false });
        self.remove_queue(decisions, queue);
    }

    fn finish(&mut self, decisions: &mut Decisions, queue: QueueId) {
        let Some((entry, told)) = self.directory.remove(queue) else {
            return;
        };
        self.policies.forget_queue(queue);
        decisions.send(entry.spec.home, Control::Drop(queue));
        if let Some(requester) = entry.deleter {
            decisions.answer(requester, Answer::Deleted(entry.messages));
        }
        for requester in entry.awaiting.into_iter().chain(told) {
            decisions.answer(requester, Answer::Done);
        }
        self.execute_parked(decisions, entry.parked);
        if let Some(owner) = entry.spec.owner {
            self.delete_next_exclusive(decisions, owner);
        }
        self.vhost_queue_gone(decisions, &entry.vhost);
    }

    fn retry_parked(&mut self, decisions: &mut Decisions, queue: QueueId) {
        if let Some(entry) = self.directory.get_mut(queue) {
            let parked = std::mem::take(&mut entry.parked);
            self.execute_parked(decisions, parked);
        }
    }

    fn execute_parked(
        &mut self,
        decisions: &mut Decisions,
        parked: Vec<(Requester, QueueCommand)>,
    ) {
        for (requester, command) in parked {
            let owner = self.directory.unpark(&command);
            self.execute(decisions, requester, command);
            if let Some(told) = owner.and_then(|owner| self.directory.release(owner)) {
                decisions.answer(told, Answer::Done);
            }
        }
    }
}
