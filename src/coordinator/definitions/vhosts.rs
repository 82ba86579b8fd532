//! What each vhost of a definitions file adds.

use model::Name;
use model::access::VhostSettings;
use model::access::state::AccessFact;

use crate::coordinator::admin::{check_name, check_tags};
use crate::coordinator::definitions::read::{DefinitionsError, Object};
use crate::coordinator::definitions::{Importer, ObjectTaken};

impl Importer<'_> {
    pub(super) fn vhost(&mut self, object: &Object<'_>) -> ObjectTaken {
        let name = Name::from(object.text("name")?);
        check_name(&name).map_err(|why| object.refused(why))?;
        let limits = object.limits("limits")?;
        let before = self.state.access.vhosts.get(&name).cloned().unwrap_or_default();
        let settings = settings(object, &before)?;
        check_tags(&settings.tags).map_err(|why| object.refused(why))?;
        if object.flag("tracing", false)? {
            self.warn(object, "'tracing' has no effect");
        }
        if !self.state.vhosts.contains_key(&name) {
            self.create_vhost(&name);
        }
        self.limit_vhost(&name, &limits);
        if settings != before {
            self.access(AccessFact::VhostSettings(name, settings));
        }
        Ok(())
    }
}

/// The settings stand in the object, and in its object `metadata`. Description and tags count in
/// the first place where they are; without them, the vhost has none. The other settings stay if
/// the object does not name them.
fn settings(
    object: &Object<'_>,
    before: &VhostSettings,
) -> Result<VhostSettings, DefinitionsError> {
    let metadata = object.object("metadata")?;
    let places = || [Some(object), metadata.as_ref()].into_iter().flatten();
    let place = |key: &str| places().find(|place| place.has(key)).unwrap_or(object);
    let mut settings = before.clone();
    settings.description = place("description").text_if("description")?.unwrap_or_default().into();
    settings.tags = place("tags").tags()?;
    for place in places() {
        settings.protected = place.flag("protected_from_deletion", settings.protected)?;
        if let Some(kind) = queue_type(place)? {
            settings.default_queue_type = Some(kind.into());
        }
    }
    Ok(settings)
}

/// The type of queues that are declared without one, if the object names a type.
fn queue_type(object: &Object<'_>) -> Result<Option<&'static str>, DefinitionsError> {
    match object.text_if("default_queue_type")? {
        // Some versions of RabbitMQ write that there is none.
        None | Some("" | "undefined" | "nil") => Ok(None),
        Some("classic" | "rabbit_classic_queue") => Ok(Some("classic")),
        Some(kind @ ("quorum" | "stream" | "rabbit_quorum_queue" | "rabbit_stream_queue")) => {
            let kind = kind.trim_start_matches("rabbit_").trim_end_matches("_queue");
            Err(object.refused(format!("queue type '{kind}' is not supported yet")))
        }
        Some(other) => Err(object.refused(format!("{other} is not a valid queue type"))),
    }
}
