//! What the coordinator answers a thread outside the data path. A deletion takes the way of a
//! client's: the coordinator's own endpoint asks, and the answer to it is handed out here.

pub(super) mod answers;
mod snapshots;

use model::{ConnId, Now, Refusal, RequestId, Resource};

use crate::coordinator::machine::Coordinator;
use crate::coordinator::versions::Requester;
use crate::mesh::control::Request;
use crate::mesh::inspect::{CoordinatorAnswer, CoordinatorCounts, CoordinatorRequest, InspectId};

/// Nobody's connection: exclusive queues are as locked as for another client.
const NO_CONNECTION: ConnId = ConnId(0);

impl Coordinator {
    /// Answers a question from outside the data path; [`Self::next_inspected`] has the answer, at
    /// once for a list, and when it is done everywhere for a command. `id` is of no other question
    /// that waits.
    pub fn inspect(&mut self, id: InspectId, request: CoordinatorRequest, now: Now) {
        let answer = match request {
            CoordinatorRequest::DeleteQueue { .. } => return self.delete_for(id, request, now),
            CoordinatorRequest::Admin(command) => {
                let requester = Requester { shard: self.outside.own, request: RequestId(id.0) };
                return self.ask(requester, Request::Admin(command), now);
            }
            CoordinatorRequest::Counts => CoordinatorAnswer::Counts(self.counts()),
            CoordinatorRequest::Vhosts(page) => {
                CoordinatorAnswer::Vhosts(self.snapshot_vhosts(page.behind.as_ref(), page.most))
            }
            CoordinatorRequest::Users(page) => {
                CoordinatorAnswer::Users(self.snapshot_users(page.behind.as_ref(), page.most))
            }
            CoordinatorRequest::Queues(page) => {
                CoordinatorAnswer::Queues(self.snapshot_queues(page.behind, page.most))
            }
            CoordinatorRequest::Exchanges(page) => {
                let chunk = self.snapshot_exchanges(page.behind.as_ref(), page.most);
                CoordinatorAnswer::Exchanges(chunk)
            }
            CoordinatorRequest::Bindings(page) => {
                CoordinatorAnswer::Bindings(self.snapshot_bindings(page.behind.as_ref(), page.most))
            }
        };
        self.outside.answers.push_back((id, answer));
    }

    /// The next answer.
    pub fn next_inspected(&mut self) -> Option<(InspectId, CoordinatorAnswer)> {
        self.outside.answers.pop_front()
    }

    fn counts(&self) -> CoordinatorCounts {
        CoordinatorCounts {
            vhosts: self.topology().vhosts().count() as u64,
            queues: self.queues.directory.len() as u64,
            alarms: self.alarms(),
        }
    }

    fn delete_for(&mut self, id: InspectId, request: CoordinatorRequest, now: Now) {
        let CoordinatorRequest::DeleteQueue { vhost, name, if_unused, if_empty } = request else {
            return;
        };
        // A client is told that it deleted nothing; who names a queue here wants to know.
        let exists = self.topology().vhost(&vhost).is_some();
        if exists && self.queues.directory.by_name(&vhost, &name).is_none() {
            let refusal = Refusal::NotFound(Resource::queue(&vhost, &name));
            self.outside.answers.push_back((id, CoordinatorAnswer::Refused(refusal)));
            return;
        }
        let conn = NO_CONNECTION;
        let request = Request::DeleteQueue { vhost, name, if_unused, if_empty, conn };
        let requester = Requester { shard: self.outside.own, request: RequestId(id.0) };
        self.ask(requester, request, now);
    }
}
