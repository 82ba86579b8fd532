//! What each object of a definitions file adds.

use std::collections::BTreeSet;

use model::access::command::Credential;
use model::access::state::{AccessFact, UserInVhost};
use model::access::{HashAlgorithm, PermissionPatterns, TopicPatterns, VhostSettings};
use model::exchange::validate_binding;
use model::policy::{ApplyTo, Policy, PolicyScope};
use model::session::arguments;
use model::topology::Change;
use model::topology::spec::{Destination, clean};
use model::{
    Binding, ExchangeKind, ExchangeSpec, Name, QueueId, QueueSpec, Refusal, Resource, ShardId,
};

use crate::coordinator::admin::{Users, check_name, check_policy, check_tags, compile};
use crate::coordinator::definitions::read::{DefinitionsError, Object};
use crate::coordinator::definitions::{BindingKey, Importer};
use crate::store::meta::Fact;

/// An object is taken, or refused.
type ObjectTaken = Result<(), DefinitionsError>;

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

fn explained(object: &Object<'_>, refusal: &Refusal) -> DefinitionsError {
    object.refused(refusal.fault((0, 0)).text)
}

impl Importer {
    pub(super) fn vhost(&mut self, object: &Object<'_>) -> ObjectTaken {
        let name = Name::from(object.text("name")?);
        check_name(&name).map_err(|why| object.refused(why))?;
        let limits = object.limits("limits")?;
        if let Some(kind @ ("quorum" | "stream")) = object.text_if("default_queue_type")? {
            return Err(object.refused(format!("queue type '{kind}' is not supported yet")));
        }
        let description = object.text_if("description")?.unwrap_or_default().into();
        let settings = VhostSettings { description, tags: object.tags()? };
        check_tags(&settings.tags).map_err(|why| object.refused(why))?;
        if !self.state.vhosts.contains_key(&name) {
            self.create_vhost(&name);
        }
        self.limit_vhost(&name, &limits);
        if settings != self.state.access.vhosts.get(&name).cloned().unwrap_or_default() {
            self.access(AccessFact::VhostSettings(name, settings));
        }
        Ok(())
    }

    pub(super) fn user(&mut self, object: &Object<'_>) -> ObjectTaken {
        let name = Name::from(object.text("name")?);
        check_name(&name).map_err(|why| object.refused(why))?;
        let limits = object.limits("limits")?;
        let algorithm = match object.text_if("hashing_algorithm")? {
            None => HashAlgorithm::default(),
            Some(name) => HashAlgorithm::from_name(name)
                .ok_or_else(|| object.refused(format!("unknown hashing algorithm '{name}'")))?,
        };
        let credential = match object.text_if("password_hash")? {
            Some(hash) if !hash.is_empty() => Credential::Hash(algorithm, hash.into()),
            _ if object.text_if("password")?.is_some() => {
                return Err(object.refused("'password' is not taken, only 'password_hash'"));
            }
            _ => Credential::None,
        };
        let tags = object.tags()?;
        check_tags(&tags).map_err(|why| object.refused(why))?;
        let user =
            Users::user(name.clone(), credential, tags).map_err(|why| object.refused(why))?;
        if self.state.users.get(&user.name) != Some(&user) {
            self.add(Fact::User(user));
        }
        self.limit_user(&name, &limits);
        Ok(())
    }

    fn user_in_vhost(&self, object: &Object<'_>) -> Result<UserInVhost, DefinitionsError> {
        let (user, vhost) = (object.text("user")?, self.vhost_of(object)?);
        if !self.state.users.contains_key(user) {
            return Err(object.refused(format!("User \"{user}\" does not exist")));
        }
        Ok(UserInVhost { user: user.into(), vhost })
    }

    fn pattern(object: &Object<'_>, key: &str) -> Result<Name, DefinitionsError> {
        let pattern = object.text(key)?;
        compile(pattern).map_err(|why| object.refused(why))?;
        Ok(pattern.into())
    }

    pub(super) fn permissions(&mut self, object: &Object<'_>) -> ObjectTaken {
        let of = self.user_in_vhost(object)?;
        let pattern = |key| Self::pattern(object, key);
        let (configure, write, read) = (pattern("configure")?, pattern("write")?, pattern("read")?);
        let patterns = PermissionPatterns { configure, write, read };
        self.access(AccessFact::Permissions(of, patterns));
        Ok(())
    }

