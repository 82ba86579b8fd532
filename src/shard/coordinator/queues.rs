//! The life of a queue: declared, created, frozen, deleted.

use model::spec::{Destination, Name};
use model::topology::Change;
use model::{ConnId, QueueId, QueueSpec, Refusal, Resource};

use super::directory::State;
use super::versions::Then;
use super::{Asker, Coordinator, Outcome, refused};
use crate::shard::message::{Answer, Control, Request};

/// The fields of [`Request::DeleteQueue`].
#[derive(Debug)]
pub(super) struct Delete {
    pub vhost: Name,
    pub name: Name,
    pub if_unused: bool,
    pub if_empty: bool,
    pub conn: ConnId,
}

impl From<Delete> for Request {
    fn from(delete: Delete) -> Self {
        let Delete { vhost, name, if_unused, if_empty, conn } = delete;
        Self::DeleteQueue { vhost, name, if_unused, if_empty, conn }
    }
}

impl Coordinator {
    pub(super) fn declare_queue(&mut self, asker: Asker, vhost: Name, spec: QueueSpec) -> Outcome {
        if let Err(answer) = self.vhost(&vhost) {
            return Some(answer);
        }
        if let Some(queue) = self.directory.by_name(&vhost, &spec.name) {
            return self.declare_existing(asker, queue, vhost, spec);
        }
        if spec.owner.is_some_and(|owner| self.directory.is_gone(owner)) {
            // The connection went while its declare was waiting; nobody reads the answer.
            return Some(refused(Refusal::NotFound(Resource::queue(&vhost, &spec.name))));
        }
        if let Err(refusal) = self.check_queues(&spec.name) {
            return Some(refused(refusal));
        }
        let record = self.directory.create(vhost.clone(), spec.clone(), asker.shard);
        let (queue, created) = (record.spec.id, record.spec.clone());
        self.reserve_identities();
        self.send(created.home, Control::Create(vhost.clone(), created));
        // It is there by then, and looking again says so.
        self.park(queue, asker, Request::DeclareQueue(vhost, spec));
        None
    }

    fn declare_existing(
        &mut self,
        asker: Asker,
        queue: QueueId,
        vhost: Name,
        spec: QueueSpec,
    ) -> Outcome {
        if self.directory.get(queue)?.state == State::Ready {
            return Some(Answer::Done);
        }
        self.park(queue, asker, Request::DeclareQueue(vhost, spec));
        None
    }

    pub(super) fn delete_queue(&mut self, asker: Asker, delete: Delete) -> Outcome {
        if let Err(answer) = self.vhost(&delete.vhost) {
            return Some(answer);
        }
        let Some(queue) = self.directory.by_name(&delete.vhost, &delete.name) else {
            return Some(Answer::Deleted(0));
        };
        let record = self.directory.get_mut(queue)?;
        if record.spec.owner.is_some_and(|owner| owner != delete.conn) {
            let resource = Resource::queue(&delete.vhost, &delete.name);
            return Some(refused(Refusal::Locked(resource)));
        }
        if record.state == State::Ready {
            record.deleter = Some(asker);
            self.freeze(queue, delete.if_unused, delete.if_empty);
        } else {
            self.park(queue, asker, delete.into());
        }
        None
    }

    pub(super) fn await_deleted(&mut self, asker: Asker, queue: QueueId) -> Outcome {
        let Some(record) = self.directory.get_mut(queue) else {
            return Some(Answer::Done);
        };
        record.awaiting.push(asker);
        None
    }

    pub(super) fn connection_gone(&mut self, asker: Asker, conn: ConnId) -> Outcome {
        for queue in self.directory.owner_gone(conn, asker) {
            let Some(record) = self.directory.get_mut(queue) else {
                continue;
            };
            record.doomed = true;
            if record.state == State::Ready {
                self.freeze(queue, false, false);
            }
        }
        self.directory.release(conn).map(|_| Answer::Done)
    }

    /// The home has the queue: from now on it is in the topology.
    pub(super) fn queue_created(&mut self, queue: QueueId) {
        let Some(record) = self.directory.get(queue) else {
            return;
        };
        if record.state != State::Creating {
            return;
        }
        let doomed = record.doomed;
        let change = Change::QueueCreated(record.vhost.clone(), record.spec.clone());
        self.directory.set_state(queue, State::Ready);
        self.decide(change);
        self.look_again(queue);
        if doomed {
            self.freeze_doomed(queue);
        }
    }

