//! Scenarios: files that name a load by the flags of `loadgen run`, and say which figure counts.
//!
//! ```toml
//! title = "One queue, flat out, 16 B"
//! about = "Messages from one publisher to one consumer as fast as it goes."
//! figure = "received"         # or sent, latency, confirm-latency
//! ceiling = true              # the relay runs as well
//!
//! [run]                       # long flags of loadgen run
//! producers = 1
//! size = 16
//! autoack = true
//!
//! [sweep]                     # one more run for each value of a flag
//! flag = "rate"
//! values = [1000, 10000]
//! ```

use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use serde::{Deserialize, Serialize};

use crate::cli::{Cli, Command, RunArgs};
use crate::failure::Failure;

use super::standard::STANDARD;

/// What a scenario is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// Messages received a second.
    Received,
    /// Messages sent a second.
    Sent,
    /// The 99th percentile from end to end.
    Latency,
    /// The 99th percentile until the confirm.
    ConfirmLatency,
    /// Operations of a churn mode a second.
    Operations,
}

/// A load, and what counts in it.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// A line for people.
    pub title: String,
    /// What it shows.
    pub about: String,
    /// What it is judged by.
    pub figure: Figure,
    /// Whether the relay runs as well.
    pub ceiling: bool,
    /// The flag that is swept.
    pub swept: Option<String>,
    /// The runs, one unless a flag is swept.
    pub steps: Vec<Step>,
}

/// One run of a scenario.
#[derive(Debug, Clone)]
pub struct Step {
    /// The value of the swept flag.
    pub at: Option<f64>,
    /// As on a command line.
    pub flags: Vec<String>,
    /// What `flags` mean.
    pub args: RunArgs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    about: String,
    figure: Figure,
    #[serde(default)]
    ceiling: bool,
    run: toml::Table,
    sweep: Option<Sweep>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sweep {
    flag: String,
    values: Vec<f64>,
}

/// The standard set.
///
/// # Errors
/// A file of the set is wrong; a test sees to it that none is.
pub fn standard() -> Result<Vec<Scenario>, Failure> {
    STANDARD.iter().map(|(name, text)| parse(name, text)).collect()
}

/// The scenarios with these names, or in these files.
///
/// # Errors
/// There is no such scenario, or it is wrong.
pub fn named(names: &[String]) -> Result<Vec<Scenario>, Failure> {
    names.iter().map(|name| one(name)).collect()
}

fn one(name: &str) -> Result<Scenario, Failure> {
    if let Some((name, text)) = STANDARD.iter().find(|(known, _)| *known == name) {
        return parse(name, text);
    }
    let path = PathBuf::from(name);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let known: Vec<&str> = STANDARD.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        Failure::Settings(format!("no scenario {name}: {error}. Name a file, or one of {known}"))
    })?;
    parse(&stem(&path), &text)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn parse(name: &str, text: &str) -> Result<Scenario, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::Settings(format!("scenario {name}: {}", why.to_string().trim_end()))
    };
    let file: File = toml::from_str(text).map_err(|error| wrong(&error))?;
    let flags = flags(&file.run).map_err(|why| wrong(&why))?;
    let steps = match &file.sweep {
        None => vec![step(None, flags)],
        Some(sweep) => sweep
            .values
            .iter()
            .map(|value| {
                let swept = [format!("--{}", sweep.flag), value.to_string()];
                step(Some(*value), flags.iter().cloned().chain(swept).collect())
            })
            .collect(),
    };
    Ok(Scenario {
        name: name.to_owned(),
        title: file.title,
        about: file.about,
        figure: file.figure,
        ceiling: file.ceiling,
        swept: file.sweep.map(|sweep| sweep.flag),
        steps: steps.into_iter().collect::<Result<_, _>>().map_err(|why| wrong(&why))?,
    })
}

fn step(at: Option<f64>, flags: Vec<String>) -> Result<Step, String> {
    let words = ["loadgen", "run"].into_iter().chain(flags.iter().map(String::as_str));
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let Command::Run(mut args) = cli.command else {
        return Err("flags of loadgen run are expected".to_owned());
    };
    args.check().map_err(|failure| failure.to_string())?;
    Ok(Step { at, flags, args: *args })
}

/// The words of a command line that mean the same.
fn flags(table: &toml::Table) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for (name, value) in table {
        match value {
            toml::Value::Boolean(set) if is_switch(name) => {
                words.extend(set.then(|| format!("--{name}")));
            }
            value => words.extend([format!("--{name}"), word(name, value)?]),
        }
    }
    Ok(words)
}

/// Whether a flag stands alone.
fn is_switch(name: &str) -> bool {
    let command = Cli::command();
    let run = command.find_subcommand("run");
    let flag = run.and_then(|run| run.get_arguments().find(|arg| arg.get_long() == Some(name)));
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
        _ => return Err(format!("{name} = {value} is neither a text, a number nor a list")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "title = 'T'\nabout = 'A'\nfigure = 'received'\n";

    #[test]
    fn every_scenario_of_the_standard_set_is_right() {
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
        let last = &scenario.steps[1];
        assert_eq!((last.at, last.args.message.rate), (Some(20.5), Some(20.5)));
        assert!(last.args.autoack && last.args.auto_delete && !last.args.message.spin);
        assert_eq!((last.args.producers, last.args.message.flag.len()), (2, 2));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            (format!("{EXAMPLE}[run]\nproducer = 1"), "--producer"),
            (format!("{EXAMPLE}[run]\nsize = 3"), "--size"),
            (format!("{EXAMPLE}colour = 1\n[run]"), "colour"),
            (format!("{EXAMPLE}[run]\nsize = 1979-05-27"), "size"),
        ] {
            let failure = parse("x", &text).unwrap_err().to_string();
            assert!(failure.contains("scenario x: ") && failure.contains(expected), "{failure}");
        }
        assert!(named(&["nowhere".to_owned()]).unwrap_err().to_string().contains("nowhere"));
    }
}
