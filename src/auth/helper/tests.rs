use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Mutex};

use super::*;

/// Directories with test helpers: a thread cannot have its own PATH.
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
    // Renamed into place: a file that is open for writing cannot be executed.
    let temporary = folder.join("new");
    fs::write(&temporary, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(temporary, &path).unwrap();
    let program = path.to_str().unwrap().to_owned();
    Helper { program, is_ourselves: false, wait: Duration::from_secs(60) }
}

#[test]
fn a_name_is_not_a_path() {
    for wrong in ["", "a/b", "../x", "a b", "a;b", "$(x)", "ä"] {
        assert!(Helper::new(wrong).is_err(), "{wrong}");
    }
    for name in ["ecr-login_2", "desktop.exe", "osxkeychain-v0.8.2"] {
        assert_eq!(Helper::new(name).unwrap().program(), format!("docker-credential-{name}"));
    }
}

#[test]
fn only_absolute_directories_of_path_are_searched() {
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
fn a_helper_receives_the_server_and_returns_a_credential() {
    let folder = tempfile::tempdir().unwrap();
    let helper =
        script(folder.path(), r#"printf '{"ServerURL":"x","Username":"%s","Secret":"%s"}' "$1" "$(cat)""#);
    let found = helper.get("a.b:5000").unwrap().unwrap();
    assert!(found.is_same(&Credential::basic("get", "a.b:5000")));
    let helper = script(folder.path(), r#"echo '{"Username":"<token>","Secret":"refresh"}'"#);
    let found = helper.get("a.b").unwrap().unwrap();
    assert!(found.is_same(&Credential::identity_token("", "refresh")));
    let helper = script(folder.path(), r#"echo '{"a.b":"me","https://c.d/v1/":"you"}'"#);
    assert_eq!(helper.list().unwrap().len(), 2);
}

#[test]
fn a_missing_credential_is_not_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let helper = script(folder.path(), &format!("echo '{NOT_FOUND}'; exit 1"));
    assert!(helper.get("a.b").unwrap().is_none());
    assert!(!helper.erase("a.b").unwrap());
    let helper = script(folder.path(), r#"echo '{"Username":"","Secret":""}'"#);
    assert!(helper.get("a.b").unwrap().is_none());
}

#[test]
fn an_error_names_the_helper_and_does_not_repeat_its_output() {
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
        assert!(error.is_unavailable() && error.to_string().contains("docker-credential-script"), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let error = Helper::new("no-such-helper").unwrap().get("a.b").unwrap_err();
    assert!(error.to_string().contains("docker-credential-no-such-helper is not installed"), "{error}");
}

#[test]
fn output_beyond_the_cap_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let helper =
        script(folder.path(), "echo '{\"Username\":\"me\",\"Secret\":\"x\"}'; yes '' | head -c 1048576");
    assert!(helper.get("a.b").unwrap_err().to_string().contains("printed more than 1048576 bytes"));
}

#[test]
fn a_helper_does_not_get_the_variables_with_our_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let helper = script(folder.path(), "env | grep -c '^LAYERSLAYER_[AP]' >\"$0.count\"; echo '{}'");
    // Cargo sets none of these variables, so a copy of this test runs with them.
    if std::env::var_os("LAYERSLAYER_PASSPHRASE").is_none() {
        let mut copy = Command::new(std::env::current_exe().unwrap());
        copy.args(["--exact", "auth::helper::tests::a_helper_does_not_get_the_variables_with_our_secrets"]);
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
    // Including one whose child holds its output open, and one that closes its output and stays.
    for lines in ["exec sleep 1000", "sleep 1000", "exec >&-; exec sleep 1000"] {
        let helper = Helper { wait: Duration::from_millis(300), ..script(folder.path(), lines) };
        let error = helper.get("a.b").unwrap_err();
        assert!(error.is_timeout() && error.to_string().contains("has not answered"), "{lines}: {error}");
    }
}

#[test]
fn the_children_of_a_helper_that_takes_too_long_are_ended_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "sleep 1000 & echo $! >\"$0.new\"; mv \"$0.new\" \"$0.child\"; wait";
    let helper = Helper { wait: Duration::from_secs(1), ..script(folder.path(), lines) };
    helper.get("a.b").unwrap_err();
    let child = fs::read_to_string(format!("{}.child", helper.program())).unwrap();
    let stat = || fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    // It may remain as a zombie of whoever adopts it.
    let runs =
        || !matches!(stat().rsplit(") ").next().and_then(|rest| rest.chars().next()), None | Some('Z'));
    let until = Instant::now() + Duration::from_secs(20);
    while runs() && Instant::now() < until {
        thread::yield_now();
    }
    assert!(!runs(), "{}", stat());
}

#[test]
fn a_helper_that_does_not_read_its_input_does_not_block_us() {
    let folder = tempfile::tempdir().unwrap();
    let helper = script(folder.path(), "exec <&-; echo '{\"Username\":\"me\",\"Secret\":\"x\"}'");
    let long = Credential::basic("me", "x".repeat(1 << 20));
    helper.store("a.b", &long).unwrap();
    assert!(helper.get("a.b").unwrap().is_some());
}
