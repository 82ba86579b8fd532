//! Tests of the classic queue as a whole.

mod consumers_test;
mod deduplication_test;
mod hold_test;
mod limits_test;
mod priorities_test;
mod store_test;
mod timeouts_test;
