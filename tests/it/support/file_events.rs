//! Ends a program at what it does to files: when it has done so much in a directory, or in the middle of writing one.

use std::{
    fs,
    mem::MaybeUninit,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Child,
    thread,
};

use rustix::{
    fd::OwnedFd,
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
    process::{Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, prlimit},
};

/// Wakes who waits for events, once the program has ended.
const ENDED: &str = "ended";

/// Sees what happens to the files directly in some directories.
pub(crate) struct FileEvents {
    queue: OwnedFd,
    first: PathBuf,
}

impl FileEvents {
    /// Begins to watch these directories, which exist.
    pub(crate) fn of(folders: &[&Path]) -> Self {
        let queue = inotify::init(CreateFlags::CLOEXEC).unwrap();
        let flags = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO;
        for folder in folders {
            inotify::add_watch(&queue, *folder, flags).unwrap();
        }
        Self { queue, first: folders[0].to_owned() }
    }

    /// Kills the program when so many files have been created, written to or renamed, if it does not end before. Says whether it was
    /// killed.
    pub(crate) fn kill_at(&self, child: &mut Child, count: usize) -> bool {
        let victim = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
        let poke = self.first.join(ENDED);
        let was_killed = thread::scope(|scope| {
            scope.spawn(|| {
                if self.wait(count) {
                    // It may have ended by itself.
                    let _ = pidfd_send_signal(&victim, Signal::KILL);
                }
            });
            let was_killed = child.wait().unwrap().signal() == Some(9);
            fs::write(&poke, b"").unwrap();
            was_killed
        });
        fs::remove_file(&poke).unwrap();
        was_killed
    }

    /// Whether so many events came before the program ended.
    fn wait(&self, count: usize) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4 << 10];
        let mut events = inotify::Reader::new(&self.queue, &mut buffer);
        for _ in 0..count {
            let is_end = loop {
                match events.next() {
                    Err(Errno::INTR) => {}
                    event => {
                        break event
                            .unwrap()
                            .file_name()
                            .is_some_and(|name| name.to_bytes() == ENDED.as_bytes());
                    }
                }
            };
            if is_end {
                return false;
            }
        }
        true
    }
}

/// Lets the program, which has just been started, end in the middle of what it writes to a file, once that has so many bytes. Says
/// whether it ended so.
pub(crate) fn kill_at_size(child: &mut Child, bytes: u64) -> bool {
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    let process = Pid::from_child(child);
    // The kernel writes up to the limit, and then sends a signal that nobody catches.
    for (resource, bytes) in [(Resource::Core, 0), (Resource::Fsize, bytes)] {
        let _ = prlimit(Some(process), resource, limit(bytes));
    }
    child.wait().unwrap().signal() == Some(Signal::XFSZ.as_raw())
}
