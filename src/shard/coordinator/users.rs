//! Who may log in: names with salted hashes of their passwords, as RabbitMQ stores them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use model::Name;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;

use crate::shard::message::Answer;
use crate::store::meta::User;

/// What RabbitMQ lets its first user do; nothing looks at it yet.
const FIRST_TAGS: [&str; 1] = ["administrator"];
const SALT_LEN: usize = 4;

#[derive(Debug)]
pub(super) struct Users {
    users: BTreeMap<Name, User>,
    loopback: Vec<String>,
    salts: fastrand::Rng,
    /// Compared with when there is no such user, so that the time taken does not tell.
    nobody: Name,
}

impl Users {
    pub fn new(seed: u64, loopback: Vec<String>) -> Self {
        let nobody = hash([0; SALT_LEN], b"");
        let salts = fastrand::Rng::with_seed(seed);
        Self { users: BTreeMap::new(), loopback, salts, nobody }
    }

    /// Makes a user, or gives one another password; what is to be kept of that.
    pub fn set_password(&mut self, user: &str, password: &[u8]) -> User {
        let salt = self.salts.u32(..).to_be_bytes();
        let tags = FIRST_TAGS.map(Name::from).to_vec();
        let user = User { name: user.into(), password_hash: hash(salt, password), tags };
        self.adopt(user.clone());
        user
    }

    /// Takes in a user that was made before.
    pub fn adopt(&mut self, user: User) {
        self.users.insert(user.name.clone(), user);
    }

    pub fn login(&self, user: &str, password: &[u8], loopback: bool) -> Answer {
        let known = self.users.get(user).map(|user| &user.password_hash);
        let is_right = is_of(known.unwrap_or(&self.nobody), password) && known.is_some();
        let is_near = loopback || !self.loopback.iter().any(|name| name == user);
        if is_right && is_near { Answer::LoggedIn } else { Answer::LoginRefused }
    }

    /// Whether the user may open a vhost. There are no permissions yet: who can log in may.
    pub fn may_open(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }
}

/// base64(salt ++ sha256(salt ++ password)), RabbitMQ's `rabbit_password_hashing_sha256`.
fn hash(salt: [u8; SALT_LEN], password: &[u8]) -> Name {
    let mut octets = salt.to_vec();
    octets.extend(digest(&salt, password));
    BASE64.encode(octets).into()
}

fn is_of(hash: &str, password: &[u8]) -> bool {
    let Ok(octets) = BASE64.decode(hash) else {
        return false;
    };
    let Some((salt, hash)) = octets.split_at_checked(SALT_LEN) else {
        return false;
    };
    digest(salt, password).ct_eq(hash).into()
}

fn digest(salt: &[u8], password: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(password).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let mut users = Users::new(1, vec!["guest".to_owned()]);
        users.set_password("guest", b"guest");
        users.set_password("anna", b"secret");
        users
    }

    #[test]
    fn only_the_right_password_logs_in() {
        let users = users();
        assert_eq!(users.login("anna", b"secret", false), Answer::LoggedIn);
        for (user, password) in [("anna", "secre"), ("anna", ""), ("otto", ""), ("", "")] {
            assert_eq!(users.login(user, password.as_bytes(), true), Answer::LoginRefused);
        }
    }

    #[test]
    fn a_loopback_user_logs_in_from_this_host_only() {
        let users = users();
        assert_eq!(users.login("guest", b"guest", true), Answer::LoggedIn);
        assert_eq!(users.login("guest", b"guest", false), Answer::LoginRefused);
    }

    #[test]
    fn hashes_are_those_of_rabbitmq() {
        // The worked example of RabbitMQ's page on passwords: salt 908D C60A, password "test12".
        let hash = hash([0x90, 0x8D, 0xC6, 0x0A], b"test12");
        assert_eq!(&*hash, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
        assert!(is_of(&hash, b"test12"));
    }

    #[test]
    fn equal_passwords_have_different_hashes() {
        let mut users = users();
        users.set_password("otto", b"secret");
        assert_ne!(users.users["otto"].password_hash, users.users["anna"].password_hash);
    }
}
