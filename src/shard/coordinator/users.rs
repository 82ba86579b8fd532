//! Who may log in: names with salted hashes of their passwords, as RabbitMQ stores them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;

use crate::shard::message::Answer;

const SALT_LEN: usize = 4;

/// base64(salt ++ sha256(salt ++ password)), RabbitMQ's `rabbit_password_hashing_sha256`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PasswordHash(String);

#[derive(Debug)]
pub(super) struct Users {
    users: BTreeMap<String, PasswordHash>,
    loopback: Vec<String>,
    salts: fastrand::Rng,
    /// Compared with when there is no such user, so that the time taken does not tell.
    nobody: PasswordHash,
}

impl PasswordHash {
    fn new(salt: [u8; SALT_LEN], password: &[u8]) -> Self {
        let mut octets = salt.to_vec();
        octets.extend(digest(&salt, password));
        Self(BASE64.encode(octets))
    }

    fn is_of(&self, password: &[u8]) -> bool {
        let Ok(octets) = BASE64.decode(&self.0) else {
            return false;
        };
        let Some((salt, hash)) = octets.split_at_checked(SALT_LEN) else {
            return false;
        };
        digest(salt, password).ct_eq(hash).into()
    }
}

fn digest(salt: &[u8], password: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(password).finalize().into()
}

impl Users {
    pub fn new(seed: u64, loopback: Vec<String>) -> Self {
        let nobody = PasswordHash::new([0; SALT_LEN], b"");
        let salts = fastrand::Rng::with_seed(seed);
        Self { users: BTreeMap::new(), loopback, salts, nobody }
    }

    pub fn set_password(&mut self, user: &str, password: &[u8]) {
        let salt = self.salts.u32(..).to_be_bytes();
        self.users.insert(user.to_owned(), PasswordHash::new(salt, password));
    }

    pub fn login(&self, user: &str, password: &[u8], loopback: bool) -> Answer {
        let known = self.users.get(user);
        let is_right = known.unwrap_or(&self.nobody).is_of(password) && known.is_some();
        let is_near = loopback || !self.loopback.iter().any(|name| name == user);
        if is_right && is_near { Answer::LoggedIn } else { Answer::LoginRefused }
    }

    /// Whether the user may open a vhost. There are no permissions yet: who can log in may.
    pub fn may_open(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }
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
        let hash = PasswordHash::new([0x90, 0x8D, 0xC6, 0x0A], b"test12");
        assert_eq!(hash.0, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
        assert!(hash.is_of(b"test12"));
    }

    #[test]
    fn equal_passwords_have_different_hashes() {
        let mut users = users();
        users.set_password("otto", b"secret");
        assert_ne!(users.users["otto"], users.users["anna"]);
    }
}
