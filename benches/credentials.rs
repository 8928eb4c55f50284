//! The cost of a credential from each local store and from memory, and of a whole login at a local registry.
//!
//! Runs in a temporary home directory, with a keyring of its own if `dbus-run-session` and `gnome-keyring-daemon` are installed: it
//! never touches the user's stores. `cargo bench --bench credentials --features internals`.
#![expect(clippy::print_stderr, reason = "skipped stores are reported")]

use std::{
    env,
    hint::black_box,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use criterion::Criterion;
use layerslayer::{Credential, Credentials, RegistryKey, StoreKind};

/// Set inside the temporary home directory.
const INSIDE: &str = "LAYERSLAYER_BENCH_HOME";

/// Starts a keyring before the bench and stops it afterwards.
const SESSION: &str = r#"printf x | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1
for try in $(seq 1000); do
    keyring=$(dbus-send --print-reply=literal --dest=org.freedesktop.DBus / \
        org.freedesktop.DBus.GetConnectionUnixProcessID string:org.freedesktop.secrets 2>/dev/null) && break
done
trap 'kill "${keyring##* }"' EXIT
"$0" "$@""#;

const PASSPHRASE: &str = "open sesame";

fn main() {
    if env::var_os(INSIDE).is_none() {
        return run_in_a_home();
    }
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(20);
    tokens(&mut criterion);
    stores(&mut criterion);
    logins(&mut criterion);
    criterion.final_summary();
}

/// Runs this program again in a temporary home directory.
fn run_in_a_home() {
    let home = tempfile::tempdir().expect("a home");
    let this = env::current_exe().expect("this program");
    let mut command = match Command::new("dbus-run-session").arg("--version").stdout(Stdio::null()).status() {
        Ok(_) => {
            let mut command = Command::new("dbus-run-session");
            command.args(["--", "sh", "-c", SESSION]).arg(this);
            command
        }
        Err(error) => {
            eprintln!("no keyring: dbus-run-session: {error}");
            Command::new(this)
        }
    };
    for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "DOCKER_CONFIG", "DBUS_SESSION_BUS_ADDRESS"] {
        command.env_remove(name);
    }
    command.env("HOME", home.path()).env("XDG_RUNTIME_DIR", home.path()).env(INSIDE, "1");
    let status = command.args(env::args_os().skip(1)).status().expect("it runs");
    assert!(status.success(), "{status}");
}

/// A token held by a session, as each request needs it; and a credential held by a client.
fn tokens(criterion: &mut Criterion) {
    let credential = Credential::basic("alice", "wonder:land");
    criterion
        .bench_function("credential in memory", |bencher| bencher.iter(|| black_box(credential.clone())));
    #[cfg(feature = "internals")]
    {
        let token = layerslayer::internals::HeldToken::new();
        criterion.bench_function("token in memory", |bencher| {
            bencher.iter(|| assert!(black_box(&token).is_good()));
        });
    }
}

/// A credential from each store: already open, and not yet open.
fn stores(criterion: &mut Criterion) {
    let registry: RegistryKey = "registry.example:5000".parse().expect("a registry");
    let sources = || Credentials::from_environment().ask_passphrase(|_| Ok(Some(PASSPHRASE.to_owned())));
    let credential = Credential::basic("alice", "wonder:land");
    for kind in [StoreKind::Plaintext, StoreKind::File, StoreKind::DockerConfig, StoreKind::Keyring] {
        let store = sources().store(kind).expect("a store");
        if let Err(error) = store.store(&registry, &credential) {
            eprintln!("{kind}: skipped: {error}");
            continue;
        }
        criterion.bench_function(&format!("{kind}, already open"), |bencher| {
            bencher.iter(|| black_box(store.retrieve(&registry, credential.kind()).expect("it is there")));
        });
        criterion.bench_function(&format!("{kind}, not yet open"), |bencher| {
            bencher.iter(|| {
                let store = sources().store(kind).expect("a store");
                black_box(store.retrieve(&registry, credential.kind()).expect("it is there"))
            });
        });
        store.delete(&registry, credential.kind()).expect("it can be removed");
    }
}

/// The whole program, with a registry that answers at once.
fn logins(criterion: &mut Criterion) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("its address").to_string();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || answer(&client));
        }
    });
    for store in ["plaintext", "file", "keyring"] {
        if store == "keyring" && env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() {
            continue;
        }
        criterion.bench_function(&format!("login, {store}"), |bencher| {
            bencher.iter(|| log_in(&host, store));
        });
    }
}

fn log_in(host: &str, store: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
    command.args(["login", host, "--username", "alice", "--password-stdin", "--quiet", "--store", store]);
    command.env("LAYERSLAYER_PASSPHRASE", PASSPHRASE).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program");
    child.stdin.take().expect("its input").write_all(b"wonder:land").expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

/// Requires a password, and accepts any.
fn answer(client: &TcpStream) {
    let mut reader = BufReader::new(client);
    loop {
        let (mut line, mut knows) = (String::new(), false);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                knows |= line.to_ascii_lowercase().starts_with("authorization:");
            } else {
                return;
            }
        }
        let head = match knows {
            true => "200 OK",
            false => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"bench\"",
        };
        let text = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
        if { client }.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}
