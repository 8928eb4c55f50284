//! Prompts on a real terminal, provided by `script`.

use std::{
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
};

use super::{PASSWORD, USER, stores::basic_registry};
use crate::support::{home::Home, tools};

/// A program on a terminal, and its output so far.
struct Terminal {
    child: Child,
    shown: String,
}

impl Terminal {
    fn start(mut command: Command, line: &str) -> Self {
        command
            .args(["-q", "-e", "-c", line, "/dev/null"])
            .env("SHELL", tools::require("bash"))
            .env("TERM", "xterm");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self { child, shown: String::new() }
    }

    /// Waits for some output, then types.
    #[track_caller]
    fn when(&mut self, shown: &str, typed: &str) -> &mut Self {
        let mut byte = [0; 1];
        while !self.shown.contains(shown) {
            let read = self.child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert_eq!(read, 1, "{shown:?} is not in {:?}", self.shown);
            self.shown.push(char::from(byte[0]));
        }
        self.child.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
        self
    }

    /// All output, and the exit status.
    fn end(mut self) -> (String, i32) {
        let mut rest = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        self.shown.push_str(&String::from_utf8_lossy(&rest));
        (self.shown, self.child.wait().unwrap().code().unwrap())
    }
}

#[test]
fn passwords_and_passphrases_are_typed_without_echo() {
    let registry = basic_registry();
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_layerslayer");
    let line = format!("{program} login {}; stty -a | grep -o ' echo '", registry.host());
    let mut terminal = Terminal::start(home.other("script"), &line);
    terminal.when("New passphrase", "open sesame\n").when("Repeat the passphrase: ", "open sesame\n");
    terminal.when("User name", &format!("{USER}\n"));
    // A corrected mistake.
    terminal.when("Password or token: ", &format!("x\u{7f}oops\u{15}{PASSWORD}\n"));
    let (shown, code) = terminal.end();
    assert!(shown.contains("logged in to") && shown.contains("encrypted file"), "{shown}");
    assert!(!shown.contains("wonder") && !shown.contains("sesame") && !shown.contains("oops"), "{shown}");
    // Echo is on again.
    assert!(code == 0 && shown.contains(" echo "), "{shown}");
    let line = format!("{program} auth status --check");
    let mut terminal = Terminal::start(home.other("script"), &line);
    terminal.when("Passphrase for the encrypted file: ", "open sesame\n");
    let (shown, _) = terminal.end();
    assert!(shown.contains("accepted") && !shown.contains("sesame"), "{shown}");
}

#[test]
fn different_passphrases_and_interruptions_store_nothing_and_restore_the_terminal() {
    let registry = basic_registry();
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_layerslayer");
    let login = |after: &str| format!("{program} login {}; {after}", registry.host());
    let mut terminal = Terminal::start(home.other("script"), &login("echo status $?"));
    terminal.when("New passphrase", "one\n").when("Repeat the passphrase: ", "two\n");
    let (shown, _) = terminal.end();
    assert!(shown.contains("differ") && !shown.contains("status 0"), "{shown}");
    let mut terminal =
        Terminal::start(home.other("script"), &login("echo status $?; stty -a | grep -o ' echo '"));
    terminal.when("New passphrase", "open sesame\n").when("Repeat the passphrase: ", "open sesame\n");
    terminal.when("User name", &format!("{USER}\n")).when("Password or token: ", "half a pass\u{3}");
    let (shown, _) = terminal.end();
    assert!(shown.contains("status 130") && shown.contains(" echo ") && !shown.contains("half"), "{shown}");
    let mut terminal =
        Terminal::start(home.other("script"), &login("echo status $?; stty -a | grep -o ' echo '"));
    terminal.when("New passphrase", "open\u{3}");
    let (shown, _) = terminal.end();
    assert!(shown.contains("status 130") && shown.contains(" echo "), "{shown}");
    assert!(home.status(&[]).is_empty());
}
