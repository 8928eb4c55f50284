//! The command line: parse, resolve, run, exit code. It reaches only the library's public API.
//!
//! Data goes to stdout, everything else to stderr.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use args::{Command, Invocation};
use console::Console;
use exit::{Exit, Failure};
use report::Report;

mod args;
mod cache;
mod carve;
mod connect;
mod console;
mod destination;
mod exit;
mod output;
mod patterns;
mod peek;
mod progress;
mod report;
mod selector;
mod signals;
mod toc;

/// Threads that move bytes; the main thread formats and writes.
const WORKERS: usize = 2;

/// How long a terminal that takes nothing more may keep the bars.
const CLEARING: Duration = Duration::from_millis(100);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let started = Instant::now();
    let arguments = match args::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help that nobody reads to its end is no failure.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    let command = match arguments.invocation {
        Invocation::Cache(arguments) => return cache::main(&arguments),
        Invocation::Image(command) => command,
        Invocation::Toc(arguments) => return toc::main(&arguments),
    };
    let common = command.common();
    let console = Console::new(common.quiet, command.explains());
    let mut report = Report::new(&command);
    let failure = block_on(&command, &console, &mut report, started).err();
    console.clear();
    let mut exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if let Some(failure) = &failure {
        failure.messages.iter().for_each(|message| console.error(message));
    }
    if common.verbose {
        console.note(&report.summary(started.elapsed()));
    }
    if let Some(path) = &common.report
        && let Err(error) = report.write(path, exit, failure.as_ref(), started.elapsed())
    {
        console.error(&format!("writing the report {}: {error}", path.display()));
        exit = if exit == Exit::Done { Exit::Other } else { exit };
    }
    ExitCode::from(exit.code())
}

fn block_on(
    command: &Command,
    console: &Console,
    report: &mut Report,
    started: Instant,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("starting the runtime", &error))?;
    let result = runtime.block_on(async {
        let mut signal = signals::watch(cut_short(command, console, started))?;
        tokio::select! {
            biased;
            exit = &mut signal => Err(Failure::silent(exit.unwrap_or(Exit::Interrupted))),
            result = run(command, console, report) => result,
        }
    });
    // Threads that still read from the network have nothing left to say.
    runtime.shutdown_background();
    result
}

/// What is left to do when the main thread waits for a reader who does not come: the bars go, and the report says how it ended.
fn cut_short(command: &Command, console: &Console, started: Instant) -> impl FnOnce(Exit) + Send + 'static {
    let (mut report, path) = (Report::new(command), command.common().report.clone());
    let display = console.display();
    move |exit| {
        display.clear_within(CLEARING);
        if let Some(path) = path {
            // Nobody is left to be told.
            drop(report.write(&path, exit, None, started.elapsed()));
        }
    }
}

async fn run(command: &Command, console: &Console, report: &mut Report) -> Result<(), Failure> {
    match command {
        Command::Carve(arguments) => carve::run(arguments, console, report).await,
        Command::Peek(arguments) => peek::run(arguments, console, report).await,
    }
}
