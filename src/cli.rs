//! The command line: parse, resolve, run, exit code. It reaches only the library's public API.
//!
//! Data goes to stdout, everything else to stderr.

use std::{
    ffi::OsString,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use args::{Command, Invocation, TocAction, account::AuthAction};
use console::Console;
use exit::{Exit, Failure};
use report::Report;

mod args;
mod auth;
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
mod runtime;
mod selector;
mod signals;
mod toc;

/// How long a terminal that takes nothing more may keep the bars.
const CLEARING: Duration = Duration::from_millis(100);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let started = Instant::now();
    keep_to_ourselves();
    let words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().map(Path::new).and_then(Path::file_stem);
    if name.is_some_and(|name| name == auth::helper::NAME) {
        return auth::helper::main(words.get(1).and_then(|verb| verb.to_str()));
    }
    let arguments = match args::parse(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help that nobody reads to its end is no failure.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    let command = match arguments.invocation {
        Invocation::Auth(arguments) => return auth::main(&arguments.action),
        Invocation::Cache(arguments) => return cache::main(&arguments),
        Invocation::Image(command) => command,
        Invocation::Login(arguments) => return auth::main(&AuthAction::Login(arguments)),
        Invocation::Logout(arguments) => return auth::main(&AuthAction::Logout(arguments)),
        Invocation::Toc(arguments) => match arguments.action {
            TocAction::Build(arguments) => Command::TocBuild(arguments),
            TocAction::Keygen { output } => return toc::main(&output),
            TocAction::Push(arguments) => Command::TocPush(arguments),
        },
    };
    let common = command.common();
    let console = Console::new(common.quiet, command.explains());
    let mut report = Report::new(&command);
    let cut_short = cut_short(&command, &console, started);
    let failure = runtime::block_on(run(&command, &console, &mut report), cut_short).err();
    console.clear();
    let mut exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if let Some(failure) = &failure {
        failure.messages.iter().for_each(|message| console.error(message));
    }
    if common.verbose > 0 {
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

/// Passwords and tokens in memory are nobody's business: no core files, and no debugger but root's.
fn keep_to_ourselves() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};

        // Where it is not allowed there is nothing better.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
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
        Command::TocBuild(arguments) => toc::build(arguments, console, report).await,
        Command::TocPush(arguments) => toc::push(arguments, console, report).await,
    }
}
