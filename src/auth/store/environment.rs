//! Credentials in environment variables: `LAYERSLAYER_AUTH`, a JSON object of registry to `user:password` or `<token>:…`, and
//! `LAYERSLAYER_AUTH_<HOST>` for one registry. Read-only.
//!
//! A variable's name encodes a host as Terraform's `TF_TOKEN_` does: `.` becomes `_` and `-` becomes `__`. A host name neither has two
//! dots in a row nor a hyphen beside a dot, so the name stands for one host only. It may end with `_PORT`: the last label of a host
//! name is never a number, and an IPv4 address has exactly four.

use std::{collections::BTreeMap, ffi::OsString, net::Ipv4Addr};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use zeroize::Zeroize as _;

use super::{
    super::{
        credential::{Credential, CredentialKind},
        error::{CredentialError, Kind},
        key::RegistryKey,
    },
    CredentialStore, StoredEntry,
};

/// The variable with credentials for several registries.
const ALL: &str = "LAYERSLAYER_AUTH";

/// The prefix of variables for one registry.
const PREFIX: &str = "LAYERSLAYER_AUTH_";

/// The user name that marks an identity token, as in docker's helpers.
pub(crate) const TOKEN_USER: &str = "<token>";

/// The variables of a process that hold credentials. Cannot be printed.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, SecretString>,
}

impl Environment {
    /// The variables of this process.
    pub(crate) fn from_process() -> Self {
        Self::new(std::env::vars_os())
    }