    pub(super) fn topic_permissions(&mut self, object: &Object<'_>) -> ObjectTaken {
        let of = self.user_in_vhost(object)?;
        let exchange = object.text("exchange")?.into();
        // Braces of variables may be no regular expression by themselves.
        let pattern = |key: &str| {
            let text = object.text(key)?;
            let sample = text.replace("{username}", "u").replace("{vhost}", "v");
            compile(&sample).map_err(|why| object.refused(why))?;
            Ok(Name::from(text))
        };
        let patterns = TopicPatterns { write: pattern("write")?, read: pattern("read")? };
        self.access(AccessFact::TopicPermissions(of, exchange, patterns));
        Ok(())
    }

    /// Operator policies and limits of vhosts stand among the parameters. No other component is
    /// built.
    pub(super) fn parameter(&mut self, object: &Object<'_>) -> ObjectTaken {
        let vhost = self.vhost_of(object)?;
        let component = object.text("component")?;
        let scope = match component {
            "vhost-limits" => return self.vhost_limits(object, vhost),
            "operator_policy" => PolicyScope::Operator,
            "policy" => PolicyScope::User,
            other => return Err(object.refused(format!("component '{other}' is not built"))),
        };
        let name = object.text("name")?.into();
        let value = object.object("value")?;
        let value = value.ok_or_else(|| object.refused("'value' is missing"))?;
        self.put_policy(object, vhost, scope, (name, &value))
    }

    pub(super) fn global_parameter(&mut self, object: &Object<'_>) -> ObjectTaken {
        self.warn(object, "global parameters have no effect");
        Ok(())
    }

    pub(super) fn policy(&mut self, object: &Object<'_>) -> ObjectTaken {
        let (vhost, name) = (self.vhost_of(object)?, object.text("name")?.into());
        self.put_policy(object, vhost, PolicyScope::User, (name, object))
    }

    fn put_policy(
        &mut self,
        object: &Object<'_>,
        vhost: Name,
        scope: PolicyScope,
        (name, value): (Name, &Object<'_>),
    ) -> ObjectTaken {
        let apply_to = value.text_if("apply-to")?.unwrap_or("all");
        let unknown = || object.refused(format!("'apply-to' cannot be '{apply_to}'"));
        let policy = Policy {
            name,
            pattern: value.text("pattern")?.into(),
            apply_to: ApplyTo::from_name(apply_to).ok_or_else(unknown)?,
            priority: value.integer("priority")?,
            definition: value.definition()?,
        };
        let without_effect = check_policy(scope, &policy).map_err(|why| object.refused(why))?;
        if !without_effect.is_empty() {
            let keys = without_effect.join(", ");
            self.warn(object, &format!("these settings have no effect: {keys}"));
        }
        self.access(AccessFact::Policy(vhost, scope, policy));
        Ok(())
    }

    pub(super) fn exchange(&mut self, object: &Object<'_>) -> ObjectTaken {
        let (vhost, name) = (self.vhost_of(object)?, clean(object.text("name")?));
        if name.is_empty() || standard(&name).is_some() {
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
        if spec.name.starts_with("amq.") {
            return Err(explained(object, &Refusal::ReservedName(resource)));
        }
        arguments::check_exchange(spec.kind, &resource, spec.arguments.table())
            .map_err(|why| explained(object, &why))?;
        let found = self.state.vhosts.get(&vhost).and_then(|vhost| vhost.exchanges.get(&spec.name));
        if found.is_some() {
            return Ok(());
        }
        if !spec.durable {
            self.left_out.insert((vhost, Destination::Exchange(spec.name)));
            self.warn(object, "is not durable, and left out");
            return Ok(());
        }
        self.change(Change::ExchangeCreated(vhost, spec));
        Ok(())
    }

    pub(super) fn queue(&mut self, object: &Object<'_>) -> ObjectTaken {
        let (vhost, name) = (self.vhost_of(object)?, clean(object.text("name")?));
        check_name(&name).map_err(|why| object.refused(why))?;
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
            self.left_out.insert((vhost, Destination::Queue(spec.name)));
            self.warn(object, "is not durable, and left out");
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
