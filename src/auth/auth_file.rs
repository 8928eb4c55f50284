//! Credentials in the files of others: docker's `config.json`, containers' `auth.json` and the old `.dockercfg`.
//! Formats: docker/cli `cli/config/configfile/file.go` and `cli/config/types/authconfig.go`; containers/image
//! `pkg/docker/config/config.go` and `docs/containers-auth.json.5.md`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::{
    credential::{Credential, Secret},
    error::CredentialError,
    helper::{Helper, OURSELVES},
    key::{RegistryKey, same_host, without_scheme},
};
use crate::limits;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whose file it is, which decides how it is searched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    /// `auth.json`: helpers by host, then keys with paths, most specific first.
    Containers,
    /// `config.json`: a helper for the registry, else the helper for all, else the file itself. A helper that has nothing is
    /// the end of it.
    Docker,
    /// `.dockercfg`: the entries alone.
    Legacy,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: Option<BTreeMap<String, Option<Auth>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

/// A registry that has a secret in a file itself, and what it is.
#[cfg(feature = "stores")]
pub(crate) type InTheClear = (RegistryKey, Result<Credential, CredentialError>);

/// What `DOCKER_AUTH_CONFIG` may hold, and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentConfig {
    auths: BTreeMap<String, EnvironmentAuth>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentAuth {
    auth: SecretText,
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

/// A file that has been read. Cannot be printed.
pub(crate) struct AuthFile {
    config: Config,
    /// For messages.
    place: String,
    style: Style,
}

impl AuthFile {
    /// Reads the file at `path`, if there is one.
    pub(crate) fn read(path: &Path, style: Style) -> Result<Option<Self>, CredentialError> {
        let shown = path.display().to_string();
        let Some(text) = read(path, &shown, limits::DOCKER_CONFIG_BYTES)? else { return Ok(None) };
        let parsed = match style {
            Style::Legacy => {
                serde_json::from_slice(&text).map(|auths| Config { auths: Some(auths), ..Config::default() })
            }
            Style::Containers | Style::Docker => serde_json::from_slice(&text),
        };
        let whose = match style {
            Style::Containers => "containers' auth.json",
            Style::Docker | Style::Legacy => "docker's configuration",
        };
        // The parser's message is left out: it quotes values.
        let config = parsed.map_err(|error| {
            let (line, column) = (error.line(), error.column());
            CredentialError::other(format!("{shown} is not {whose}: line {line}, column {column}"))
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(Self { config, place: format!("{name} at {shown}"), style }))
    }

    /// Reads the value of `DOCKER_AUTH_CONFIG`, which docker believes only if it holds nothing but `auths.*.auth`.
    pub(crate) fn of_environment(text: &SecretString) -> Result<Self, CredentialError> {
        use secrecy::ExposeSecret as _;

        let malformed = |_| {
            let problem = "DOCKER_AUTH_CONFIG holds more or other than auths.*.auth, so all of it is ignored";
            CredentialError::other(problem)
        };
        let config: EnvironmentConfig = serde_json::from_str(text.expose_secret()).map_err(malformed)?;
        let auths = config
            .auths
            .into_iter()
            .map(|(key, entry)| (key, Some(Auth { auth: Some(entry.auth), ..Auth::default() })));
        let config = Config { auths: Some(auths.collect()), ..Config::default() };
        Ok(Self { config, place: "DOCKER_AUTH_CONFIG".into(), style: Style::Legacy })
    }

    /// Where it was found, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// What it says of an image, or of a registry as such.
    pub(crate) fn find(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Result<Option<Credential>, CredentialError> {
        if let Some(name) = self.helper(registry) {
            let helper = Helper::named(name).map_err(|error| self.problem(error))?;
            let server = match self.style {
                Style::Docker => registry.docker_key(),
                Style::Containers | Style::Legacy => registry.host().to_owned(),
            };
            let found = helper.get(&server).map_err(|error| self.problem(error))?;
            let place = format!("{}, named in {}", helper.program(), self.place);
            return Ok(found.map(|credential| credential.found_in(place)));
        }
        self.in_file(registry, repository)
    }

    /// Whether it names ourselves as the helper for a registry: then our own stores have been asked already.
    pub(crate) fn asks_us(&self, registry: &RegistryKey) -> bool {
        cfg!(feature = "stores") && self.helper(registry) == Some(OURSELVES)
    }

    /// What the file itself holds.
    pub(crate) fn in_file(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Result<Option<Credential>, CredentialError> {
        let repository = repository.filter(|_| self.style == Style::Containers);
        let Some((key, auth)) = self.entry(registry, repository) else { return Ok(None) };
        let secret = secret(auth).ok_or_else(|| {
            let problem = "an `auth` that is not base64 of user:password; log in again";
            CredentialError::other(format!("{}: the entry of {key:?} has {problem}", self.place))
        })?;
        Ok(secret.map(|secret| Credential::stored(secret, self.place.clone())))
    }

    /// The helper that is asked for a registry.
    pub(crate) fn helper(&self, registry: &RegistryKey) -> Option<&str> {
        let helpers = self.config.helpers.as_ref();
        let exact = registry.docker_key();
        let named = helpers.and_then(|helpers| {
            let same = || helpers.iter().find(|(key, _)| names(key, registry)).map(|(_, name)| name);
            helpers.get(&exact).or_else(same)
        });
        let name = match (named, self.style) {
            (_, Style::Legacy) => None,
            // An empty name says that the file itself has this registry's.
            (Some(name), _) => name.as_deref(),
            (None, Style::Docker) => self.config.store.as_deref(),
            (None, Style::Containers) => None,
        };
        name.filter(|name| !name.is_empty())
    }

    /// Entries with a secret of their own, the one that counts of each registry. A malformed one is nobody else's fault.
    #[cfg(feature = "stores")]
    pub(crate) fn in_the_clear(&self) -> Vec<InTheClear> {
        let keys = self.config.auths.iter().flat_map(BTreeMap::keys).filter_map(|key| key.parse().ok());
        let registries: std::collections::BTreeSet<RegistryKey> = keys.collect();
        let entries = registries.into_iter().filter_map(|registry| {
            let found = self.in_file(&registry, None).transpose()?;
            Some((registry, found))
        });
        entries.collect()
    }

    /// Every registry that it names, those with nothing but a helper included.
    pub(crate) fn registries(&self) -> Vec<RegistryKey> {
        let auths = self.config.auths.iter().flat_map(BTreeMap::keys);
        let helpers = self.config.helpers.iter().flat_map(BTreeMap::keys);
        let store = self.config.store.as_deref().filter(|_| self.style == Style::Docker);
        let store = store.filter(|name| !name.is_empty() && *name != OURSELVES);
        // A helper that fails is told when it is asked for a credential.
        let listed = store.and_then(|name| Helper::named(name).ok()?.list().ok()).unwrap_or_default();
        auths.chain(helpers).chain(listed.keys()).filter_map(|key| key.parse().ok()).collect()
    }

    /// The entry for an image: keys with paths first, the key that docker itself writes next, then any that names the host.
    fn entry(&self, registry: &RegistryKey, repository: Option<&str>) -> Option<(&str, &Auth)> {
        let auths = self.config.auths.as_ref()?;
        let exact = |key: &str| match auths.get_key_value(key) {
            Some((key, Some(auth))) => Some((key.as_str(), auth)),
            _ => None,
        };
        let mut path = repository;
        while let Some(name) = path {
            let hosts = [registry.host()]
                .into_iter()
                .chain(super::key::HUB_HOSTS.into_iter().filter(|host| same_host(host, registry.host())));
            if let Some(found) = hosts.map(|host| format!("{host}/{name}")).find_map(|key| exact(&key)) {
                return Some(found);
            }
            path = name.rsplit_once('/').map(|(parent, _)| parent);
        }
        exact(&registry.docker_key()).or_else(|| exact(registry.as_str())).or_else(|| {
            let same = |key: &str| match self.style {
                // With a path that is no API's it is for what lies below.
                Style::Containers => names(key, registry),
                Style::Docker | Style::Legacy => same_host(host_of(key), registry.host()),
            };
            auths
                .iter()
                .find_map(|(key, auth)| auth.as_ref().filter(|_| same(key)).map(|auth| (key.as_str(), auth)))
        })
    }

    fn problem(&self, problem: impl std::fmt::Display) -> CredentialError {
        CredentialError::unavailable(format!("{problem}, named in {}", self.place))
    }
}

/// The text of a file, `path` in messages, of at most so many bytes; `None` if there is none.
pub(crate) fn read(
    file: &Path,
    path: &str,
    most: u64,
) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
    let failed = |error| CredentialError::other(format!("reading {path}: {error}"));
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = Zeroizing::new(Vec::new());
    let read = opened.take(most + 1).read_to_end(&mut text).map_err(failed)?;
    if read as u64 > most {
        return Err(CredentialError::other(format!("{path} is larger than {most} bytes")));
    }
    Ok(Some(text))
}

/// Whether a key of a file names this registry.
fn names(key: &str, registry: &RegistryKey) -> bool {
    key.parse::<RegistryKey>().is_ok_and(|key| key == *registry)
}

/// The host in a key such as `https://host/v1/`.
fn host_of(key: &str) -> &str {
    let key = without_scheme(key);
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

    use super::{
        super::key::{HUB_HOSTS, HUB_URL as HUB_KEY},
        *,
    };

    fn find_in(directory: &Path, host: &str) -> Result<Option<Credential>, CredentialError> {
        let file = AuthFile::read(&directory.join("config.json"), Style::Docker)?;
        file.map_or(Ok(None), |file| file.find(&host.parse().unwrap(), None))
    }

    fn look(config: &str, host: &str) -> Result<Option<Credential>, CredentialError> {
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
        let error = look(r#"{"auths":{"host":{}},"credsStore":"no-such"}"#, "host").unwrap_err();
        assert!(error.to_string().contains("docker-credential-no-such is not installed"), "{error}");
        assert!(look(r#"{"auths":{"host":{}},"credsStore":""}"#, "host").unwrap().is_none());
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
