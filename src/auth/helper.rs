//! Credential helpers: programs `docker-credential-NAME` that keep credentials for docker and others.
//! Protocol: docker/docker-credential-helpers, `client/` and `credentials/`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{Access, access};
#[cfg(any(feature = "stores", test))]
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{credential::Credential, error::CredentialError, store::environment::TOKEN_USER};
use crate::limits;

/// What a helper prints where it has nothing; it comes on standard output.
pub(crate) const NOT_FOUND: &str = "credentials not found in native keychain";

/// How often a helper that has printed all is asked whether it has ended.
const EXIT_PAUSE: Duration = Duration::from_millis(2);

/// Where programs are looked for if nobody says where, as the C library does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The name by which docker and others know us as a helper.
pub(crate) const OURSELVES: &str = "layerslayer";

/// Variables that hold our own secrets: no other helper needs them.
const OWN_VARIABLES: [&str; 3] = ["LAYERSLAYER_AUTH", "LAYERSLAYER_PASSPHRASE", "LAYERSLAYER_PASSPHRASE_FD"];

/// A credential in the words of the protocol.
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
    /// The protocol's words for a credential.
    #[cfg(any(feature = "stores", test))]
    pub(crate) fn of(server: &str, credential: &Credential) -> Self {
        let username = match credential.kind() {
            super::CredentialKind::Password => credential.username(),
            _ => TOKEN_USER,
        };
        Self {
            server_url: server.to_owned(),
            username: username.to_owned(),
            secret: credential.secret().expose_secret().to_owned(),
        }
    }

    /// The credential in it; `None` for an empty one.
    pub(crate) fn credential(&self) -> Option<Credential> {
        if self.secret.is_empty() {
            return None;
        }
        let secret = SecretString::from(self.secret.as_str());
        Some(match self.username.as_str() {
            TOKEN_USER => Credential::identity_token("", secret),
            username => Credential::basic(username, secret),
        })
    }
}

/// A helper that is installed, or should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Helper {
    program: String,
    is_ourselves: bool,
    wait: Duration,
}

impl Helper {
    /// The helper of this name: letters, digits, `_` and `-`, so that it is a name and neither a path nor an option.
    pub(crate) fn named(name: &str) -> Result<Self, CredentialError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            let shown: String = name.chars().take(64).collect();
            return Err(CredentialError::other(format!("{shown:?} is no name of a credential helper")));
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

    /// What it has for a server.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Credential>, CredentialError> {
        let (status, output) = self.run("get", server)?;
        if !status.success() {
            return if is_not_found(&output) { Ok(None) } else { Err(self.failed("get", status)) };
        }
        // The parser's message would quote what was printed.
        let record: HelperRecord = serde_json::from_slice(&output)
            .map_err(|_| self.problem("printed something that is no credential"))?;
        Ok(record.credential().map(|credential| credential.found_in(&self.program)))
    }

    /// Has it keep a credential.
    #[cfg(any(feature = "stores", test))]
    pub(crate) fn store(&self, server: &str, credential: &Credential) -> Result<(), CredentialError> {
        let record = HelperRecord::of(server, credential);
        let input = Zeroizing::new(serde_json::to_string(&record).unwrap_or_default());
        let (status, _) = self.run("store", &input)?;
        if status.success() { Ok(()) } else { Err(self.failed("store", status)) }
    }

    /// Has it forget a credential; whether there was one.
    #[cfg(any(feature = "stores", test))]
    pub(crate) fn erase(&self, server: &str) -> Result<bool, CredentialError> {
        let (status, output) = self.run("erase", server)?;
        match status.success() {
            true => Ok(true),
            false if is_not_found(&output) => Ok(false),
            false => Err(self.failed("erase", status)),
        }
    }

    /// Servers and user names that it has.
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
        let list: Option<BTreeMap<String, String>> =
            serde_json::from_slice(&output).map_err(|_| self.problem("printed something that is no list"))?;
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
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            let _ = child.wait();
        }
        ended
    }

    /// Writes its input and reads its output, each in a thread of its own: a helper that does neither must not stop us.
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
        // A helper that does not read all shows in what it prints.
        thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut output = Zeroizing::new(Vec::new());
            let read = stdout.take(limits::HELPER_BYTES + 1).read_to_end(&mut output);
            // Nobody waits any more after the time is over.
            let _ = sender.send(read.map(|_| output));
        });
        let output = match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(output) => output.map_err(|error| self.problem(format_args!("cannot be read: {error}")))?,
            Err(_) => return Err(self.late()),
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
                Ok(None) => return Err(self.late()),
                Err(error) => return Err(self.problem(format_args!("cannot be waited for: {error}"))),
            }
        }
    }

    fn late(&self) -> CredentialError {
        self.problem(format_args!("has not answered in {} s", self.wait.as_secs_f64()))
    }
}

