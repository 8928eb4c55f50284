//! A user's home: what one run of the program stores there, the next one finds. Optionally with a
//! desktop keyring.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::Pid;
use serde_json::Value;

use super::tools;

/// Starts a keyring with its default collection unlocked, or locked as it is without its password,
/// prints its bus address, and runs as long as standard input stays open. The keyring would outlive
/// its bus, so it is ended by its process id on the bus.
const SESSION: &str = r#"case $1 in
unlocked) printf 'of the keyring' | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1;;
locked) gnome-keyring-daemon --components=secrets >/dev/null 2>&1;;
esac
for try in $(seq 1000); do
    keyring=$(dbus-send --print-reply=literal --dest=org.freedesktop.DBus / \
        org.freedesktop.DBus.GetConnectionUnixProcessID string:org.freedesktop.secrets 2>/dev/null) && break
done
keyring=${keyring##* }
echo "$DBUS_SESSION_BUS_ADDRESS $keyring"
cat >/dev/null
kill "$keyring""#;

/// A home directory, the variables of its user, and their keyring.
#[derive(Debug)]
pub(crate) struct Home {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    session: Option<Session>,
}

/// A bus with a keyring; both end when the value is dropped.
#[derive(Debug)]
struct Session {
    process: Child,
    keyring: Pid,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    /// An empty home without a keyring.
    pub(crate) fn new() -> Self {
        let folder = tools::temporary_folder();
        fs::create_dir_all(folder.path().join("run")).unwrap();
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_layerslayer"), folder.path().join("bin/docker-credential-layerslayer"))
            .unwrap();
        Self { folder, variables: Vec::new(), session: None }
    }

    /// A home with a keyring of its own, unlocked.
    pub(crate) fn with_keyring() -> Self {
        Self::new().keyring("unlocked")
    }

    /// Locks the keyring, as it is after a login without its password. There is no prompter to ask.
    pub(crate) fn lock_keyring(mut self) -> Self {
        self.session = None;
        self.keyring("locked")
    }

    fn keyring(mut self, state: &str) -> Self {
        tools::require("gnome-keyring-daemon");
        let mut command = tools::command("dbus-run-session");
        self.settle(&mut command);
        command.args(["--", "sh", "-c", SESSION, "sh", state]);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let (address, keyring) = said.trim_end().split_once(' ').expect("a bus and a keyring");
        let keyring = keyring.parse().ok().and_then(Pid::from_raw).expect("the number of the keyring");
        self.session = Some(Session { process, keyring });
        self.set("DBUS_SESSION_BUS_ADDRESS", address)
    }

    /// The process id of the keyring.
    pub(crate) fn keyring_process(&self) -> i32 {
        self.session.as_ref().map(|session| session.keyring.as_raw_nonzero().get()).unwrap()
    }

    /// Sets a variable.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a file.
    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// The path of a file in this home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file's text; empty if it does not exist.
    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The program with these arguments, in this home.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
        command.env_clear().args(arguments);
        self.settle(&mut command);
        command
    }

    /// Another program in this home.
    pub(crate) fn other(&self, name: &str) -> Command {
        let mut command = tools::command(name);
        self.settle(&mut command);
        command
    }

    /// Runs the program to its end with `input` on standard input.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>, input: &str) -> Done {
        Done::of(&mut self.command(arguments), input)
    }

    /// Logs in, or tries to.
    pub(crate) fn login(&self, host: &str, user: &str, password: &str, flags: &[&str]) -> Done {
        let arguments = ["login", host, "--username", user, "--password-stdin"];
        self.run(arguments.iter().chain(flags), &format!("{password}\n"))
    }

    /// The lines of `auth status --json`, one a credential.
    pub(crate) fn status(&self, flags: &[&str]) -> Vec<Value> {
        let done = self.run(["auth", "status", "--json"].iter().chain(flags), "").done();
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn settle(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", tools::text(&self.path("bin")));
        command.env("LC_ALL", "C.UTF-8").env("HOME", self.folder.path()).env("PATH", path);
        command.env("XDG_RUNTIME_DIR", self.path("run")).env_remove("DBUS_SESSION_BUS_ADDRESS");
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl Done {
    /// The result of a command that gets `input` on standard input.
    pub(crate) fn of(command: &mut Command, input: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that fails before it reads its input shows that in its exit code.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        Self { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    /// Asserts success.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.failed(0)
    }

    /// Asserts this exit code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error contains `text`.
    #[track_caller]
    pub(crate) fn said(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in {:?}", self.stderr);
        self
    }
}

/// Mode bits that give access to other users.
pub(crate) fn open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}
