//! Credentials in docker's `config.json`: the `auths` that `docker login` writes where no credential store is set up.
//! Format: docker/cli `cli/config/configfile/file.go` and `cli/config/types/authconfig.go`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use etcetera::home_dir;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::{
    auth::{
        Error,
        credential::{Credential, Secret},
    },
    limits,
};

/// The key under which docker keeps Docker Hub's credential, whatever name the hub goes by.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: Option<BTreeMap<String, Option<Auth>>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<SecretText>,
    identitytoken: Option<SecretText>,
    password: Option<SecretText>,
    registrytoken: Option<SecretText>,
    username: Option<String>,
}

/// Text that is wiped when dropped.
#[derive(Clone, Default)]
struct SecretText(Zeroizing<String>);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl SecretText {
    fn secret(&self) -> SecretString {
        SecretString::from(self.0.as_str())
    }
}

/// Finds what `config.json` in `DOCKER_CONFIG`, else in `~/.docker`, holds for the registry at `host`.
pub(crate) fn find(host: &str) -> Result<Option<Credential>, Error> {
    match directory() {
        Some(directory) => find_in(&directory, host),
        None => Ok(None),
    }
}

/// Finds what `config.json` in `directory` holds for the registry at `host`.
pub(crate) fn find_in(directory: &Path, host: &str) -> Result<Option<Credential>, Error> {
    let file = directory.join("config.json");
    let path = file.display().to_string();
    let Some(text) = read(&file, &path)? else { return Ok(None) };
    let config: Config = serde_json::from_slice(&text).map_err(|error| Error::Syntax {
        path: path.clone(),
        line: error.line(),
        column: error.column(),
    })?;
    let auths = config.auths.unwrap_or_default();
    let Some((key, auth)) = entry(&auths, host) else { return Ok(None) };
    let secret = secret(auth).ok_or_else(|| Error::Auth { path: path.clone(), key: key.to_owned() })?;
    Ok(secret.map(|secret| Credential::stored(secret, format!("config.json at {path}"))))
}

fn directory() -> Option<PathBuf> {
    match std::env::var_os("DOCKER_CONFIG") {
        Some(directory) if !directory.is_empty() => Some(directory.into()),
        _ => home_dir().ok().map(|home| home.join(".docker")),
    }
}

fn read(file: &Path, path: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = Zeroizing::new(Vec::new());
    let read = opened.take(limits::DOCKER_CONFIG_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if read as u64 > limits::DOCKER_CONFIG_BYTES {
        return Err(Error::Large { path: path.to_owned() });
    }
    Ok(Some(text))
}

/// The entry for `host`: the key that docker itself writes first, then any that names the same host.
fn entry<'a>(auths: &'a BTreeMap<String, Option<Auth>>, host: &str) -> Option<(&'a str, &'a Auth)> {
    let is_hub = |host: &str| HUB_HOSTS.iter().any(|hub| hub.eq_ignore_ascii_case(host));
    let exact = if is_hub(host) { HUB_KEY } else { host };
    if let Some((key, Some(auth))) = auths.get_key_value(exact) {
        return Some((key, auth));
    }
    let same = |key: &str| {
        let named = host_of(key);
        named.eq_ignore_ascii_case(host) || (is_hub(host) && is_hub(named))
    };
    auths.iter().find_map(|(key, auth)| auth.as_ref().filter(|_| same(key)).map(|auth| (key.as_str(), auth)))
}

/// The host in a key such as `https://host/v1/`.
fn host_of(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split_once('/').map_or(key, |(host, _)| host)
}

/// The secret of an entry: `Some(None)` for an empty one (it says that a helper has it), `None` for a malformed one.
fn secret(auth: &Auth) -> Option<Option<Secret>> {
    let filled = |text: &Option<SecretText>| text.clone().filter(|text| !text.0.is_empty());
    let (username, password) = match filled(&auth.auth) {
        Some(encoded) => decode(&encoded)?,
        None => (auth.username.clone().unwrap_or_default(), filled(&auth.password).unwrap_or_default()),
    };
    if let Some(token) = filled(&auth.registrytoken) {
        return Some(Some(Secret::Registry { token: token.secret() }));
    }
    if let Some(token) = filled(&auth.identitytoken) {
        return Some(Some(Secret::Identity { username, token: token.secret() }));
    }
    if username.is_empty() && password.0.is_empty() {
        return Some(None);
    }
    Some(Some(Secret::Basic { username, password: password.secret() }))
}

