//! Debian's `docker-registry` (distribution 2.8), started for one test on a free loopback port with
//! its own storage.
//!
//! It listens on port 0 and logs its port, so that no other process can take the port between
//! choosing and listening. A shell supervises it: when the test ends, for whatever reason, the
//! shell's standard input closes and the registry is killed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use super::{certificate::Certificate, token_server::TokenServer, tools};

/// A registry that does not listen after this time is broken.
const START: Duration = Duration::from_secs(60);

/// How often to retry a port that a stopped registry has just released.
const REBIND_ATTEMPTS: usize = 50;

/// Runs the registry as long as standard input stays open.
const GUARD: &str = r#"exec 3<&0
docker-registry serve "$1" 3<&- &
registry=$!
(cat <&3; kill -9 $registry) >/dev/null 2>&1 &
exec 3<&-
wait $registry"#;

/// A running registry; dropping it stops it and removes its storage.
#[derive(Debug)]
pub(crate) struct DockerRegistry {
    folder: tempfile::TempDir,
    auth: String,
    certificate: Option<Certificate>,
    port: u16,
    process: Option<Process>,
    log: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct Process {
    shell: Child,
    /// Held open for as long as the registry runs.
    stdin: Option<ChildStdin>,
}

impl DockerRegistry {
    /// Without authentication, over plain HTTP.
    pub(crate) fn open() -> Self {
        Self::start(tools::temporary_folder(), String::new(), None)
    }

    /// With Basic authentication, over plain HTTP.
    pub(crate) fn htpasswd(user: &str, password: &str) -> Self {
        let folder = tools::temporary_folder();
        let line = tools::run(tools::command("htpasswd").args(["-Bbn", user, password]));
        let path = folder.path().join("htpasswd");
        fs::write(&path, line).unwrap();
        let auth =
            format!("auth:\n  htpasswd:\n    realm: layerslayer tests\n    path: {}\n", tools::text(&path));
        Self::start(folder, auth, None)
    }

    /// With Bearer tokens that `server` signs, over plain HTTP.
    pub(crate) fn token(server: &TokenServer) -> Self {
        let folder = tools::temporary_folder();
        let auth = token_auth(folder.path(), server);
        Self::start(folder, auth, None)
    }

    /// Without authentication, over TLS with a certificate for `localhost` and 127.0.0.1 signed
    /// only by [`Self::ca`].
    pub(crate) fn tls() -> Self {
        Self::start(tools::temporary_folder(), String::new(), Some(Certificate::new()))
    }

    /// `127.0.0.1:PORT`, the first part of a reference.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The authority of a registry over TLS, a PEM file.
    pub(crate) fn ca(&self) -> PathBuf {
        self.certificate.as_ref().expect("this registry speaks plain HTTP").path()
    }

    /// A folder for `skopeo --dest-cert-dir` and the like.
    pub(crate) fn certificate_folder(&self) -> PathBuf {
        let folder = self.folder.path().join("certificates");
        fs::create_dir_all(&folder).unwrap();
        self.certificate.as_ref().expect("this registry speaks plain HTTP").write_authority(&folder);
        folder
    }

    /// Restarts it on the same port and storage, with the *current* signing key of `server` as the
    /// only authority: tokens signed before [`TokenServer::rotate_key`] are refused from then on.
    pub(crate) fn restart_trusting(&mut self, server: &TokenServer) {
        self.stop();
        self.auth = token_auth(self.folder.path(), server);
        for _ in 1..REBIND_ATTEMPTS {
            if self.try_launch() {
                return;
            }
        }
        assert!(self.try_launch(), "port {} is not free again:\n{}", self.port, self.log());
    }

    /// Stops it. Connections break; its storage stays until drop.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.shell.wait().unwrap();
        }
    }

    /// The file that holds a blob or a manifest, to tamper with; `digest` is `sha256:…`.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.folder
            .path()
            .join("storage/docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    /// Stores a manifest as it is under a tag or digest, over plain HTTP and without logging in.
    /// Its blobs must exist.
    pub(crate) fn put_manifest(&self, name: &str, reference: &str, media_type: &str, bytes: &[u8]) {
        let mut connection = TcpStream::connect(self.host()).unwrap();
        write!(
            connection,
            "PUT /v2/{name}/manifests/{reference} HTTP/1.1\r\nHost: {}\r\nContent-Type: {media_type}\r\nContent-Length: \
             {}\r\nConnection: close\r\n\r\n",
            self.host(),
            bytes.len(),
        )
        .unwrap();
        connection.write_all(bytes).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }

    /// Everything it has logged. To count requests use a [`super::recorder::Recorder`]: the
    /// registry logs a request after answering it.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    fn start(folder: tempfile::TempDir, auth: String, certificate: Option<Certificate>) -> Self {
        let mut registry = Self { folder, auth, certificate, port: 0, process: None, log: Arc::default() };
        assert!(registry.try_launch(), "docker-registry did not start:\n{}", registry.log());
        registry
    }

    /// Whether a registry now listens; `false` if it exited before.
    fn try_launch(&mut self) -> bool {
        tools::require("docker-registry");
        let configuration = self.folder.path().join("config.yml");
        fs::write(&configuration, self.configuration()).unwrap();
        let mut shell = Command::new("/bin/sh")
            .args(["-c", GUARD, "sh", tools::text(&configuration)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = shell.stdin.take();
        let stderr = BufReader::new(shell.stderr.take().unwrap());
        let (listening, port) = mpsc::channel();
        let log = Arc::clone(&self.log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(port) = listening_port(&line) {
                    // The receiver is gone after the first time.
                    let _ = listening.send(port);
                }
                log.lock().unwrap().push(line);
            }
        });
        self.process = Some(Process { shell, stdin });
        match port.recv_timeout(START) {
            Ok(port) => {
                self.port = port;
                true
            }
            Err(_) => {
                self.stop();
                false
            }
        }
    }

    fn configuration(&self) -> String {
        let storage = self.folder.path().join("storage");
        let tls = self.certificate.as_ref().map_or_else(String::new, |certificate| {
            let (path, key) = (certificate.path(), certificate.key_path());
            format!("  tls:\n    certificate: {}\n    key: {}\n", tools::text(&path), tools::text(&key))
        });
        format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{}\n  secret: one run only\n{tls}{}",
            tools::text(&storage),
            self.port,
            self.auth,
        )
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The configuration of token authentication, and the file of authorities it refers to.
fn token_auth(folder: &Path, server: &TokenServer) -> String {
    let bundle = folder.join("token-authority.pem");
    let mut file = fs::File::create(&bundle).unwrap();
    file.write_all(&fs::read(server.certificate_path()).unwrap()).unwrap();
    format!(
        "auth:\n  token:\n    realm: {}\n    service: {}\n    issuer: {}\n    rootcertbundle: {}\n",
        server.realm(),
        server.service(),
        server.issuer(),
        tools::text(&bundle),
    )
}

/// The port of the line `… msg="listening on 127.0.0.1:41949" …` (`…:41949, tls"` over TLS).
fn listening_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
    let digits = rest.find(|character: char| !character.is_ascii_digit())?;
    rest.get(..digits)?.parse().ok()
}
