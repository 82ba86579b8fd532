//! Definitions files in RabbitMQ's format: users, vhosts, permissions, limits, policies, exchanges,
//! queues and bindings. They are turned into facts that are made durable in one batch before the
//! coordinator starts, so a file counts as a whole or not at all. What is there already stays.

mod limits;
mod objects;
mod parameters;
mod read;
mod relaxed;
mod users;
mod vhosts;

use std::collections::{BTreeMap, BTreeSet};

use model::access::PermissionPatterns;
use model::access::credentials::CredentialValidator;
use model::access::defaults::VhostDefaults;
use model::access::state::{AccessFact, UserInVhost};
use model::topology::Change;
use model::topology::spec::{Arguments, Destination};
use model::{Generator, IdSource, Name, QueueId, ShardId};
use serde_json::{Map, Value as Json};

pub use self::parameters::cluster_name;
pub use self::read::DefinitionsError;
use crate::coordinator::definitions::read::{Object, section};
use crate::store::meta::{Fact, MetaState};

/// What a definitions file adds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Facts to be made durable, all or none of them.
    pub facts: Vec<Fact>,
    /// Warnings about what was left out, or has no effect.
    pub warnings: Vec<String>,
}

/// What identifies a binding in a vhost.
type BindingKey = (Destination, Name, Name, Arguments);

/// What the configuration says about imports.
#[derive(Debug)]
pub struct ImportRules<'r> {
    /// What new vhosts get.
    pub defaults: &'r VhostDefaults,
    /// What passwords in clear have to be.
    pub validator: &'r CredentialValidator,
    /// For the hashes of passwords in clear.
    pub salts: &'r mut Generator,
}

/// An object is taken, or refused.
type ObjectTaken = Result<(), DefinitionsError>;

/// An import under way.
struct Importer<'r> {
    /// The state with what was imported so far.
    state: MetaState,
    defaults: &'r VhostDefaults,
    validator: &'r CredentialValidator,
    salts: &'r mut Generator,
    import: Import,
    /// The version of RabbitMQ that wrote the file, or nothing.
    version: String,
    ids: IdSource,
    /// The most queues that a vhost may have with new ones of the file.
    queue_limits: BTreeMap<Name, u64>,
    /// By vhost; filled when the first binding of the vhost is looked at.
    bindings: BTreeMap<Name, BTreeSet<BindingKey>>,
    /// Queues and exchanges that were left out; what is bound to them is too.
    left_out: BTreeSet<(Name, Destination)>,
}

/// What the texts of definitions files add to the state, in this order.
///
/// # Errors
/// The first object that cannot be taken, and why.
pub fn import(
    state: &MetaState,
    rules: ImportRules<'_>,
    files: &[String],
) -> Result<Import, DefinitionsError> {
    let ids = match state.queues_below {
        QueueId(0) => IdSource::new(ShardId::OF_QUEUES),
        QueueId(next) => IdSource::resumed(next),
    };
    let mut importer = Importer {
        state: state.clone(),
        defaults: rules.defaults,
        validator: rules.validator,
        salts: rules.salts,
        import: Import::default(),
        version: String::new(),
        ids,
        queue_limits: BTreeMap::new(),
        bindings: BTreeMap::new(),
        left_out: BTreeSet::new(),
    };
    importer.begin();
    files.iter().try_for_each(|text| importer.file(text))?;
    Ok(importer.import)
}

/// Takes in one object of a section.
type ImportStep<'r> = fn(&mut Importer<'r>, &Object<'_>) -> ObjectTaken;

impl<'r> Importer<'r> {
    /// Permissions are looked at from now on; in an older data folder everybody keeps all rights.
    fn begin(&mut self) {
        if self.state.access.in_force {
            return;
        }
        self.add(Fact::Access(AccessFact::InForce));
        let users: Vec<_> = self.state.users.keys().cloned().collect();
        let vhosts: Vec<_> = self.state.vhosts.keys().cloned().collect();
        for user in users {
            for vhost in vhosts.clone() {
                let of = UserInVhost { user: user.clone(), vhost };
                self.add(Fact::Access(AccessFact::Permissions(of, PermissionPatterns::all())));
            }
        }
    }

    fn file(&mut self, text: &str) -> Result<(), DefinitionsError> {
        let refused = |why: String| DefinitionsError { object: "the file".to_owned(), why };
        let json = relaxed::parse(text).map_err(|why| refused(why.to_string()))?;
        let file = json.as_object().ok_or_else(|| refused("is no JSON object".to_owned()))?;
        self.queue_limits = self.queue_limits_before();
        let version = ["rabbitmq_version", "rabbit_version"].into_iter();
        let version = version.filter_map(|key| file.get(key)).find_map(Json::as_str);
        self.version = version.unwrap_or_default().to_owned();
        self.sections(file)
    }

    fn sections(&mut self, file: &Map<String, Json>) -> Result<(), DefinitionsError> {
        let steps: [(&str, ImportStep<'r>); 10] = [
            ("vhosts", Self::vhost),
            ("users", Self::user),
            ("permissions", Self::permissions),
            ("topic_permissions", Self::topic_permissions),
            ("parameters", Self::parameter),
            ("global_parameters", Self::global_parameter),
            ("policies", Self::policy),
            ("exchanges", Self::exchange),
            ("queues", Self::queue),
            ("bindings", Self::binding),
        ];
        for (name, step) in steps {
            for object in section(file, name)? {
                step(self, &object)?;
            }
        }
        Ok(())
    }

    /// Adds a fact.
    fn add(&mut self, fact: Fact) {
        self.state.apply(&fact);
        self.import.facts.push(fact);
    }

    fn change(&mut self, change: Change) {
        self.add(Fact::Changed(change));
    }

    /// Adds a fact about access, unless it changes nothing.
    fn access(&mut self, fact: AccessFact) {
        let before = self.state.access.get(&fact);
        if before.as_ref() != Some(&fact) {
            self.add(Fact::Access(fact));
        }
    }

    fn warn(&mut self, object: &Object<'_>, why: &str) {
        let warning = object.refused(why).to_string();
        self.import.warnings.push(warning);
    }

    /// The vhost that an object names; it has to exist.
    fn vhost_of(&self, object: &Object<'_>) -> Result<Name, DefinitionsError> {
        let vhost = object.text("vhost")?;
        if self.state.vhosts.contains_key(vhost) {
            return Ok(vhost.into());
        }
        Err(object.refused(format!("Virtual host '{vhost}' does not exist")))
    }
}

#[cfg(test)]
mod shapes_test;
#[cfg(test)]
mod tests;
