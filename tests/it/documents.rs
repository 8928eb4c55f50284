//! Every command in README and `docs/` works, and every output they show is what the program prints.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Image, Layout, Tar,
        layout::architecture,
        transport::{Trust, push, save_docker_archive},
    },
    tools,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Documents whose commands are run here. Those of `docs/credentials.md` have tests of their own in `login/documents.rs`.
const DOCUMENTS: [&str; 7] = [
    "README.md",
    "docs/cache.md",
    "docs/json.md",
    "docs/library.md",
    "docs/semantics.md",
    "docs/tocs.md",
    "docs/verification.md",
];

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap()
}

/// The contents of a document's `console` blocks.
fn console_blocks(document: &str) -> impl Iterator<Item = &str> {
    document.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// A command of a document, and the output shown below it, if any.
struct Example<'a> {
    command: &'a str,
    output: Option<String>,
}

/// A line that begins with `$` is a command with its output, other lines are commands alone.
fn examples(document: &str) -> Vec<Example<'_>> {
    let mut examples: Vec<Example<'_>> = Vec::new();
    for block in console_blocks(document) {
        let has_output = block.starts_with("$ ");
        for line in block.lines() {
            match (line.strip_prefix("$ "), examples.last_mut()) {
                (Some(command), _) => examples.push(Example { command, output: Some(String::new()) }),
                (None, Some(Example { output: Some(output), .. })) if has_output => {
                    output.push_str(line);
                    output.push('\n');
                }
                _ => examples.push(Example { command: line, output: None }),
            }
        }
    }
    examples
}

/// Commands of ours: `make` and `cargo` have tests of their own.
fn is_ours(command: &str) -> bool {
    command.contains("layerslayer ")
}

/// A folder in which examples run, and the images they name.
struct Machine {
    folder: TempDir,
    images: Vec<(String, String)>,
    _layout: Layout,
    _registry: DockerRegistry,
}

impl Machine {
    fn new() -> Self {
        let base = Tar::new()
            .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
            .file("etc/hosts", "127.0.0.1 localhost\n")
            .file("etc/apt/sources.list", "# none\n")
            .file("usr/lib/os-release", "NAME=Example\n");
        let application = Tar::new().file("app/start", "#!\n").file("etc/app.conf", "listen = 8080\n");
        let layout = Layout::of(&Image::of([base.finish(), application.finish()]));
        let registry = DockerRegistry::open();
        let folder = tools::temporary_folder();
        symlink(env!("CARGO_BIN_EXE_layerslayer"), folder.path().join("layerslayer")).unwrap();
        symlink(Path::new(ROOT).join("fixtures"), folder.path().join("fixtures")).unwrap();
        let pushed = format!("{}/team/app:1", registry.host());
        push(&layout, "latest", &pushed, Trust::Plain);
        let archive = folder.path().join("image.tar");
        save_docker_archive(&layout, "latest", &archive, "docker.io/library/image:latest");
        let local = layout.reference("latest");
        let images = [
            ("registry.example/team/app:1", pushed.as_str()),
            ("docker-archive:FILE", "docker-archive:image.tar"),
            ("oci:DIR:TAG", &local),
            ("nginx:alpine", &local),
            ("ubuntu:24.04", &local),
            (" IMAGE", &format!(" {local}")),
            (" A ", &format!(" {local} ")),
            (" A)", &format!(" {local})")),
            (" B ", &format!(" {local} ")),
            (" B)", &format!(" {local})")),
            ("linux/arm64", &format!("linux/{}", architecture())),
        ];
        let images = images.map(|(name, image)| (name.to_owned(), image.to_owned())).to_vec();
        Self { folder, images, _layout: layout, _registry: registry }
    }

    /// Runs a command as it is in a document; returns its standard output and error, in the order of writing.
    fn run(&self, command: &str) -> String {
        let command =
            self.images.iter().fold(command.to_owned(), |text, (name, image)| text.replace(name, image));
        let path = format!("{}:{}", tools::text(self.folder.path()), env::var("PATH").unwrap());
        let script = format!("exec 2>&1; {command}");
        let mut bash = tools::command("bash");
        bash.args(["-o", "pipefail", "-c", &script]).current_dir(self.folder.path()).env("PATH", path);
        bash.env("LAYERSLAYER_CACHE_DIR", self.folder.path().join("cache"));
        String::from_utf8(bash.output().unwrap().stdout).unwrap()
    }

