//! Our own program, run as a user would, isolated from the user's own settings.

use std::{
    ffi::OsStr,
    fmt::Display,
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;

use super::tools;

/// A run of the program to be started.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    input: Vec<u8>,
    folder: tempfile::TempDir,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    /// The exit code.
    pub(crate) code: i32,
    /// All of the standard output.
    pub(crate) stdout: Vec<u8>,
    /// All of the standard error output.
    pub(crate) stderr: String,
    /// The report.
    pub(crate) report: Value,
}

impl Program {
    /// The program with these arguments, without input, stored credentials or proxies. It writes a
    /// report.
    pub(crate) fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let folder = tools::temporary_folder();
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
        command.env_clear().env("LC_ALL", "C.UTF-8").env("HOME", folder.path());
        command.env("DOCKER_CONFIG", folder.path()).env("XDG_RUNTIME_DIR", folder.path()).args(arguments);
        Self { command, input: Vec::new(), folder }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Logs in.
    pub(crate) fn login(mut self, user: &str, password: &str) -> Self {
        self.command.args(["--username", user, "--password-stdin"]);
        self.input = format!("{password}\n").into_bytes();
        self
    }

    /// Uses this cache, shared by runs; otherwise each run has its own.
    pub(crate) fn cache(mut self, folder: &Path) -> Self {
        self.command.env("LAYERSLAYER_CACHE_DIR", folder);
        self
    }

    /// Sets a variable.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Writes docker's `config.json`.
    pub(crate) fn docker_config(self, config: impl Display) -> Self {
        fs::write(self.folder.path().join("config.json"), config.to_string()).unwrap();
        self
    }

    /// Writes this to its standard input.
    pub(crate) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ran {
        self.run_until(u64::MAX)
    }

    /// Runs it to its end with a reader that closes the pipe after this many bytes of standard
    /// output.
    pub(crate) fn run_until(mut self, bytes: u64) -> Ran {
        self.command.arg("--report").arg(self.folder.path().join("report.json"));
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        // A program that fails before it reads its input shows that in its exit code.
        let _ = child.stdin.take().unwrap().write_all(&self.input);
        let (mut stdout, mut stderr) = (Vec::new(), String::new());
        let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        thread::scope(|scope| {
            scope.spawn(|| out.take(bytes).read_to_end(&mut stdout).unwrap());
            err.read_to_string(&mut stderr).unwrap();
        });
        let status = child.wait().unwrap();
        let report = fs::read(self.folder.path().join("report.json"));
        Ran {
            code: status.code().unwrap(),
            stdout,
            stderr,
            report: report.map_or(Value::Null, |report| serde_json::from_slice(&report).unwrap()),
        }
    }
}

impl Ran {
    /// Asserts success.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.failed(0)
    }

    /// Asserts this exit code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> Self {
        assert_eq!((self.code, &self.report["exit"]), (code, &Value::from(code)), "{}", self.stderr);
        self
    }

    /// Asserts that standard error contains `text`.
    #[track_caller]
    pub(crate) fn said(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in {:?}", self.stderr);
        self
    }

    /// Standard output as JSON Lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Everything the user can see, to check what must not be in it.
    pub(crate) fn everything(&self) -> String {
        format!("{}{}{}", String::from_utf8_lossy(&self.stdout), self.stderr, self.report)
    }
}
