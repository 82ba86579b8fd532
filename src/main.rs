//! The broker's process: reads what it is told, serves, and says with its exit code how that went.
//!
//! 0: asked to stop and stopped. 1: cannot run. 2: told something wrong.

use std::env;
use std::fs;
use std::process::ExitCode;

use ringtail::config::{Config, ConfigError};
use ringtail::runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for wrong options, as clap's own.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let env = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    match Config::load(env::args_os(), &env, &|path| fs::read_to_string(path)) {
        Ok(config) => runtime::serve(&config),
        // Help and the version too: clap knows where each belongs and its exit code.
        Err(ConfigError::Flags(answer)) => answer.exit(),
        Err(refused) => {
            eprintln!("error: {refused}");
            ExitCode::from(WRONG)
        }
    }
}
