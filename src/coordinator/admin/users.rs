//! Who may log in: names with salted hashes of their passwords, as RabbitMQ stores them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::access::command::{AdminError, Credential};
use model::access::{HashAlgorithm, User};
use model::{Name, Secret};

use crate::coordinator::admin::passwords;
use crate::mesh::control::LoginRefusal;

/// The users by name.
#[derive(Debug, Hash)]
pub(in crate::coordinator) struct Users {
    users: BTreeMap<Name, User>,
    /// Users that may log in from this host only.
    loopback: Vec<String>,
    /// Compared with when there is no such user, so that the time taken does not tell.
    nobody: Secret,
}

impl Users {
    pub fn new(loopback: Vec<String>) -> Self {
        Self { users: BTreeMap::new(), loopback, nobody: passwords::hash([0; 4], b"") }
    }

    /// A user as it is to be stored.
    pub fn user(name: Name, credential: Credential, tags: Vec<Name>) -> Result<User, AdminError> {
        let (algorithm, password_hash) = match credential {
            Credential::Password(password, salt) => {
                (HashAlgorithm::Sha256, passwords::hash(salt, password.expose()))
            }
            Credential::Hash(algorithm, hash) if passwords::is_hash(algorithm, &hash) => {
                (algorithm, hash)
            }
            Credential::Hash(..) => return Err(AdminError::Hash(name)),
            Credential::None => (HashAlgorithm::Sha256, Secret::default()),
        };
        Ok(User { name, password_hash, algorithm, tags })
    }

    /// A user with a hash that no password fits, as RabbitMQ takes one from a definitions file.
    pub fn with_unfit_hash(
        name: Name,
        (algorithm, password_hash): (HashAlgorithm, Secret),
        tags: Vec<Name>,
    ) -> Result<User, AdminError> {
        if !passwords::is_base64(&password_hash) {
            return Err(AdminError::Hash(name));
        }
        Ok(User { name, password_hash, algorithm, tags })
    }

    /// Whether the user's password is this.
    pub fn has_password(user: &User, password: &[u8]) -> bool {
        passwords::is_of(user.algorithm, &user.password_hash, password)
    }

    /// Takes in a user, instead of one of the same name.
    pub fn adopt(&mut self, user: User) {
        self.users.insert(user.name.clone(), user);
    }

    /// Removes a user; false if there is none.
    pub fn remove(&mut self, user: &str) -> bool {
        self.users.remove(user).is_some()
    }

    /// True if there is such a user.
    pub fn contains(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Checks a password that came from an address. A blank one is never right, as in RabbitMQ.
    pub fn log_in(&self, user: &str, password: &[u8], from: IpAddr) -> Result<(), LoginRefusal> {
        let known = self.users.get(user).filter(|user| !user.password_hash.expose().is_empty());
        let (algorithm, hash) = known.map_or((HashAlgorithm::Sha256, &self.nobody), |user| {
            (user.algorithm, &user.password_hash)
        });
        let fits = passwords::is_of(algorithm, hash, password);
        if !fits || known.is_none() || password.is_empty() {
            return Err(LoginRefusal::Credentials);
        }
        let is_local = from.to_canonical().is_loopback();
        if !is_local && self.loopback.iter().any(|name| name == user) {
            return Err(LoginRefusal::NotLocal);
        }
        Ok(())
    }

    /// The users behind a name, or all, by name.
    pub fn behind(&self, name: Option<&Name>) -> impl Iterator<Item = &User> {
        use std::ops::Bound::{Excluded, Unbounded};
        let first = name.map_or(Unbounded, Excluded);
        self.users.range::<Name, _>((first, Unbounded)).map(|(_, user)| user)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use crate::coordinator::admin::users::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn user(name: &str, credential: Credential) -> User {
        Users::user(name.into(), credential, Vec::new()).unwrap()
    }

    fn password(password: &str, salt: u8) -> Credential {
        Credential::Password(password.into(), [salt; 4])
    }

    fn users() -> Users {
        let mut users = Users::new(vec!["guest".to_owned()]);
        users.adopt(user("guest", password("guest", 1)));
        users.adopt(user("anna", password("secret", 2)));
        users.adopt(user("blank", password("", 2)));
        users.adopt(user("none", Credential::None));
        users
    }

    #[test]
    fn only_the_right_password_logs_in() {
        let users = users();
        assert_eq!(users.log_in("anna", b"secret", ELSEWHERE), Ok(()));
        for (user, password) in
            [("anna", "secre"), ("anna", ""), ("otto", ""), ("", ""), ("blank", ""), ("none", "")]
        {
            let refused = users.log_in(user, password.as_bytes(), HERE);
            assert_eq!(refused, Err(LoginRefusal::Credentials), "{user}");
        }
    }

    #[test]
    fn a_loopback_user_logs_in_from_this_host_only() {
        let users = users();
        assert_eq!(users.log_in("guest", b"guest", HERE), Ok(()));
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        assert_eq!(users.log_in("guest", b"guest", mapped), Ok(()));
        assert_eq!(users.log_in("guest", b"guest", ELSEWHERE), Err(LoginRefusal::NotLocal));
        assert_eq!(users.log_in("guest", b"wrong", ELSEWHERE), Err(LoginRefusal::Credentials));
    }

    #[test]
    fn equal_passwords_have_different_hashes() {
        let [one, other] = [2, 3].map(|salt| user("anna", password("secret", salt)));
        assert_ne!(one.password_hash, other.password_hash);
    }

    #[test]
    fn a_hash_is_taken_as_it_is_and_checked() {
        let hash = user("anna", password("secret", 2)).password_hash;
        let given = |hash| Credential::Hash(HashAlgorithm::Sha256, hash);
        let mut users = users();
        users.adopt(user("otto", given(hash)));
        assert_eq!(users.log_in("otto", b"secret", HERE), Ok(()));
        let refused = Users::user("otto".into(), given("AAAA".into()), Vec::new());
        assert_eq!(refused, Err(AdminError::Hash("otto".into())));
    }

    #[test]
    fn a_deleted_user_logs_in_no_more() {
        let mut users = users();
        assert!(users.remove("anna") && !users.remove("anna") && !users.contains("anna"));
        assert_eq!(users.log_in("anna", b"secret", HERE), Err(LoginRefusal::Credentials));
    }
}
