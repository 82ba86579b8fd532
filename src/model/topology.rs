//! Which exchanges, queues and bindings there are, the same on every shard.

use crate::spec::{Binding, ExchangeSpec, Name, QueueSpec};

/// One step from a version of the topology to the next.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A vhost with its default exchanges.
    VhostCreated(Name),
    /// An exchange, in a vhost.
    ExchangeCreated(Name, ExchangeSpec),
    /// An exchange by name, in a vhost, with every binding from or to it.
    ExchangeDeleted(Name, Name),
    /// A queue, in a vhost.
    QueueCreated(Name, QueueSpec),
    /// A queue by name, in a vhost, with every binding to it.
    QueueDeleted(Name, Name),
    /// A binding, in a vhost.
    Bound(Name, Binding),
    /// No longer a binding, in a vhost.
    Unbound(Name, Binding),
}
