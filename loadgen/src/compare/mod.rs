//! `loadgen compare` and `loadgen suite`: the same scenarios against several brokers, in turn.

mod machine;
mod overview;
mod page;
mod plot;
mod result;
mod scale;
mod scenario;
mod standard;
mod table;
mod target;

use std::path::Path;

pub use target::Target;

use crate::ceiling::ceiling;
use crate::churn::churn;
use crate::cli::{CeilingArgs, ChurnArgs, CompareArgs, MessageArgs, Pictures, ReportArgs, RunArgs};
use crate::clock;
use crate::failure::Failure;
use crate::interrupt;
use crate::report::Report;
use crate::run::run;
use result::{Compared, Comparison, Outcome, Stage, TargetInfo};
use scenario::{Load, Scenario, Step};

/// What the relay is called in results.
const RELAY: &str = "relay";
/// What opening, closing and counting take besides the publishing (s); for the estimate only.
const OVERHEAD: f64 = 1.5;

/// Runs everything, prints a table and writes what was asked for. A run that fails is named in the
/// results, and so is a target that does not do what a scenario asks for; the others go on. A
/// signal ends it with the rounds finished until then.
///
/// # Errors
/// A target cannot be reached at the start, a scenario is wrong, a file cannot be written; or runs
/// have failed or a signal came, after everything is written.
pub fn compare(args: &CompareArgs) -> Result<(), Failure> {
    let mut scenarios = match args.scenario.as_slice() {
        [] => scenario::standard()?,
        names => scenario::named(names)?,
    };
    scenarios.iter_mut().for_each(|scenario| prepare(scenario, args));
    let infos = args.target.iter().map(Target::ask).collect::<Result<Vec<_>, _>>()?;
    let mut progress = Progress::new(&scenarios, args);
    let mut comparison = begin(args, infos);
    for scenario in &scenarios {
        let compared = one(scenario, args, &mut progress);
        let ended = interrupt::check();
        comparison.ended = ended.as_ref().err().map(ToString::to_string);
        if ended.is_ok() || compared.has_rounds() {
            eprint!("{}", table::scenario(&compared));
            comparison.scenarios.push(compared);
        }
        // A comparison takes long: what was found is kept whatever comes.
        write(args, &comparison)?;
        if ended.is_err() {
            break;
        }
    }
    print!("{}", table::table(&comparison));
    interrupt::check()?;
    match progress.failed {
        0 => Ok(()),
        failed => Err(Failure::Runs(failed)),
    }
}

fn begin(args: &CompareArgs, targets: Vec<TargetInfo>) -> Comparison {
    Comparison {
        date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        machine: machine::machine(),
        loadgen: env!("CARGO_PKG_VERSION").to_owned(),
        rounds: args.rounds.into(),
        ended: None,
        targets,
        scenarios: Vec::new(),
    }
}

/// Lets what all runs have in common apply where a scenario does not say otherwise.
fn prepare(scenario: &mut Scenario, args: &CompareArgs) {
    for step in &mut scenario.steps {
        let says = |flag: &str| step.flags.iter().any(|word| word == flag);
        let (timed, warm) = (says("--time"), says("--warmup"));
        match &mut step.load {
            Load::Run(run) => {
                // A backlog is drained to its end, and measured from its start.
                let drains = run.drains();
                let message = &mut run.message;
                if !timed && !drains && message.time.is_some() {
                    message.warmup = if warm { message.warmup } else { args.warmup };
                    message.time = Some(args.seconds + message.warmup);
                }
                message.cpus.clone_from(&args.cpus);
                message.quiet = true;
            }
            Load::Churn(churn) if !timed => {
                churn.warmup = if warm { churn.warmup } else { args.warmup };
                churn.time = args.seconds + churn.warmup;
            }
            Load::Churn(_) => {}
        }
    }
}

fn one(scenario: &Scenario, args: &CompareArgs, progress: &mut Progress) -> Compared {
    let stages = || scenario.steps.iter().map(|step| Stage { at: step.at, ..Stage::default() });
    let outcome = |target: &str| Outcome { target: target.to_owned(), steps: stages().collect() };
    let mut results: Vec<Outcome> = args.target.iter().map(|one| outcome(&one.name)).collect();
    let mut relay = scenario.ceiling.then(|| outcome(RELAY));
    for (number, step) in scenario.steps.iter().enumerate() {
        for _ in 0..args.rounds {
            for (target, outcome) in args.target.iter().zip(&mut results) {
                let stage = &mut outcome.steps[number];
                progress.run(scenario, step, &target.name, stage, || load(step, target));
            }
            if let Some(relay) = &mut relay {
                let stage = &mut relay.steps[number];
                progress.run(scenario, step, RELAY, stage, || through_relay(step, args));
            }
        }
    }
    for outcome in results.iter_mut().chain(&mut relay) {
        outcome.steps.iter_mut().for_each(|stage| stage.conclude(scenario.figure));
    }
    Compared {
        name: scenario.name.clone(),
        title: scenario.title.clone(),
        about: scenario.about.clone(),
        figure: scenario.figure,
        flags: flags(scenario),
        swept: scenario.swept.clone(),
        results,
        ceiling: relay,
    }
}

fn load(step: &Step, target: &Target) -> Result<Report, Failure> {
    match &step.load {
        Load::Run(args) => {
            let (uri, broker_pid) = (target.uri.clone(), target.pid);
            run(&RunArgs { uri, broker_pid, ..RunArgs::clone(args) })?.complete()
        }
        Load::Churn(args) => {
            let (uri, broker_pid) = (target.uri.clone(), target.pid);
            churn(&ChurnArgs { uri, broker_pid, ..args.clone() })?.complete()
        }
    }
}

