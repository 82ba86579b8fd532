//! Scenarios: files with the flags of `loadgen run` or `loadgen churn` and the figure to compare.
//!
//! ```toml
//! title = "One queue, flat out, 16 B"
//! about = "Messages from one publisher to one consumer as fast as possible."
//! figure = "received"         # or sent, latency, confirm-latency, operations
//! ceiling = true              # the relay runs as well
//!
//! [run]                       # long flags of loadgen run; [churn]: of loadgen churn
//! producers = 1
//! size = 16
//! autoack = true
//!
//! [sweep]                     # one run for each value of a flag
//! flag = "rate"
//! values = [1000, 10000]
//! ```

use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use serde::{Deserialize, Serialize};

use crate::cli::churn::ChurnArgs;
use crate::cli::commands::{Cli, CliCommand};
use crate::cli::run::RunArgs;
use crate::system::error::LoadgenError;

use super::standard::STANDARD;

/// The figure that a scenario compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScenarioFigure {
    /// Messages received per second.
    Received,
    /// Messages sent per second.
    Sent,
    /// The 99th percentile of the end-to-end latency.
    Latency,
    /// The 99th percentile of the confirm latency.
    ConfirmLatency,
    /// Operations per second of a churn run.
    Operations,
}

/// A scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The file name without extension.
    pub name: String,
    /// The title.
    pub title: String,
    /// What it measures.
    pub about: String,
    /// The figure to compare.
    pub figure: ScenarioFigure,
    /// The command of loadgen that the flags belong to.
    pub command: &'static str,
    /// True if the relay runs as well.
    pub ceiling: bool,
    /// The swept flag.
    pub swept: Option<String>,
    /// The runs, one unless a flag is swept.
    pub steps: Vec<ScenarioStep>,
}

/// One run of a scenario.
#[derive(Debug, Clone)]
pub struct ScenarioStep {
    /// The value of the swept flag.
    pub at: Option<f64>,
    /// The flags as on a command line.
    pub flags: Vec<String>,
    /// The parsed flags.
    pub load: ScenarioLoad,
}

/// The parsed flags of a run.
#[derive(Debug, Clone)]
pub enum ScenarioLoad {
    /// Flags of `loadgen run`.
    Run(Box<RunArgs>),
    /// Flags of `loadgen churn`.
    Churn(ChurnArgs),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    title: String,
    about: String,
    figure: ScenarioFigure,
    #[serde(default)]
    ceiling: bool,
    run: Option<toml::Table>,
    churn: Option<toml::Table>,
    sweep: Option<FlagSweep>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlagSweep {
    flag: String,
    values: Vec<f64>,
}

/// The standard scenarios.
///
/// # Errors
/// A file of the set is wrong; a test checks all of them.
pub fn standard() -> Result<Vec<Scenario>, LoadgenError> {
    STANDARD.iter().map(|(name, text)| parse(name, text)).collect()
}

/// The scenarios with these names, or in these files.
///
/// # Errors
/// There is no such scenario, or it is wrong.
pub fn named(names: &[String]) -> Result<Vec<Scenario>, LoadgenError> {
    names.iter().map(|name| named_or_file(name)).collect()
}

fn named_or_file(name: &str) -> Result<Scenario, LoadgenError> {
    if let Some((name, text)) = STANDARD.iter().find(|(known, _)| *known == name) {
        return parse(name, text);
    }
    let path = PathBuf::from(name);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let known: Vec<&str> = STANDARD.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        LoadgenError::Settings(format!(
            "no scenario {name}: {error}. Name a file, or one of {known}"
        ))
    })?;
    parse(&stem(&path), &text)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn parse(name: &str, text: &str) -> Result<Scenario, LoadgenError> {
    let wrong = |why: &dyn std::fmt::Display| {
        LoadgenError::Settings(format!("scenario {name}: {}", why.to_string().trim_end()))
    };
    let file: ScenarioFile = toml::from_str(text).map_err(|error| wrong(&error))?;
    let (command, table) = match (&file.run, &file.churn) {
        (Some(run), None) => ("run", run),
        (None, Some(churn)) => ("churn", churn),
        _ => return Err(wrong(&"exactly one of [run] and [churn] is needed")),
    };
    let flags = flags(command, table).map_err(|why| wrong(&why))?;
    let steps = match &file.sweep {
        None => vec![step(command, None, flags)],
        Some(sweep) => sweep
            .values
            .iter()
            .map(|value| {
                let swept = [format!("--{}", sweep.flag), value.to_string()];
                let flags = flags.iter().cloned().chain(swept).collect();
                step(command, Some(*value), flags)
            })
            .collect(),
    };
    Ok(Scenario {
        name: name.to_owned(),
        title: file.title,
        about: file.about,
        figure: file.figure,
        command,
        ceiling: file.ceiling,
        swept: file.sweep.map(|sweep| sweep.flag),
        steps: steps.into_iter().collect::<Result<_, _>>().map_err(|why| wrong(&why))?,
    })
}

