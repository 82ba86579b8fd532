//! Routing.
fn main() {}