fn through_relay(step: &Step, args: &CompareArgs) -> Result<Report, Failure> {
    let Load::Run(run) = &step.load else {
        return Err(Failure::Settings("a churn has no ceiling".to_owned()));
    };
    let message = MessageArgs { queue: None, ..run.message.clone() };
    let relay_cpus = args.relay_cpus.clone();
    let (confirm, sink, source, sync, batch) = (None, false, false, None, 1);
    ceiling(&CeilingArgs { message, confirm, relay_cpus, sink, source, sync, batch })?.complete()
}

/// The flags without the swept one, which is the last.
fn flags(scenario: &Scenario) -> String {
    let words = scenario.steps.first().map_or(&[][..], |step| &step.flags);
    let swept = if scenario.swept.is_some() { 2 } else { 0 };
    let words = &words[..words.len().saturating_sub(swept)];
    format!("{} {}", scenario.command, words.join(" "))
}

fn write(args: &CompareArgs, comparison: &Comparison) -> Result<(), Failure> {
    if let Some(path) = &args.json {
        let text = serde_json::to_string(comparison)
            .map_err(|error| Failure::io("cannot write the JSON")(error.into()))?;
        write_file(path, &text)?;
    }
    draw(&args.pictures, comparison)
}

/// Draws the report of an earlier comparison again.
///
/// # Errors
/// The file cannot be read or is not the JSON of a comparison; a picture cannot be written.
pub fn report(args: &ReportArgs) -> Result<(), Failure> {
    let failed = |source| Failure::File { path: args.file.clone(), source };
    let text = std::fs::read_to_string(&args.file).map_err(failed)?;
    let comparison: Comparison = serde_json::from_str(&text).map_err(|error| {
        let path = args.file.display();
        Failure::Settings(format!("{path} is not what --json of a comparison writes: {error}"))
    })?;
    print!("{}", table::table(&comparison));
    draw(&args.pictures, &comparison)
}

fn draw(pictures: &Pictures, comparison: &Comparison) -> Result<(), Failure> {
    if let Some(path) = &pictures.html {
        write_file(path, &page::page(comparison)?)?;
    }
    let svg = pictures.svg.as_ref().zip(overview::picture(comparison));
    svg.map_or(Ok(()), |(path, svg)| write_file(path, &svg))
}

/// Whole or not at all: who opens the report meanwhile sees the last whole one.
fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let fresh = path.with_extension("part");
    let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, path));
    written.map_err(|source| Failure::File { path: path.to_owned(), source })
}

/// How far a comparison is, told before each run.
struct Progress {
    begun: u64,
    done: f64,
    all: f64,
    number: usize,
    count: usize,
    failed: usize,
}

impl Progress {
    fn new(scenarios: &[Scenario], args: &CompareArgs) -> Self {
        let (mut all, mut count) = (0.0, 0);
        for scenario in scenarios {
            let targets = args.target.len() + usize::from(scenario.ceiling);
            let runs = targets * usize::from(args.rounds);
            count += runs * scenario.steps.len();
            all += scenario.steps.iter().map(expected).sum::<f64>() * runs as f64;
        }
        let minutes = (all / 60.0).ceil();
        eprintln!("{} scenarios, {count} runs, about {minutes:.0} minutes", scenarios.len());
        Self { begun: clock::now(), done: 0.0, all, number: 0, count, failed: 0 }
    }

    /// Makes one run, unless the target has refused it before or a signal came, and keeps what
    /// came of it.
    fn run(
        &mut self,
        scenario: &Scenario,
        step: &Step,
        target: &str,
        stage: &mut Stage,
        run: impl FnOnce() -> Result<Report, Failure>,
    ) {
        self.number += 1;
        if stage.unsupported.is_some() || interrupt::came() {
            self.all -= expected(step);
            return;
        }
        let at = step.at.map_or(String::new(), |at| format!(" at {}", scale::short(at)));
        let left = self.left();
        let (number, count, name) = (self.number, self.count, &scenario.name);
        eprintln!("[{number}/{count}, {left:.0} s left] {name}{at}: {target}");
        let report = run();
        self.done += expected(step);
        match report {
            Ok(report) => stage.runs.push(report),
            // Half a round is none.
            Err(Failure::Interrupted(_)) => {}
            Err(failure) => match failure.refusal() {
                Some(sentence) => {
                    eprintln!("  not supported: {sentence}");
                    stage.unsupported = Some(sentence);
                    // It took no time, and says nothing about the others.
                    self.all -= expected(step);
                    self.done -= expected(step);
                }
                None => {
                    self.failed += 1;
                    eprintln!("  failed: {failure}");
                    stage.failures.push(failure.to_string());
                }
            },
        }
    }

    /// As long as the rest was expected to take, or as the beginning has taken.
    fn left(&self) -> f64 {
        let spent = (clock::now() - self.begun) as f64 / clock::SECOND as f64;
        let pace = if self.done > 30.0 { spent / self.done } else { 1.0 };
        (self.all - self.done) * pace
    }
}

/// How long a run should take (s).
fn expected(step: &Step) -> f64 {
    let bounded_by_counts = 5.0;
    OVERHEAD + step.load.seconds().unwrap_or(bounded_by_counts)
}