    /// The same for a command that must succeed.
    fn succeed(&self, command: &str) {
        let output = self.run(&format!("{command} || echo \"exit status $?\""));
        assert!(!output.contains("exit status "), "{command}\n{output}");
    }
}

#[test]
fn every_command_and_output_in_the_documents_is_true() {
    let machine = Machine::new();
    for name in DOCUMENTS {
        let document = document(name);
        for example in examples(&document).into_iter().filter(|example| is_ours(example.command)) {
            match example.output {
                Some(output) => {
                    assert_eq!(machine.run(example.command), output, "{name}: {}", example.command)
                }
                None => machine.succeed(example.command),
            }
        }
    }
}

#[test]
fn every_command_for_users_of_other_tools_works() {
    let machine = Machine::new();
    tools::require("jq");
    let readme = document("README.md");
    let sections = readme.split("\n## Coming from ").skip(1).filter_map(|rest| rest.split("\n## ").next());
    let rows: Vec<String> = sections
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |"))
        .map(|row| row.replace("\\|", "|"))
        .collect();
    let commands: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.rsplit_once(" | `"))
        .map(|(_, command)| command)
        .filter(|command| is_ours(command) && !command.contains("login"))
        .collect();
    assert!(commands.len() >= 20, "{commands:#?}");
    for command in commands {
        machine.succeed(command);
    }
}

#[test]
fn every_make_target_in_the_documents_is_in_the_makefile() {
    let makefile = document("Makefile");
    for name in ["README.md", "CONTRIBUTING.md"] {
        let document = document(name);
        let lines =
            console_blocks(&document).flat_map(str::lines).filter_map(|line| line.strip_prefix("make "));
        let words = lines.filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace);
        let targets: Vec<&str> = words.filter(|word| !word.contains('=')).collect();
        assert!(targets.len() >= 3, "{name}: {targets:?}");
        for target in targets {
            assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "{name}: {target}");
        }
    }
}

#[test]
fn every_test_named_in_contributing_exists() {
    let contributing = document("CONTRIBUTING.md");
    for line in console_blocks(&contributing).flat_map(str::lines) {
        let Some((_, words)) = line.split_once("--test it ") else { continue };
        let name = words.split_whitespace().next().unwrap();
        let is_file = Path::new(ROOT).join(format!("tests/it/{name}.rs")).exists();
        let tests = sources(&Path::new(ROOT).join("tests/it"));
        let is_test =
            || tests.iter().any(|file| fs::read_to_string(file).unwrap().contains(&format!("fn {name}()")));
        assert!(is_file || is_test(), "{line}");
    }
}

#[test]
fn links_between_documents_lead_to_files() {
    let mut names: Vec<PathBuf> =
        ["README.md", "BENCHMARKS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
            .map(PathBuf::from)
            .to_vec();
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    names.extend(docs.map(|entry| Path::new("docs").join(entry.unwrap().file_name())));
    for name in names {
        let text = fs::read_to_string(Path::new(ROOT).join(&name)).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            let target = Path::new(ROOT).join(&name).parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link}", name.display());
        }
    }
}

#[test]
fn figures_in_the_readme_are_those_of_the_benchmarks() {
    let (readme, benchmarks) = (document("README.md"), document("BENCHMARKS.md"));
    let (_, task) = benchmarks.split_once("### Cold `/etc/passwd`, one layer of 63 MB\n").unwrap();
    let task = task.split("\n### ").next().unwrap();
    for (ours, theirs) in
        [("`layerslayer carve`", "layerslayer"), ("`regctl ", "regctl"), ("`crane ", "crane")]
    {
        let row = |text: &str, start: String| {
            let row = text
                .lines()
                .find(|line| line.starts_with(&start))
                .unwrap_or_else(|| panic!("no row {start}"));
            row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
        };
        let shown = row(&readme, format!("| {ours}"));
        let measured = row(task, format!("| http | {theirs} |"));
        // The greatest number of bytes and the median of the seconds.
        let bytes = measured[3].rsplit(" – ").next().unwrap();
        let seconds = measured[6].split(" / ").nth(1).unwrap();
        assert_eq!((shown[2].as_str(), shown[3].as_str()), (bytes, seconds), "{theirs}");
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
