//! The shell.
pub mod bell;
pub mod mesh;
pub mod sys;
