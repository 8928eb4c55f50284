//! The library's hints in the words of the command line: its flags, commands and environment variables.

use layerslayer::Hint;

/// What to try, for the end of an error message.
pub(super) fn advice(hint: &Hint) -> String {
    match hint {
        Hint::AllowHost => "if that is intended, use --allow-host".to_owned(),
        Hint::AllowPlainHttp => "if plain HTTP is acceptable, use --plain-http".to_owned(),
        Hint::CheckCredential { registry, found_in: Some(place) } => format!(
            "the credential from {place} gives no access, or the image does not exist: check the name, or log in again \
             with `layerslayer login {registry}`"
        ),
        Hint::CheckCredential { found_in: None, .. } => {
            "the credential from --username gives no access, or the image does not exist: check the name and the password"
                .to_owned()
        }
        Hint::CreateSigningKey => {
            "create one with `layerslayer toc keygen`, and name its file in LAYERSLAYER_TOC_KEY".to_owned()
        }
        Hint::LogIn { registry } => format!(
            "the image is private or does not exist: log in with `layerslayer login {registry}`, or use --username and \
             --password-stdin"
        ),
        Hint::LogInAgain { registry } => format!("log in again with `layerslayer login {registry}`"),
        Hint::LogInForHigherLimit { registry } => {
            format!("`layerslayer login {registry}` for a higher limit, or try again later")
        }
        Hint::RaiseByteLimit => "--max-bytes is the limit".to_owned(),
        Hint::RaiseTimeLimit => "--timeout is the limit".to_owned(),
        Hint::TrustCertificate => {
            "if the certificate should be trusted, name the file of its authority with --ca".to_owned()
        }
        Hint::VerifyWholeLayer => "--verify reads the whole layer".to_owned(),
        // The library's own words name no flag that could be missing here.
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_flag_or_command_that_helps() {
        let registry = || "registry.example".to_owned();
        for (hint, words) in [
            (Hint::AllowHost, "--allow-host"),
            (Hint::AllowPlainHttp, "--plain-http"),
            (Hint::CheckCredential { registry: registry(), found_in: None }, "--username"),
            (Hint::CheckCredential { registry: registry(), found_in: Some("a.json".into()) }, "a.json"),
            (Hint::CreateSigningKey, "toc keygen"),
            (Hint::LogIn { registry: registry() }, "layerslayer login registry.example"),
            (Hint::LogInAgain { registry: registry() }, "layerslayer login registry.example"),
            (Hint::LogInForHigherLimit { registry: registry() }, "layerslayer login registry.example"),
            (Hint::RaiseByteLimit, "--max-bytes"),
            (Hint::RaiseTimeLimit, "--timeout"),
            (Hint::RetryLater, "try again later"),
            (Hint::TrustCertificate, "--ca"),
            (Hint::VerifyWholeLayer, "--verify"),
        ] {
            assert!(advice(&hint).contains(words), "{hint:?}");
        }
    }
}
