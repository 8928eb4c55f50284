//! `docker-credential-layerslayer`: our stores for docker, podman, skopeo and crane.
//! Protocol: docker/docker-credential-helpers, `credentials/`.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use layerslayer::{CredentialSources, HelperRequest};
use zeroize::Zeroizing;

/// The program's name when it is called as a helper.
pub(crate) const NAME: &str = "docker-credential-layerslayer";

/// Longest request, in bytes.
const REQUEST_BYTES: u64 = 1 << 20;

/// Answers one request. Errors go to stdout, as the protocol wants it.
pub(crate) fn main(verb: Option<&str>) -> ExitCode {
    let (answer, code) = match answer(verb) {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(message) => (Zeroizing::new(format!("{message}\n")), ExitCode::FAILURE),
    };
    match io::stdout().write_all(answer.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(verb: Option<&str>) -> Result<Zeroizing<String>, String> {
    let usage = || format!("usage: {NAME} get|store|erase|list|version");
    if verb == Some("version") {
        let version = env!("CARGO_PKG_VERSION");
        return Ok(Zeroizing::new(format!("{NAME} (layerslayer) {version}\n")));
    }
    let request: HelperRequest = verb.and_then(HelperRequest::named).ok_or_else(usage)?;
    let mut input = Zeroizing::new(String::new());
    if request.reads_input() {
        let read = io::stdin().lock().take(REQUEST_BYTES).read_to_string(&mut input);
        read.map_err(|error| format!("reading the request: {error}"))?;
    }
    let sources: CredentialSources = super::sources();
    sources.answer_helper(request, &input).map_err(|error| error.to_string())
}
