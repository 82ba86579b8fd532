//! What a run found, as a table or as JSON.

pub mod baselines;
pub mod figures;
pub mod load_report;
pub mod message_account;
pub mod run_totals;
