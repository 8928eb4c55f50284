//! Credentials in environment variables: `LAYERSLAYER_AUTH`, a JSON object of registry to `user:password` or `<token>:…`, and
//! `LAYERSLAYER_AUTH_<HOST>` for one registry. Read-only.

use std::{collections::BTreeMap, ffi::OsString};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use zeroize::Zeroize as _;

use super::{
    super::{
        credential::{Credential, CredentialKind},
        error::{CredentialError, Kind},
        key::{HUB, HUB_HOSTS, RegistryKey},
    },
    CredentialStore, StoredEntry,
};

/// The variable with an object of all.
const ALL: &str = "LAYERSLAYER_AUTH";

/// Beginning of the variables for one registry each.
const PREFIX: &str = "LAYERSLAYER_AUTH_";

/// The user name that says that the rest is an identity token, as in docker's helpers.
pub(crate) const TOKEN_USER: &str = "<token>";

/// The variables of a process that hold credentials. Cannot be printed.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, SecretString>,
}

impl Environment {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        Self::of(std::env::vars_os())
    }

    /// Those among `variables` that hold credentials.
    pub(crate) fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables.into_iter().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name == ALL || name.starts_with(PREFIX))?;
            // What is no UTF-8 cannot be right; empty, it is said to be malformed rather than overlooked.
            Some((name, SecretString::from(value.into_string().unwrap_or_default())))
        });
        Self { variables: variables.collect() }
    }

    /// The entries of the variable with all.
    fn object(&self) -> Result<BTreeMap<RegistryKey, Credential>, CredentialError> {
        let malformed = |problem: &str| Err(CredentialError::usage(format!("{ALL}: {problem}")));
        let Some(text) = self.variables.get(ALL) else { return Ok(BTreeMap::new()) };
        // The parser's own message quotes values.
        let Ok(object) = serde_json::from_str::<BTreeMap<String, Value>>(text.expose_secret()) else {
            return malformed("not a JSON object of registry to \"user:password\"");
        };
        let mut entries = BTreeMap::new();
        for (name, value) in object {
            let key: RegistryKey =
                name.parse().map_err(|error| CredentialError::usage(format!("{ALL}: {error}")))?;
            let Value::String(mut text) = value else {
                return malformed(&format!("the value of {name:?} is no text"));
            };
            let credential = credential(&text);
            text.zeroize();
            let Some(credential) = credential else {
                return malformed(&format!("the value of {name:?} is not user:password"));
            };
            if entries.insert(key, credential.found_in(ALL)).is_some() {
                return malformed(&format!("ambiguous: {name:?} and another key are the same registry"));
            }
        }
        Ok(entries)
    }

    /// The variables for `registry` alone. Docker Hub has a name for each of its hosts.
    fn single(&self, registry: &RegistryKey) -> Result<Vec<Credential>, CredentialError> {
        let mut found = Vec::new();
        let hosts = if registry.as_str() == HUB { HUB_HOSTS.to_vec() } else { vec![registry.as_str()] };
        for name in hosts.into_iter().map(variable) {
            let Some(text) = self.variables.get(&name) else { continue };
            let Some(credential) = credential(text.expose_secret()) else {
                return Err(CredentialError::usage(format!("{name} is not user:password")));
            };
            found.push(credential.found_in(name));
        }
        Ok(found)
    }

    /// The one credential for a registry.
    pub(crate) fn find(&self, registry: &RegistryKey) -> Result<Option<Credential>, CredentialError> {
        let mut found = self.single(registry)?;
        found.extend(self.object()?.remove(registry));
        let Some(first) = found.pop() else { return Ok(None) };
        if let Some(other) = found.iter().find(|other| !other.is_same(&first)) {
            return Err(CredentialError::usage(format!(
                "ambiguous: {} and {} hold different credentials for {registry}; unset one",
                first.origin(),
                other.origin()
            )));
        }
        Ok(Some(first))
    }
}

impl CredentialStore for Environment {
    fn place(&self) -> String {
        "the environment".into()
    }

    fn check(&self, registry: &RegistryKey) -> Result<(), CredentialError> {
        Err(read_only(registry))
    }

    fn store(&self, registry: &RegistryKey, _: &Credential) -> Result<(), CredentialError> {
        Err(read_only(registry))
    }

    fn retrieve(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<Option<Credential>, CredentialError> {
        Ok(self.find(registry)?.filter(|credential| credential.kind() == kind))
    }

    fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        match self.exists(registry, kind)? {
            true => Err(read_only(registry)),
            false => Ok(false),
        }
    }

    /// Those of `LAYERSLAYER_AUTH`: the name of a variable for one registry cannot be turned back into a host.
    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        let entries = self.object()?.into_iter().map(|(registry, credential)| StoredEntry {
            registry,
            kind: credential.kind(),
            username: credential.username().to_owned(),
        });
        Ok(entries.collect())
    }

    fn exists(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        Ok(self.retrieve(registry, kind)?.is_some())
    }
}

fn read_only(registry: &RegistryKey) -> CredentialError {
    let message = format!("the credential for {registry} in the environment is set and unset there alone");
    CredentialError::new(Kind::ReadOnly, message)
}

