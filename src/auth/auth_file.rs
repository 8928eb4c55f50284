//! Credentials in files of other programs: docker's `config.json`, podman's `auth.json` and the old `.dockercfg`.
//! Formats: docker/cli `cli/config/configfile/file.go` and `cli/config/types/authconfig.go`; containers/image
//! `pkg/docker/config/config.go` and `docs/containers-auth.json.5.md`.

use std::{collections::BTreeMap, io::ErrorKind, path::Path};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::MapAccess};
use zeroize::Zeroizing;

use super::{
    credential::{Credential, Secret},
    error::CredentialError,
    go_json::{self, GoStruct},
    helper::{Helper, OURSELVES},
    key::{HUB_HOSTS, RegistryKey, same_host, without_scheme},
};
use crate::{files::read_document, limits};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The kind of file, which decides how it is searched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    /// `auth.json`: helpers by host, then keys with paths, most specific first.
    Containers,
    /// `config.json`: the registry's helper, else the helper for all registries, else the file's own entries. If a helper has no
    /// credential, the file's own entries are not used.
    Docker,
    /// `.dockercfg`: entries only.
    Legacy,
}

#[derive(Default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    helpers: BTreeMap<String, Option<String>>,
    store: Option<String>,
}

impl GoStruct for Config {
    const FIELDS: &'static [&'static str] = &["auths", "credHelpers", "credsStore"];

    fn set<'de, A: MapAccess<'de>>(&mut self, field: &'static str, map: &mut A) -> Result<(), A::Error> {
        match field {
            "auths" => merge(&mut self.auths, map.next_value()?),
            "credHelpers" => merge(&mut self.helpers, map.next_value()?),
            _ => self.store = map.next_value::<Option<String>>()?.or(self.store.take()),
        }
        Ok(())
    }
}

/// Go adds the entries of a repeated map to those it has, and empties it for `null`.
fn merge<T>(entries: &mut BTreeMap<String, T>, more: Option<BTreeMap<String, T>>) {
    match more {
        Some(more) => entries.extend(more),
        None => entries.clear(),
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        go_json::decode(deserializer)
    }
}

/// A registry whose secret is in the file itself.
#[cfg(feature = "stores")]
pub(crate) type PlainEntry = (RegistryKey, Result<Credential, CredentialError>);

/// What `DOCKER_AUTH_CONFIG` may contain, and nothing else.
#[derive(Default)]
struct EnvironmentConfig {
    auths: BTreeMap<String, EnvironmentAuth>,
}

impl GoStruct for EnvironmentConfig {
    const FIELDS: &'static [&'static str] = &["auths"];
    const REFUSES_UNKNOWN_FIELDS: bool = true;

    fn set<'de, A: MapAccess<'de>>(&mut self, _: &'static str, map: &mut A) -> Result<(), A::Error> {
        merge(&mut self.auths, map.next_value()?);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for EnvironmentConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        go_json::decode(deserializer)
    }
}

#[derive(Default)]
struct EnvironmentAuth {
    auth: Option<SecretText>,
}

impl GoStruct for EnvironmentAuth {
    const FIELDS: &'static [&'static str] = &["auth"];
    const REFUSES_UNKNOWN_FIELDS: bool = true;

    fn set<'de, A: MapAccess<'de>>(&mut self, _: &'static str, map: &mut A) -> Result<(), A::Error> {
        self.auth = map.next_value::<Option<SecretText>>()?.or(self.auth.take());
        Ok(())
    }
}

impl<'de> Deserialize<'de> for EnvironmentAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        go_json::decode(deserializer)
    }
}

#[derive(Clone, Default)]
struct Auth {
    auth: Option<SecretText>,
    identitytoken: Option<SecretText>,
    password: Option<SecretText>,
    registrytoken: Option<SecretText>,
    username: Option<String>,
}

