//! Changes of policies: which queues have other arguments in force by them and how these are told,
//! and which exchanges have another alternate exchange.

use model::access::command::{AdminAnswer, AdminError, RECORDS_MAX};
use model::access::state::AccessFact;
use model::mutant::{self, Mutant};
use model::policy::{Policy, PolicyScope, merge};
use model::topology::Change;
use model::{Name, QueueId};

use crate::coordinator::admin::windows::WINDOW;
use crate::coordinator::decisions::Decisions;
use crate::coordinator::queues::QueueLifeCycle;
use crate::coordinator::versions::Requester;
use crate::mesh::control::{Answer, Control};
use crate::store::meta::Fact;

/// A change of policies tells shards of this many exchanges at once.
const EXCHANGES_MAX: usize = 1024;

impl QueueLifeCycle {
    /// Takes a policy; answers when every queue obeys it.
    pub fn set_policy(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        of: (Name, PolicyScope),
        policy: Policy,
    ) -> Result<(), AdminError> {
        let vhost = of.0.clone();
        self.adopt_policy(decisions, of, policy)?;
        self.policies_changed(decisions, requester, &vhost);
        Ok(())
    }

    /// Takes a policy; no queue is told yet.
    pub fn adopt_policy(
        &mut self,
        decisions: &mut Decisions,
        of: (Name, PolicyScope),
        policy: Policy,
    ) -> Result<(), AdminError> {
        if self.policies.len() >= RECORDS_MAX {
            return Err(AdminError::TooMany("policies"));
        }
        self.policies.set(of.clone(), policy.clone())?;
        let (vhost, scope) = of;
        decisions.record(Fact::Access(AccessFact::Policy(vhost, scope, policy)));
        Ok(())
    }

    /// Removes a policy; answers when no queue obeys it any more.
    pub fn clear_policy(
        &mut self,
        decisions: &mut Decisions,
        requester: Requester,
        of: (Name, PolicyScope),
        name: &Name,
    ) -> Result<(), AdminError> {
        if !self.policies.clear(&of, name) {
            return Err(AdminError::NoPolicy(name.clone()));
        }
        let (vhost, scope) = of;
        let fact = AccessFact::PolicyCleared(vhost.clone(), scope, name.clone());
        decisions.record(Fact::Access(fact));
        self.policies_changed(decisions, requester, &vhost);
        Ok(())
    }

    /// Tells the queues and exchanges that outlived a restart what is in force for them.
    pub fn resolve_all(&mut self, decisions: &mut Decisions, vhost: &Name) {
        self.find_changed(vhost);
        self.change_alternates(decisions, vhost);
        self.tell_next(decisions);
    }

    fn policies_changed(&mut self, decisions: &mut Decisions, requester: Requester, vhost: &Name) {
        self.find_changed(vhost);
        self.change_alternates(decisions, vhost);
        self.telling.requesters.push(requester);
        self.tell_next(decisions);
    }

    fn find_changed(&mut self, vhost: &Name) {
        let Self { directory, policies, telling, .. } = self;
        for queue in directory.in_vhost(vhost) {
            let Some(entry) = directory.get(queue) else { continue };
            if policies.resolve(queue, vhost, &entry.spec.name) {
                telling.waiting.push_back(queue);
            }
        }
    }

    /// Gives the exchanges of a vhost the alternate exchanges that policies say.
    fn change_alternates(&self, decisions: &mut Decisions, vhost: &Name) {
        let Some(place) = decisions.topology().vhost(vhost) else { return };
        let exchanges = place.exchanges_from(0).map(|(_, exchange)| exchange);
        let changed =
            exchanges.filter(|exchange| exchange.takes_alternate()).filter_map(|exchange| {
                let alternate = self.policies.alternate(vhost, exchange);
                let changes = alternate.as_ref() != exchange.alternate();
                changes.then(|| (exchange.spec.name.clone(), alternate))
            });
        let changed: Vec<_> = changed.collect();
        for some in changed.chunks(EXCHANGES_MAX) {
            decisions.announce(Change::AlternatesChanged(vhost.clone(), some.to_vec()));
        }
    }

    /// Tells queues, as many as may be under way; answers when all have answered.
    fn tell_next(&mut self, decisions: &mut Decisions) {
        while self.telling.under_way < WINDOW
            && let Some(queue) = self.telling.waiting.pop_front()
        {
            self.tell_policy(decisions, queue);
        }
        if self.telling.under_way == 0 || mutant::active(Mutant::PolicyAnsweredEarly) {
            for requester in std::mem::take(&mut self.telling.requesters) {
                decisions.answer(requester, Answer::Admin(AdminAnswer::Done));
            }
        }
    }

    /// Tells a queue's home which arguments are in force for it.
    pub fn tell_policy(&mut self, decisions: &mut Decisions, queue: QueueId) {
        let Some(entry) = self.directory.get(queue) else { return };
        let declared = &entry.spec.arguments;
        let in_force = self.policies.in_force(queue);
        let arguments = in_force
            .map_or_else(|| declared.clone(), |definition| merge::arguments(declared, definition));
        self.telling.under_way += 1;
        decisions.send(entry.spec.home, Control::Reconfigure(queue, arguments));
    }

    /// A home has told a queue, or has no such queue any more.
    pub fn reconfigured(&mut self, decisions: &mut Decisions) {
        self.telling.under_way = self.telling.under_way.saturating_sub(1);
        self.tell_next(decisions);
    }
}
