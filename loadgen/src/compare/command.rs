//! `loadgen compare`, `loadgen suite` and `loadgen report`.

use std::path::Path;

use super::result::{Comparison, ScenarioResult, StepResult, TargetInfo, TargetResult};
use super::scenario::{Scenario, ScenarioLoad, ScenarioStep};
use super::{machine, overview, page, scale, scenario, table};
use crate::baseline::ceiling::ceiling;
use crate::churn::churn;
use crate::cli::ceiling::CeilingArgs;
use crate::cli::churn::ChurnArgs;
use crate::cli::compare::{CompareArgs, PictureArgs, ReportArgs};
use crate::cli::message::MessageArgs;
use crate::cli::run::RunArgs;
use crate::cli::target::TargetBroker;
use crate::client::connection::ClientConnection;
use crate::report::load_report::LoadReport;
use crate::run::command::run;
use crate::system::clock;
use crate::system::error::LoadgenError;
use crate::system::interrupt;

/// The name of the relay in results.
const RELAY: &str = "relay";
/// Seconds that a run takes besides publishing, for the estimate only.
const OVERHEAD: f64 = 1.5;

/// Runs all scenarios, prints a table and writes the files that were asked for. A failed run, or a
/// target that does not support a scenario, is named in the results, and the others go on. A signal
/// ends the comparison with the rounds finished until then.
///
/// # Errors
/// A target cannot be reached at the start, a scenario is wrong or a file cannot be written. Failed
/// runs and signals are errors after everything is written.
pub fn compare(args: &CompareArgs) -> Result<(), LoadgenError> {
    let mut scenarios = match args.scenario.as_slice() {
        [] => scenario::standard()?,
        names => scenario::named(names)?,
    };
    scenarios.iter_mut().for_each(|scenario| prepare(scenario, args));
    let infos = args.target.iter().map(ask).collect::<Result<Vec<_>, _>>()?;
    let mut progress = ComparisonProgress::new(&scenarios, args);
    let mut comparison = begin(args, infos);
    for scenario in &scenarios {
        let compared = run_scenario(scenario, args, &mut progress);
        let ended = interrupt::check();
        comparison.ended = ended.as_ref().err().map(ToString::to_string);
        if ended.is_ok() || compared.has_rounds() {
            eprint!("{}", table::scenario(&compared));
            comparison.scenarios.push(compared);
        }
        // A comparison takes long: results are written after each scenario.
        write(args, &comparison)?;
        if ended.is_err() {
            break;
        }
    }
    print!("{}", table::table(&comparison));
    interrupt::check()?;
    match progress.failed {
        0 => Ok(()),
        failed => Err(LoadgenError::Runs(failed)),
    }
}

