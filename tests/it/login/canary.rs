//! No secret of a login appears anywhere: not in output, not in files, not in the arguments of a process.

use std::{fs, panic::AssertUnwindSafe, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use layerslayer::{Client, Credential, Credentials, RegistryKey};

use super::USER;
use crate::support::{
    docker_registry::DockerRegistry,
    home::{Done, Home},
    images::{
        Image, Layout, Tar,
        transport::{Trust, push},
    },
    token_server::{Policy, TokenServer},
    tools,
};

const PASSWORD: &str = "canary-yellow-feather";
const PASSPHRASE: &str = "canary-pass-phrase";

fn secrets() -> Vec<String> {
    let encoded = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    vec![PASSWORD.into(), PASSPHRASE.into(), encoded, "-of-alice".into()]
}

#[track_caller]
fn silent(text: &str) {
    for secret in secrets() {
        assert!(!text.contains(&secret), "{secret}: {text}");
    }
}

fn no_file_holds_one(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            no_file_holds_one(&path);
        } else if kind.is_file() {
            silent(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn secrets_of_logins_appear_nowhere() {
    let policy = Policy::closed().user(USER, PASSWORD);
    let server = TokenServer::start(policy.clone().issuing_identity_tokens());
    for registry in [DockerRegistry::htpasswd(USER, PASSWORD), DockerRegistry::token(&server)] {
        let home = Home::new().set("LAYERSLAYER_PASSPHRASE", PASSPHRASE);
        let host = registry.host();
        let image = format!("{host}/closed/one:1");
        let layout = Layout::of(&Image::of([Tar::new().file("file", "content").finish()]));
        push(&layout, "latest", &image, Trust::Credentials(USER, PASSWORD));
        let report = home.path("report.json");
        let runs: [(&[&str], &str); 16] = [
            (&["login", &host, "--username", USER, "--password-stdin", "-vvv"], PASSWORD),
            (&["login", &host, "--username", USER, "--password-stdin", "-vvv", "--store", "vault"], PASSWORD),
            (&["login", &host, "--username", "bob", "--password-stdin", "-vvv"], PASSWORD),
            (&["login", "127.0.0.1:1", "--username", USER, "--password-stdin", "-vvv"], PASSWORD),
            (&["auth", "status", "--check", "-vvv"], ""),
            (&["auth", "status", "--json", "-vvv"], ""),
            (&["peek", &image, "-vvv", "--report", tools::text(&report)], ""),
            (&["carve", &image, "/file", "-vvv", "--explain", "--json", "-o", "/dev/null"], ""),
            (&["carve", &image, "/missing", "-vvv", "--report", tools::text(&report)], ""),
            (&["auth", "migrate", "-vvv"], ""),
            (&["auth", "migrate", "--dry-run", "-vvv"], ""),
            (&["cache", "ls"], ""),
            (&["logout", "elsewhere:5000", "-vvv"], ""),
            (&["logout", &host, "-vvv"], ""),
            (&["auth", "status", &host, "-vvv"], ""),
            (&["peek", &image, "-vvv"], ""),
        ];
        for (arguments, input) in runs {
            let ran = home.run(arguments, input);
            silent(&format!("{}{}", ran.stdout, ran.stderr));
            no_file_holds_one(&home.path("."));
        }
    }
}

#[test]
fn a_waiting_process_shows_no_secret_in_its_arguments() {
    let home = Home::new().set("LAYERSLAYER_PASSPHRASE", PASSPHRASE);
    let registry =
        crate::support::registry::ScriptedRegistry::start(|request| match request.authorization() {
            None => crate::support::registry::Reply::challenge("Basic realm=\"r\""),
            Some(_) => crate::support::registry::Reply::silence(),
        });
    let mut command = home.command(["login", &registry.host(), "--username", USER, "--password-stdin"]);
    command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), PASSWORD.as_bytes()).unwrap();
    while registry.requests().len() < 2 {
        std::thread::yield_now();
    }
    silent(&fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// With barely enough memory to start, the program fails in all sorts of places, with the password read and the passphrase in its
/// environment.
#[test]
fn a_lack_of_memory_shows_no_secret() {
    let home = Home::new().set("LAYERSLAYER_PASSPHRASE", PASSPHRASE).set("RUST_BACKTRACE", "full");
    let login = ["login", "127.0.0.1:1", "--username", USER, "--password-stdin", "-vvv"];
    let (mut starved, mut enough) = (0, 0);
    for mebibytes in (16..256).step_by(4) {
        let mut command = home.other("prlimit");
        command.args([format!("--as={}", mebibytes << 20), "--core=0".into(), "--".into()]);
        command.arg(env!("CARGO_BIN_EXE_layerslayer")).args(login);
        let ran = Done::of(&mut command, PASSWORD);
        silent(&format!("{}{}", ran.stdout, ran.stderr));
        // With enough memory it fails at the registry, which does not exist.
        *if ran.stderr.contains("127.0.0.1:1") { &mut enough } else { &mut starved } += 1;
    }
    assert!(starved > 0 && enough > 0, "{starved} {enough}");
}

/// What a caller's program prints of our types and errors, also in a panic.
#[tokio::test]
async fn no_type_of_the_library_prints_a_secret() {
    let credential = || Credential::basic(USER, PASSWORD);
    let token = Credential::identity_token(USER, "identity-of-alice");
    let server = TokenServer::start(Policy::closed().user(USER, PASSWORD).issuing_identity_tokens());
    let registry = DockerRegistry::token(&server);
    let key: RegistryKey = registry.host().parse().unwrap();
    let sources = Credentials::from_environment().ask_passphrase(|_| Ok(Some(PASSPHRASE.to_owned())));
    let builder = || {
        let builder = Client::builder().credentials(sources.clone());
        builder.credential(registry.host(), credential())
    };
    let client = builder().build().unwrap();
    let login = client.log_in(&key, &credential()).await.unwrap();
    let wrong = Credential::basic("bob", PASSWORD);
    let shown = [
        format!("{:?}", credential()),
        format!("{token:#?}"),
        format!("{:?}", credential().pinned_to(Some("https://a.b/token".into()))),
        format!("{sources:#?}"),
        format!("{:#?}", sources.candidates(&key)),
        format!("{:#?}", builder()),
        format!("{client:#?}"),
        format!("{login:#?}"),
        format!("{:#?}", client.log_in(&key, &wrong).await.unwrap_err()),
        format!("{}", client.log_in(&key, &wrong).await.unwrap_err()),
    ];
    shown.iter().for_each(|text| silent(text));
    // In a caller's `unwrap` or `expect`.
    let result: Result<(), _> = shown.is_empty().then_some(()).ok_or_else(credential);
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| result.unwrap())).unwrap_err();
    silent(caught.downcast_ref::<String>().unwrap());
}

/// A process that is not dumpable appears to other users as owned by root.
#[test]
fn a_process_leaves_no_core_file_and_its_memory_cannot_be_read() {
    let home = Home::new();
    // Run as another user, since root may read everything. A copy is run, since the program is in a directory for root only.
    let copy = home.path("run/layerslayer");
    fs::copy(env!("CARGO_BIN_EXE_layerslayer"), &copy).unwrap();
    let user = tools::run(tools::command("id").arg("-u"));
    let is_root = user == b"0\n";
    let line = "exec \"$1\" login 127.0.0.1:1 --username x --password-stdin --store plaintext";
    let mut command = match is_root {
        true => {
            for folder in [home.path("."), home.path("run")] {
                fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            }
            let mut command = home.other("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", line, "sh"]);
            command
        }
        false => {
            let mut command = home.other("sh");
            command.args(["-c", line, "sh"]);
            command
        }
    };
    let mut child = command.arg(&copy).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let owner = || {
        let path = format!("/proc/{}/maps", child.id());
        let comm = fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
        let uid = fs::symlink_metadata(path).map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata));
        (comm.trim() == "layerslayer").then(|| uid.unwrap())
    };
    // It takes effect shortly after the start.
    let began = std::time::Instant::now();
    while owner() != Some(0) && began.elapsed().as_secs() < 60 {
        std::thread::yield_now();
    }
    let last = owner();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(last, Some(0));
}
