//! Kills a program at an event, so that a kill hits the middle of a change, on fast machines and on
//! slow ones.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    mem::MaybeUninit,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use rustix::{
    fd::OwnedFd,
    fs::inotify::{self, CreateFlags, Reader, WatchFlags},
    io::Errno,
};

use super::tools;

/// The signals that end a program here: the one that is sent, and the kernel's own for writing
/// beyond a limit.
const SIGNALS: [i32; 2] = [9, 25];

/// Room for some events and their names.
const EVENT_BYTES: usize = 16 << 10;

/// When a program is killed.
#[derive(Clone, Copy)]
pub(crate) enum Moment<'a> {
    /// When it has written this many bytes of a file and is about to write more: exact to the byte,
    /// always in the middle of a write.
    Byte(u64),
    /// After this many events of files below a folder: created, opened, changed, closed, renamed,
    /// removed. It may get a little further before it dies.
    FileEvent(&'a Path, usize),
    /// When this condition is true.
    When(&'a dyn Fn() -> bool),
}

/// Runs a command with this standard input up to a moment; returns whether it was killed before it
/// ended by itself.
pub(crate) fn kill(command: &mut Command, input: &str, moment: Moment<'_>) -> bool {
    match moment {
        Moment::Byte(number) => run(&mut limited(command, number), input, |_| {}),
        Moment::FileEvent(folder, number) => {
            let mut watch = Watch::of(folder);
            run(command, input, |child| watch_over(child, || watch.events() >= number))
        }
        Moment::When(is_now) => run(command, input, |child| watch_over(child, is_now)),
    }
}

fn run(command: &mut Command, input: &str, wait: impl FnOnce(&mut Child)) -> bool {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // It may be dead before it has read anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    wait(&mut child);
    child.wait().unwrap().signal().is_some_and(|signal| SIGNALS.contains(&signal))
}

fn watch_over(child: &mut Child, mut is_now: impl FnMut() -> bool) {
    while child.try_wait().unwrap().is_none() {
        if is_now() {
            // It may have ended by itself.
            let _ = child.kill();
            return;
        }
        thread::yield_now();
    }
}

/// The same command, with only its own environment variables, killed by the kernel when it writes a
/// file longer than this.
fn limited(command: &Command, bytes: u64) -> Command {
    let mut limited = tools::command("prlimit");
    limited.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.args([format!("--fsize={bytes}"), "--core=0".into(), "--".into()]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

/// Counts events of files below a folder, including folders created later.
struct Watch {
    queue: OwnedFd,
    folders: HashMap<i32, PathBuf>,
    events: usize,
}

impl Watch {
    fn of(folder: &Path) -> Self {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let mut watch = Self { queue, folders: HashMap::new(), events: 0 };
        watch.add(folder);
        assert!(!watch.folders.is_empty(), "{} is not there", folder.display());
        watch
    }

    /// Adds a folder and its descendants; one that is already gone has no events.
    fn add(&mut self, folder: &Path) {
        let flags = WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::MOVE
            | WatchFlags::ONLYDIR
            | WatchFlags::OPEN;
        let Ok(number) = inotify::add_watch(&self.queue, folder, flags) else { return };
        self.folders.insert(number, folder.to_owned());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add(&entry.path());
            }
        }
    }

    /// The number of events.
    fn events(&mut self) -> usize {
        let mut made = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    self.events += 1;
                    let flags = event.events();
                    let name = event.file_name().filter(|_| {
                        flags.contains(inotify::ReadFlags::ISDIR)
                            && flags.contains(inotify::ReadFlags::CREATE)
                    });
                    let folder = self.folders.get(&event.wd());
                    if let (Some(folder), Some(name)) = (folder, name) {
                        made.push(folder.join(name.to_str().unwrap()));
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
        }
        made.iter().for_each(|folder| self.add(folder));
        self.events
    }
}
