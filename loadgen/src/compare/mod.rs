//! `loadgen compare` and `loadgen suite`: the same scenarios against several brokers, in turn.

pub mod command;
pub mod machine;
pub mod overview;
pub mod page;
pub mod plot;
pub mod result;
pub mod scale;
pub mod scenario;
pub mod standard;
pub mod table;
