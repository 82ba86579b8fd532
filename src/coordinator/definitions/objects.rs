//! What each exchange, queue and binding of a definitions file adds.

use std::collections::BTreeSet;

use model::exchange::validate_binding;
use model::session::arguments;
use model::topology::Change;
use model::topology::spec::{Destination, clean};
use model::{
    Binding, ExchangeKind, ExchangeSpec, Name, QueueId, QueueSpec, Refusal, Resource, ShardId,
};

use crate::coordinator::admin::check_name;
use crate::coordinator::definitions::read::DefinitionsError;
use crate::coordinator::definitions::read::Object;
use crate::coordinator::definitions::{BindingKey, Importer, ObjectTaken};
use crate::store::meta::Fact;

/// The standard exchanges of every vhost, by name.
fn standard(name: &str) -> Option<ExchangeKind> {
    Some(match name {
        "amq.direct" => ExchangeKind::Direct,
        "amq.fanout" => ExchangeKind::Fanout,
        "amq.topic" | "amq.rabbitmq.trace" => ExchangeKind::Topic,
        "amq.headers" | "amq.match" => ExchangeKind::Headers,
        _ => return None,
    })
}

const NOT_DURABLE: &str = "is not durable, and left out";
const RESERVED: &str = "has a name that begins with 'amq.', and is left out";

/// Names that only the broker gives. RabbitMQ does not import such objects either.
fn is_reserved(name: &str) -> bool {
    name.starts_with("amq.")
}

fn explained(object: &Object<'_>, refusal: &Refusal) -> DefinitionsError {
    object.refused(refusal.fault((0, 0)).text)
}

impl Importer<'_> {
    pub(super) fn exchange(&mut self, object: &Object<'_>) -> ObjectTaken {
        let (vhost, name) = (self.vhost_of(object)?, clean(object.text("name")?));
        if name.is_empty() || standard(&name).is_some() {
            return Ok(());
        }
        if is_reserved(&name) {
            self.leave_out(object, vhost, Destination::Exchange(name), RESERVED);
            return Ok(());
        }
        let kind = object.text("type")?;
        let unknown = || explained(object, &Refusal::UnknownExchangeKind(kind.into()));
        let spec = ExchangeSpec {
            kind: ExchangeKind::from_name(kind).ok_or_else(unknown)?,
            durable: object.flag("durable", true)?,
            auto_delete: object.flag("auto_delete", false)?,
            internal: object.flag("internal", false)?,
            arguments: object.arguments()?,
            name,
        };
        let resource = Resource::exchange(&vhost, &spec.name);
        arguments::check_exchange(spec.kind, &resource, spec.arguments.table())
            .map_err(|why| explained(object, &why))?;
        let found = self.state.vhosts.get(&vhost).and_then(|vhost| vhost.exchanges.get(&spec.name));
        if found.is_some() {
            return Ok(());
        }
        if !spec.durable {
            self.leave_out(object, vhost, Destination::Exchange(spec.name), NOT_DURABLE);
            return Ok(());
        }
        self.change(Change::ExchangeCreated(vhost, spec));
        Ok(())
    }

    pub(super) fn queue(&mut self, object: &Object<'_>) -> ObjectTaken {
        let (vhost, name) = (self.vhost_of(object)?, clean(object.text("name")?));
        check_name(&name).map_err(|why| object.refused(why))?;
        if is_reserved(&name) {
            self.leave_out(object, vhost, Destination::Queue(name), RESERVED);
            return Ok(());
        }
        let spec = QueueSpec {
            id: QueueId(0),
            home: ShardId::default(),
            durable: object.flag("durable", true)?,
            auto_delete: object.flag("auto_delete", false)?,
            owner: None,
            server_named: false,
            arguments: object.arguments()?,
            name,
        };
        let resource = Resource::queue(&vhost, &spec.name);
        arguments::check_queue(&resource, spec.arguments.table())
            .map_err(|why| explained(object, &why))?;
        let found = self.state.vhosts.get(&vhost).and_then(|vhost| vhost.queues.get(&spec.name));
        if found.is_some() {
            return Ok(());
        }
        if !spec.durable {
            self.leave_out(object, vhost, Destination::Queue(spec.name), NOT_DURABLE);
            return Ok(());
        }
        self.check_queues(object, &vhost)?;
        let id: QueueId = self.ids.fresh();
        self.add(Fact::QueuesBelow(QueueId(self.ids.peek())));
        self.change(Change::QueueCreated(vhost, QueueSpec { id, ..spec }));
        Ok(())
    }

    pub(super) fn binding(&mut self, object: &Object<'_>) -> ObjectTaken {
        let (vhost, source) = (self.vhost_of(object)?, clean(object.text("source")?));
        let name = clean(object.text("destination")?);
        let destination = match object.text("destination_type")? {
            "queue" => Destination::Queue(name),
            "exchange" => Destination::Exchange(name),
            other => return Err(object.refused(format!("unknown 'destination_type' '{other}'"))),
        };
        let is_left_out = |end: Destination| self.left_out.contains(&(vhost.clone(), end));
        // Bindings of the default exchange are implicit.
        if source.is_empty()
            || is_left_out(destination.clone())
            || is_left_out(Destination::Exchange(source.clone()))
        {
            return Ok(());
        }
        let kind = self.source_kind(object, &vhost, &source, &destination)?;
        let key = Name::from(object.text_if("routing_key")?.unwrap_or_default());
        let arguments = object.arguments()?;
        let binding = Binding { source, destination, key, arguments };
        validate_binding(kind, &binding).map_err(|why| explained(object, &why))?;
        if self.known_bindings(&vhost).insert(identity(binding.clone())) {
            self.change(Change::Bound(vhost, binding));
        }
        Ok(())
    }

    /// Leaves an exchange or a queue out, with a warning, and later all that is bound to it.
    fn leave_out(&mut self, object: &Object<'_>, vhost: Name, what: Destination, why: &str) {
        self.left_out.insert((vhost, what));
        self.warn(object, why);
    }

    /// The type of the source of a binding. Both ends have to exist.
    fn source_kind(
        &self,
        object: &Object<'_>,
        vhost: &Name,
        source: &str,
        destination: &Destination,
    ) -> Result<ExchangeKind, DefinitionsError> {
        let place = self.state.vhosts.get(vhost);
        let kind_of = |name: &str| {
            let declared = place.and_then(|place| place.exchanges.get(name));
            declared.map(|spec| spec.kind).or_else(|| standard(name))
        };
        let missing = |what| explained(object, &Refusal::NotFound(what));
        let kind = kind_of(source).ok_or_else(|| missing(Resource::exchange(vhost, source)))?;
        match destination {
            Destination::Exchange(name) => {
                kind_of(name).ok_or_else(|| missing(Resource::exchange(vhost, name)))?;
            }
            Destination::Queue(name) => {
                let found = place.and_then(|place| place.queues.get(name));
                found.ok_or_else(|| missing(Resource::queue(vhost, name)))?;
            }
        }
        Ok(kind)
    }

    fn known_bindings(&mut self, vhost: &Name) -> &mut BTreeSet<BindingKey> {
        let Self { bindings, state, .. } = self;
        bindings.entry(vhost.clone()).or_insert_with(|| {
            let place = state.vhosts.get(vhost).into_iter();
            let known = place.flat_map(|place| place.bindings().collect::<Vec<_>>());
            known.map(identity).collect()
        })
    }
}

fn identity(binding: Binding) -> BindingKey {
    let Binding { source, destination, key, arguments } = binding;
    (destination, source, key, arguments)
}
