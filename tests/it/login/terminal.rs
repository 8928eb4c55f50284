//! Questions on a real terminal, by `script`.

use std::{
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
};

use super::{PASSWORD, USER, stores::basic_registry};
use crate::support::{home::Home, tools};

/// A program on a terminal, and all that it has shown.
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

    /// Waits until this is shown, then types that.
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

    /// All that was shown, and the exit status.
    fn end(mut self) -> (String, i32) {
        let mut rest = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        self.shown.push_str(&String::from_utf8_lossy(&rest));
        (self.shown, self.child.wait().unwrap().code().unwrap())
    }
}

#[test]
fn a_password_and_a_passphrase_are_asked_for_and_not_shown() {
    let registry = basic_registry();
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_layerslayer");
    let line = format!("{program} login {}; stty -a | grep -o ' echo '", registry.host());
    let mut terminal = Terminal::start(home.other("script"), &line);
    terminal.when("New passphrase", "open sesame\n").when("Once more: ", "open sesame\n");
    terminal.when("User name", &format!("{USER}\n"));
    // A mistake, taken back.
    terminal.when("Password or token: ", &format!("x\u{7f}oops\u{15}{PASSWORD}\n"));
    let (shown, code) = terminal.end();
    assert!(shown.contains("logged in to") && shown.contains("encrypted file"), "{shown}");
    assert!(!shown.contains("wonder") && !shown.contains("sesame") && !shown.contains("oops"), "{shown}");
    // The terminal shows again what is typed.
    assert!(code == 0 && shown.contains(" echo "), "{shown}");
    let line = format!("{program} auth status --check");
    let mut terminal = Terminal::start(home.other("script"), &line);
    terminal.when("Passphrase for the encrypted file: ", "open sesame\n");
    let (shown, _) = terminal.end();
    assert!(shown.contains("accepted") && !shown.contains("sesame"), "{shown}");
}

#[test]
fn passphrases_that_differ_and_interruptions_store_nothing_and_leave_the_terminal_as_it_was() {
    let registry = basic_registry();
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_layerslayer");
    let login = |after: &str| format!("{program} login {}; {after}", registry.host());
    let mut terminal = Terminal::start(home.other("script"), &login("echo status $?"));
    terminal.when("New passphrase", "one\n").when("Once more: ", "two\n");
    let (shown, _) = terminal.end();
    assert!(shown.contains("differ") && !shown.contains("status 0"), "{shown}");
    let mut terminal =
        Terminal::start(home.other("script"), &login("echo status $?; stty -a | grep -o ' echo '"));
    terminal.when("New passphrase", "open sesame\n").when("Once more: ", "open sesame\n");
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
