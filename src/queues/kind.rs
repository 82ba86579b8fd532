//! From a declared queue to its kind.

use model::queue::KindName;
use model::{Arguments, QueueKind, QueueSpec, Seed};

/// A new queue of the kind that the spec asks for.
pub(super) fn create(spec: &QueueSpec, seed: Seed) -> QueueKind {
    // An exclusive queue does not outlive its connection.
    let durable = spec.durable && spec.owner.is_none();
    let kind = kind(&spec.arguments);
    QueueKind::new(kind, spec.id, durable, spec.auto_delete, seed)
}

/// The kind that `x-queue-type` names. A declare with a type that is not built is refused before.
fn kind(arguments: &Arguments) -> KindName {
    let name = arguments.table().get("x-queue-type").and_then(|value| value.as_str());
    name.and_then(KindName::from_name).unwrap_or_default()
}
