//! What messages look like and where they are routed.

pub mod bindings;
pub mod body_sizes;
pub mod delivery;
pub mod pseudo_random;
pub mod publish_template;
pub mod routing_keys;
pub mod stamp;
pub mod timed_value;
