//! Exchanges and bindings: decided at once, since nobody but the coordinator has a say in them.

use model::exchange::validate_binding;
use model::spec::{Binding, Destination, ExchangeSpec, Name};
use model::topology::{Change, Vhost};
use model::{ConnId, Refusal, Resource};

use super::{Coordinator, refused};
use crate::shard::message::Answer;

impl Coordinator {
    pub(super) fn declare_exchange(&mut self, vhost: Name, spec: ExchangeSpec) -> Answer {
        match self.vhost(&vhost) {
            Err(answer) => return answer,
            Ok(place) if place.exchange(&spec.name).is_some() => {}
            Ok(_) => {
                if let Err(refusal) = self.check_exchanges(&vhost, &spec.name) {
                    return refused(refusal);
                }
                self.decide(Change::ExchangeCreated(vhost, spec));
            }
        }
        Answer::Done
    }

    pub(super) fn delete_exchange(&mut self, vhost: &str, name: &str, if_unused: bool) -> Answer {
        let place = match self.vhost(vhost) {
            Ok(place) => place,
            Err(answer) => return answer,
        };
        let resource = || Resource::exchange(vhost, name);
        if name.is_empty() {
            return refused(Refusal::DefaultExchange);
        }
        if name.starts_with("amq.") {
            return refused(Refusal::SystemExchange(resource()));
        }
        if if_unused && place.bindings_from(name) > 0 {
            return refused(Refusal::InUse(resource()));
        }
        if place.exchange(name).is_some() {
            self.remove_exchange(vhost, name);
        }
        Answer::Done
    }

    pub(super) fn bind(&mut self, vhost: Name, binding: Binding, conn: ConnId) -> Answer {
        let place = match self.vhost(&vhost) {
            Ok(place) => place,
            Err(answer) => return answer,
        };
        if let Err(refusal) = check_bind(place, &vhost, &binding, conn) {
            return refused(refusal);
        }
        if !place.has_binding(&binding) {
            self.decide(Change::Bound(vhost, binding));
        }
        Answer::Done
    }

    pub(super) fn unbind(&mut self, vhost: Name, binding: Binding, conn: ConnId) -> Answer {
        let place = match self.vhost(&vhost) {
            Ok(place) => place,
            Err(answer) => return answer,
        };
        if is_default(&binding) {
            return refused(Refusal::DefaultExchange);
        }
        // As RabbitMQ, which looks at the owner only of what it finds bound.
        if !place.has_binding(&binding) {
            return Answer::Done;
        }
        if let Err(refusal) = check_owner(place, &vhost, &binding.destination, conn) {
            return refused(refusal);
        }
        let source = binding.source.clone();
        self.decide(Change::Unbound(vhost.clone(), binding));
        self.delete_unused_exchanges(&vhost, vec![source]);
        Answer::Done
    }

    /// The exchanges that bindings to the destination come from.
    pub(super) fn sources_to(&self, vhost: &str, destination: &Destination) -> Vec<Name> {
        let Some(vhost) = self.topology.vhost(vhost) else {
            return Vec::new();
        };
        vhost.sources_to(destination).map(Name::from).collect()
    }

    /// Of exchanges that just lost a binding, deletes those that go with their last one; and so on
    /// for the exchanges that were bound to those.
    pub(super) fn delete_unused_exchanges(&mut self, vhost: &str, mut losers: Vec<Name>) {
        while let Some(name) = losers.pop() {
            let Some(place) = self.topology.vhost(vhost) else {
                return;
            };
            let Some(exchange) = place.exchange(&name) else {
                continue;
            };
            if exchange.spec.auto_delete && exchange.bindings() == 0 {
                losers.extend(self.sources_to(vhost, &Destination::Exchange(name.clone())));
                self.decide(Change::ExchangeDeleted(vhost.into(), name));
            }
        }
    }

    fn remove_exchange(&mut self, vhost: &str, name: &str) {
        let losers = self.sources_to(vhost, &Destination::Exchange(name.into()));
        self.decide(Change::ExchangeDeleted(vhost.into(), name.into()));
        self.delete_unused_exchanges(vhost, losers);
    }
}

fn is_default(binding: &Binding) -> bool {
    let to_default = matches!(&binding.destination, Destination::Exchange(to) if to.is_empty());
    binding.source.is_empty() || to_default
}

fn check_bind(place: &Vhost, vhost: &str, binding: &Binding, conn: ConnId) -> Result<(), Refusal> {
    if is_default(binding) {
        return Err(Refusal::DefaultExchange);
    }
    let missing_exchange = |name: &str| Refusal::NotFound(Resource::exchange(vhost, name));
    let source =
        place.exchange(&binding.source).ok_or_else(|| missing_exchange(&binding.source))?;
    match &binding.destination {
        Destination::Queue(name) if place.queue(name).is_none() => {
            return Err(Refusal::NotFound(Resource::queue(vhost, name)));
        }
        Destination::Exchange(name) if place.exchange(name).is_none() => {
            return Err(missing_exchange(name));
        }
        _ => {}
    }
    // Whose queue it is comes before what is wrong with the arguments, as in RabbitMQ.
    check_owner(place, vhost, &binding.destination, conn)?;
    validate_binding(source.spec.kind, &binding.arguments)
}

fn check_owner(
    place: &Vhost,
    vhost: &str,
    destination: &Destination,
    conn: ConnId,
) -> Result<(), Refusal> {
    let Destination::Queue(name) = destination else {
        return Ok(());
    };
    let owner = place.queue(name).and_then(|queue| queue.spec.owner);
    if owner.is_some_and(|owner| owner != conn) {
        return Err(Refusal::Locked(Resource::queue(vhost, name)));
    }
    Ok(())
}
