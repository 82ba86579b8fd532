//! Which messages arrived, how often and when.

pub mod delivery_account;
pub mod receipts;
pub mod sequence_set;
