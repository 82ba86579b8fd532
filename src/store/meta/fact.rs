//! A durable fact and its encoding.

use amqp::{Reader, WireError, Writer};
use model::access::HashAlgorithm;
pub use model::access::User;
use model::access::state::AccessFact;
use model::topology::Change;
use model::topology::spec::{Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec};
use model::{Arguments, QueueId, ShardId};

use super::access_fact;

/// A change that survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The topology changed. Home and owner of a queue are not stored: a durable queue has no
    /// owner, and its home is chosen at every start.
    Changed(Change),
    /// A user was created or changed.
    User(User),
    /// Every queue created so far has a smaller id.
    QueuesBelow(QueueId),
    /// Rights, settings or policies changed.
    Access(AccessFact),
}

/// Why bytes are not a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field cannot be decoded.
    #[error(transparent)]
    Field(#[from] WireError),
    /// A name is not UTF-8.
    #[error("a name that is not UTF-8")]
    Text,
    /// An unknown kind of fact, or of something in it.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// An exchange has an unknown type.
    #[error("an exchange of unknown type")]
    ExchangeType,
    /// A password is hashed in an unknown way.
    #[error("a password hashed in an unknown way")]
    Hash,
    /// A policy applies to something unknown.
    #[error("a policy that applies to something unknown")]
    ApplyTo,
    /// Something unknown is limited.
    #[error("an unknown limit")]
    Limit,
}

const VHOST_CREATED: u8 = 1;
const USER: u8 = 2;
const EXCHANGE_CREATED: u8 = 3;
const EXCHANGE_DELETED: u8 = 4;
const QUEUE_CREATED: u8 = 5;
const QUEUE_DELETED: u8 = 6;
const BOUND: u8 = 7;
const UNBOUND: u8 = 8;
const QUEUES_BELOW: u8 = 9;
// 10 to 18 and 21 to 24 are facts about access.
const HASHED_USER: u8 = 19;
const VHOST_DELETED: u8 = 20;

const TO_QUEUE: u8 = 0;
const TO_EXCHANGE: u8 = 1;

impl Fact {
    /// Appends the fact to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut to = Writer::new(out);
        match self {
            Self::Changed(change) => write_change(&mut to, change),
            Self::User(user) => write_user(&mut to, user),
            Self::QueuesBelow(queue) => {
                to.octet(QUEUES_BELOW);
                to.longlong(queue.0);
            }
            Self::Access(fact) => access_fact::write(&mut to, fact),
        }
    }

    /// Decodes the next fact.
    ///
    /// # Errors
    ///
    /// See [`Malformed`].
    pub fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = from.octet()?;
        Ok(match kind {
            USER | HASHED_USER => Self::User(read_user(kind, from)?),
            QUEUES_BELOW => Self::QueuesBelow(QueueId(from.longlong()?)),
            _ => match access_fact::read(kind, from) {
                Some(fact) => Self::Access(fact?),
                None => Self::Changed(read_change(kind, from)?),
            },
        })
    }
}

fn write_change(to: &mut Writer<'_>, change: &Change) {
    let (kind, vhost) = match change {
        Change::VhostCreated(vhost) => (VHOST_CREATED, vhost),
        Change::VhostDeleted(vhost) => (VHOST_DELETED, vhost),
        // Facts about access say these.
        Change::UserDeleted(_)
        | Change::RightsChanged(..)
        | Change::ChannelsCounted(..)
        | Change::AlternatesChanged(..) => return,
        Change::ExchangeCreated(vhost, _) => (EXCHANGE_CREATED, vhost),
        Change::ExchangeDeleted(vhost, _) => (EXCHANGE_DELETED, vhost),
        Change::QueueCreated(vhost, _) => (QUEUE_CREATED, vhost),
        Change::QueueDeleted(vhost, _) => (QUEUE_DELETED, vhost),
        Change::Bound(vhost, _) => (BOUND, vhost),
        Change::Unbound(vhost, _) => (UNBOUND, vhost),
    };
    to.octet(kind);
    write_text(to, vhost);
    match change {
        Change::VhostCreated(_)
        | Change::VhostDeleted(_)
        | Change::UserDeleted(_)
        | Change::RightsChanged(..)
        | Change::ChannelsCounted(..)
        | Change::AlternatesChanged(..) => {}
        Change::ExchangeCreated(_, spec) => write_exchange(to, spec),
        Change::ExchangeDeleted(_, name) | Change::QueueDeleted(_, name) => write_text(to, name),
        Change::QueueCreated(_, spec) => write_queue(to, spec),
        Change::Bound(_, binding) | Change::Unbound(_, binding) => write_binding(to, binding),
    }
}

fn read_change(kind: u8, from: &mut Reader<'_>) -> Result<Change, Malformed> {
    if !(VHOST_CREATED..=UNBOUND).contains(&kind) && kind != VHOST_DELETED {
        return Err(Malformed::Kind(kind));
    }
    let vhost = read_text(from)?;
    Ok(match kind {
        VHOST_CREATED => Change::VhostCreated(vhost),
        VHOST_DELETED => Change::VhostDeleted(vhost),
        EXCHANGE_CREATED => Change::ExchangeCreated(vhost, read_exchange(from)?),
        EXCHANGE_DELETED => Change::ExchangeDeleted(vhost, read_text(from)?),
        QUEUE_CREATED => Change::QueueCreated(vhost, read_queue(from)?),
        QUEUE_DELETED => Change::QueueDeleted(vhost, read_text(from)?),
        BOUND => Change::Bound(vhost, read_binding(from)?),
        UNBOUND => Change::Unbound(vhost, read_binding(from)?),
        other => return Err(Malformed::Kind(other)),
    })
}

