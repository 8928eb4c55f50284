use std::{fs, path::Path};

use tempfile::TempDir;

use super::{
    super::{
        locations::Locations,
        passphrase::Passphrases,
        provider::{CredentialProvider as _, CredentialQuery},
        store::{StoredEntry, environment::Environment, plain_file::PlainFile},
    },
    *,
};

const CONFIG: &str = "{\n\t\"auths\": {\n\t\t\"a.b\": {\n\t\t\t\"auth\": \"bWU6eA==\"\n\t\t},\n\t\t\"blank\": {},\n\t\t\
                      \"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \"bWU6\",\n\t\t\t\"identitytoken\": \"r\"\n\t\t},\n\t\t\
                      \"c.d\": {\n\t\t\t\"auth\": \"bWU6eA==\",\n\t\t\t\"email\": \"x\"\n\t\t}\n\t},\n\t\"detachKeys\": \"^Z\"\n}\n";
const LEFT: &str = "{\n\t\"auths\": {\n\t\t\"blank\": {},\n\t\t\"c.d\": {\n\t\t\t\"email\": \"x\"\n\t\t}\n\t},\n\t\
                    \"detachKeys\": \"^Z\"\n}\n";

fn home(config: &str) -> (TempDir, Credentials) {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join(".docker")).unwrap();
    fs::write(folder.path().join(".docker/config.json"), config).unwrap();
    let locations = Locations::new(&|_| None, Some(folder.path().into()), None);
    let sources = Credentials::new(Environment::default(), locations, Passphrases::fixed("x"));
    (folder, sources)
}

fn config(folder: &TempDir) -> String {
    fs::read_to_string(folder.path().join(".docker/config.json")).unwrap()
}

fn store(folder: &TempDir) -> PlainFile {
    PlainFile::new(&folder.path().join("own"))
}

fn outcomes(migrated: &[Migrated]) -> Vec<(&str, &MigrationOutcome)> {
    migrated.iter().map(|one| (one.registry.as_str(), &one.outcome)).collect()
}

#[test]
fn secrets_move_and_everything_else_stays_in_place() {
    let (folder, sources) = home(CONFIG);
    let to = store(&folder);
    let dry = MigrationOptions { dry_run: true, backup: true };
    let planned = sources.migrate(MigrationSource::DockerConfig, &to, dry).unwrap();
    assert!(planned.iter().all(|one| one.outcome == MigrationOutcome::Planned) && planned.len() == 3);
    assert_eq!((config(&folder).as_str(), to.list().unwrap().len()), (CONFIG, 0));
    let moved = sources.migrate(MigrationSource::DockerConfig, &to, MigrationOptions::default()).unwrap();
    assert!(moved.iter().all(|one| one.outcome == MigrationOutcome::Moved) && moved.len() == 3);
    assert_eq!(config(&folder), LEFT);
    let kinds: Vec<_> =
        to.list().unwrap().into_iter().map(|entry| (entry.registry.to_string(), entry.kind)).collect();
    let expected = [
        ("a.b", CredentialKind::Password),
        ("c.d", CredentialKind::Password),
        ("docker.io", CredentialKind::IdentityToken),
    ];
    assert_eq!(kinds, expected.map(|(registry, kind)| (registry.to_owned(), kind)));
    // A second run has nothing to do, and no temporary file remains.
    assert!(
        sources.migrate(MigrationSource::DockerConfig, &to, MigrationOptions::default()).unwrap().is_empty()
    );
    assert_eq!(fs::read_dir(folder.path().join(".docker")).unwrap().count(), 1);
}

#[test]
fn a_backup_is_made_on_request_and_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let (folder, sources) = home(CONFIG);
    let options = MigrationOptions { backup: true, dry_run: false };
    sources.migrate(MigrationSource::DockerConfig, &store(&folder), options).unwrap();
    let backup = folder.path().join(".docker/config.json.layerslayer-backup");
    assert_eq!(fs::read_to_string(&backup).unwrap(), CONFIG);
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn another_credential_in_the_store_is_not_overwritten() {
    let (folder, sources) = home(CONFIG);
    let to = store(&folder);
    let other = Credential::basic("you", "y");
    to.store(&"a.b".parse().unwrap(), &other).unwrap();
    // An interrupted run has stored this one but not removed it from the file.
    let same = Credential::basic("me", "x");
    to.store(&"c.d".parse().unwrap(), &same).unwrap();
    let migrated = sources.migrate(MigrationSource::DockerConfig, &to, MigrationOptions::default()).unwrap();
    let expected = [
        ("a.b", &MigrationOutcome::Conflict),
        ("c.d", &MigrationOutcome::Moved),
        ("docker.io", &MigrationOutcome::Moved),
    ];
    assert_eq!(outcomes(&migrated), expected);
    assert!(config(&folder).contains("\"a.b\"") && !config(&folder).contains("identitytoken"));
    assert!(to.retrieve(&"a.b".parse().unwrap(), CredentialKind::Password).unwrap().unwrap().is_same(&other));
}

