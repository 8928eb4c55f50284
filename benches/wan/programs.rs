//! The program, its peers, and the command of each for a task.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::tools;

/// Seconds after which a peer's run is cut off: one that requests single blocks would take hours.
pub(crate) const PATIENCE: u32 = 60;

/// The Go package of each peer.
const PEERS: [(&str, &str); 3] = [
    ("crane", "github.com/google/go-containerregistry/cmd/crane@latest"),
    ("oci-extract", "github.com/amartani/oci-extract@latest"),
    ("regctl", "github.com/regclient/regclient/cmd/regctl@latest"),
];

/// The program that makes eStargz layers.
pub(crate) const ESTARGZ: &str = "estargz";

/// How programs reach a registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    /// Plain HTTP, one host.
    Http,
    /// TLS, with blobs redirected to a second host.
    Https,
}

impl Transport {
    /// Its name in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https + redirect",
        }
    }
}

/// A registry as programs see it.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) transport: Transport,
    /// `HOST:PORT`.
    pub(crate) name: String,
    /// PEM file of the authority.
    pub(crate) authority: PathBuf,
}

/// The programs to measure.
#[derive(Debug)]
pub(crate) struct Programs {
    peers: PathBuf,
    /// Settings and caches of the peers, and of our program unless a task has its own.
    home: tempfile::TempDir,
    /// Missing peers, and why they are missing.
    pub(crate) missing: Vec<String>,
}

impl Programs {
    /// Installs the peers below `target`, where possible.
    pub(crate) fn prepare(target: &Path) -> Self {
        let peers = target.join("bin");
        fs::create_dir_all(&peers).expect("a folder");
        let mut missing: Vec<String> =
            PEERS.iter().filter_map(|(name, package)| install(&peers, name, package)).collect();
        missing.extend(build_estargz(&peers));
        Self { peers, home: tools::temporary_folder(), missing }
    }

    /// The path of a peer, if it was installed.
    pub(crate) fn peer(&self, name: &str) -> Option<PathBuf> {
        Some(self.peers.join(name)).filter(|path| path.exists())
    }

    /// Our program, without a cache unless `cache` is given.
    pub(crate) fn ours(&self, host: &Host, cache: Option<&Path>, arguments: &[&str]) -> Command {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_layerslayer")), host);
        command.args(arguments).arg("--quiet");
        match host.transport {
            Transport::Http => command.arg("--plain-http"),
            Transport::Https => command.arg("--ca").arg(&host.authority),
        };
        match cache {
            Some(folder) => command.env("LAYERSLAYER_CACHE_DIR", folder),
            None => command.arg("--no-cache"),
        };
        command
    }

    /// The best command of `program` to print the file at `path`; `None` if it is not installed.
    pub(crate) fn file(&self, program: &str, host: &Host, image: &str, path: &str) -> Option<Command> {
        let reference = format!("{}/{image}:latest", host.name);
        if program == "layerslayer" {
            return Some(self.ours(host, None, &["carve", &reference, &format!("/{path}")]));
        }
        let program_path = self.peer(program)?;
        let mut command = match program {
            "crane" => self.crane_to_tar(&program_path, host, &reference, &["-xO", path]),
            _ => self.command(&program_path, host),
        };
        match program {
            "oci-extract" => {
                // It also reports its progress on standard output.
                let out = self.home.path().join("out");
                let script = r#""$1" extract "$2" "$3" -o "$4" >&2 && cat "$4""#;
                command = self.shell(host, script);
                command.arg(&program_path).args([&reference, &format!("/{path}")]).arg(out);
            }
            "regctl" => {
                command.args(["image", "get-file", &reference, &format!("/{path}"), "--host"]);
                let tls = if host.transport == Transport::Http { "disabled" } else { "enabled" };
                command.arg(format!("reg={},tls={tls}", host.name));
            }
            _ => {}
        }
        Some(command)
    }

    /// `crane export | tar t`.
    pub(crate) fn crane_list(&self, host: &Host, image: &str) -> Option<Command> {
        let crane = self.peer("crane")?;
        Some(self.crane_to_tar(&crane, host, &format!("{}/{image}:latest", host.name), &["-t"]))
    }

    /// A shell that runs `script`; the caller adds its arguments.
    pub(crate) fn shell(&self, host: &Host, script: &str) -> Command {
        let mut command = self.command(Path::new("/bin/sh"), host);
        command.args(["-c", script, "sh"]);
        command
    }

    fn crane_to_tar(&self, crane: &Path, host: &Host, reference: &str, tar: &[&str]) -> Command {
        let insecure = if host.transport == Transport::Http { "--insecure" } else { "" };
        let script = r#"crane=$1 reference=$2 insecure=$3; shift 3; "$crane" export $insecure "$reference" - | tar "$@""#;
        let mut command = self.shell(host, script);
        command.arg(crane).args([reference, insecure]).args(tar);
        command
    }

    fn command(&self, program: &Path, host: &Host) -> Command {
        let ours = program == Path::new(env!("CARGO_BIN_EXE_layerslayer"));
        let mut command = Command::new(if ours { program } else { Path::new("timeout") });
        if !ours {
            command.arg(PATIENCE.to_string()).arg(program);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8").env("HOME", self.home.path());
        command.env("SSL_CERT_FILE", &host.authority).stdin(Stdio::null());
        command
    }
}

/// Builds the program that makes eStargz layers; returns why that failed.
fn build_estargz(folder: &Path) -> Option<String> {
    if folder.join(ESTARGZ).exists() {
        return None;
    }
    eprintln!("building the program that makes eStargz layers");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/wan/estargz");
    let mut command = Command::new("go");
    command.arg("build").arg("-o").arg(folder.join(ESTARGZ)).arg(".").current_dir(source);
    tools::try_run(&mut command)
        .err()
        .map(|_| "the eStargz image (`go build` in benches/wan/estargz failed)".to_owned())
}

/// Installs a peer; returns why that failed.
fn install(folder: &Path, name: &str, package: &str) -> Option<String> {
    if folder.join(name).exists() {
        return None;
    }
    eprintln!("installing {name}: go install {package}");
    match Command::new("go").args(["install", package]).env("GOBIN", folder).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Some(format!("{name} (`go install {package}`: {})", said.lines().last().unwrap_or("failed")))
        }
        Err(error) => Some(format!("{name} (no Go: {error})")),
    }
}
