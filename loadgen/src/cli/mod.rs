//! The command line.

pub mod ceiling;
pub mod checks;
pub mod churn;
pub mod commands;
pub mod compare;
pub mod connections;
pub mod consumers;
pub mod message;
pub mod run;
pub mod target;
pub mod traffic;
