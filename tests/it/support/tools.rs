//! External programs: a missing or failing program fails the test.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// The path of the program `name`. A missing program fails the test: what is not tested must not
/// look tested.
pub(crate) fn require(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run `make deps`"))
}

/// `name` as a command in a fixed locale, without the user's registry credentials or proxies.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(require(name));
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
    for variable in
        ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"]
    {
        command.env_remove(variable);
    }
    command
}

/// The standard output of `command`; if it fails, the test fails with its whole output.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    try_run(command).unwrap_or_else(|message| panic!("{message}"))
}

/// The standard output of `command`, or how it failed.
pub(crate) fn try_run(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Err(format!("{command:?}: {}\n{}{}", output.status, said[0], said[1]))
}

/// Passes `input` through `command`, from standard input to standard output.
pub(crate) fn filter(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        // A command that stops reading early shows in its exit status, not here.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}: {}", output.status);
    output.stdout
}

/// `path` as text; the paths of tests are always text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A cache folder for the program that lives as long as this thread, which is as long as a test.
pub(crate) fn cache() -> PathBuf {
    thread_local!(static CACHE: tempfile::TempDir = temporary_folder());
    CACHE.with(|folder| folder.path().to_owned())
}

/// A folder that lives as long as the value.
pub(crate) fn temporary_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("layerslayer-").tempdir().unwrap()
}
