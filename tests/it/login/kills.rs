//! Killed at any moment, the program loses nothing and leaves nothing open.

use std::{fs, process::Stdio, time::Duration};

use super::{PASSWORD, USER, private_image, stores::basic_registry};
use crate::support::{
    docker_registry::DockerRegistry,
    home::{Home, open_to_others},
    noise::Noise,
    token_server::{Policy, TokenServer},
};

/// Runs a command, kills it after some time, and says whether it had ended before.
fn killed(command: &mut std::process::Command, input: &str, after: Duration) -> bool {
    use std::io::Write as _;

    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    std::thread::sleep(after);
    let has_ended = child.try_wait().unwrap().is_some();
    let _ = child.kill();
    child.wait().unwrap();
    has_ended
}

/// Moments that spread over the time that a run takes, the same in every run of the test.
fn moments(longest: Duration, count: usize) -> impl Iterator<Item = Duration> {
    let mut noise = Noise::new(4);
    std::iter::repeat_with(move || longest.mul_f64(noise.below(1000) as f64 / 1000.0)).take(count)
}

/// How long an undisturbed run takes, and a little more.
fn time(run: impl FnOnce()) -> Duration {
    let began = std::time::Instant::now();
    run();
    began.elapsed().mul_f64(1.2)
}

fn all_is_private(home: &Home, folders: &[&str]) {
    for folder in folders {
        let Ok(entries) = fs::read_dir(home.path(folder)) else { continue };
        assert!(*folder == ".docker" || !open_to_others(&home.path(folder)));
        for entry in entries {
            let path = entry.unwrap().path();
            assert!(!open_to_others(&path), "{}", path.display());
        }
    }
}

#[test]
fn a_killed_login_leaves_what_was_there() {
    let (kept, other) = (basic_registry(), basic_registry());
    for store in ["plaintext", "file"] {
        let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame");
        home.login(&kept.host(), USER, PASSWORD, &["--store", store]).done();
        let arguments = ["login", &other.host(), "--username", USER, "--password-stdin", "--store", store]
            .map(str::to_owned);
        let longest = time(|| drop(home.run(&arguments, PASSWORD).done()));
        for moment in moments(longest, 40) {
            killed(&mut home.command(&arguments), PASSWORD, moment);
            all_is_private(&home, &[".config/layerslayer"]);
            let status = home.status(&[]);
            assert!(
                status.iter().any(|line| line["registry"] == kept.host() && line["wins"] == true),
                "{status:?}"
            );
        }
        home.run(&arguments, PASSWORD).done();
        assert_eq!(home.status(&["--check"]).iter().filter(|line| line["check"] == "accepted").count(), 2);
        let left = fs::read_dir(home.path(".config/layerslayer")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".credentials-")), "{left:?}");
    }
}

#[test]
fn a_killed_migration_has_each_secret_somewhere_and_completes_when_run_again() {
    let registries: Vec<_> = (0..3).map(|_| basic_registry()).collect();
    let prepare = || {
        let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame");
        for registry in &registries {
            home.login(&registry.host(), USER, PASSWORD, &["--store", "docker-config"]).done();
        }
        home
    };
    let home = prepare();
    let longest = time(|| drop(home.run(["auth", "migrate"], "").done()));
    for moment in moments(longest, 12) {
        let home = prepare();
        for part in [1.0, 0.7, 0.4] {
            killed(&mut home.command(["auth", "migrate"]), "", moment.mul_f64(part));
            all_is_private(&home, &[".config/layerslayer", ".docker"]);
            let status = home.status(&["--check"]);
            let accepted = status.iter().filter(|line| line["check"] == "accepted").count();
            assert_eq!(accepted, registries.len(), "{status:?}");
        }
        home.run(["auth", "migrate"], "").done();
        assert!(!home.text(".docker/config.json").contains("\"auth\""));
        assert_eq!(home.status(&["--check"]).iter().filter(|line| line["check"] == "accepted").count(), 3);
    }
}

/// A token server that rotates makes the moment between its answer and our writing it down a loss that nobody can prevent;
/// one that does not must never cost the login.
#[test]
fn a_killed_refresh_keeps_the_login() {
    let server = TokenServer::start(Policy::closed().user(USER, PASSWORD).issuing_identity_tokens());
    let registry = DockerRegistry::token(&server);
    let image = private_image(&registry);
    let home = Home::new();
    home.login(&registry.host(), USER, PASSWORD, &["--store", "plaintext"]).done();
    let before = home.text(".config/layerslayer/credentials.toml");
    let longest = time(|| drop(home.run(["peek", &image, "--no-cache"], "").done()));
    for moment in moments(longest, 84) {
        killed(&mut home.command(["peek", &image, "--no-cache"]), "", moment);
        all_is_private(&home, &[".config/layerslayer"]);
        assert_eq!(home.text(".config/layerslayer/credentials.toml"), before);
    }
    home.run(["peek", &image, "--no-cache"], "").done();
}