fn decode(encoded: &SecretText) -> Option<(String, SecretText)> {
    let bytes = Zeroizing::new(BASE64.decode(encoded.0.trim()).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    // Old versions of docker padded the text with NULs before they encoded it.
    let password = Zeroizing::new(password.trim_end_matches('\0').to_owned());
    Some((username.to_owned(), SecretText(password)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret as _;
    use tempfile::TempDir;

    use super::*;

    fn look(config: &str, host: &str) -> Result<Option<Credential>, Error> {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("config.json"), config).unwrap();
        find_in(directory.path(), host)
    }

    fn basic(config: &str, host: &str) -> Option<(String, String)> {
        match look(config, host).unwrap()?.secret {
            Secret::Basic { username, password } => Some((username, password.expose_secret().to_owned())),
            _ => panic!("not user and password"),
        }
    }

    fn auths(key: &str, user_and_password: &[u8]) -> String {
        let encoded = base64::engine::general_purpose::STANDARD.encode(user_and_password);
        format!(r#"{{"auths":{{"{key}":{{"auth":"{encoded}"}}}},"credsStore":"","HttpHeaders":{{"X":"y"}}}}"#)
    }

    fn pair(username: &str, password: &str) -> Option<(String, String)> {
        Some((username.to_owned(), password.to_owned()))
    }

    #[test]
    fn a_missing_file_or_directory_means_no_credential() {
        let directory = TempDir::new().unwrap();
        assert!(find_in(directory.path(), "host").unwrap().is_none());
        assert!(find_in(&directory.path().join("none"), "host").unwrap().is_none());
    }

    #[test]
    fn passwords_may_hold_colons_and_trailing_nuls_are_trimmed() {
        assert_eq!(basic(&auths("host", b"me:a:b:"), "host"), pair("me", "a:b:"));
        assert_eq!(basic(&auths("host", b"me:secret\0\0\0"), "host"), pair("me", "secret"));
    }

    #[test]
    fn the_hub_is_found_under_its_old_key_by_each_of_its_names() {
        for host in HUB_HOSTS {
            assert_eq!(basic(&auths(HUB_KEY, b"me:x"), host), pair("me", "x"));
            assert_eq!(basic(&auths("docker.io", b"me:x"), host), pair("me", "x"));
        }
        assert_eq!(basic(&auths(HUB_KEY, b"me:x"), "quay.io"), None);
    }

    #[test]
    fn keys_match_by_host_and_port_without_scheme_and_path() {
        for key in ["host:5000", "https://host:5000", "http://host:5000/v2/", "HOST:5000/v1/"] {
            assert_eq!(basic(&auths(key, b"me:x"), "host:5000"), pair("me", "x"), "{key}");
        }
        assert_eq!(basic(&auths("host:5000", b"me:x"), "host"), None);
        assert_eq!(basic(&auths("host.example", b"me:x"), "host"), None);
    }

    #[test]
    fn an_exact_key_wins_over_one_that_names_the_same_host() {
        let config = r#"{"auths":{"https://host/v1/":{"auth":"YTox"},"host":{"auth":"YjoyCg=="}}}"#;
        assert_eq!(basic(config, "host"), pair("b", "2\n"));
    }

    #[test]
    fn an_empty_entry_says_that_a_helper_has_the_credential() {
        assert!(look(r#"{"auths":{"host":{}},"credsStore":"desktop"}"#, "host").unwrap().is_none());
        assert!(look(r#"{"auths":{"host":null}}"#, "host").unwrap().is_none());
        assert!(look(r#"{"auths":null}"#, "host").unwrap().is_none());
    }

    #[test]
    fn identity_and_registry_tokens_are_told_apart() {
        let identity = r#"{"auths":{"host":{"auth":"MDAwMDo=","identitytoken":"refresh"}}}"#;
        let Secret::Identity { username, token } = look(identity, "host").unwrap().unwrap().secret else {
            panic!("no identity token")
        };
        assert_eq!((username.as_str(), token.expose_secret()), ("0000", "refresh"));
        let registry = r#"{"auths":{"host":{"registrytoken":"bearer"}}}"#;
        let Secret::Registry { token } = look(registry, "host").unwrap().unwrap().secret else {
            panic!("no registry token")
        };
        assert_eq!(token.expose_secret(), "bearer");
    }

    #[test]
    fn a_malformed_file_is_an_error_that_quotes_nothing_of_it() {
        let shown = look(r#"{"auths":{"host":"cGFzc3dvcmQ6aHVzaA=="}}"#, "host").unwrap_err().to_string();
        assert!(shown.contains("line 1, column") && !shown.contains("cGFzc3dv"), "{shown}");
        let shown = look(r#"{"auths":{"host":{"auth":"%hush%"}}}"#, "host").unwrap_err().to_string();
        assert!(shown.contains("\"host\"") && !shown.contains("hush"), "{shown}");
        assert!(look(&auths("host", b"no colon"), "host").is_err());
    }

    #[test]
    fn a_broken_entry_of_another_host_is_no_concern() {
        let config = r#"{"auths":{"a":{"auth":"%"},"host":{"auth":"YTox"}}}"#;
        assert_eq!(basic(config, "host"), pair("a", "1"));
    }
}