    /// Picks the variables that hold credentials.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables.into_iter().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name == ALL || name.starts_with(PREFIX))?;
            // A value that is not UTF-8 is invalid. Kept as an empty text it is reported as malformed.
            Some((name, SecretString::from(value.into_string().unwrap_or_default())))
        });
        Self { variables: variables.collect() }
    }

    /// The entries of [`ALL`].
    fn object(&self) -> Result<BTreeMap<RegistryKey, Credential>, CredentialError> {
        let malformed = |problem: &str| Err(CredentialError::usage(format!("{ALL}: {problem}")));
        let Some(text) = self.variables.get(ALL) else { return Ok(BTreeMap::new()) };
        // The parser's message quotes values.
        let Ok(object) = serde_json::from_str::<BTreeMap<String, Value>>(text.expose_secret()) else {
            return malformed("not a JSON object of registry to \"user:password\"");
        };
        let mut entries = BTreeMap::new();
        for (name, value) in object {
            let key: RegistryKey =
                name.parse().map_err(|error| CredentialError::usage(format!("{ALL}: {error}")))?;
            let Value::String(mut text) = value else {
                return malformed(&format!("the value of {name:?} is not a string"));
            };
            let credential = credential(&text);
            text.zeroize();
            let Some(credential) = credential else {
                return malformed(&format!("the value of {name:?} is not user:password"));
            };
            if entries.insert(key, credential.with_source(ALL)).is_some() {
                return malformed(&format!("ambiguous: {name:?} and another key are the same registry"));
            }
        }
        Ok(entries)
    }

    /// The variables for one registry each. Docker Hub may have one for each of its host names.
    fn singles(&self) -> Result<Vec<(RegistryKey, &str, &SecretString)>, CredentialError> {
        let singles =
            self.variables.iter().filter_map(|(name, text)| Some((name, name.strip_prefix(PREFIX)?, text)));
        let parsed = singles.map(|(name, host, text)| match registry(host) {
            Some(registry) => Ok((registry, name.as_str(), text)),
            None => Err(CredentialError::usage(format!(
                "{name} does not stand for one registry: write `.` and the `:` before a port as `_`, `-` as `__`; use {ALL} \
                 for names that have other characters"
            ))),
        });
        parsed.collect()
    }

    /// The credential for a registry.
    pub(crate) fn find(&self, registry: &RegistryKey) -> Result<Option<Credential>, CredentialError> {
        let mut found = Vec::new();
        for (_, name, text) in self.singles()?.into_iter().filter(|(key, ..)| key == registry) {
            let Some(credential) = credential(text.expose_secret()) else {
                return Err(CredentialError::usage(format!("{name} is not user:password")));
            };
            found.push(credential.with_source(name));
        }
        found.extend(self.object()?.remove(registry));
        let Some(first) = found.pop() else { return Ok(None) };
        if let Some(other) = found.iter().find(|other| !other.is_same(&first)) {
            return Err(CredentialError::usage(format!(
                "ambiguous: {} and {} hold different credentials for {registry}; unset one",
                first.source(),
                other.source()
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

    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        let mut registries: Vec<RegistryKey> = self.object()?.into_keys().collect();
        registries.extend(self.singles()?.into_iter().map(|(registry, ..)| registry));
        registries.sort();
        registries.dedup();
        let mut entries = Vec::new();
        for registry in registries {
            let Some(credential) = self.find(&registry)? else { continue };
            let username = credential.username().to_owned();
            entries.push(StoredEntry { registry, kind: credential.kind(), username });
        }
        Ok(entries)
    }

    fn exists(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        Ok(self.retrieve(registry, kind)?.is_some())
    }
}

fn read_only(registry: &RegistryKey) -> CredentialError {
    let message =
        format!("the credential for {registry} is an environment variable, which cannot be written");
    CredentialError::new(Kind::ReadOnly, message)
}

/// The registry that a variable's name stands for, without the prefix; `None` if it is not exactly one.
fn registry(name: &str) -> Option<RegistryKey> {
    let host = name.to_ascii_lowercase().replace("__", "-").replace('_', ".");
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let (name, port) = match host.rsplit_once('.') {
        Some((name, port)) if is_number(port) && host.parse::<Ipv4Addr>().is_err() => (name, Some(port)),
        _ => (host.as_str(), None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.parse::<Ipv4Addr>().is_ok();
    let ends_with_number = name.rsplit('.').next().is_some_and(is_number);
    if !name.split('.').all(is_label) || (ends_with_number && !is_address) {
        return None;
    }
    match port {
        Some(port) => format!("{name}:{port}").parse().ok(),
        None => name.parse().ok(),
    }
}

/// Parses `user:password` or `<token>:…`.
pub(crate) fn credential(text: &str) -> Option<Credential> {
    let (username, secret) = text.split_once(':')?;
    if username.is_empty() || secret.is_empty() {
        return None;
    }
    Some(match username {
        TOKEN_USER => Credential::identity_token("", secret),
        username => Credential::basic(username, secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn found(variables: &[(&str, &str)], registry: &str) -> Option<(String, String, String)> {
        let credential = environment(variables).find(&registry.parse().unwrap()).unwrap()?;
        let secret = credential.expose_secret().to_owned();
        Some((credential.username().to_owned(), secret, credential.source().to_owned()))
    }

    #[test]
    fn a_variable_is_named_after_host_and_port() {
        for (host, name) in [
            ("ghcr.io", "LAYERSLAYER_AUTH_GHCR_IO"),
            ("my-host.example:5000", "LAYERSLAYER_AUTH_MY__HOST_EXAMPLE_5000"),
            ("localhost:5000", "LAYERSLAYER_AUTH_LOCALHOST_5000"),
            ("10.0.0.1", "LAYERSLAYER_AUTH_10_0_0_1"),
            ("10.0.0.1:5000", "LAYERSLAYER_AUTH_10_0_0_1_5000"),
            ("xn--bcher-kva.example", "LAYERSLAYER_AUTH_XN____BCHER__KVA_EXAMPLE"),
            ("ghcr.io", "LAYERSLAYER_AUTH_ghcr_io"),
            ("docker.io", "LAYERSLAYER_AUTH_DOCKER_IO"),
            ("docker.io", "LAYERSLAYER_AUTH_INDEX_DOCKER_IO"),
            ("docker.io", "LAYERSLAYER_AUTH_REGISTRY__1_DOCKER_IO"),
        ] {
            let expected = Some(("me".into(), "a:b".into(), name.into()));
            assert_eq!(found(&[(name, "me:a:b")], host), expected, "{name}");
        }
        assert_eq!(found(&[("LAYERSLAYER_AUTH_GHCR_IO", "me:a")], "quay.io"), None);
    }

    #[test]
    fn a_variable_is_not_read_for_a_registry_of_a_similar_name() {
        for (name, host) in [
            ("LAYERSLAYER_AUTH_REG_EXAMPLE_COM", "reg-example.com"),
            ("LAYERSLAYER_AUTH_REG__EXAMPLE_COM", "reg.example.com"),
            ("LAYERSLAYER_AUTH_MY_HOST_5000", "my_host:5000"),
            ("LAYERSLAYER_AUTH_10_0_0_1", "10.0.0:1"),
            ("LAYERSLAYER_AUTH_1_2_3_4_5", "1.2.3.4.5"),
        ] {
            assert_eq!(found(&[(name, "me:a")], host), None, "{name}");
        }
    }

    #[test]
    fn a_variable_that_does_not_stand_for_one_registry_is_refused() {
        for name in ["___1__5000", "A___B", "_A", "A_", "", "5000", "10_0_0", "A_B_99999", "A$B", "A_0"] {
            let name = format!("LAYERSLAYER_AUTH_{name}");
            let error = environment(&[(&name, "me:hush")]).find(&"a.b".parse().unwrap()).unwrap_err();
            let shown = error.to_string();
            assert!(error.is_usage() && shown.contains(&name) && !shown.contains("hush"), "{shown}");
        }
    }

    #[test]
    fn variables_for_one_registry_are_listed() {
        let environment = environment(&[("LAYERSLAYER_AUTH_A_B_5000", "me:x"), (ALL, r#"{"c.d":"you:y"}"#)]);
        let listed = environment.list().unwrap();
        let listed: Vec<_> =
            listed.iter().map(|entry| (entry.registry.as_str(), entry.username.as_str())).collect();
        assert_eq!(listed, [("a.b:5000", "me"), ("c.d", "you")]);
    }

    #[test]
    fn the_object_accepts_all_forms_of_registry_names() {
        let object = r#"{"https://index.docker.io/v1/":"me:x","host:5000":"<token>:refresh"}"#;
        let variables = [(ALL, object)];
        assert_eq!(found(&variables, "docker.io"), Some(("me".into(), "x".into(), ALL.into())));
        let token = environment(&variables).find(&"host:5000".parse().unwrap()).unwrap().unwrap();
        assert_eq!(token.kind(), CredentialKind::IdentityToken);
        assert_eq!(token.expose_secret(), "refresh");
    }

    #[test]
    fn the_error_for_an_ambiguous_or_malformed_value_names_the_variable_only() {
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
        // The same credential twice is no contradiction.
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
