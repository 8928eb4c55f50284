//! Credential helpers: programs named `docker-credential-NAME` that store credentials for docker, podman and others.
//! Protocol: docker/docker-credential-helpers, `client/` and `credentials/`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Access, access},
    process::{Pid, Signal, kill_process_group},
};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    credential::Credential,
    error::{CredentialError, Kind},
    store::environment::TOKEN_USER,
};
use crate::limits;

/// What a helper prints on standard output if it has no credential.
pub(crate) const NOT_FOUND: &str = "credentials not found in native keychain";

/// Interval at which a helper that has closed its output is checked for its exit.
const EXIT_PAUSE: Duration = Duration::from_millis(2);

/// The C library's default for `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Our own name as a helper.
pub(crate) const OURSELVES: &str = "layerslayer";

/// Variables that hold our own secrets. They are not passed to other helpers.
const OWN_VARIABLES: [&str; 3] = ["LAYERSLAYER_AUTH", "LAYERSLAYER_PASSPHRASE", "LAYERSLAYER_PASSPHRASE_FD"];

/// A credential in the protocol's JSON.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HelperRecord {
    #[serde(default, rename = "ServerURL")]
    pub(crate) server_url: String,
    #[serde(default)]
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) secret: String,
}

impl Drop for HelperRecord {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl HelperRecord {
    /// Converts a credential.
    #[cfg(any(feature = "stores", test))]
    pub(crate) fn of(server: &str, credential: &Credential) -> Self {
        let username = match credential.kind() {
            super::CredentialKind::Password => credential.username(),
            _ => TOKEN_USER,
        };
        Self {
            server_url: server.to_owned(),
            username: username.to_owned(),
            secret: credential.expose_secret().to_owned(),
        }
    }

    /// The credential; `None` if the secret is empty.
    pub(crate) fn credential(&self) -> Option<Credential> {
        if self.secret.is_empty() {
            return None;
        }
        let secret = self.secret.as_str();
        Some(match self.username.as_str() {
            TOKEN_USER => Credential::identity_token("", secret),
            username => Credential::basic(username, secret),
        })
    }
}

/// A helper, installed or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Helper {
    program: String,
    is_ourselves: bool,
    wait: Duration,
}

