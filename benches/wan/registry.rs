//! Debian's `docker-registry` on a free loopback port, with a persistent storage.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::tools;

/// How long the registry may take to start.
const START: Duration = Duration::from_secs(60);

/// A running registry; stopped on drop.
#[derive(Debug)]
pub(crate) struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    /// Starts one with the storage in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let configuration = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n  secret: one run only\n",
            folder.join("storage").display()
        );
        fs::write(&configuration, text).expect("a configuration");
        let mut process = tools::command("docker-registry")
            .arg("serve")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry");
        let log = BufReader::new(process.stderr.take().expect("a pipe"));
        let (listening, port) = mpsc::channel();
        thread::spawn(move || {
            // Keep reading: the registry blocks once the pipe is full.
            for line in log.lines().map_while(Result::ok) {
                if let Some(port) = listening_port(&line) {
                    let _ = listening.send(port);
                }
            }
        });
        let port = port.recv_timeout(START).expect("docker-registry to listen");
        Self { process, port }
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The port of the line `… msg="listening on 127.0.0.1:41949" …`.
fn listening_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
    let digits = rest.find(|character: char| !character.is_ascii_digit())?;
    rest.get(..digits)?.parse().ok()
}
