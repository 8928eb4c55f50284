//! `--report FILE`: the result, requests, bytes and time as a JSON object, documented in `docs/json.md`.

use std::{io::Write as _, path::Path, time::Duration};

use layerslayer::{Client, Image, ImageReference, Layer, Outcome, ReadMethod, Verification};
use serde::Serialize;

use super::{
    args::Command,
    destination::file::{FILE_MODE, Replacement},
    exit::{Exit, Failure},
    output::{json::SCHEMA, source, text},
};

/// The report of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    schema: u32,
    command: &'static str,
    reference: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<LayerOfFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<String>,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
    requests: u64,
    bytes_fetched: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_of_layers: Option<u64>,
    elapsed_ms: u64,
    exit: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The layer of a file.
#[derive(Debug, Serialize)]
struct LayerOfFile {
    index: usize,
    digest: String,
}

impl Report {
    /// Creates the report of a command that has not started.
    pub(crate) fn new(command: &Command) -> Self {
        let texts = match command {
            Command::Carve(arguments) => [&arguments.paths[..], &arguments.globs].concat(),
            Command::Peek(arguments) => arguments.globs.clone(),
            Command::TocBuild(_) | Command::TocPush(_) => Vec::new(),
        };
        let mut paths: Vec<_> = texts.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        let path = match paths.len() {
            1 => paths.pop(),
            _ => None,
        };
        // A malformed reference can contain a password.
        let reference = ImageReference::redact(command.image()).into_owned();
        let command = command.name();
        Self { schema: SCHEMA, command, reference, path, paths, ..Self::default() }
    }

    /// Records the image.
    pub(crate) fn opened(&mut self, image: &Image) {
        // The manifest may claim any sizes: their sum can overflow.
        let bytes = image.layers().iter().map(Layer::size).fold(0, u64::saturating_add);
        self.image(image.reference().to_string(), image.digest().to_string(), bytes);
    }

    fn image(&mut self, reference: String, digest: String, bytes_of_layers: u64) {
        self.reference = reference;
        self.digest = Some(digest);
        self.bytes_of_layers = Some(bytes_of_layers);
    }

    /// Records the platform of the image, if it states one.
    pub(crate) fn platform(&mut self, platform: Option<&str>) {
        self.platform = platform.map(ToOwned::to_owned);
    }

    /// Records the file that was found.
    pub(crate) fn file(&mut self, resolved_path: &[u8], layer: (usize, String), size: u64) {
        self.resolved_path = Some(String::from_utf8_lossy(resolved_path).into_owned());
        self.layer = Some(LayerOfFile { index: layer.0, digest: layer.1 });
        self.size = Some(size);
    }

    /// Records the requests and bytes of the client.
    pub(crate) fn read_by(&mut self, client: &Client) {
        let transferred = client.transferred();
        self.cost(transferred.requests, transferred.bytes);
    }

    fn cost(&mut self, requests: u64, bytes: u64) {
        self.requests = requests;
        self.bytes_fetched = bytes;
    }

    /// Records how a listing was verified and read.
    pub(crate) fn verified(&mut self, verification: Verification, method: ReadMethod) {
        self.plan = Some(method.to_string());
        self.source = Some(match method {
            ReadMethod::Chunks | ReadMethod::Soci => "publisher-toc",
            method => source(verification, method == ReadMethod::Toc),
        });
        self.verified = Some(verification.to_string());
    }

    /// Records how content was verified and read.
    pub(crate) fn outcome(&mut self, outcome: &Outcome) {
        self.verified(outcome.verification, outcome.method);
        self.is_final = Some(outcome.is_final);
    }

    /// Summarises requests, bytes and time in one line.
    pub(crate) fn summary(&self, elapsed: Duration) -> String {
        let requests = match self.requests {
            1 => "1 request".to_owned(),
            requests => format!("{requests} requests"),
        };
        let layers = match self.bytes_of_layers {
            Some(bytes) => format!(" (layers total {})", text::size(bytes)),
            None => String::new(),
        };
        let seconds = elapsed.as_secs_f64();
        format!("{requests}, {} fetched{layers}, {seconds:.2} s", text::size(self.bytes_fetched))
    }

    /// Writes the report at the end of the run.
    pub(crate) fn write(
        &mut self,
        path: &Path,
        exit: Exit,
        failure: Option<&Failure>,
        elapsed: Duration,
    ) -> std::io::Result<()> {
        self.exit = exit.code();
        self.error = failure.map(|failure| failure.messages.join("\n")).filter(|text| !text.is_empty());
        self.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        let mut file = Replacement::create(path, FILE_MODE)?;
        file.write_all(&text)?;
        file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;

    fn report(arguments: &[&str]) -> Report {
        let arguments = arguments.iter().map(Into::into);
        let args::Invocation::Image(command) = args::parse(arguments).unwrap().invocation else {
            panic!("not a command for images")
        };
        Report::new(&command)
    }

    fn written(report: &mut Report, exit: Exit, failure: Option<&Failure>) -> serde_json::Value {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        report.write(&path, exit, failure, Duration::from_millis(1500)).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_failed_run_is_reported() {
        let mut report = report(&["layerslayer", "carve", "Bad", "/etc/passwd"]);
        let failure = Failure::usage("malformed");
        let expected = serde_json::json!({
            "schema": 1, "command": "carve", "reference": "Bad", "path": "/etc/passwd", "requests": 0,
            "bytes_fetched": 0, "elapsed_ms": 1500, "exit": 2, "error": "malformed",
        });
        assert_eq!(written(&mut report, Exit::Usage, Some(&failure)), expected);
    }

    #[test]
    fn keys_have_a_fixed_order() {
        let mut report = report(&["layerslayer", "carve", "image", "/etc/passwd"]);
        report.image("r".into(), "d".into(), 10);
        report.platform(Some("p"));
        report.file(b"etc/passwd", (1, "sha256:1".to_owned()), 5);
        report.verified(Verification::None, ReadMethod::Scan);
        report.is_final = Some(false);
        let value = written(&mut report, Exit::Done, None);
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = "schema command reference digest platform path resolved_path layer size plan source verified final \
                        requests bytes_fetched bytes_of_layers elapsed_ms exit";
        assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
        assert_eq!(value["layer"], serde_json::json!({"index": 1, "digest": "sha256:1"}));
    }

    #[test]
    fn the_summary_has_requests_bytes_and_time() {
        let mut report = report(&["layerslayer", "peek", "image"]);
        report.cost(1, 1234);
        assert_eq!(report.summary(Duration::from_millis(420)), "1 request, 1.23 kB fetched, 0.42 s");
    }
}
