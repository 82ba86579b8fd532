//! What each user and each permission of a definitions file adds.

use model::access::command::{AdminError, Credential};
use model::access::state::{AccessFact, UserInVhost};
use model::access::{HashAlgorithm, PermissionPatterns, TopicPatterns, User};
use model::{Name, Secret};

use crate::coordinator::admin::{Users, check_name, check_tags, compile};
use crate::coordinator::definitions::read::{DefinitionsError, Object};
use crate::coordinator::definitions::{Importer, ObjectTaken};
use crate::store::meta::Fact;

/// The tag of a user that is one with `"administrator": true`, as in files of RabbitMQ 2.
const ADMINISTRATOR: &str = "administrator";
/// Beginnings of versions that exported MD5 without naming it.
const MD5_VERSIONS: [&str; 7] = ["2.", "3.0.", "3.1.", "3.2.", "3.3.", "3.4.", "3.5."];

impl Importer<'_> {
    pub(super) fn user(&mut self, object: &Object<'_>) -> ObjectTaken {
        let name = Name::from(object.text("name")?);
        check_name(&name).map_err(|why| object.refused(why))?;
        let limits = object.limits("limits")?;
        let tags = tags(object)?;
        check_tags(&tags).map_err(|why| object.refused(why))?;
        let is_new = !self.state.users.contains_key(&name);
        let user = self.user_of(object, &name, tags)?;
        if self.state.users.get(&user.name) != Some(&user) {
            self.add(Fact::User(user));
        }
        self.limit_user(&name, &limits);
        if is_new {
            self.permissions_of(object, &name)?;
        }
        Ok(())
    }

    fn user_of(
        &mut self,
        object: &Object<'_>,
        name: &Name,
        tags: Vec<Name>,
    ) -> Result<User, DefinitionsError> {
        let refused = |why: AdminError| object.refused(why);
        let (password, hash) = (object.text_if("password")?, object.text_if("password_hash")?);
        if password.is_some() && hash.is_some() {
            return Err(object.refused("both 'password' and 'password_hash' are there"));
        }
        let Some(hash) = hash.filter(|hash| !hash.is_empty()) else {
            if hash.is_none() {
                let clear = password.unwrap_or_default().as_bytes();
                self.validator.check(clear).map_err(|why| object.refused(why))?;
            }
            let credential = self.with_password(name, password.unwrap_or_default());
            return Users::user(name.clone(), credential, tags).map_err(refused);
        };
        let algorithm = self.algorithm(object)?;
        let credential = Credential::Hash(algorithm, hash.into());
        if let Ok(user) = Users::user(name.clone(), credential, tags.clone()) {
            return Ok(user);
        }
        let user = Users::with_unfit_hash(name.clone(), (algorithm, hash.into()), tags);
        let user = user.map_err(refused)?;
        self.warn(object, "has a hash of a wrong length: no password logs the user in");
        Ok(user)
    }

    /// A password in clear. Who has it already keeps its hash, so that a second import changes
    /// nothing.
    fn with_password(&mut self, name: &Name, password: &str) -> Credential {
        if password.is_empty() {
            return Credential::None;
        }
        let known = self.state.users.get(name);
        let known = known.filter(|user| Users::has_password(user, password.as_bytes()));
        match known {
            Some(user) => Credential::Hash(user.algorithm, user.password_hash.clone()),
            None => Credential::Password(Secret::from(password), self.salts.bytes()),
        }
    }

    /// How the hash was made: files that do not say so are of versions with one way.
    fn algorithm(&self, object: &Object<'_>) -> Result<HashAlgorithm, DefinitionsError> {
        let is_md5 = || MD5_VERSIONS.iter().any(|version| self.version.starts_with(version));
        match object.text_if("hashing_algorithm")? {
            None if is_md5() => Ok(HashAlgorithm::Md5),
            None => Ok(HashAlgorithm::default()),
            Some(name) => HashAlgorithm::from_name(name)
                .ok_or_else(|| object.refused(format!("unknown hashing algorithm '{name}'"))),
        }
    }

    /// A user object may have permissions, by vhost; they count if the user is new.
    fn permissions_of(&mut self, object: &Object<'_>, user: &Name) -> ObjectTaken {
        let Some(by_vhost) = object.object("permissions")? else { return Ok(()) };
        for vhost in by_vhost.keys() {
            if !self.state.vhosts.contains_key(vhost) {
                return Err(object.refused(format!("Virtual host '{vhost}' does not exist")));
            }
            let Some(patterns) = by_vhost.object(vhost)? else { continue };
            let of = UserInVhost { user: user.clone(), vhost: vhost.into() };
            self.access(AccessFact::Permissions(of, permission_patterns(object, &patterns)?));
        }
        Ok(())
    }

    fn user_in_vhost(&self, object: &Object<'_>) -> Result<UserInVhost, DefinitionsError> {
        let (user, vhost) = (object.text("user")?, self.vhost_of(object)?);
        if !self.state.users.contains_key(user) {
            return Err(object.refused(format!("User \"{user}\" does not exist")));
        }
        Ok(UserInVhost { user: user.into(), vhost })
    }

    pub(super) fn permissions(&mut self, object: &Object<'_>) -> ObjectTaken {
        let of = self.user_in_vhost(object)?;
        self.access(AccessFact::Permissions(of, permission_patterns(object, object)?));
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
}

fn tags(object: &Object<'_>) -> Result<Vec<Name>, DefinitionsError> {
    if !object.has("tags") && object.flag(ADMINISTRATOR, false)? {
        return Ok(vec![ADMINISTRATOR.into()]);
    }
    object.tags()
}

/// The patterns that stand in an object, or in a part of it.
fn permission_patterns(
    object: &Object<'_>,
    part: &Object<'_>,
) -> Result<PermissionPatterns, DefinitionsError> {
    let pattern = |key: &str| {
        let pattern = part.text(key)?;
        compile(pattern).map_err(|why| object.refused(why))?;
        Ok(Name::from(pattern))
    };
    let (configure, write, read) = (pattern("configure")?, pattern("write")?, pattern("read")?);
    Ok(PermissionPatterns { configure, write, read })
}