impl Helper {
    /// The helper with this name: letters, digits, `.`, `_` and `-`, so that it cannot be a path. Docker Desktop in WSL2 writes
    /// `desktop.exe`.
    pub(crate) fn new(name: &str) -> Result<Self, CredentialError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            let shown: String = name.chars().take(64).collect();
            return Err(CredentialError::other(format!("{shown:?} is not the name of a credential helper")));
        }
        let program = format!("docker-credential-{name}");
        #[cfg(test)]
        let program = tests::in_folder(&program).unwrap_or(program);
        Ok(Self { program, is_ourselves: name == OURSELVES, wait: limits::HELPER_WAIT })
    }

    /// The program's name, for messages.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// Returns the credential for a server.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Credential>, CredentialError> {
        let (status, output) = self.run("get", server)?;
        if !status.success() {
            return if is_not_found(&output) { Ok(None) } else { Err(self.failed("get", status)) };
        }
        // The parser's message would quote what was printed.
        let record: HelperRecord = serde_json::from_slice(&output)
            .map_err(|_| self.problem("printed something that is not a credential"))?;
        Ok(record.credential().map(|credential| credential.with_source(&self.program)))
    }

    /// Stores a credential.
    #[cfg(any(feature = "stores", test))]
    pub(crate) fn store(&self, server: &str, credential: &Credential) -> Result<(), CredentialError> {
        let record = HelperRecord::of(server, credential);
        let input = Zeroizing::new(serde_json::to_string(&record).unwrap_or_default());
        let (status, _) = self.run("store", &input)?;
        if status.success() { Ok(()) } else { Err(self.failed("store", status)) }
    }

    /// Removes a credential. Returns whether there was one.
    #[cfg(any(feature = "stores", test))]
    pub(crate) fn erase(&self, server: &str) -> Result<bool, CredentialError> {
        let (status, output) = self.run("erase", server)?;
        match status.success() {
            true => Ok(true),
            false if is_not_found(&output) => Ok(false),
            false => Err(self.failed("erase", status)),
        }
    }

    /// Lists servers and their user names.
    pub(crate) fn list(&self) -> Result<BTreeMap<String, String>, CredentialError> {
        let (status, output) = self.run("list", "")?;
        if !status.success() {
            let program = &self.program;
            let why = format_args!("failed (list: {status}); see why with: {program} list");
            return Err(self.problem(why));
        }
        if output.iter().all(u8::is_ascii_whitespace) {
            return Ok(BTreeMap::new());
        }
        let list: Option<BTreeMap<String, String>> = serde_json::from_slice(&output)
            .map_err(|_| self.problem("printed something that is not a list"))?;
        Ok(list.unwrap_or_default())
    }

    fn problem(&self, problem: impl std::fmt::Display) -> CredentialError {
        CredentialError::unavailable(format!("the credential helper {} {problem}", self.program))
    }

    fn failed(&self, verb: &str, status: ExitStatus) -> CredentialError {
        self.problem(format_args!("failed ({verb}: {status})"))
    }

    fn run(&self, verb: &str, input: &str) -> Result<(ExitStatus, Zeroizing<Vec<u8>>), CredentialError> {
        let missing = || self.problem("is not installed");
        let program = located(&self.program, std::env::var_os("PATH").as_deref()).ok_or_else(missing)?;
        let mut command = Command::new(program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own, so that its children can be ended with it.
        command.process_group(0);
        for (name, _) in std::env::vars_os().filter(|_| !self.is_ourselves) {
            if OWN_VARIABLES.iter().any(|own| name.to_string_lossy().starts_with(own)) {
                command.env_remove(name);
            }
        }
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(),
            _ => self.problem(format_args!("cannot be run: {error}")),
        })?;
        let until = Instant::now() + self.wait;
        let output = self.exchange(&mut child, input, until);
        let ended = output.and_then(|output| Ok((self.end(&mut child, until)?, output)));
        if ended.is_err() {
            // It may have exited in the meantime.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
        ended
    }

    /// Writes its input and reads its output on separate threads, so that a helper that does neither cannot block us.
    fn exchange(
        &self,
        child: &mut Child,
        input: &str,
        until: Instant,
    ) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(self.problem("has no pipes"));
        };
        let input = Zeroizing::new(input.to_owned());
        // If a helper does not read everything, its output shows it.
        thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut output = Zeroizing::new(Vec::new());
            let read = stdout.take(limits::HELPER_BYTES + 1).read_to_end(&mut output);
            // The receiver is gone after the timeout.
            let _ = sender.send(read.map(|_| output));
        });
        let output = match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(output) => output.map_err(|error| self.problem(format_args!("cannot be read: {error}")))?,
            Err(_) => return Err(self.timed_out()),
        };
        if output.len() as u64 > limits::HELPER_BYTES {
            return Err(self.problem(format_args!("printed more than {} bytes", limits::HELPER_BYTES)));
        }
        Ok(output)
    }

    fn end(&self, child: &mut Child, until: Instant) -> Result<ExitStatus, CredentialError> {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < until => thread::sleep(EXIT_PAUSE),
                Ok(None) => return Err(self.timed_out()),
                Err(error) => return Err(self.problem(format_args!("cannot be waited for: {error}"))),
            }
        }
    }

    fn timed_out(&self) -> CredentialError {
        let (program, seconds) = (&self.program, self.wait.as_secs_f64());
        let message = format!("the credential helper {program} has not answered within {seconds} s");
        CredentialError::new(Kind::TimedOut, message)
    }
}

/// Searches `PATH` for a program. Relative and empty entries are skipped, as in docker and podman: the author of the current directory
/// must not receive credentials.
fn located(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    let folders = std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH)));
    let mut found = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(program));
    found.find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

fn is_not_found(output: &[u8]) -> bool {
    output.trim_ascii() == NOT_FOUND.as_bytes()
}

#[cfg(test)]
pub(crate) mod tests;
