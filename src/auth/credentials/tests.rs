//! Which source takes precedence.

use std::{collections::HashMap, ffi::OsString, fs, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use tempfile::TempDir;

use super::*;
#[cfg(feature = "stores")]
use crate::auth::store::plain_file::PlainFile;

/// A home directory and an environment.
struct Home {
    folder: TempDir,
    variables: Vec<(String, OsString)>,
}

impl Home {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let runtime = folder.path().join("run").into_os_string();
        Self { folder, variables: vec![("XDG_RUNTIME_DIR".into(), runtime)] }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn set(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn sources(&self) -> Credentials {
        let variables: HashMap<_, _> = self.variables.iter().cloned().collect();
        let locations =
            Locations::new(&|name| variables.get(name).cloned(), Some(self.path().into()), Some(u32::MAX));
        let environment =
            Environment::new(self.variables.iter().map(|(name, value)| (name.into(), value.clone())));
        Credentials::new(
            environment,
            locations,
            #[cfg(feature = "stores")]
            Passphrases::fixed("open sesame"),
        )
    }

    fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<(Option<Credential>, Vec<String>), CredentialError> {
        let registry = registry.parse().unwrap();
        let mut query = CredentialQuery::new(&registry, repository);
        let credential = self.sources().find(&mut query)?;
        Ok((credential, query.take_warnings()))
    }

    /// User and source of the credential, and the warnings.
    fn found(&self, registry: &str, repository: &str) -> (Option<(String, String)>, Vec<String>) {
        let (credential, warnings) = self.find(registry, repository).unwrap();
        let credential = credential.map(|credential| {
            (
                credential.username().to_owned(),
                credential.source().replace(self.path().to_str().unwrap(), "~"),
            )
        });
        (credential, warnings)
    }

    fn user(&self, registry: &str, repository: &str) -> String {
        let (found, warnings) = self.found(registry, repository);
        assert!(warnings.is_empty(), "{warnings:?}");
        found.map(|(user, _)| user).unwrap_or_default()
    }

    fn helper(self, name: &str, line: &str) -> (Self, String) {
        let name = format!("{name}-{}", std::process::id());
        let path = self.path().join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (self, name)
    }
}

fn auths(key: &str, user: &str) -> String {
    format!(r#"{{"auths":{{"{key}":{{"auth":"{}"}}}}}}"#, STANDARD.encode(format!("{user}:x")))
}

#[test]
fn sources_are_searched_in_order() {
    let mut home = Home::new();
    assert_eq!(home.user("a.b", "x"), "");
    home = home.file(".dockercfg", auths("a.b", "legacy").replace(r#"{"auths":"#, "").replace("}}}", "}}"));
    assert_eq!(home.user("a.b", "x"), "legacy");
    home = home.file(".docker/config.json", auths("https://a.b/v1/", "docker"));
    assert_eq!(home.user("a.b", "x"), "docker");
    home = home.file(".config/containers/auth.json", auths("a.b", "containers"));
    assert_eq!(home.user("a.b", "x"), "containers");
    home = home.file("run/containers/auth.json", auths("a.b", "runtime"));
    assert_eq!(home.user("a.b", "x"), if cfg!(target_os = "linux") { "runtime" } else { "containers" });
    home = home.file("explicit.json", auths("a.b", "explicit"));
    let explicit = home.path().join("explicit.json");
    home = home.set("REGISTRY_AUTH_FILE", explicit);
    assert_eq!(home.user("a.b", "x"), "explicit");
    #[cfg(feature = "stores")]
    {
        let own = home.path().join(".config/layerslayer");
        let basic = |user: &str| Credential::basic(user, "x");
        let key = "a.b".parse().unwrap();
        PlainFile::new(&own).store(&key, &basic("plain")).unwrap();
        assert_eq!(home.user("a.b", "x"), "plain");
        let sealed = crate::auth::store::sealed(&own, &Passphrases::fixed("open sesame"));
        sealed.store(&key, &basic("sealed")).unwrap();
        assert_eq!(home.user("a.b", "x"), "sealed");
    }
    home = home.set("DOCKER_AUTH_CONFIG", auths("a.b", "variable"));
    assert_eq!(home.user("a.b", "x"), "variable");
    home = home.set("LAYERSLAYER_AUTH_A_B", "own:x");
    assert_eq!(home.user("a.b", "x"), "own");
    // All of them are listed, the one in use first.
    let candidates = home.sources().candidates(&"a.b".parse().unwrap());
    let users: Vec<&str> = candidates.iter().map(|candidate| candidate.username.as_str()).collect();
    let stores: &[&str] = if cfg!(feature = "stores") { &["sealed", "plain"] } else { &[] };
    assert_eq!(users, [&["own", "variable"], stores, &["explicit"]].concat());
}

#[test]
fn an_explicitly_named_file_replaces_the_default_ones() {
    let home = Home::new().file(".docker/config.json", auths("a.b", "docker"));
    let home = home.file("explicit.json", auths("c.d", "explicit"));
    let explicit = home.path().join("explicit.json");
    let home = home.set("REGISTRY_AUTH_FILE", explicit);
    assert_eq!((home.user("a.b", "x"), home.user("c.d", "x")), (String::new(), "explicit".into()));
}

#[test]
fn only_in_podmans_files_keys_with_paths_apply_most_specific_first() {
    let entry = |user: &str| format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(format!("{user}:x")));
    let text = format!(
        r#"{{"auths":{{"a.b":{},"a.b/ns":{},"a.b/ns/img":{},"docker.io/me":{},"index.docker.io":{}}}}}"#,
        entry("host"),
        entry("namespace"),
        entry("image"),
        entry("hub namespace"),
        entry("hub")
    );
    let home = Home::new().file(".config/containers/auth.json", &text);
    for (registry, repository, user) in [
        ("a.b", "ns/img", "image"),
        ("a.b", "ns/img/below", "image"),
        ("a.b", "ns/image", "namespace"),
        ("a.b", "nsx", "host"),
        ("a.b", "other", "host"),
        ("a.b:5000", "ns/img", ""),
        ("docker.io", "me/app", "hub namespace"),
        ("docker.io", "library/nginx", "hub"),
    ] {
        assert_eq!(home.user(registry, repository), user, "{registry}/{repository}");
    }
    let docker = Home::new().file(".docker/config.json", &text);
    assert_eq!(docker.user("a.b", "ns/img"), "host");
}

#[test]
fn a_malformed_shared_file_is_a_warning_and_the_next_is_used() {
    let home = Home::new()
        .file(".config/containers/auth.json", "{")
        .file(".docker/config.json", auths("a.b", "docker"));
    let (found, warnings) = home.found("a.b", "x");
    assert_eq!(found.unwrap().0, "docker");
    assert!(warnings.len() == 1 && warnings[0].contains("containers/auth.json"), "{warnings:?}");
}

#[test]
fn dockers_variable_is_ignored_unless_it_contains_auths_only() {
    let auth = STANDARD.encode("me:hush");
    for (value, user) in [
        (format!(r#"{{"auths":{{"a.b":{{"auth":"{auth}"}}}}}}"#), Some("me")),
        (format!(r#"{{"auths":{{"a.b":{{"auth":"{auth}"}}}},"credsStore":"x"}}"#), None),
        (format!(r#"{{"auths":{{"a.b":{{"auth":"{auth}","email":"x"}}}}}}"#), None),
        (r#"{"auths":{"a.b":{"identitytoken":"hush"}}}"#.to_owned(), None),
    ] {
        let (found, warnings) = Home::new().set("DOCKER_AUTH_CONFIG", &value).found("a.b", "x");
        assert_eq!(found.as_ref().map(|(user, _)| user.as_str()), user);
        assert_eq!(warnings.len(), usize::from(user.is_none()));
        assert!(warnings.iter().all(|warning| !warning.contains("hush")), "{warnings:?}");
    }
}

#[test]
fn dockers_registry_helper_takes_precedence_over_its_store_and_its_file() {
    let line = |user: &str| format!(r#"echo '{{"Username":"{user}","Secret":"x"}}'"#);
    let miss = format!("echo '{}'; exit 1", crate::auth::helper::NOT_FOUND);
    let (home, of_one) = Home::new().helper("one", &line("of one"));
    let (home, of_all) =
        home.helper("all", &format!(r#"[ "$(cat)" = c.d ] && {{ {miss}; }}; {}"#, line("of all")));
    let auth = STANDARD.encode("file:x");
    let entry = format!(r#"{{"auth":"{auth}"}}"#);
    let home = home.file(
        ".docker/config.json",
        format!(
            r#"{{"auths":{{"a.b":{entry},"c.d":{entry},"e.f":{entry}}},"credsStore":"{of_all}",
               "credHelpers":{{"a.b":"{of_one}","e.f":"","g.h":"no-such","docker.io":"{of_one}"}}}}"#
        ),
    );
    crate::auth::helper::tests::search(home.path());
    let user = |registry: &str| home.found(registry, "x").0.map(|(user, _)| user);
    assert_eq!(user("a.b").as_deref(), Some("of one"));
    assert_eq!(user("docker.io").as_deref(), Some("of one"));
    assert_eq!(user("x.y").as_deref(), Some("of all"));
    // If the helper has no credential, the file's own entry is not used.
    assert_eq!(user("c.d"), None);
    // An empty name means the file.
    assert_eq!(user("e.f").as_deref(), Some("file"));
    let (found, warnings) = home.found("g.h", "x");
    assert!(found.is_none());
    assert!(warnings[0].contains("docker-credential-no-such is not installed"), "{warnings:?}");
    assert!(warnings[0].contains("config.json"), "{warnings:?}");
}

#[test]
fn an_invalid_variable_or_own_store_is_an_error() {
    let home = Home::new().set("LAYERSLAYER_AUTH", "{");
    assert!(home.find("a.b", "x").is_err_and(|error| error.is_usage()));
    #[cfg(feature = "stores")]
    {
        let home = Home::new();
        let own = home.path().join(".config/layerslayer");
        let key: RegistryKey = "a.b".parse().unwrap();
        let plain = PlainFile::new(&own);
        plain.store(&key, &Credential::basic("me", "x")).unwrap();
        fs::set_permissions(own.join("credentials.toml"), fs::Permissions::from_mode(0o644)).unwrap();
        let error = home.find("a.b", "x").map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn every_registry_that_can_be_listed_is_listed() {
    let home = Home::new()
        .file(
            ".docker/config.json",
            r#"{"auths":{"https://index.docker.io/v1/":{}},"credHelpers":{"c.d":"x"}}"#,
        )
        .file(".config/containers/auth.json", auths("quay.io/me", "me"))
        .set("LAYERSLAYER_AUTH", r#"{"a.b":"me:x"}"#);
    let registries = home.sources().registries();
    let registries: Vec<&str> = registries.iter().map(RegistryKey::as_str).collect();
    assert_eq!(registries, ["a.b", "c.d", "docker.io", "quay.io/me"]);
    assert_eq!(home.find("a.b", "x").unwrap().0.unwrap().expose_secret(), "x");
}

#[cfg(feature = "stores")]
#[test]
fn helpers_of_registries_conf_precede_or_replace_podmans_files() {
    let (home, one) = Home::new().helper("conf", r#"echo '{"Username":"of helper","Secret":"x"}'"#);
    let miss = format!("echo '{}'; exit 1", crate::auth::helper::NOT_FOUND);
    let (home, empty) = home.helper("conf-empty", &miss);
    let mut home = home
        .file(".config/containers/auth.json", auths("a.b/team", "containers"))
        .file(".docker/config.json", auths("c.d", "docker"));
    crate::auth::helper::tests::search(home.path());
    for (helpers, team, docker) in [
        (String::new(), "containers", "docker"),
        (format!(r#""{one}""#), "of helper", "of helper"),
        (format!(r#""{empty}", "containers-auth.json""#), "containers", "docker"),
        (format!(r#""containers-auth.json", "{one}""#), "containers", "docker"),
        // Docker does not read registries.conf.
        (format!(r#""{empty}""#), "", "docker"),
        (r#""layerslayer""#.to_owned(), "", "docker"),
    ] {
        home = home.file(".config/containers/registries.conf", format!("credential-helpers = [{helpers}]"));
        let user =
            |registry: &str| home.found(registry, "team/x").0.map_or_else(String::new, |found| found.0);
        assert_eq!((user("a.b"), user("c.d")), (team.to_owned(), docker.to_owned()), "{helpers}");
    }
    // A warning names an excluded file that has a credential.
    let (found, warnings) = home.found("a.b", "team/x");
    assert!(found.is_none());
    assert!(warnings[0].contains("auth.json") && warnings[0].contains("not used, because"), "{warnings:?}");
    assert!(home.found("e.f", "team/x").1.is_empty());
    let candidates = home.sources().candidates(&"a.b/team".parse().unwrap());
    assert!(candidates.len() == 1 && candidates[0].problem.is_some(), "{candidates:?}");
    // The same applies to a file named by a variable.
    let explicit = home.path().join("explicit.json");
    let home = home.file("explicit.json", auths("a.b", "explicit")).set("REGISTRY_AUTH_FILE", explicit);
    assert!(home.found("a.b", "x").1[0].contains("explicit.json"));
    assert_eq!(home.user("c.d", "x"), "");
}

#[cfg(feature = "stores")]
#[test]
fn an_error_in_registries_conf_or_its_helpers_is_a_warning() {
    let conf = ".config/containers/registries.conf";
    let home = Home::new().file(".config/containers/auth.json", auths("a.b", "containers"));
    let home = home.file(conf, "credential-helpers = [");
    let (found, warnings) = home.found("a.b", "x");
    assert_eq!(found.unwrap().0, "containers");
    assert!(warnings.len() == 1 && warnings[0].contains("registries.conf: line 1"), "{warnings:?}");
    for (name, problem) in
        [("no-such", "docker-credential-no-such is not installed"), ("a/b", "is not the name")]
    {
        let list = format!(r#"credential-helpers = ["{name}", "containers-auth.json"]"#);
        let home = Home::new().file(conf, list).file(".docker/config.json", auths("a.b", "docker"));
        let (found, warnings) = home.found("a.b", "x");
        assert_eq!(found.unwrap().0, "docker");
        let [warning] = &warnings[..] else { panic!("one warning: {warnings:?}") };
        assert!(warning.contains(problem) && warning.contains("registries.conf at "), "{warning}");
    }
}

#[cfg(feature = "stores")]
#[test]
fn registries_listed_by_a_helper_of_registries_conf_are_listed() {
    let (home, name) = Home::new().helper("conf-list", r#"echo '{"a.b":"me","https://c.d/v1/":"you"}'"#);
    let home = home.file(".config/containers/registries.conf", format!(r#"credential-helpers = ["{name}"]"#));
    crate::auth::helper::tests::search(home.path());
    let registries = home.sources().registries();
    assert_eq!(registries.iter().map(RegistryKey::as_str).collect::<Vec<_>>(), ["a.b", "c.d"]);
}
