//! Moving credentials that others keep in the clear into a store of ours.

use std::path::PathBuf;

use super::{
    auth_file::Style,
    credential::{Credential, CredentialKind},
    error::CredentialError,
    key::RegistryKey,
    sources::CredentialSources,
    store::{CredentialStore, others::OthersFile},
};

/// Whose files are emptied.
///
/// ```
/// use layerslayer::MigrationSource;
///
/// assert_eq!(MigrationSource::DockerConfig.as_str(), "docker-config");
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MigrationSource {
    /// The `auth.json` files of podman, skopeo and others.
    Containers,
    /// Docker's `config.json`.
    DockerConfig,
}

/// How the files are treated.
///
/// ```
/// let mut options = layerslayer::MigrationOptions::default();
/// options.dry_run = true;
/// assert!(!options.backup);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct MigrationOptions {
    /// Changes nothing, and tells what would be done.
    pub dry_run: bool,
    /// Leaves a copy of a file, secrets and all, beside it.
    pub backup: bool,
}

/// What became of one credential.
///
/// ```no_run
/// # let sources = layerslayer::CredentialSources::new();
/// use layerslayer::{MigrationOptions, MigrationSource, StoreKind};
///
/// let store = sources.store(StoreKind::Keyring)?;
/// for moved in sources.migrate(MigrationSource::DockerConfig, store.as_ref(), MigrationOptions::default())? {
///     println!("{} from {}: {:?}", moved.registry, moved.from.display(), moved.outcome);
/// }
/// # Ok::<(), layerslayer::CredentialError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Migrated {
    /// The registry that it is for.
    pub registry: RegistryKey,
    /// Its user name; may be empty.
    pub username: String,
    /// Its kind.
    pub kind: CredentialKind,
    /// The file that it was in.
    pub from: PathBuf,
    /// What became of it.
    pub outcome: MigrationOutcome,
}

/// What became of a credential.
///
/// ```
/// assert_ne!(layerslayer::MigrationOutcome::Moved, layerslayer::MigrationOutcome::Conflict);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MigrationOutcome {
    /// Another credential of the same registry is in the store already; neither was touched.
    Conflict,
    /// It is in the store, has been read back, and is no longer in the file.
    Moved,
    /// It would be moved.
    Planned,
    /// It was changed by somebody else meanwhile, or could not be moved; it is still in the file.
    Stayed(CredentialError),
}

impl MigrationSource {
    /// The name on the command line.
    ///
    /// ```
    /// assert_eq!(layerslayer::MigrationSource::Containers.as_str(), "containers");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::DockerConfig => "docker-config",
        }
    }
}

impl CredentialSources {
    /// Moves what somebody else's files hold in the clear into `store`: written, read back, compared, and only then taken out
    /// of the file. Stopped anywhere and begun anew it completes.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or a copy of it not be made. What goes wrong with one credential is told of that one.
    ///
    /// ```no_run
    /// use layerslayer::{CredentialSources, MigrationOptions, MigrationSource};
    ///
    /// let sources = CredentialSources::new();
    /// let store = sources.secure_store()?;
    /// sources.migrate(MigrationSource::Containers, store.as_ref(), MigrationOptions::default())?;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn migrate(
        &self,
        from: MigrationSource,
        store: &dyn CredentialStore,
        options: MigrationOptions,
    ) -> Result<Vec<Migrated>, CredentialError> {
        let mut all = Vec::new();
        for file in self.files_of(from)? {
            let entries = file.in_the_clear()?;
            if options.backup && !options.dry_run && !entries.is_empty() {
                file.back_up()?;
            }
            for (registry, found) in entries {
                let outcome =
                    found.as_ref().map_err(Clone::clone).and_then(|credential| match options.dry_run {
                        true => plan(&registry, credential, store),
                        false => move_one(&file, &registry, credential, store),
                    });
                let credential = found.as_ref().ok();
                all.push(Migrated {
                    username: credential.map(Credential::username).unwrap_or_default().to_owned(),
                    kind: credential.map_or(CredentialKind::Password, Credential::kind),
                    registry,
                    from: file.path().to_owned(),
                    outcome: outcome.unwrap_or_else(MigrationOutcome::Stayed),
                });
            }
        }
        Ok(all)
    }

    fn files_of(&self, from: MigrationSource) -> Result<Vec<OthersFile>, CredentialError> {
        let places = self.places();
        let Some(own) = &places.own else {
            return Err(CredentialError::unavailable(
                "there is no home directory: set HOME or XDG_CONFIG_HOME",
            ));
        };
        let paths: Vec<_> = match (from, &places.registry_auth_file) {
            (MigrationSource::Containers, Some(file)) => vec![(file.clone(), Style::Containers)],
            (MigrationSource::Containers, None) => {
                places.files.iter().filter(|(_, style)| *style == Style::Containers).cloned().collect()
            }
            (MigrationSource::DockerConfig, _) => {
                places.docker_config.iter().map(|path| (path.clone(), Style::Docker)).collect()
            }
        };
        Ok(paths.into_iter().map(|(path, style)| OthersFile::new(&path, style, own)).collect())
    }
}

