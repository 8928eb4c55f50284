//! Killed at any moment, the program loses no credential and leaves no file readable by others.

use std::{cell::Cell, fs};

use super::{PASSWORD, USER, private_image, stores::basic_registry};
use crate::support::{
    docker_registry::DockerRegistry,
    home::{Home, open_to_others},
    killer::{Moment, kill},
    token_server::{Policy, TokenServer},
};

/// The minimum number of kills in each test.
const KILLS: usize = 70;

/// The number of positions in a file at which writing it is killed.
const PARTS: u64 = 12;

const FOLDER: &str = ".config/layerslayer";
const PLAIN: &str = ".config/layerslayer/credentials.toml";
const SEALED: &str = ".config/layerslayer/credentials.sealed.toml";

/// Kills at the first file event below the home directory, at the second and so on to the last, repeatedly; then while a file of this
/// length is written. `kill` returns whether it came in time.
fn at_each_event(home: &Home, kills: usize, length: u64, mut kill: impl FnMut(Moment<'_>) -> bool) {
    let (mut number, mut done) = (0, 0);
    while done < kills {
        number += 1;
        match kill(Moment::FileEvent(&home.path("."), number)) {
            true => done += 1,
            false => {
                assert!(number > 8, "it ended after {number} events");
                number = 0;
            }
        }
    }
    for part in 0..PARTS {
        assert!(kill(Moment::Byte(length * part / PARTS)), "part {part} of {length} bytes");
    }
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

fn accepted(home: &Home) -> usize {
    home.status(&["--check"]).iter().filter(|line| line["check"] == "accepted").count()
}

/// Lengthens a file with a comment, so that writing it takes a while.
fn lengthen(home: &Home, file: &str) -> String {
    let text = format!("{}# {}\n", home.text(file), "x".repeat(100_000));
    fs::write(home.path(file), &text).unwrap();
    text
}

#[test]
fn a_killed_login_preserves_other_credentials() {
    let (kept, other) = (basic_registry(), basic_registry());
    for (store, file) in [("plaintext", PLAIN), ("file", SEALED)] {
        let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame");
        home.login(&kept.host(), USER, PASSWORD, &["--store", store]).done();
        let before = lengthen(&home, file);
        let arguments = ["login", &other.host(), "--username", USER, "--password-stdin", "--store", store]
            .map(str::to_owned);
        let (unchanged, changed) = (Cell::new(0), Cell::new(0));
        at_each_event(&home, KILLS / 2, before.len() as u64, |moment| {
            fs::write(home.path(file), &before).unwrap();
            let is_killed = kill(&mut home.command(&arguments), PASSWORD, moment);
            all_is_private(&home, &[FOLDER]);
            let now = home.text(file);
            let count = if now == before { &unchanged } else { &changed };
            count.set(count.get() + 1);
            let status = home.status(&[]);
            let known = status.iter().filter(|line| line["wins"] == true && line["problem"].is_null());
            assert_eq!(known.count(), 1 + usize::from(now != before), "{status:?}");
            assert!(
                now == before || now.len() > before.len() && now.contains("# xxx"),
                "{} bytes",
                now.len()
            );
            is_killed
        });
        assert!(unchanged.get() > 0 && changed.get() > 0, "{unchanged:?} and {changed:?}");
        home.run(&arguments, PASSWORD).done();
        assert_eq!(accepted(&home), 2);
        let left = fs::read_dir(home.path(FOLDER)).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".credentials-")), "{left:?}");
    }
}

#[test]
fn a_killed_migration_loses_no_secret_and_completes_when_run_again() {
    let registries: Vec<_> = (0..2).map(|_| basic_registry()).collect();
    let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame");
    for registry in &registries {
        home.login(&registry.host(), USER, PASSWORD, &["--store", "docker-config"]).done();
    }
    let config = home.path(".docker/config.json");
    let before =
        home.text(".docker/config.json").replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(100_000)), 1);
    at_each_event(&home, KILLS, before.len() as u64, |moment| {
        fs::write(&config, &before).unwrap();
        let _ = fs::remove_file(home.path(SEALED));
        let is_killed = kill(&mut home.command(["auth", "migrate"]), "", moment);
        all_is_private(&home, &[FOLDER, ".docker"]);
        assert_eq!(accepted(&home), registries.len());
        home.run(["auth", "migrate"], "").done();
        assert!(!home.text(".docker/config.json").contains("\"auth\""));
        assert_eq!(accepted(&home), registries.len());
        is_killed
    });
}

/// A kill between the answer of a rotating token server and storing the new token loses the login, so the server then accepts the old
/// token again. The stored token must be complete, and one of the two.
#[test]
fn a_killed_refresh_preserves_the_login() {
    let policy = Policy::closed().user(USER, PASSWORD).issuing_identity_tokens().rotating_identity_tokens();
    let server = TokenServer::start(policy.clone());
    let (registry, kept) = (DockerRegistry::token(&server), basic_registry());
    let image = private_image(&registry);
    let home = Home::new();
    for host in [registry.host(), kept.host()] {
        home.login(&host, USER, PASSWORD, &["--store", "plaintext"]).done();
    }
    let before = lengthen(&home, PLAIN);
    let token = before.split('"').find(|text| text.starts_with("identity-")).unwrap();
    let known = || policy.clone().identity_token(token, USER);
    let (unchanged, changed) = (Cell::new(0), Cell::new(0));
    let mut check = |moment: Moment<'_>| {
        server.set_policy(known());
        fs::write(home.path(PLAIN), &before).unwrap();
        let is_killed = kill(&mut home.command(["peek", &image, "--no-cache"]), "", moment);
        all_is_private(&home, &[FOLDER]);
        let now = home.text(PLAIN);
        if now == before {
            server.set_policy(known());
            unchanged.set(unchanged.get() + 1);
        } else {
            changed.set(changed.get() + 1);
        }
        assert_eq!(accepted(&home), 2, "{} bytes", now.len());
        is_killed
    };
    at_each_event(&home, KILLS, before.len() as u64, &mut check);
    for number in 1..=4 {
        let asked = server.requests().len();
        check(Moment::When(&|| server.requests().len() >= asked + number));
    }
    assert!(unchanged.get() > 0 && changed.get() > 0, "{unchanged:?} and {changed:?}");
}