fn write_user(to: &mut Writer<'_>, user: &User) {
    to.octet(if user.algorithm == HashAlgorithm::Sha256 { USER } else { HASHED_USER });
    write_text(to, &user.name);
    to.longstr(user.password_hash.expose());
    write_names(to, &user.tags);
    if user.algorithm != HashAlgorithm::Sha256 {
        write_text(to, user.algorithm.name());
    }
}

fn read_user(kind: u8, from: &mut Reader<'_>) -> Result<User, Malformed> {
    let (name, password_hash) = (read_text(from)?, from.longstr()?.into());
    let tags = read_names(from)?;
    let algorithm = match kind {
        USER => HashAlgorithm::Sha256,
        _ => HashAlgorithm::from_name(&read_text(from)?).ok_or(Malformed::Hash)?,
    };
    Ok(User { name, password_hash, algorithm, tags })
}

pub(super) fn write_names(to: &mut Writer<'_>, names: &[Name]) {
    // There are never more than this.
    to.short(names.len() as u16);
    names.iter().for_each(|name| write_text(to, name));
}

pub(super) fn read_names(from: &mut Reader<'_>) -> Result<Vec<Name>, Malformed> {
    // Grows with the bytes read, not with the announced number.
    let mut names = Vec::new();
    for _ in 0..from.short()? {
        names.push(read_text(from)?);
    }
    Ok(names)
}

fn write_exchange(to: &mut Writer<'_>, spec: &ExchangeSpec) {
    write_text(to, &spec.name);
    write_text(to, spec.kind.name());
    to.bit(spec.auto_delete);
    to.bit(spec.internal);
    to.table(spec.arguments.table());
}

fn read_exchange(from: &mut Reader<'_>) -> Result<ExchangeSpec, Malformed> {
    Ok(ExchangeSpec {
        name: read_text(from)?,
        kind: ExchangeKind::from_name(&read_text(from)?).ok_or(Malformed::ExchangeType)?,
        durable: true,
        auto_delete: from.bit()?,
        internal: from.bit()?,
        arguments: from.table()?.into(),
    })
}

fn write_queue(to: &mut Writer<'_>, spec: &QueueSpec) {
    to.longlong(spec.id.0);
    write_text(to, &spec.name);
    to.bit(spec.auto_delete);
    to.bit(spec.server_named);
    to.table(spec.arguments.table());
}

fn read_queue(from: &mut Reader<'_>) -> Result<QueueSpec, Malformed> {
    Ok(QueueSpec {
        id: QueueId(from.longlong()?),
        name: read_text(from)?,
        home: ShardId::default(),
        durable: true,
        auto_delete: from.bit()?,
        owner: None,
        server_named: from.bit()?,
        arguments: from.table()?.into(),
    })
}

fn write_binding(to: &mut Writer<'_>, binding: &Binding) {
    write_text(to, &binding.source);
    let (kind, name) = match &binding.destination {
        Destination::Queue(name) => (TO_QUEUE, name),
        Destination::Exchange(name) => (TO_EXCHANGE, name),
    };
    to.octet(kind);
    write_text(to, name);
    write_text(to, &binding.key);
    to.table(binding.arguments.table());
}

fn read_binding(from: &mut Reader<'_>) -> Result<Binding, Malformed> {
    let source = read_text(from)?;
    let destination = match from.octet()? {
        TO_QUEUE => Destination::Queue(read_text(from)?),
        TO_EXCHANGE => Destination::Exchange(read_text(from)?),
        other => return Err(Malformed::Kind(other)),
    };
    let (key, arguments) = (read_text(from)?, Arguments::from(from.table()?));
    Ok(Binding { source, destination, key, arguments })
}

/// Names of the configuration may be longer than the wire's short strings.
pub(super) fn write_text(to: &mut Writer<'_>, text: &str) {
    to.longstr(text.as_bytes());
}

pub(super) fn read_text(from: &mut Reader<'_>) -> Result<Name, Malformed> {
    std::str::from_utf8(from.longstr()?).map(Name::from).map_err(|_| Malformed::Text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::meta::draw;

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let facts: Vec<_> = (0..20).map(|_| draw::fact(&mut random)).collect();
            let mut bytes = Vec::new();
            facts.iter().for_each(|fact| fact.write(&mut bytes));
            let mut from = Reader::new(&bytes);
            for fact in facts {
                prop_assert_eq!(Fact::read(&mut from), Ok(fact));
            }
            prop_assert!(from.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, kind in 0u8..24) {
            let bytes = [&[kind], &bytes[..]].concat();
            let mut from = Reader::new(&bytes);
            while Fact::read(&mut from).is_ok() {}
        }

        #[test]
        fn a_fact_that_is_cut_is_refused(seed: u64, cut: prop::sample::Index) {
            let mut bytes = Vec::new();
            draw::fact(&mut fastrand::Rng::with_seed(seed)).write(&mut bytes);
            bytes.truncate(cut.index(bytes.len()));
            let cut = Fact::read(&mut Reader::new(&bytes));
            prop_assert_eq!(cut, Err(Malformed::Field(WireError::Truncated)));
        }

        #[test]
        fn a_fact_with_an_byte_changed_is_read_or_refused(
            seed: u64, at: prop::sample::Index, byte: u8,
        ) {
            let mut bytes = Vec::new();
            draw::fact(&mut fastrand::Rng::with_seed(seed)).write(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let mut from = Reader::new(&bytes);
            while Fact::read(&mut from).is_ok() {}
        }
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        assert_eq!(Fact::read(&mut Reader::new(&[77])), Err(Malformed::Kind(77)));
        let not_text = [VHOST_CREATED, 0, 0, 0, 1, 0xFF];
        assert_eq!(Fact::read(&mut Reader::new(&not_text)), Err(Malformed::Text));
    }
}
