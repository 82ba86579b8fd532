//! While the disk has no room for what was decided, requests that would change the topology wait in
//! their order. Logins, alarms and whatever else promises nothing about the topology go on.

use std::collections::VecDeque;

use model::{ConnId, QueueSpec, Refusal};

use crate::coordinator::versions::Requester;
use crate::mesh::control::{Answer, Request};

/// This many requests wait; later ones are refused.
pub(super) const WAITING_MAX: usize = 10_000;

/// Whether the disk is full, and the requests that wait for room.
#[derive(Debug, Default, Hash)]
pub(super) struct DiskFull {
    /// What was decided is not durable, since there is no room for it.
    is_full: bool,
    waiting: VecDeque<(Requester, Request)>,
}

/// What to do with a request now.
#[derive(Debug)]
pub(super) enum Admission {
    /// Execute it.
    Execute(Request),
    /// Nothing: it waits for room.
    Waits,
    /// Answer it at once.
    Answer(Answer),
}

impl DiskFull {
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// The disk is full, or has room again. Returns the requests that waited for that.
    pub fn set(&mut self, is_full: bool) -> VecDeque<(Requester, Request)> {
        self.is_full = is_full;
        if is_full { VecDeque::new() } else { std::mem::take(&mut self.waiting) }
    }

    /// Decides whether a request has to wait. `owns_queues`: an exclusive queue of the connection
    /// whose end is asked for exists.
    pub fn admit(
        &mut self,
        requester: Requester,
        request: Request,
        owns_queues: impl FnOnce(ConnId) -> bool,
    ) -> Admission {
        if !self.is_full {
            return Admission::Execute(request);
        }
        let is_end = matches!(request, Request::ConnectionGone(_));
        if let Request::ConnectionGone(conn) = request
            && !self.is_to_own(conn)
            && !owns_queues(conn)
        {
            return Admission::Answer(Answer::Done);
        }
        if !changes_topology(&request) {
            return Admission::Execute(request);
        }
        // Nobody repeats the end of a connection, so it is never refused.
        if self.waiting.len() >= WAITING_MAX && !is_end {
            return Admission::Answer(Refusal::NoRoom.into());
        }
        self.waiting.push_back((requester, request));
        Admission::Waits
    }

    /// True if an exclusive queue of the connection waits to be declared.
    fn is_to_own(&self, conn: ConnId) -> bool {
        let owner = |request: &Request| match request {
            Request::DeclareQueue(_, QueueSpec { owner, .. }) => *owner,
            _ => None,
        };
        self.waiting.iter().any(|(_, request)| owner(request) == Some(conn))
    }
}

fn changes_topology(request: &Request) -> bool {
    match request {
        Request::DeclareExchange(..)
        | Request::DeleteExchange { .. }
        | Request::DeclareQueue(..)
        | Request::DeleteQueue { .. }
        | Request::Bind(..)
        | Request::Unbind(..)
        | Request::Admin(_)
        | Request::ConnectionGone(_) => true,
        Request::Login { .. }
        | Request::OpenVhost { .. }
        | Request::Permit(..)
        | Request::OpenChannel { .. }
        | Request::AwaitDeleted(_)
        | Request::Sync => false,
    }
}
