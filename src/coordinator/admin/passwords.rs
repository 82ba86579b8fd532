//! Passwords hashed as RabbitMQ does it: base64(salt ++ hash(salt ++ password)).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use model::Secret;
use model::access::HashAlgorithm;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// Random bytes in front of a password when it is hashed.
pub(super) type Salt = [u8; 4];

/// Hashes a password with SHA-256.
pub(super) fn hash(salt: Salt, password: &[u8]) -> Secret {
    let mut bytes = salt.to_vec();
    bytes.extend(digest(HashAlgorithm::Sha256, &salt, password));
    BASE64.encode(bytes).into()
}

/// Whether this is the hash of the password; false for what is no hash.
pub(super) fn is_of(algorithm: HashAlgorithm, hash: &Secret, password: &[u8]) -> bool {
    let Ok(bytes) = BASE64.decode(hash.expose()) else {
        return false;
    };
    let Some((salt, hash)) = bytes.split_at_checked(size_of::<Salt>()) else {
        return false;
    };
    digest(algorithm, salt, password).ct_eq(hash).into()
}

/// Whether it may be a hash of that kind; an empty one is of a user without a password.
pub(super) fn is_hash(algorithm: HashAlgorithm, hash: &Secret) -> bool {
    let len = size_of::<Salt>() + digest(algorithm, &[], &[]).len();
    hash.expose().is_empty() || BASE64.decode(hash.expose()).is_ok_and(|bytes| bytes.len() == len)
}

/// Whether it is base64 at all.
pub(super) fn is_base64(hash: &Secret) -> bool {
    BASE64.decode(hash.expose()).is_ok()
}

fn digest(algorithm: HashAlgorithm, salt: &[u8], password: &[u8]) -> Vec<u8> {
    fn of<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
        D::new().chain_update(salt).chain_update(password).finalize().to_vec()
    }
    match algorithm {
        HashAlgorithm::Sha256 => of::<Sha256>(salt, password),
        HashAlgorithm::Sha512 => of::<Sha512>(salt, password),
        HashAlgorithm::Md5 => of::<Md5>(salt, password),
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::admin::passwords::*;

    #[test]
    fn hashes_are_those_of_rabbitmq() {
        // The worked example of RabbitMQ's page on passwords: salt 908D C60A, password "test12".
        let hash = hash([0x90, 0x8D, 0xC6, 0x0A], b"test12");
        assert_eq!(hash.expose(), b"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
        assert!(is_of(HashAlgorithm::Sha256, &hash, b"test12"));
    }

    #[test]
    fn every_algorithm_is_read() {
        for algorithm in HashAlgorithm::ALL {
            let salted = [&[7; 4][..], &digest(algorithm, &[7; 4], b"secret")].concat();
            let hash = Secret::from(BASE64.encode(salted));
            assert!(is_of(algorithm, &hash, b"secret") && is_hash(algorithm, &hash));
            assert!(!is_of(algorithm, &hash, b"Secret"));
            let others = HashAlgorithm::ALL.into_iter().filter(|other| *other != algorithm);
            assert!(others.into_iter().all(|other| !is_hash(other, &hash)));
        }
    }

    #[test]
    fn what_is_no_hash_fits_no_password() {
        for hash in ["", "AAA=", "not base64!", "kI3GCg=="] {
            let hash = Secret::from(hash);
            assert!(!is_of(HashAlgorithm::Sha256, &hash, b""));
            assert_eq!(is_hash(HashAlgorithm::Sha256, &hash), hash.expose().is_empty());
        }
    }
}
