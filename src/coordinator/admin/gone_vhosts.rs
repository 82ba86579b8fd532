//! The queues of a vhost that was deleted: they go one after the other, then it may be created
//! again.

use model::Name;
use model::access::command::AdminAnswer;

use crate::coordinator::admin::windows::{GoingVhost, WINDOW};
use crate::coordinator::decisions::Decisions;
use crate::coordinator::queues::QueueLifeCycle;
use crate::coordinator::versions::Requester;
use crate::mesh::control::Answer;

impl QueueLifeCycle {
    /// True if queues of the vhost, which was deleted, are left.
    pub fn is_vhost_going(&self, vhost: &str) -> bool {
        self.going.contains_key(vhost)
    }

    /// The vhost is gone: deletes its queues, then answers.
    pub fn vhost_gone(&mut self, decisions: &mut Decisions, requester: Requester, vhost: &Name) {
        self.policies.forget_vhost(vhost);
        self.vhost_limits.remove(vhost);
        let waiting = self.directory.in_vhost(vhost).collect();
        let going = GoingVhost { waiting, requester: Some(requester) };
        self.going.insert(vhost.clone(), going);
        for _ in 0..WINDOW {
            self.delete_next(decisions, vhost);
        }
        self.vhost_queue_gone(decisions, vhost);
    }

    fn delete_next(&mut self, decisions: &mut Decisions, vhost: &str) {
        let next = self.going.get_mut(vhost).and_then(|going| going.waiting.pop_front());
        if let Some(queue) = next
            && let Some(entry) = self.directory.get_mut(queue)
        {
            entry.doomed = true;
            self.freeze_doomed(decisions, queue);
        }
    }

    /// A queue is gone; if it was one of such a vhost, the next one follows.
    pub fn vhost_queue_gone(&mut self, decisions: &mut Decisions, vhost: &Name) {
        if !self.going.contains_key(vhost) {
            return;
        }
        self.delete_next(decisions, vhost);
        if self.directory.in_vhost(vhost).next().is_some() {
            return;
        }
        if let Some(requester) = self.going.remove(vhost).and_then(|going| going.requester) {
            decisions.answer(requester, Answer::Admin(AdminAnswer::Done));
        }
    }
}