impl GoStruct for Auth {
    const FIELDS: &'static [&'static str] =
        &["auth", "identitytoken", "password", "registrytoken", "username"];

    fn set<'de, A: MapAccess<'de>>(&mut self, field: &'static str, map: &mut A) -> Result<(), A::Error> {
        let secret = match field {
            "auth" => &mut self.auth,
            "identitytoken" => &mut self.identitytoken,
            "password" => &mut self.password,
            "registrytoken" => &mut self.registrytoken,
            _ => {
                self.username = map.next_value::<Option<String>>()?.or(self.username.take());
                return Ok(());
            }
        };
        *secret = map.next_value::<Option<SecretText>>()?.or(secret.take());
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        go_json::decode(deserializer)
    }
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
        let Some(text) = read(path, limits::DOCKER_CONFIG_BYTES)? else { return Ok(None) };
        let parsed = match style {
            Style::Legacy => first_value(&text).map(|auths| Config { auths, ..Config::default() }),
            Style::Containers | Style::Docker => first_value(&text),
        };
        let format = match style {
            Style::Containers => "a podman auth.json",
            Style::Docker | Style::Legacy => "a docker configuration",
        };
        // The parser's message is left out: it quotes values.
        let config = parsed.map_err(|error| {
            let (line, column) = (error.line(), error.column());
            CredentialError::other(format!("{shown} is not {format}: line {line}, column {column}"))
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(Self { config, place: format!("{name} at {shown}"), style }))
    }

    /// Reads the value of `DOCKER_AUTH_CONFIG`, which docker accepts only if it contains nothing but `auths.*.auth`.
    pub(crate) fn of_environment(text: &SecretString) -> Result<Self, CredentialError> {
        use secrecy::ExposeSecret as _;

        let malformed = |_| {
            let problem = "DOCKER_AUTH_CONFIG contains more or other than auths.*.auth, so it is ignored";
            CredentialError::other(problem)
        };
        let config: EnvironmentConfig = serde_json::from_str(text.expose_secret()).map_err(malformed)?;
        let auths = config.auths.into_iter();
        let auths = auths.map(|(key, entry)| (key, Auth { auth: entry.auth, ..Auth::default() })).collect();
        let config = Config { auths, ..Config::default() };
        Ok(Self { config, place: "DOCKER_AUTH_CONFIG".into(), style: Style::Legacy })
    }

    /// The file's name and path, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The credential for an image, or for a registry if `repository` is `None`.
    pub(crate) fn find(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Result<Option<Credential>, CredentialError> {
        if let Some(name) = self.helper(registry) {
            let helper = Helper::new(name).map_err(|error| self.helper_problem(error))?;
            let server = match self.style {
                Style::Docker => registry.docker_key(),
                Style::Containers | Style::Legacy => registry.host().to_owned(),
            };
            let found = helper.get(&server).map_err(|error| self.helper_problem(error))?;
            let place = format!("{}, named in {}", helper.program(), self.place);
            return Ok(found.map(|credential| credential.with_source(place)));
        }
        self.in_file(registry, repository)
    }

    /// Whether it names us as the helper for a registry. Our own stores have been searched before.
    pub(crate) fn names_us(&self, registry: &RegistryKey) -> bool {
        cfg!(feature = "stores") && self.helper(registry) == Some(OURSELVES)
    }

    /// The credential in the file itself.
    pub(crate) fn in_file(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Result<Option<Credential>, CredentialError> {
        let repository = repository.filter(|_| self.style == Style::Containers);
        let Some((key, auth)) = self.entry(registry, repository) else { return Ok(None) };
        self.credential(key, auth)
    }

    /// The credential in an entry; `None` if the entry is empty.
    fn credential(&self, key: &str, auth: &Auth) -> Result<Option<Credential>, CredentialError> {
        let secret = secret(auth).ok_or_else(|| {
            let problem = "an `auth` that is not base64 of user:password; log in again";
            CredentialError::other(format!("{}: the entry of {key:?} has {problem}", self.place))
        })?;
        Ok(secret.map(|secret| Credential::new(secret).with_source(self.place.clone())))
    }

    /// The helper for a registry.
    pub(crate) fn helper(&self, registry: &RegistryKey) -> Option<&str> {
        let helpers = &self.config.helpers;
        let same = || helpers.iter().find(|(key, _)| names(key, registry)).map(|(_, name)| name);
        let name = match (helpers.get(&registry.docker_key()).or_else(same), self.style) {
            (_, Style::Legacy) => None,
            // An empty name means that the credential is in the file itself.
            (Some(name), _) => name.as_deref(),
            (None, Style::Docker) => self.config.store.as_deref(),
            (None, Style::Containers) => None,
        };
        name.filter(|name| !name.is_empty())
    }

    /// Registries with a secret in the file itself, each with the entry that is used. One malformed entry does not affect others.
    #[cfg(feature = "stores")]
    pub(crate) fn plain_entries(&self) -> Vec<PlainEntry> {
        let keys = self.config.auths.keys().filter_map(|key| key.parse().ok());
        let registries: std::collections::BTreeSet<RegistryKey> = keys.collect();
        let entries = registries.into_iter().filter_map(|registry| {
            let found = self.in_file(&registry, None).transpose()?;
            Some((registry, found))
        });
        entries.collect()
    }

    /// An error if the file has several entries for a registry, and their secrets differ.
    #[cfg(feature = "stores")]
    pub(crate) fn check_unique(&self, registry: &RegistryKey) -> Result<(), CredentialError> {
        let same = self.config.auths.iter().filter(|(key, _)| names(key, registry));
        let mut first: Option<(&str, Credential)> = None;
        for (key, auth) in same {
            let Some(credential) = self.credential(key, auth)? else { continue };
            match &first {
                Some((other, known)) if !known.is_same(&credential) => {
                    return Err(CredentialError::other(format!(
                        "{other:?} and {key:?} there have different credentials for it; remove one of them"
                    )));
                }
                Some(_) => {}
                None => first = Some((key, credential)),
            }
        }
        Ok(())
    }

    /// Every registry that it names, including those with only a helper.
    pub(crate) fn registries(&self) -> Vec<RegistryKey> {
        let store = self.config.store.as_deref().filter(|_| self.style == Style::Docker);
        let store = store.filter(|name| !name.is_empty() && *name != OURSELVES);
        // A failing helper is reported when it is asked for a credential.
        let listed = store.and_then(|name| Helper::new(name).ok()?.list().ok()).unwrap_or_default();
        let keys = self.config.auths.keys().chain(self.config.helpers.keys()).chain(listed.keys());
        keys.filter_map(|key| key.parse().ok()).collect()
    }

    /// The entry for an image: keys with paths first, then the key that docker writes, then any key that names the host.
    fn entry(&self, registry: &RegistryKey, repository: Option<&str>) -> Option<(&str, &Auth)> {
        let auths = &self.config.auths;
        let exact = |key: &str| auths.get_key_value(key).map(|(key, auth)| (key.as_str(), auth));
        let mut path = repository;
        while let Some(name) = path {
            let hub = HUB_HOSTS.into_iter().filter(|host| same_host(host, registry.host()));
            let mut keys = [registry.host()].into_iter().chain(hub).map(|host| format!("{host}/{name}"));
            if let Some(found) = keys.find_map(|key| exact(&key)) {
                return Some(found);
            }
            path = name.rsplit_once('/').map(|(parent, _)| parent);
        }
        exact(&registry.docker_key()).or_else(|| exact(registry.as_str())).or_else(|| {
            let same = |key: &str| match self.style {
                // A path that is not the API's restricts the entry to repositories below it.
                Style::Containers => names(key, registry),
                Style::Docker | Style::Legacy => same_host(host_of(key), registry.host()),
            };
            auths.iter().find(|(key, _)| same(key)).map(|(key, auth)| (key.as_str(), auth))
        })
    }

    fn helper_problem(&self, problem: CredentialError) -> CredentialError {
        problem.named_in(&self.place)
    }
}

/// The first JSON value of a text. As in docker, what follows is ignored, and an empty text is an empty configuration.
fn first_value<T: Default + for<'de> Deserialize<'de>>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::Deserializer::from_slice(text).into_iter().next().unwrap_or_else(|| Ok(T::default()))
}

/// Reads a document of at most `cap` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, cap: u64) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
    let shown = path.display();
    match read_document(path, cap) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            let file = path.ancestors().skip(1).find(|parent| parent.is_file()).unwrap_or(path).display();
            let hint = match path.file_name() {
                Some(name) if name == "config.json" => "; DOCKER_CONFIG names the directory of config.json",
                _ => "",
            };
            Err(CredentialError::other(format!("reading {shown}: {file} is a file, not a directory{hint}")))
        }
        Err(error) => Err(CredentialError::other(format!("reading {shown}: {error}"))),
    }
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

/// The secret of an entry: `Some(None)` for an empty entry, which means that a helper has it; `None` for a malformed one.
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
    // Go's decoder skips line breaks, which `base64` and other programs insert.
    let encoded = Zeroizing::new(encoded.0.trim().replace(['\r', '\n'], ""));
    let bytes = Zeroizing::new(BASE64.decode(encoded.as_bytes()).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    // Old versions of docker padded the text with NULs before encoding it.
    let password = Zeroizing::new(password.trim_matches('\0').to_owned());
    Some((username.to_owned(), SecretText(password)))
}

#[cfg(test)]
mod tests;
