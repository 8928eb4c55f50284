//! Images copied by skopeo, and assembled by umoci.

use std::path::Path;

use super::{super::tools, Layout};

/// Credentials for a push, and what the registry's certificate is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust<'a> {
    /// A registry over TLS with the authority in this folder.
    Authority(&'a Path),
    /// Plain HTTP, with user and password.
    Credentials(&'a str, &'a str),
    /// Plain HTTP, anonymous.
    Plain,
}

impl Trust<'_> {
    /// The options for skopeo's side `prefix` (`dest-`, `src-` or none).
    fn options(self, prefix: &str) -> Vec<String> {
        match self {
            Self::Authority(folder) => vec![format!("--{prefix}cert-dir={}", tools::text(folder))],
            Self::Credentials(user, password) => {
                vec![format!("--{prefix}tls-verify=false"), format!("--{prefix}creds={user}:{password}")]
            }
            Self::Plain => vec![format!("--{prefix}tls-verify=false")],
        }
    }
}

/// Pushes `layout`'s image `tag`, with every platform and every blob unchanged, to `reference`
/// (`HOST:PORT/NAME:TAG`).
pub(crate) fn push(layout: &Layout, tag: &str, reference: &str, trust: Trust<'_>) {
    tools::run(
        tools::command("skopeo")
            .args(["copy", "--quiet", "--all", "--preserve-digests"])
            .args(trust.options("dest-"))
            .args([layout.reference(tag), format!("docker://{reference}")]),
    );
}

/// Pushes with Docker's media types (schema 2) in place of the OCI ones: manifest and digest change, layers stay.
pub(crate) fn push_as_docker(layout: &Layout, tag: &str, reference: &str, trust: Trust<'_>) {
    tools::run(
        tools::command("skopeo")
            .args(["copy", "--quiet", "--format=v2s2"])
            .args(trust.options("dest-"))
            .args([layout.reference(tag), format!("docker://{reference}")]),
    );
}

/// The output of `skopeo inspect` for an image, as JSON; or why it failed.
pub(crate) fn inspect(reference: &str, trust: Trust<'_>) -> Result<serde_json::Value, String> {
    inspect_with(&[], reference, trust)
}

/// An image's manifest or index as the registry stores it; or why skopeo could not get it.
pub(crate) fn manifest(reference: &str, trust: Trust<'_>) -> Result<serde_json::Value, String> {
    inspect_with(&["--raw"], reference, trust)
}

fn inspect_with(options: &[&str], reference: &str, trust: Trust<'_>) -> Result<serde_json::Value, String> {
    let said = tools::try_run(
        tools::command("skopeo")
            .arg("inspect")
            .args(options)
            .args(trust.options(""))
            .arg(format!("docker://{reference}")),
    )?;
    serde_json::from_slice(&said).map_err(|error| error.to_string())
}

/// Writes an image as `docker save` would.
pub(crate) fn save_docker_archive(layout: &Layout, tag: &str, file: &Path, name: &str) {
    let destination = format!("docker-archive:{}:{name}", tools::text(file));
    tools::run(tools::command("skopeo").args(["copy", "--quiet", &layout.reference(tag), &destination]));
}

/// Writes an image as an archived layout.
pub(crate) fn save_oci_archive(layout: &Layout, tag: &str, file: &Path) {
    let destination = format!("oci-archive:{}:{tag}", tools::text(file));
    tools::run(tools::command("skopeo").args(["copy", "--quiet", &layout.reference(tag), &destination]));
}

/// A change that umoci adds as a new layer of its own making.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Insertion<'a> {
    /// A file or folder of this machine, at this path of the image.
    Content(&'a Path, &'a str),
    /// The same, as an opaque directory.
    Opaque(&'a Path, &'a str),
    /// A whiteout of this path.
    Whiteout(&'a str),
}

/// Has umoci add a layer of its own on top of image `tag`.
pub(crate) fn umoci_insert(folder: &Path, tag: &str, insertion: Insertion<'_>) {
    let mut command = tools::command("umoci");
    command.args(["insert", "--image", &format!("{}:{tag}", tools::text(folder))]);
    match insertion {
        Insertion::Content(source, target) => command.args([tools::text(source), target]),
        Insertion::Opaque(source, target) => command.args(["--opaque", tools::text(source), target]),
        Insertion::Whiteout(target) => command.args(["--whiteout", target]),
    };
    tools::run(&mut command);
}

/// Has umoci build a layout in `folder` with one image `tag` of these archives, base first.
pub(crate) fn umoci_build(folder: &Path, tag: &str, archives: &[Vec<u8>]) {
    let image = format!("{}:{tag}", tools::text(folder));
    tools::run(tools::command("umoci").args(["init", "--layout", tools::text(folder)]));
    tools::run(tools::command("umoci").args(["new", "--image", &image]));
    for archive in archives {
        let file = tools::temporary_folder();
        let path = file.path().join("layer.tar");
        std::fs::write(&path, archive).unwrap();
        tools::run(tools::command("umoci").args(["raw", "add-layer", "--image", &image, tools::text(&path)]));
    }
}
