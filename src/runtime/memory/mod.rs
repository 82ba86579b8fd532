//! The memory of the whole process: what the kernel says that it has, and how it goes back.

pub mod give_back;
pub mod process;
