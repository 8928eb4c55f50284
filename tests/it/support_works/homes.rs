use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::support::home::Home;

/// Whether a process runs; a zombie does not.
fn runs(process: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn a_keyring_ends_with_its_home() {
    let home = Home::with_keyring();
    let keyring = home.keyring_process();
    assert!(runs(keyring));
    drop(home);
    let begin = Instant::now();
    while runs(keyring) {
        assert!(begin.elapsed() < Duration::from_secs(20), "it runs on");
        thread::yield_now();
    }
}
