//! `docker-credential-layerslayer`: our stores as a credential helper for docker, podman, skopeo and crane.
//! Protocol: docker/docker-credential-helpers, `credentials/`.

use std::{
    io::{self, Read as _, Write},
    process::ExitCode,
};

use layerslayer::HelperRequest;
use zeroize::Zeroizing;

/// The program's name as a helper.
pub(crate) const NAME: &str = "docker-credential-layerslayer";

/// Longest request, in bytes.
const REQUEST_BYTES: u64 = 1 << 20;

/// Answers one request. Errors go to stdout, as the protocol requires.
pub(crate) fn main(verb: Option<&str>) -> ExitCode {
    let mut stdout = io::stdout();
    let Err(message) = answer(verb, &mut stdout) else { return ExitCode::SUCCESS };
    // Without a stdout the exit code has to do.
    let _ = stdout.write_all(format!("{message}\n").as_bytes());
    ExitCode::FAILURE
}

fn answer(verb: Option<&str>, output: &mut dyn Write) -> Result<(), String> {
    let usage = || format!("usage: {NAME} get|store|erase|list|version");
    if verb == Some("version") {
        let version = format!("{NAME} (layerslayer) {}\n", env!("CARGO_PKG_VERSION"));
        return output.write_all(version.as_bytes()).map_err(|error| error.to_string());
    }
    let request = verb.and_then(HelperRequest::from_name).ok_or_else(usage)?;
    let mut input = Zeroizing::new(String::new());
    if request.reads_input() {
        let read = io::stdin().lock().take(REQUEST_BYTES).read_to_string(&mut input);
        read.map_err(|error| format!("reading the request: {error}"))?;
    }
    super::credentials().answer_helper(request, &input, output).map_err(|error| error.to_string())
}