    /// The home froze the queue, or says why not.
    pub(super) fn queue_frozen(&mut self, queue: QueueId, result: Result<u32, Refusal>) {
        let Some(record) = self.directory.get_mut(queue) else {
            return;
        };
        match (record.state, result) {
            (State::Freezing, Ok(messages)) => {
                record.messages = messages;
                self.delete(queue, false);
            }
            (State::Freezing, Err(refusal)) => self.freeze_refused(queue, refusal),
            (State::Deleting { frozen_due: true, settled }, result) => {
                // The home had frozen it by itself; it says so again, with the same number.
                record.messages = result.unwrap_or(record.messages);
                self.directory.set_state(queue, State::Deleting { frozen_due: false, settled });
                if settled {
                    self.finish(queue);
                }
            }
            _ => {}
        }
    }

    /// The home froze the queue by itself when its last consumer went.
    pub(super) fn queue_unused(&mut self, queue: QueueId) {
        match self.directory.get(queue).map(|record| record.state) {
            Some(State::Ready) => self.delete(queue, false),
            Some(State::Freezing) => self.delete(queue, true),
            _ => {}
        }
    }

    fn freeze_refused(&mut self, queue: QueueId, refusal: Refusal) {
        let Some(record) = self.directory.get_mut(queue) else {
            return;
        };
        let deleter = record.deleter.take();
        let doomed = record.doomed;
        self.directory.set_state(queue, State::Ready);
        if let Some(asker) = deleter {
            self.answer(asker, refused(refusal));
        }
        if doomed {
            self.freeze_doomed(queue);
        } else {
            self.look_again(queue);
        }
    }

    fn freeze_doomed(&mut self, queue: QueueId) {
        // What was looked at again may have asked for a freeze, with conditions, before this one.
        if self.directory.get(queue).is_some_and(|record| record.state == State::Ready) {
            self.freeze(queue, false, false);
        }
    }

    fn freeze(&mut self, queue: QueueId, if_unused: bool, if_empty: bool) {
        let Some(record) = self.directory.get(queue) else {
            return;
        };
        let home = record.spec.home;
        self.directory.set_state(queue, State::Freezing);
        self.send(home, Control::Freeze { queue, if_unused, if_empty });
    }

    /// Takes a frozen queue out of the topology; what follows, follows when that is settled.
    fn delete(&mut self, queue: QueueId, frozen_due: bool) {
        let Some(record) = self.directory.get(queue) else {
            return;
        };
        let (vhost, name) = (record.vhost.clone(), record.spec.name.clone());
        self.directory.set_state(queue, State::Deleting { frozen_due, settled: false });
        let sources = self.sources_to(&vhost, &Destination::Queue(name.clone()));
        self.decide(Change::QueueDeleted(vhost.clone(), name));
        self.delete_unused_exchanges(&vhost, sources);
        self.when_settled(Then::Forget(queue));
    }

    /// No shard knows the queue any more.
    pub(super) fn queue_gone(&mut self, queue: QueueId) {
        let Some(record) = self.directory.get(queue) else {
            return;
        };
        let State::Deleting { frozen_due, .. } = record.state else {
            return;
        };
        self.directory.set_state(queue, State::Deleting { frozen_due, settled: true });
        if !frozen_due {
            self.finish(queue);
        }
    }

    fn finish(&mut self, queue: QueueId) {
        let Some((record, told)) = self.directory.remove(queue) else {
            return;
        };
        self.send(record.spec.home, Control::Drop(queue));
        if let Some(asker) = record.deleter {
            self.answer(asker, Answer::Deleted(record.messages));
        }
        for asker in record.awaiting.into_iter().chain(told) {
            self.answer(asker, Answer::Done);
        }
        self.unpark(record.parked);
    }

    fn park(&mut self, queue: QueueId, asker: Asker, request: Request) {
        if let Request::DeclareQueue(_, QueueSpec { owner: Some(owner), .. }) = &request {
            self.directory.park_declare(*owner);
        }
        if let Some(record) = self.directory.get_mut(queue) {
            record.parked.push((asker, request));
        }
    }

    fn look_again(&mut self, queue: QueueId) {
        let Some(record) = self.directory.get_mut(queue) else {
            return;
        };
        let parked = std::mem::take(&mut record.parked);
        self.unpark(parked);
    }

    fn unpark(&mut self, parked: Vec<(Asker, Request)>) {
        for (asker, request) in parked {
            let owner = match &request {
                Request::DeclareQueue(_, spec) => spec.owner,
                _ => None,
            };
            if let Some(owner) = owner {
                self.directory.unpark_declare(owner);
            }
            self.obey(asker, request);
            if let Some(asker) = owner.and_then(|owner| self.directory.release(owner)) {
                self.answer(asker, Answer::Done);
            }
        }
    }
}
