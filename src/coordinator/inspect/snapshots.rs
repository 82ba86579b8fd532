//! Lists of what the coordinator knows, in chunks, so that a long list never holds up the machine.
//!
//! Each list has an order that does not depend on the copy it is read from. A call returns at most
//! so many items behind a cursor, and the cursor of the next call, `None` at the end. An object
//! that exists during all calls is listed exactly once; one that is created or deleted between two
//! calls may be missing. A chunk costs at most a constant, besides a sort of the vhosts' names.

use model::topology::Vhost;
use model::topology::spec::Destination;
use model::{Arguments, Exchange, Name, QueueId};

use crate::coordinator::directory::{DirectoryEntry, QueueStage};
use crate::coordinator::machine::Coordinator;
use crate::mesh::inspect::{
    BindingListing, ExchangeCursor, ExchangeListing, ListChunk, QueueListing, RowsOf, UserListing,
    chunk_of, name_bytes,
};
use crate::store::meta::User;

impl Coordinator {
    /// The vhosts by name.
    #[must_use]
    pub fn snapshot_vhosts(&self, behind: Option<&Name>, most: usize) -> ListChunk<Name, Name> {
        let names = self.vhosts_from(behind).into_iter().map(|(name, _)| name);
        let names = names.filter(|name| behind.is_none_or(|behind| **name != **behind));
        let walk = RowsOf {
            row: |name: &&str| Some(Name::from(*name)),
            cursor: |name: &&str| Name::from(*name),
            bytes: |name: &Name| name.len(),
        };
        chunk_of(most, names, walk)
    }

    /// The users by name.
    #[must_use]
    pub fn snapshot_users(
        &self,
        behind: Option<&Name>,
        most: usize,
    ) -> ListChunk<UserListing, Name> {
        let walk = RowsOf {
            row: |user: &&User| {
                Some(UserListing { name: user.name.clone(), tags: user.tags.clone() })
            },
            cursor: |user: &&User| user.name.clone(),
            bytes: |user: &UserListing| {
                user.name.len() + name_bytes(&user.tags.iter().collect::<Vec<_>>())
            },
        };
        chunk_of(most, self.admin.users.behind(behind), walk)
    }

    /// The queues by id, without those that are being created or deleted.
    #[must_use]
    pub fn snapshot_queues(
        &self,
        behind: Option<QueueId>,
        most: usize,
    ) -> ListChunk<QueueListing, QueueId> {
        let first = behind.map_or(QueueId::default(), |QueueId(id)| QueueId(id.saturating_add(1)));
        let walk = RowsOf {
            row: |entry: &&DirectoryEntry| {
                let listing =
                    || QueueListing { vhost: entry.vhost.clone(), spec: entry.spec.clone() };
                (entry.stage == QueueStage::Ready).then(listing)
            },
            cursor: |entry: &&DirectoryEntry| entry.spec.id,
            bytes: |QueueListing { vhost, spec }: &QueueListing| {
                name_bytes(&[vhost, &spec.name]) + argument_bytes(&spec.arguments)
            },
        };
        chunk_of(most, self.queues.directory.from(first), walk)
    }

    /// The exchanges by vhost and, in a vhost, by an order that creations and deletions do not
    /// change for those that stay.
    #[must_use]
    pub fn snapshot_exchanges(
        &self,
        from: Option<&ExchangeCursor>,
        most: usize,
    ) -> ListChunk<ExchangeListing, ExchangeCursor> {
        let vhosts = self.vhosts_from(from.map(|from| &from.vhost));
        let slots = vhosts.into_iter().flat_map(|(name, vhost)| {
            let slot = from.filter(|from| *from.vhost == *name).map_or(0, |from| from.slot);
            vhost.exchange_slots_from(slot).map(move |(slot, exchange)| (name, slot, exchange))
        });
        let walk = RowsOf {
            row: |(name, _, exchange): &SlotOf<'_>| {
                let exchange = (*exchange)?;
                let (spec, bindings) = (exchange.spec.clone(), exchange.bindings());
                Some(ExchangeListing { vhost: (*name).into(), spec, bindings })
            },
            cursor: |(name, slot, _): &SlotOf<'_>| ExchangeCursor {
                vhost: (*name).into(),
                slot: slot + 1,
            },
            bytes: |ExchangeListing { vhost, spec, .. }: &ExchangeListing| {
                name_bytes(&[vhost, &spec.name]) + argument_bytes(&spec.arguments)
            },
        };
        chunk_of(most, slots, walk)
    }

    /// The bindings by vhost, destination, source, key and arguments.
    #[must_use]
    pub fn snapshot_bindings(
        &self,
        behind: Option<&BindingListing>,
        most: usize,
    ) -> ListChunk<BindingListing, BindingListing> {
        let vhosts = self.vhosts_from(behind.map(|behind| &behind.vhost));
        let bindings = vhosts.into_iter().flat_map(|(name, vhost)| {
            let behind = behind.filter(|behind| *behind.vhost == *name);
            let bindings = vhost.bindings_behind(behind.map(|behind| &behind.binding));
            bindings.map(move |binding| BindingListing { vhost: name.into(), binding })
        });
        let walk = RowsOf {
            row: |listing: &BindingListing| Some(listing.clone()),
            cursor: BindingListing::clone,
            bytes: |BindingListing { vhost, binding }: &BindingListing| {
                let (Destination::Queue(to) | Destination::Exchange(to)) = &binding.destination;
                let names = name_bytes(&[vhost, &binding.source, to, &binding.key]);
                names + argument_bytes(&binding.arguments)
            },
        };
        chunk_of(most, bindings, walk)
    }

    /// The vhosts by name, from one on.
    fn vhosts_from(&self, first: Option<&Name>) -> Vec<(&str, &Vhost)> {
        let vhosts = self.topology().vhosts();
        let mut vhosts: Vec<_> =
            vhosts.filter(|(name, _)| first.is_none_or(|first| **name >= **first)).collect();
        vhosts.sort_unstable_by_key(|(name, _)| *name);
        vhosts
    }
}

/// A slot of a vhost, and the exchange that is in it.
type SlotOf<'a> = (&'a str, u32, Option<&'a Exchange>);

fn argument_bytes(arguments: &Arguments) -> usize {
    arguments.table().encoded().len()
}