/// Reports success and stores nothing.
struct Forgetful;

impl CredentialStore for Forgetful {
    fn place(&self) -> String {
        "nowhere".into()
    }

    fn store(&self, _: &RegistryKey, _: &Credential) -> Result<(), CredentialError> {
        Ok(())
    }

    fn retrieve(&self, _: &RegistryKey, _: CredentialKind) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }

    fn delete(&self, _: &RegistryKey, _: CredentialKind) -> Result<bool, CredentialError> {
        Ok(false)
    }

    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        Ok(Vec::new())
    }
}

#[test]
fn a_secret_that_cannot_be_read_back_stays_in_the_file() {
    let (folder, sources) = home(CONFIG);
    let migrated =
        sources.migrate(MigrationSource::DockerConfig, &Forgetful, MigrationOptions::default()).unwrap();
    assert!(migrated.iter().all(|one| matches!(one.outcome, MigrationOutcome::Stayed(_))));
    assert_eq!(config(&folder), CONFIG);
}

#[test]
fn two_credentials_for_one_registry_are_a_conflict_and_both_stay() {
    let entry = |key: &str, auth: &str| format!("\"{key}\":{{\"auth\":\"{auth}\"}}");
    let text = |second: &str| {
        let entries = [entry("a.b", "bWU6eA=="), entry("https://a.b/v1/", second), entry("c.d", "bWU6eA==")];
        format!("{{\"auths\":{{{}}}}}", entries.join(","))
    };
    let (folder, sources) = home(&text("eW91Onk="));
    let to = store(&folder);
    for dry_run in [true, false] {
        let options = MigrationOptions { dry_run, backup: false };
        let moved = sources.migrate(MigrationSource::DockerConfig, &to, options).unwrap();
        let [("a.b", MigrationOutcome::Stayed(error)), ("c.d", _)] = &outcomes(&moved)[..] else {
            panic!("{moved:?}")
        };
        let error = error.to_string();
        assert!(error.contains("\"a.b\" and \"https://a.b/v1/\" there have different"), "{error}");
    }
    assert!(config(&folder).contains("bWU6eA==") && config(&folder).contains("eW91Onk="));
    assert!(to.retrieve(&"a.b".parse().unwrap(), CredentialKind::Password).unwrap().is_none());
    // The same credential twice is no conflict.
    let (folder, sources) = home(&text("bWU6eA=="));
    let moved =
        sources.migrate(MigrationSource::DockerConfig, &store(&folder), MigrationOptions::default()).unwrap();
    assert!(moved.len() == 2 && moved.iter().all(|one| one.outcome == MigrationOutcome::Moved));
    assert!(!config(&folder).contains("auth\""));
}

#[test]
fn a_malformed_entry_stays_and_does_not_keep_others_from_moving() {
    let malformed = CONFIG.replacen("bWU6eA==", "hush%", 1);
    let (folder, sources) = home(&malformed);
    let moved =
        sources.migrate(MigrationSource::DockerConfig, &store(&folder), MigrationOptions::default()).unwrap();
    let [(first, MigrationOutcome::Stayed(error)), rest @ ..] = &outcomes(&moved)[..] else {
        panic!("{moved:?}")
    };
    assert!(*first == "a.b" && error.to_string().contains("not base64"), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
    assert!(rest.len() == 2 && rest.iter().all(|(_, outcome)| **outcome == MigrationOutcome::Moved));
    assert!(config(&folder).contains("hush%") && !config(&folder).contains("bWU6"));
}

#[test]
fn keys_with_paths_move_and_are_found_again() {
    let (folder, sources) = home("{}");
    let path = folder.path().join(".config/containers/auth.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, r#"{"auths":{"quay.io/me":{"auth":"bWU6eA=="}}}"#).unwrap();
    let own: &Path = &folder.path().join(".config/layerslayer");
    let to = PlainFile::new(own);
    sources.migrate(MigrationSource::Containers, &to, MigrationOptions::default()).unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("bWU6"));
    let registry: RegistryKey = "quay.io".parse().unwrap();
    let find = |repository| sources.find(&mut CredentialQuery::new(&registry, repository)).unwrap();
    assert!(find("me/app").is_some_and(|found| found.source().contains("plain file")));
    assert!(find("you/app").is_none());
}