/// Whether the store has it already.
fn is_there(
    registry: &RegistryKey,
    credential: &Credential,
    store: &dyn CredentialStore,
) -> Result<Option<bool>, CredentialError> {
    let kind = credential.kind();
    let found = if store.exists(registry, kind)? { store.retrieve(registry, kind)? } else { None };
    // A pin is ours: the file has none.
    Ok(found.map(|found| found.pinned_to(None).is_same(credential)))
}

fn plan(
    registry: &RegistryKey,
    credential: &Credential,
    store: &dyn CredentialStore,
) -> Result<MigrationOutcome, CredentialError> {
    Ok(match is_there(registry, credential, store)? {
        Some(false) => MigrationOutcome::Conflict,
        _ => MigrationOutcome::Planned,
    })
}

fn move_one(
    file: &OthersFile,
    registry: &RegistryKey,
    credential: &Credential,
    store: &dyn CredentialStore,
) -> Result<MigrationOutcome, CredentialError> {
    match is_there(registry, credential, store)? {
        Some(false) => return Ok(MigrationOutcome::Conflict),
        // An earlier run has come this far.
        Some(true) => {}
        None => store.store(registry, credential)?,
    }
    if is_there(registry, credential, store)? != Some(true) {
        let place = store.place();
        return Err(CredentialError::other(format!("{place} gives back something else than was stored")));
    }
    match file.take_out(registry, credential)? {
        true => Ok(MigrationOutcome::Moved),
        false => Err(CredentialError::other("somebody else has changed the file meanwhile")),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tempfile::TempDir;

    use super::{
        super::{
            passphrase::Passphrases,
            places::Places,
            store::{StoredEntry, environment::Environment, plain_file::PlainFile},
        },
        *,
    };

    const CONFIG: &str = "{\n\t\"auths\": {\n\t\t\"a.b\": {\n\t\t\t\"auth\": \"bWU6eA==\"\n\t\t},\n\t\t\"blank\": {},\n\t\t\
                          \"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \"bWU6\",\n\t\t\t\"identitytoken\": \"r\"\n\t\t},\n\t\t\
                          \"c.d\": {\n\t\t\t\"auth\": \"bWU6eA==\",\n\t\t\t\"email\": \"x\"\n\t\t}\n\t},\n\t\"detachKeys\": \"^Z\"\n}\n";
    const LEFT: &str = "{\n\t\"auths\": {\n\t\t\"blank\": {},\n\t\t\"c.d\": {\n\t\t\t\"email\": \"x\"\n\t\t}\n\t},\n\t\
                        \"detachKeys\": \"^Z\"\n}\n";

    fn home(config: &str) -> (TempDir, CredentialSources) {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join(".docker")).unwrap();
        fs::write(folder.path().join(".docker/config.json"), config).unwrap();
        let places = Places::of(&|_| None, Some(folder.path().into()), None);
        let sources = CredentialSources::of(Environment::default(), places, Passphrases::fixed("x"));
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
    fn secrets_move_and_all_else_keeps_its_place() {
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
        // Nothing is left to do, and nothing was left behind.
        assert!(
            sources
                .migrate(MigrationSource::DockerConfig, &to, MigrationOptions::default())
                .unwrap()
                .is_empty()
        );
        assert_eq!(fs::read_dir(folder.path().join(".docker")).unwrap().count(), 1);
    }

    #[test]
    fn a_backup_is_made_only_if_one_asks_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let (folder, sources) = home(CONFIG);
        let options = MigrationOptions { backup: true, dry_run: false };
        sources.migrate(MigrationSource::DockerConfig, &store(&folder), options).unwrap();
        let backup = folder.path().join(".docker/config.json.layerslayer-backup");
        assert_eq!(fs::read_to_string(&backup).unwrap(), CONFIG);
        assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn another_credential_in_the_store_is_not_written_over() {
        let (folder, sources) = home(CONFIG);
        let to = store(&folder);
        let other = Credential::basic("you", String::from("y").into());
        to.store(&"a.b".parse().unwrap(), &other).unwrap();
        // This one was stored by a run that was stopped before it could take it out of the file.
        let same = Credential::basic("me", String::from("x").into());
        to.store(&"c.d".parse().unwrap(), &same).unwrap();
        let migrated =
            sources.migrate(MigrationSource::DockerConfig, &to, MigrationOptions::default()).unwrap();
        let expected = [
            ("a.b", &MigrationOutcome::Conflict),
            ("c.d", &MigrationOutcome::Moved),
            ("docker.io", &MigrationOutcome::Moved),
        ];
        assert_eq!(outcomes(&migrated), expected);
        assert!(config(&folder).contains("\"a.b\"") && !config(&folder).contains("identitytoken"));
        assert!(
            to.retrieve(&"a.b".parse().unwrap(), CredentialKind::Password).unwrap().unwrap().is_same(&other)
        );
    }

    /// Says that it keeps what it forgets.
    struct Forgetful;

    impl CredentialStore for Forgetful {
        fn place(&self) -> String {
            "nowhere".into()
        }

        fn store(&self, _: &RegistryKey, _: &Credential) -> Result<(), CredentialError> {
            Ok(())
        }

        fn retrieve(
            &self,
            _: &RegistryKey,
            _: CredentialKind,
        ) -> Result<Option<Credential>, CredentialError> {
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
    fn nothing_is_taken_out_that_cannot_be_read_back() {
        let (folder, sources) = home(CONFIG);
        let migrated =
            sources.migrate(MigrationSource::DockerConfig, &Forgetful, MigrationOptions::default()).unwrap();
        assert!(migrated.iter().all(|one| matches!(one.outcome, MigrationOutcome::Stayed(_))));
        assert_eq!(config(&folder), CONFIG);
    }

    #[test]
    fn a_malformed_entry_stays_and_keeps_no_other_from_moving() {
        let malformed = CONFIG.replacen("bWU6eA==", "hush%", 1);
        let (folder, sources) = home(&malformed);
        let moved = sources
            .migrate(MigrationSource::DockerConfig, &store(&folder), MigrationOptions::default())
            .unwrap();
        let [(first, MigrationOutcome::Stayed(error)), rest @ ..] = &outcomes(&moved)[..] else {
            panic!("{moved:?}")
        };
        assert!(*first == "a.b" && error.to_string().contains("not base64"), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
        assert!(rest.len() == 2 && rest.iter().all(|(_, outcome)| **outcome == MigrationOutcome::Moved));
        assert!(config(&folder).contains("hush%") && !config(&folder).contains("bWU6"));
    }

    #[test]
    fn keys_with_paths_move_too_and_are_found_again() {
        let (folder, sources) = home("{}");
        let path = folder.path().join(".config/containers/auth.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, r#"{"auths":{"quay.io/me":{"auth":"bWU6eA=="}}}"#).unwrap();
        let own: &Path = &folder.path().join(".config/layerslayer");
        let to = PlainFile::new(own);
        sources.migrate(MigrationSource::Containers, &to, MigrationOptions::default()).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("bWU6"));
        let find =
            |repository| sources.find(&"quay.io".parse().unwrap(), Some(repository)).unwrap().credential;
        assert!(find("me/app").is_some_and(|found| found.origin().contains("plain file")));
        assert!(find("you/app").is_none());
    }
}
