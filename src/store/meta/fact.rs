//! One durable fact, and how it is written down.

use amqp::{Reader, WireError, Writer};
use model::spec::{Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec};
use model::topology::Change;
use model::{Arguments, QueueId, ShardId};

/// Something that is so from now on, after a restart too.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The topology changed. Of a queue neither home nor owner is kept: it is durable and has no
    /// owner, and a home is chosen at every start.
    Changed(Change),
    /// A user was made or changed.
    User(User),
    /// Only queues with a smaller identity can have been made.
    QueuesBelow(QueueId),
}

/// A user as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Who it is.
    pub name: Name,
    /// base64(salt ++ sha256(salt ++ password)).
    pub password_hash: Name,
    /// What it may do besides using a vhost, by RabbitMQ's names.
    pub tags: Vec<Name>,
}

/// Why octets are no fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field is not what it has to be.
    #[error(transparent)]
    Field(#[from] WireError),
    /// A name is not UTF-8.
    #[error("a name that is not UTF-8")]
    Text,
    /// A number stands for no kind of fact, or of something in it.
    #[error("{0} stands for nothing known")]
    Kind(u8),
    /// An exchange's type has a name that is not known.
    #[error("an exchange of unknown type")]
    ExchangeType,
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
        }
    }

    /// The next fact.
    ///
    /// # Errors
    ///
    /// See [`Malformed`].
    pub fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = from.octet()?;
        Ok(match kind {
            USER => Self::User(read_user(from)?),
            QUEUES_BELOW => Self::QueuesBelow(QueueId(from.longlong()?)),
            _ => Self::Changed(read_change(kind, from)?),
        })
    }
}

fn write_change(to: &mut Writer<'_>, change: &Change) {
    let (kind, vhost) = match change {
        Change::VhostCreated(vhost) => (VHOST_CREATED, vhost),
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
        Change::VhostCreated(_) => {}
        Change::ExchangeCreated(_, spec) => write_exchange(to, spec),
        Change::ExchangeDeleted(_, name) | Change::QueueDeleted(_, name) => write_text(to, name),
        Change::QueueCreated(_, spec) => write_queue(to, spec),
        Change::Bound(_, binding) | Change::Unbound(_, binding) => write_binding(to, binding),
    }
}

fn read_change(kind: u8, from: &mut Reader<'_>) -> Result<Change, Malformed> {
    if !(VHOST_CREATED..=UNBOUND).contains(&kind) {
        return Err(Malformed::Kind(kind));
    }
    let vhost = read_text(from)?;
    Ok(match kind {
        VHOST_CREATED => Change::VhostCreated(vhost),
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
    to.octet(USER);
    write_text(to, &user.name);
    write_text(to, &user.password_hash);
    // More tags than that cannot be given.
    to.short(user.tags.len() as u16);
    user.tags.iter().for_each(|tag| write_text(to, tag));
}

fn read_user(from: &mut Reader<'_>) -> Result<User, Malformed> {
    let (name, password_hash) = (read_text(from)?, read_text(from)?);
    // Grows with what is read, not with what is announced.
    let mut tags = Vec::new();
    for _ in 0..from.short()? {
        tags.push(read_text(from)?);
    }
    Ok(User { name, password_hash, tags })
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
fn write_text(to: &mut Writer<'_>, text: &str) {
    to.longstr(text.as_bytes());
}

fn read_text(from: &mut Reader<'_>) -> Result<Name, Malformed> {
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
            let mut octets = Vec::new();
            facts.iter().for_each(|fact| fact.write(&mut octets));
            let mut from = Reader::new(&octets);
            for fact in facts {
                prop_assert_eq!(Fact::read(&mut from), Ok(fact));
            }
            prop_assert!(from.is_empty());
        }

        #[test]
        fn any_octets_are_read_or_refused(octets: Vec<u8>, kind in 0u8..11) {
            let octets = [&[kind], &octets[..]].concat();
            let mut from = Reader::new(&octets);
            while Fact::read(&mut from).is_ok() {}
        }

        #[test]
        fn a_fact_that_is_cut_is_refused(seed: u64, cut: prop::sample::Index) {
            let mut octets = Vec::new();
            draw::fact(&mut fastrand::Rng::with_seed(seed)).write(&mut octets);
            octets.truncate(cut.index(octets.len()));
            let cut = Fact::read(&mut Reader::new(&octets));
            prop_assert_eq!(cut, Err(Malformed::Field(WireError::Truncated)));
        }

        #[test]
        fn a_fact_with_an_octet_changed_is_read_or_refused(
            seed: u64, at: prop::sample::Index, octet: u8,
        ) {
            let mut octets = Vec::new();
            draw::fact(&mut fastrand::Rng::with_seed(seed)).write(&mut octets);
            let at = at.index(octets.len());
            octets[at] = octet;
            let mut from = Reader::new(&octets);
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