/// Asks a broker for its product and version.
///
/// # Errors
/// The broker cannot be reached or refuses the login.
fn ask(target: &TargetBroker) -> Result<TargetInfo, LoadgenError> {
    let connection = ClientConnection::open(&target.uri)?;
    let product = connection.product.clone();
    connection.close()?;
    let address = format!("{}:{}", target.uri.host, target.uri.port);
    Ok(TargetInfo { name: target.name.clone(), address, product })
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

/// Applies the flags of the comparison where a scenario does not set its own.
fn prepare(scenario: &mut Scenario, args: &CompareArgs) {
    for step in &mut scenario.steps {
        let says = |flag: &str| step.flags.iter().any(|word| word == flag);
        let (timed, warm) = (says("--time"), says("--warmup"));
        match &mut step.load {
            ScenarioLoad::Run(run) => {
                // A backlog is drained completely and measured from the start.
                let drains = run.drains();
                let message = &mut run.message;
                if !timed && !drains && message.time.is_some() {
                    message.warmup = if warm { message.warmup } else { args.warmup };
                    message.time = Some(args.seconds + message.warmup);
                }
                message.cpus.clone_from(&args.cpus);
                message.quiet = true;
            }
            ScenarioLoad::Churn(churn) if !timed => {
                churn.warmup = if warm { churn.warmup } else { args.warmup };
                churn.time = args.seconds + churn.warmup;
            }
            ScenarioLoad::Churn(_) => {}
        }
    }
}

fn run_scenario(
    scenario: &Scenario,
    args: &CompareArgs,
    progress: &mut ComparisonProgress,
) -> ScenarioResult {
    let stages =
        || scenario.steps.iter().map(|step| StepResult { at: step.at, ..StepResult::default() });
    let outcome =
        |target: &str| TargetResult { target: target.to_owned(), steps: stages().collect() };
    let mut results: Vec<TargetResult> = args.target.iter().map(|one| outcome(&one.name)).collect();
    let mut relay = scenario.ceiling.then(|| outcome(RELAY));
    for (number, step) in scenario.steps.iter().enumerate() {
        for _ in 0..args.rounds {
            for (target, outcome) in args.target.iter().zip(&mut results) {
                let stage = &mut outcome.steps[number];
                progress.run(scenario, step, &target.name, stage, || run_step(step, target));
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
    ScenarioResult {
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

fn run_step(step: &ScenarioStep, target: &TargetBroker) -> Result<LoadReport, LoadgenError> {
    match &step.load {
        ScenarioLoad::Run(args) => {
            let (uri, broker_pid) = (target.uri.clone(), target.pid);
            run(&RunArgs { uri, broker_pid, ..RunArgs::clone(args) })?.complete()
        }
        ScenarioLoad::Churn(args) => {
            let (uri, broker_pid) = (target.uri.clone(), target.pid);
            churn(&ChurnArgs { uri, broker_pid, ..args.clone() })?.complete()
        }
    }
}

fn through_relay(step: &ScenarioStep, args: &CompareArgs) -> Result<LoadReport, LoadgenError> {
    let ScenarioLoad::Run(run) = &step.load else {
        return Err(LoadgenError::Settings("a churn run has no ceiling".to_owned()));
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

fn write(args: &CompareArgs, comparison: &Comparison) -> Result<(), LoadgenError> {
    if let Some(path) = &args.json {
        let text = serde_json::to_string(comparison)
            .map_err(|error| LoadgenError::io("cannot write the JSON")(error.into()))?;
        write_file(path, &text)?;
    }
    draw(&args.pictures, comparison)
}

/// Draws the report of an earlier comparison.
///
/// # Errors
/// The file cannot be read or is not the JSON of a comparison, or a picture cannot be written.
pub fn report(args: &ReportArgs) -> Result<(), LoadgenError> {
    let failed = |source| LoadgenError::File { path: args.file.clone(), source };
    let text = std::fs::read_to_string(&args.file).map_err(failed)?;
    let comparison: Comparison = serde_json::from_str(&text).map_err(|error| {
        let path = args.file.display();
        LoadgenError::Settings(format!("{path} is not the JSON of a comparison: {error}"))
    })?;
    print!("{}", table::table(&comparison));
    draw(&args.pictures, &comparison)
}

fn draw(pictures: &PictureArgs, comparison: &Comparison) -> Result<(), LoadgenError> {
    if let Some(path) = &pictures.html {
        write_file(path, &page::page(comparison)?)?;
    }
    let svg = pictures.svg.as_ref().zip(overview::picture(comparison));
    svg.map_or(Ok(()), |(path, svg)| write_file(path, &svg))
}

/// Replaces a file in one step, so that a reader never sees a half-written one.
fn write_file(path: &Path, text: &str) -> Result<(), LoadgenError> {
    let fresh = path.with_extension("part");
    let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, path));
    written.map_err(|source| LoadgenError::File { path: path.to_owned(), source })
}

/// The progress of a comparison, shown before each run.
struct ComparisonProgress {
    begun: u64,
    done: f64,
    all: f64,
    number: usize,
    count: usize,
    failed: usize,
}

impl ComparisonProgress {
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

    /// Makes one run and keeps its result, unless the target does not support the scenario or a
    /// signal was received.
    fn run(
        &mut self,
        scenario: &Scenario,
        step: &ScenarioStep,
        target: &str,
        stage: &mut StepResult,
        run: impl FnOnce() -> Result<LoadReport, LoadgenError>,
    ) {
        self.number += 1;
        if stage.unsupported.is_some() || interrupt::is_requested() {
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
            // An incomplete round does not count.
            Err(LoadgenError::Interrupted(_)) => {}
            Err(failure) => match failure.refusal() {
                Some(sentence) => {
                    eprintln!("  not supported: {sentence}");
                    stage.unsupported = Some(sentence);
                    // A refused run takes no time, and the other runs stay as expected.
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

    /// The expected duration of the rest, scaled by the speed so far.
    fn left(&self) -> f64 {
        let spent = (clock::now() - self.begun) as f64 / clock::SECOND as f64;
        let pace = if self.done > 30.0 { spent / self.done } else { 1.0 };
        (self.all - self.done) * pace
    }
}

/// The expected duration of a run (s).
fn expected(step: &ScenarioStep) -> f64 {
    let bounded_by_counts = 5.0;
    OVERHEAD + step.load.seconds().unwrap_or(bounded_by_counts)
}
