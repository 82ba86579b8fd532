//! The names of direct reply-to consumers: what replaces a client's `amq.rabbitmq.reply-to`.
//!
//! A name holds the id of the consumer's queue and a keyed hash of id and vhost. All shards share
//! the key, so each finds the home of a queue it has never heard of, and nobody can make a name up.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::session::content::REPLY_TO;
use model::{Name, QueueId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const ID_LEN: usize = 8;
/// 128 bits of the hash.
const PROOF_LEN: usize = 16;

/// The secret behind the names of reply consumers: the same on all shards.
#[derive(Clone, Copy)]
pub struct ReplyKey([u8; 32]);

impl ReplyKey {
    /// A key of random bytes; from the operating system, or a simulation's generator.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    pub(crate) fn name(&self, vhost: &str, queue: QueueId) -> Name {
        let mut bytes = queue.0.to_be_bytes().to_vec();
        bytes.extend(self.proof(vhost, queue));
        format!("{REPLY_TO}.{}", URL_SAFE_NO_PAD.encode(bytes)).into()
    }

    /// The queue that a name leads to; `None` for a name that is not one of ours.
    pub(crate) fn queue(&self, vhost: &str, name: &str) -> Option<QueueId> {
        let encoded = name.strip_prefix(REPLY_TO)?.strip_prefix('.')?;
        let mut bytes = [0; ID_LEN + PROOF_LEN];
        let len = URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes).ok()?;
        let (id, proof) = bytes.split_first_chunk::<ID_LEN>()?;
        let queue = QueueId(u64::from_be_bytes(*id));
        let proved: bool = proof.ct_eq(&self.proof(vhost, queue)).into();
        (len == bytes.len() && proved).then_some(queue)
    }

    fn proof(&self, vhost: &str, queue: QueueId) -> [u8; PROOF_LEN] {
        let hash = Sha256::new_with_prefix(self.0);
        let hash = hash.chain_update(queue.0.to_be_bytes()).chain_update(vhost).finalize();
        let mut proof = [0; PROOF_LEN];
        // Half of the hash: what is not told keeps anyone from going on with the rest.
        proof.iter_mut().zip(hash).for_each(|(byte, hashed)| *byte = hashed);
        proof
    }
}

impl std::fmt::Debug for ReplyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplyKey")
    }
}

#[cfg(test)]
mod tests {
    use crate::sessions::amqp::reply_key::*;

    #[test]
    fn a_name_is_good_in_its_vhost_and_unchanged() {
        let (key, other) = (ReplyKey::new([7; 32]), ReplyKey::new([8; 32]));
        let queue = QueueId(1 << 48 | 5);
        let name = key.name("/", queue);
        assert_eq!(name.len(), REPLY_TO.len() + 1 + 32);
        assert_eq!(key.queue("/", &name), Some(queue));
        assert_eq!(key.queue("v", &name), None);
        assert_eq!(other.queue("/", &name), None);
        assert_ne!(key.name("/", QueueId(6)), name);
        let start = REPLY_TO.len() + 1;
        for at in start..name.len() {
            let mut bytes = name.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.queue("/", std::str::from_utf8(&bytes).unwrap()), None, "{at}");
            assert_eq!(key.queue("/", &name[..at]), None, "cut at {at}");
        }
        for wrong in [&*format!("{name}A"), REPLY_TO, "amq.rabbitmq.reply-to.", "", "q"] {
            assert_eq!(key.queue("/", wrong), None, "{wrong}");
        }
        assert_eq!(format!("{key:?}"), "ReplyKey");
    }
}
