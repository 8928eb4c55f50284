//! The command line: parse arguments, run the command, return the exit code. It uses only the public API of the library.
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
use output::sanitize;
use report::Report;
use signals::TimeLimit;

mod args;
mod auth;
mod blob;
mod cache;
mod carve;
mod connect;
mod console;
mod destination;
mod exit;
mod hints;
mod output;
mod patterns;
mod peek;
mod plan;
mod progress;
mod report;
mod runtime;
mod selector;
mod signals;
mod startup;
mod toc;

/// Longest wait for a terminal that is blocked, at the end of the program.
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let started = Instant::now();
    disable_core_dumps();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_stem);
    if name.is_some_and(|name| name == auth::helper::NAME) {
        return auth::helper::main(arguments.get(1).and_then(|verb| verb.to_str()));
    }
    let arguments = match args::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // A reader that closes the pipe early is not an error.
            drop(error.print());
            if !error.use_stderr() && startup::stdout_is_closed() {
                return ExitCode::from(Exit::Other.code());
            }
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
    let on_forced_exit = on_forced_exit(&command, &console, started);
    let time_limit = TimeLimit { started, limit: common.timeout };
    let failure = runtime::block_on(run(&command, &console, &mut report), time_limit, on_forced_exit).err();
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

/// Keeps passwords and tokens in memory out of core files, and debuggers other than root's away.
fn disable_core_dumps() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};

        // Best effort: there is no alternative if this fails.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// Returns what to do when the program exits while the main thread is blocked on a write: clear the bars, print the failure and
/// write the report.
fn on_forced_exit(
    command: &Command,
    console: &Console,
    started: Instant,
) -> impl FnOnce(&Failure) + Send + 'static {
    let (mut report, path) = (Report::new(command), command.common().report.clone());
    let display = console.display();
    move |failure| {
        let lines = failure.messages.iter().map(|message| sanitize::stderr_line(message)).collect();
        display.end_within(END_TIMEOUT, lines);
        if let Some(path) = path {
            // An error could not be reported to anyone.
            drop(report.write(&path, failure.exit, Some(failure), started.elapsed()));
        }
    }
}

async fn run(command: &Command, console: &Console, report: &mut Report) -> Result<(), Failure> {
    tokio::spawn(console.display().watch_stalls());
    match command {
        Command::Carve(arguments) => carve::run(arguments, console, report).await,
        Command::Peek(arguments) => peek::run(arguments, console, report).await,
        Command::TocBuild(arguments) => toc::build(arguments, console, report).await,
        Command::TocPush(arguments) => toc::push(arguments, console, report).await,
    }
}
