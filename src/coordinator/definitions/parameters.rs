//! What each parameter, global parameter and policy of a definitions file adds.

use model::Name;
use model::access::command::RECORDS_MAX;
use model::access::state::AccessFact;
use model::policy::{ApplyTo, Policy, PolicyScope};

use crate::coordinator::admin::{check_name, check_policy};
use crate::coordinator::definitions::read::Object;
use crate::coordinator::definitions::{Importer, ObjectTaken};
use crate::store::meta::MetaState;

/// The longest value of a global parameter, as JSON, in bytes.
const VALUE_MAX: usize = 64 << 10;

/// Components of plugins of RabbitMQ, and what they do.
const NOT_BUILT: [(&str, &str); 3] = [
    ("shovel", "shovels do not run here"),
    ("federation-upstream", "nothing is federated here"),
    ("federation-upstream-set", "nothing is federated here"),
];

impl Importer<'_> {
    /// Operator policies and limits of vhosts stand among the parameters. No other component is
    /// built.
    pub(super) fn parameter(&mut self, object: &Object<'_>) -> ObjectTaken {
        let vhost = self.vhost_of(object)?;
        let scope = match object.text("component")? {
            "vhost-limits" => return self.vhost_limits(object, vhost),
            "operator_policy" => PolicyScope::Operator,
            "policy" => PolicyScope::User,
            other => return Err(object.refused(unknown_component(other))),
        };
        let name = object.text("name")?.into();
        let value = object.object("value")?;
        let value = value.ok_or_else(|| object.refused("'value' is missing"))?;
        self.put_policy(object, vhost, scope, (name, &value))
    }

    /// The values of global parameters are kept. The name of the cluster is told to clients.
    pub(super) fn global_parameter(&mut self, object: &Object<'_>) -> ObjectTaken {
        let (name, value) = (Name::from(object.text("name")?), object.json("value")?);
        check_name(&name).map_err(|why| object.refused(why))?;
        if value.len() > VALUE_MAX {
            return Err(object.refused(format!("its value has more than {VALUE_MAX} bytes")));
        }
        if self.state.access.global_parameters.len() >= RECORDS_MAX {
            return Err(object.refused("there are as many global parameters as there may be"));
        }
        self.access(AccessFact::GlobalParameter(name, value));
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
}

/// Why a component is refused; for one that RabbitMQ does not know either, in its words.
fn unknown_component(component: &str) -> String {
    match NOT_BUILT.iter().find(|(name, _)| *name == component) {
        Some((_, what)) => format!("component '{component}' is not built: {what}"),
        None => format!("Validation failed\n\ncomponent {component} not found\n"),
    }
}

/// The cluster's name, if a definitions file gave it one.
#[must_use]
pub fn cluster_name(state: &MetaState) -> Option<Name> {
    let value = state.access.global_parameters.get("cluster_name")?;
    serde_json::from_str::<String>(value).ok().map(String::into)
}