/// The name of the variable for one host and port.
fn variable(host: &str) -> String {
    let name = host.bytes().map(|byte| match byte.to_ascii_uppercase() {
        byte if byte.is_ascii_alphanumeric() => char::from(byte),
        _ => '_',
    });
    format!("{PREFIX}{}", name.collect::<String>())
}

/// `user:password`, or `<token>:…`.
pub(crate) fn credential(text: &str) -> Option<Credential> {
    let (username, secret) = text.split_once(':')?;
    if username.is_empty() || secret.is_empty() {
        return None;
    }
    let secret = SecretString::from(secret);
    Some(match username {
        TOKEN_USER => Credential::identity_token("", secret),
        username => Credential::basic(username, secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn found(variables: &[(&str, &str)], registry: &str) -> Option<(String, String, String)> {
        let credential = environment(variables).find(&registry.parse().unwrap()).unwrap()?;
        let secret = credential.secret().expose_secret().to_owned();
        Some((credential.username().to_owned(), secret, credential.origin().to_owned()))
    }

    #[test]
    fn a_variable_is_named_for_host_and_port() {
        for (host, name) in [
            ("ghcr.io", "LAYERSLAYER_AUTH_GHCR_IO"),
            ("my-host.example:5000", "LAYERSLAYER_AUTH_MY_HOST_EXAMPLE_5000"),
            ("[::1]:5000", "LAYERSLAYER_AUTH____1__5000"),
            ("docker.io", "LAYERSLAYER_AUTH_DOCKER_IO"),
            ("docker.io", "LAYERSLAYER_AUTH_INDEX_DOCKER_IO"),
        ] {
            let expected = Some(("me".into(), "a:b".into(), name.into()));
            assert_eq!(found(&[(name, "me:a:b")], host), expected, "{name}");
        }
        assert_eq!(found(&[("LAYERSLAYER_AUTH_GHCR_IO", "me:a")], "quay.io"), None);
    }

    #[test]
    fn the_object_names_registries_as_people_do() {
        let object = r#"{"https://index.docker.io/v1/":"me:x","host:5000":"<token>:refresh"}"#;
        let variables = [(ALL, object)];
        assert_eq!(found(&variables, "docker.io"), Some(("me".into(), "x".into(), ALL.into())));
        let token = environment(&variables).find(&"host:5000".parse().unwrap()).unwrap().unwrap();
        assert_eq!(token.kind(), CredentialKind::IdentityToken);
        assert_eq!(token.secret().expose_secret(), "refresh");
    }

    #[test]
    fn what_is_ambiguous_or_malformed_is_an_error_that_names_the_variable_and_no_value() {
        let key: RegistryKey = "docker.io".parse().unwrap();
        for variables in [
            &[(ALL, r#"{"docker.io":"me:hush","index.docker.io":"me:hush"}"#)][..],
            &[(ALL, r#"{"docker.io":"me:hush"}"#), ("LAYERSLAYER_AUTH_DOCKER_IO", "me:hush2")],
            &[("LAYERSLAYER_AUTH_INDEX_DOCKER_IO", "me:hush"), ("LAYERSLAYER_AUTH_DOCKER_IO", "you:hush")],
            &[(ALL, "hush")],
            &[(ALL, r#"{"docker.io":"hush"}"#)],
            &[(ALL, r#"{"docker.io":["hush"]}"#)],
            &[(ALL, r#"{"a b":"me:hush"}"#)],
            &[("LAYERSLAYER_AUTH_DOCKER_IO", "hush")],
            &[("LAYERSLAYER_AUTH_DOCKER_IO", "")],
        ] {
            let error = environment(variables).find(&key).unwrap_err();
            assert!(error.is_usage() && !error.to_string().contains("hush"), "{error}");
            assert!(error.to_string().contains("LAYERSLAYER_AUTH"), "{error}");
        }
        // The same twice is no contradiction.
        let twice = [(ALL, r#"{"docker.io":"me:x"}"#), ("LAYERSLAYER_AUTH_DOCKER_IO", "me:x")];
        assert!(found(&twice, "docker.io").is_some());
    }

    #[test]
    fn the_environment_is_listed_and_cannot_be_written() {
        let environment = environment(&[(ALL, r#"{"docker.io":"me:x","a.b":"<token>:y"}"#)]);
        let listed = environment.list().unwrap();
        let listed: Vec<_> = listed.iter().map(|entry| (entry.registry.as_str(), entry.kind)).collect();
        assert_eq!(listed, [("a.b", CredentialKind::IdentityToken), ("docker.io", CredentialKind::Password)]);
        let key: RegistryKey = "docker.io".parse().unwrap();
        assert!(environment.exists(&key, CredentialKind::Password).unwrap());
        assert!(!environment.exists(&key, CredentialKind::IdentityToken).unwrap());
        let credential = environment.retrieve(&key, CredentialKind::Password).unwrap().unwrap();
        assert!(environment.store(&key, &credential).unwrap_err().is_read_only());
        assert!(environment.delete(&key, CredentialKind::Password).unwrap_err().is_read_only());
        assert!(!environment.delete(&key, CredentialKind::IdentityToken).unwrap());
    }
}