fn step(command: &str, at: Option<f64>, flags: Vec<String>) -> Result<ScenarioStep, String> {
    let words = ["loadgen", command].into_iter().chain(flags.iter().map(String::as_str));
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let text_of = |failure: LoadgenError| failure.to_string();
    let load = match cli.command {
        CliCommand::Run(mut args) => {
            args.check().map_err(text_of)?;
            ScenarioLoad::Run(args)
        }
        CliCommand::Churn(args) => {
            args.check().map_err(text_of)?;
            ScenarioLoad::Churn(args)
        }
        _ => return Err("only flags of loadgen run and loadgen churn are allowed".to_owned()),
    };
    Ok(ScenarioStep { at, flags, load })
}

impl ScenarioLoad {
    /// How long it publishes or churns (s), if time is its limit.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        match self {
            ScenarioLoad::Run(args) => args.message.time.filter(|_| !args.drains()),
            ScenarioLoad::Churn(args) => Some(args.time),
        }
    }
}

/// The same flags as words of a command line.
fn flags(command: &str, table: &toml::Table) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for (name, value) in table {
        match value {
            toml::Value::Boolean(set) if is_switch(command, name) => {
                words.extend(set.then(|| format!("--{name}")));
            }
            value => words.extend([format!("--{name}"), word(name, value)?]),
        }
    }
    Ok(words)
}

/// True if a flag takes no value.
fn is_switch(command: &str, name: &str) -> bool {
    let cli = Cli::command();
    let command = cli.find_subcommand(command);
    let mut flags = command.into_iter().flat_map(clap::Command::get_arguments);
    let flag = flags.find(|flag| flag.get_long() == Some(name));
    flag.is_some_and(|flag| !flag.get_action().takes_values())
}

fn word(name: &str, value: &toml::Value) -> Result<String, String> {
    Ok(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(yes) => yes.to_string(),
        toml::Value::Array(list) => {
            let words = list.iter().map(|value| word(name, value));
            words.collect::<Result<Vec<_>, _>>()?.join(",")
        }
        _ => {
            return Err(format!(
                "{name} = {value} is neither a string, a boolean, a number nor a list"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "title = 'T'\nabout = 'A'\nfigure = 'received'\n";

    #[test]
    fn every_standard_scenario_is_valid() {
        let all = standard().unwrap();
        assert!(!all.is_empty());
        let names: std::collections::BTreeSet<_> = all.iter().map(|one| &one.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|one| !one.steps.is_empty() && !one.about.is_empty()));
    }

    #[test]
    fn keys_are_flags() {
        let text = format!(
            "{EXAMPLE}[run]\nproducers = 2\nautoack = true\nspin = false\nauto-delete = true\n\
             flag = ['persistent', 'mandatory']\n[sweep]\nflag = 'rate'\nvalues = [10, 20.5]\n"
        );
        let scenario = parse("x", &text).unwrap();
        assert_eq!(scenario.steps.len(), 2);
        let ScenarioStep { at, load: ScenarioLoad::Run(args), .. } = &scenario.steps[1] else {
            panic!("a run")
        };
        assert_eq!((*at, args.message.rate), (Some(20.5), Some(20.5)));
        assert!(args.autoack && args.auto_delete && !args.message.spin);
        assert_eq!((args.producers, args.message.flag.len()), (2, 2));
    }

    #[test]
    fn errors_name_the_cause() {
        for (text, expected) in [
            (format!("{EXAMPLE}[run]\nproducer = 1"), "--producer"),
            (format!("{EXAMPLE}[run]\nsize = 3"), "--size"),
            (format!("{EXAMPLE}colour = 1\n[run]"), "colour"),
            (format!("{EXAMPLE}[run]\n[churn]"), "exactly one"),
            (format!("{EXAMPLE}[churn]\nkind = 'cat'"), "cat"),
            (format!("{EXAMPLE}[run]\nsize = 1979-05-27"), "size"),
        ] {
            let failure = parse("x", &text).unwrap_err().to_string();
            assert!(failure.contains("scenario x: ") && failure.contains(expected), "{failure}");
        }
        assert!(named(&["nowhere".to_owned()]).unwrap_err().to_string().contains("nowhere"));
    }
}
