//! Moving credentials from docker's and podman's files, where they are in plain text, to one of our stores.

use std::path::PathBuf;

use super::{
    auth_file::Style,
    credential::{Credential, CredentialKind},
    credentials::Credentials,
    error::CredentialError,
    key::RegistryKey,
    store::{CredentialStore, shared_file::SharedFile},
};

/// The program whose files are migrated.
///
/// ```
/// use layerslayer::MigrationSource;
///
/// assert_eq!(MigrationSource::DockerConfig.as_str(), "docker-config");
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MigrationSource {
    /// The `auth.json` files of podman and skopeo.
    Containers,
    /// Docker's `config.json`.
    DockerConfig,
}

/// Options of a migration.
///
/// ```
/// let mut options = layerslayer::MigrationOptions::default();
/// options.dry_run = true;
/// assert!(!options.backup);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct MigrationOptions {
    /// Change nothing and report what would be done.
    pub dry_run: bool,
    /// Leave a copy of each file, including its secrets, next to it.
    pub backup: bool,
}

/// The result for one credential.
///
/// ```no_run
/// # let credentials = layerslayer::Credentials::from_environment();
/// use layerslayer::{MigrationOptions, MigrationSource, StoreKind};
///
/// let store = credentials.store(StoreKind::Keyring)?;
/// for moved in credentials.migrate(MigrationSource::DockerConfig, store.as_ref(), MigrationOptions::default())? {
///     println!("{} from {}: {:?}", moved.registry, moved.from.display(), moved.outcome);
/// }
/// # Ok::<(), layerslayer::CredentialError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Migrated {
    /// The credential's registry.
    pub registry: RegistryKey,
    /// Its user name; may be empty.
    pub username: String,
    /// Its kind.
    pub kind: CredentialKind,
    /// The file that it was in.
    pub from: PathBuf,
    /// What was done.
    pub outcome: MigrationOutcome,
}

/// What was done with a credential.
///
/// ```
/// assert_ne!(layerslayer::MigrationOutcome::Moved, layerslayer::MigrationOutcome::Conflict);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MigrationOutcome {
    /// The store has another credential for the registry. Neither was changed.
    Conflict,
    /// It was stored, read back, and removed from the file.
    Moved,
    /// It would be moved.
    Planned,
    /// It could not be moved and is still in the file: another process changed it, the file has several credentials for the
    /// registry, or the store failed.
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

impl Credentials {
    /// Moves the plain-text credentials of another program's files to `store`: each is written, read back, compared, and only then
    /// removed from the file. An interrupted migration completes when run again.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or backed up. A failure of a single credential is reported in its [`Migrated::outcome`].
    ///
    /// ```no_run
    /// use layerslayer::{Credentials, MigrationOptions, MigrationSource};
    ///
    /// let credentials = Credentials::from_environment();
    /// let store = credentials.secure_store()?;
    /// credentials.migrate(MigrationSource::Containers, store.as_ref(), MigrationOptions::default())?;
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
            let entries = file.plain_entries()?;
            if options.backup && !options.dry_run && !entries.is_empty() {
                file.back_up()?;
            }
            for (registry, found) in entries {
                let found = found.and_then(|credential| file.check_unique(&registry).map(|()| credential));
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

    fn files_of(&self, from: MigrationSource) -> Result<Vec<SharedFile>, CredentialError> {
        let locations = self.locations();
        let Some(own) = &locations.own else {
            return Err(CredentialError::unavailable(
                "there is no home directory: set HOME or XDG_CONFIG_HOME",
            ));
        };
        let paths: Vec<_> = match (from, &locations.registry_auth_file) {
            (MigrationSource::Containers, Some(file)) => vec![(file.clone(), Style::Containers)],
            (MigrationSource::Containers, None) => {
                locations.files.iter().filter(|(_, style)| *style == Style::Containers).cloned().collect()
            }
            (MigrationSource::DockerConfig, _) => {
                locations.docker_config.iter().map(|path| (path.clone(), Style::Docker)).collect()
            }
        };
        Ok(paths.into_iter().map(|(path, style)| SharedFile::new(&path, style, own)).collect())
    }
}

/// Whether the store has the same credential (`true`), another one (`false`) or none.
fn stored_already(
    registry: &RegistryKey,
    credential: &Credential,
    store: &dyn CredentialStore,
) -> Result<Option<bool>, CredentialError> {
    let kind = credential.kind();
    let found = if store.exists(registry, kind)? { store.retrieve(registry, kind)? } else { None };
    // Only our stores keep a pinned token server.
    Ok(found.map(|found| found.pinned_to(None).is_same(credential)))
}

fn plan(
    registry: &RegistryKey,
    credential: &Credential,
    store: &dyn CredentialStore,
) -> Result<MigrationOutcome, CredentialError> {
    Ok(match stored_already(registry, credential, store)? {
        Some(false) => MigrationOutcome::Conflict,
        _ => MigrationOutcome::Planned,
    })
}

fn move_one(
    file: &SharedFile,
    registry: &RegistryKey,
    credential: &Credential,
    store: &dyn CredentialStore,
) -> Result<MigrationOutcome, CredentialError> {
    match stored_already(registry, credential, store)? {
        Some(false) => return Ok(MigrationOutcome::Conflict),
        // An interrupted run has stored it.
        Some(true) => {}
        None => store.store(registry, credential)?,
    }
    if stored_already(registry, credential, store)? != Some(true) {
        let place = store.place();
        return Err(CredentialError::other(format!("{place} returned something other than what was stored")));
    }
    match file.remove_plain(registry, credential)? {
        true => Ok(MigrationOutcome::Moved),
        false => Err(CredentialError::other("another process has changed the file")),
    }
}

#[cfg(test)]
mod tests;