/// Where a program is, by `PATH`. Relative places in there, the empty one included, do not count: whoever wrote the directory that
/// somebody happens to be in must not be handed credentials. Docker and containers' tools refuse such a find as well.
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
pub(crate) mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Mutex};

    use super::*;

    /// Folders with helpers of tests: threads cannot have a PATH of their own.
    static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    pub(crate) fn search(folder: &Path) {
        FOLDERS.lock().unwrap().push(folder.to_owned());
    }

    pub(super) fn in_folder(program: &str) -> Option<String> {
        let folders = FOLDERS.lock().unwrap();
        let mut paths = folders.iter().map(|folder| folder.join(program)).filter(|path| path.exists());
        paths.next().map(|path| path.to_str().unwrap().to_owned())
    }

    /// A helper that is this shell script.
    fn script(folder: &Path, lines: &str) -> Helper {
        let path = folder.join("docker-credential-script");
        // Renamed into its place: a file that is open for writing anywhere cannot be run.
        let temporary = folder.join("new");
        fs::write(&temporary, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(temporary, &path).unwrap();
        let program = path.to_str().unwrap().to_owned();
        Helper { program, is_ourselves: false, wait: Duration::from_secs(60) }
    }

    #[test]
    fn a_name_is_neither_a_path_nor_an_option() {
        for wrong in ["", "a/b", "../x", "a b", "a;b", "$(x)", "a.b", "ä"] {
            assert!(Helper::named(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Helper::named("ecr-login_2").unwrap().program(), "docker-credential-ecr-login_2");
    }

    #[test]
    fn a_program_is_looked_for_in_absolute_places_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        for (place, mode) in [(&first, 0o644), (&second, 0o755)] {
            fs::create_dir_all(place.join("a-folder")).unwrap();
            fs::write(place.join("program"), "").unwrap();
            fs::set_permissions(place.join("program"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([&first, &second]).unwrap();
        assert_eq!(located("program", Some(&path)), Some(second.join("program")));
        assert_eq!(located("a-folder", Some(&path)), None);
        assert_eq!(located("program", Some(first.as_os_str())), None);
        assert!(located("sh", None).is_some());
    }

    #[test]
    fn the_server_goes_in_and_a_credential_comes_out() {
        let folder = tempfile::tempdir().unwrap();
        let helper = script(
            folder.path(),
            r#"printf '{"ServerURL":"x","Username":"%s","Secret":"%s"}' "$1" "$(cat)""#,
        );
        let found = helper.get("a.b:5000").unwrap().unwrap();
        assert!(found.is_same(&Credential::basic("get", String::from("a.b:5000").into())));
        let helper = script(folder.path(), r#"echo '{"Username":"<token>","Secret":"refresh"}'"#);
        let found = helper.get("a.b").unwrap().unwrap();
        assert!(found.is_same(&Credential::identity_token("", String::from("refresh").into())));
        let helper = script(folder.path(), r#"echo '{"a.b":"me","https://c.d/v1/":"you"}'"#);
        assert_eq!(helper.list().unwrap().len(), 2);
    }

    #[test]
    fn nothing_found_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let helper = script(folder.path(), &format!("echo '{NOT_FOUND}'; exit 1"));
        assert!(helper.get("a.b").unwrap().is_none());
        assert!(!helper.erase("a.b").unwrap());
        let helper = script(folder.path(), r#"echo '{"Username":"","Secret":""}'"#);
        assert!(helper.get("a.b").unwrap().is_none());
    }

    #[test]
    fn a_failure_names_the_helper_and_nothing_of_what_it_printed() {
        let folder = tempfile::tempdir().unwrap();
        for lines in [
            "echo hush; echo hush >&2; exit 1",
            "echo hush",
            "echo '{\"Username\":[\"hush\"]}'",
            "kill -9 $$",
            "yes hush | head -c 3000000",
        ] {
            let helper = script(folder.path(), lines);
            let error = helper.get("a.b").unwrap_err();
            assert!(
                error.is_unavailable() && error.to_string().contains("docker-credential-script"),
                "{error}"
            );
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        let error = Helper::named("no-such-helper").unwrap().get("a.b").unwrap_err();
        assert!(error.to_string().contains("docker-credential-no-such-helper is not installed"), "{error}");
    }

    #[test]
    fn a_credential_with_too_much_around_it_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let helper =
            script(folder.path(), "echo '{\"Username\":\"me\",\"Secret\":\"x\"}'; yes '' | head -c 1048576");
        assert!(helper.get("a.b").unwrap_err().to_string().contains("printed more than 1048576 bytes"));
    }

    #[test]
    fn a_helper_is_not_shown_our_own_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let helper = script(folder.path(), "env | grep -c '^LAYERSLAYER_[AP]' >\"$0.count\"; echo '{}'");
        // Cargo sets none of these, so a copy of this test runs with them.
        if std::env::var_os("LAYERSLAYER_PASSPHRASE").is_none() {
            let mut copy = Command::new(std::env::current_exe().unwrap());
            copy.args(["--exact", "auth::helper::tests::a_helper_is_not_shown_our_own_secrets"]);
            copy.env("LAYERSLAYER_PASSPHRASE", "hush").env("LAYERSLAYER_AUTH_A_B", "me:hush");
            assert!(copy.output().unwrap().status.success());
            return;
        }
        helper.get("a.b").unwrap();
        let count = fs::read_to_string(format!("{}.count", helper.program())).unwrap();
        assert_eq!(count.trim(), "0");
    }

    #[test]
    fn a_helper_that_takes_too_long_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        // Also one that leaves its output to a child, and one that closes it and stays.
        for lines in ["exec sleep 1000", "sleep 1000", "exec >&-; exec sleep 1000"] {
            let helper = Helper { wait: Duration::from_millis(300), ..script(folder.path(), lines) };
            assert!(helper.get("a.b").unwrap_err().to_string().contains("has not answered"), "{lines}");
        }
    }

    #[test]
    fn a_helper_that_does_not_read_its_input_does_not_stop_us() {
        let folder = tempfile::tempdir().unwrap();
        let helper = script(folder.path(), "exec <&-; echo '{\"Username\":\"me\",\"Secret\":\"x\"}'");
        let long = Credential::basic("me", "x".repeat(1 << 20).into());
        helper.store("a.b", &long).unwrap();
        assert!(helper.get("a.b").unwrap().is_some());
    }
}
