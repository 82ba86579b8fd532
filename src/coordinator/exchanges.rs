//! Exchanges and bindings: decided at once, since no home shard takes part.

use model::exchange::validate_binding;
use model::topology::spec::{Binding, Destination, ExchangeSpec, Name};
use model::topology::{Change, Vhost};
use model::{ConnId, Refusal, Resource};

use crate::coordinator::admin::policies::Policies;
use crate::coordinator::decisions::Decisions;
use crate::coordinator::limits::NodeLimits;
use crate::coordinator::queues::QueueLifeCycle;
use crate::coordinator::versions::Requester;
use crate::mesh::control::Answer;

/// Creates the exchange unless one of that name exists.
pub(super) fn declare(
    decisions: &mut Decisions,
    (limits, policies): (&NodeLimits, &Policies),
    vhost: Name,
    spec: ExchangeSpec,
) -> Result<Answer, Answer> {
    if decisions.vhost(&vhost)?.exchange(&spec.name).is_none() {
        limits.check_exchanges(decisions.topology(), &vhost, &spec.name)?;
        limits.check_topology(decisions.topology())?;
        let name = spec.name.clone();
        decisions.decide(Change::ExchangeCreated(vhost.clone(), spec));
        take_alternate(decisions, policies, vhost, name);
    }
    Ok(Answer::Done)
}

/// Gives a new exchange the alternate exchange that a policy says.
fn take_alternate(decisions: &mut Decisions, policies: &Policies, vhost: Name, name: Name) {
    let exchange = decisions.topology().vhost(&vhost).and_then(|place| place.exchange(&name));
    let alternate = exchange.and_then(|exchange| policies.alternate(&vhost, exchange));
    if alternate.is_some() {
        decisions.announce(Change::AlternatesChanged(vhost, vec![(name, alternate)]));
    }
}

/// Deletes the exchange if it exists, and answers.
pub(super) fn delete(
    (decisions, queues): (&mut Decisions, &mut QueueLifeCycle),
    requester: Requester,
    (vhost, name): (&str, &str),
    if_unused: bool,
) -> Result<(), Answer> {
    let place = decisions.vhost(vhost)?;
    let resource = || Resource::exchange(vhost, name);
    if name.is_empty() {
        return Err(Refusal::DefaultExchange.into());
    }
    if name.starts_with("amq.") {
        return Err(Refusal::SystemExchange(resource()).into());
    }
    if if_unused && place.bindings_from(name) > 0 {
        return Err(Refusal::InUse(resource()).into());
    }
    match place.exchange(name).map(|exchange| (name.into(), exchange.version)) {
        Some(exchange) => queues.remove_exchange(decisions, requester, vhost.into(), exchange),
        None => decisions.answer(requester, Answer::Done),
    }
    Ok(())
}

/// Creates the binding unless it exists.
pub(super) fn bind(
    decisions: &mut Decisions,
    limits: &NodeLimits,
    vhost: Name,
    binding: Binding,
    conn: ConnId,
) -> Result<Answer, Answer> {
    let place = decisions.vhost(&vhost)?;
    check_bind(place, &vhost, &binding, conn)?;
    if !place.has_binding(&binding) {
        limits.check_topology(decisions.topology())?;
        decisions.decide(Change::Bound(vhost, binding));
    }
    Ok(Answer::Done)
}

/// Removes the binding if it exists, and answers.
pub(super) fn unbind(
    (decisions, queues): (&mut Decisions, &mut QueueLifeCycle),
    requester: Requester,
    (vhost, binding): (Name, Binding),
    conn: ConnId,
) -> Result<(), Answer> {
    let place = decisions.vhost(&vhost)?;
    if is_default(&binding) {
        return Err(Refusal::DefaultExchange.into());
    }
    // As RabbitMQ, which checks the owner only of a binding that exists.
    if place.has_binding(&binding) {
        check_owner(place, &vhost, &binding.destination, conn)?;
        let source = binding.source.clone();
        decisions.decide(Change::Unbound(vhost.clone(), binding));
        queues.look_for_unused(decisions, requester, vhost, source);
        return Ok(());
    }
    if !queues.removals.is_empty() {
        // It may have been removed with others, which is not recorded yet.
        decisions.record_change(&Change::Unbound(vhost, binding));
    }
    decisions.answer(requester, Answer::Done);
    Ok(())
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
    // The owner is checked before the arguments, as in RabbitMQ.
    check_owner(place, vhost, &binding.destination, conn)?;
    validate_binding(source.spec.kind, binding)
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
