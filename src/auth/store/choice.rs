//! Choosing the store for a new credential.

use std::{fmt, path::Path, str::FromStr};

use super::{
    super::{
        auth_file::{AuthFile, Style},
        credential::{Credential, CredentialKind},
        credentials::Credentials,
        error::CredentialError,
        key::RegistryKey,
    },
    CredentialStore,
    plain_file::PlainFile,
    sealed,
    sealed_file::SealedFile,
    shared_file::SharedFile,
};

/// A store that can be written.
///
/// ```
/// use layerslayer::StoreKind;
///
/// assert_eq!("file".parse::<StoreKind>()?, StoreKind::File);
/// assert_eq!(StoreKind::DockerConfig.to_string(), "docker-config");
/// # Ok::<(), layerslayer::CredentialError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StoreKind {
    /// Docker's `config.json`, or the credential helper that it names. Shared with docker.
    DockerConfig,
    /// Our encrypted file.
    File,
    /// The desktop's keyring.
    Keyring,
    /// Our file with secrets in plain text.
    Plaintext,
}

impl StoreKind {
    const ALL: [Self; 4] = [Self::DockerConfig, Self::File, Self::Keyring, Self::Plaintext];

    /// The name on the command line.
    ///
    /// ```
    /// assert_eq!(layerslayer::StoreKind::Plaintext.as_str(), "plaintext");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DockerConfig => "docker-config",
            Self::File => "file",
            Self::Keyring => "keyring",
            Self::Plaintext => "plaintext",
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StoreKind {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            CredentialError::usage(format!("{text:?} is not a store; use one of: {names}"))
        })
    }
}

impl Credentials {
    /// Returns a store to write to.
    ///
    /// # Errors
    ///
    /// If there is no store of this kind on this machine.
    ///
    /// ```no_run
    /// use layerslayer::{Credential, Credentials, StoreKind};
    ///
    /// let store = Credentials::from_environment().store(StoreKind::Keyring)?;
    /// store.store(&"ghcr.io".parse()?, &Credential::basic("me", "secret"))?;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn store(&self, kind: StoreKind) -> Result<Box<dyn CredentialStore>, CredentialError> {
        match kind {
            StoreKind::DockerConfig => {
                let Some(path) = &self.locations().docker_config else { return Err(no_home()) };
                Ok(Box::new(SharedFile::new(path, Style::Docker, self.own()?)))
            }
            StoreKind::File => Ok(Box::new(sealed(self.own()?, self.passphrases()))),
            #[cfg(feature = "keyring")]
            StoreKind::Keyring => Ok(Box::new(super::keyring::Keyring)),
            #[cfg(not(feature = "keyring"))]
            StoreKind::Keyring => {
                Err(CredentialError::unavailable("this program was built without keyring support"))
            }
            StoreKind::Plaintext => Ok(Box::new(PlainFile::new(self.own()?))),
        }
    }

    /// Returns the store to write to for one registry. If docker's configuration names us as its helper, that is our own
    /// [secure store](Self::secure_store).
    ///
    /// # Errors
    ///
    /// If there is no store of this kind on this machine.
    ///
    /// ```no_run
    /// use layerslayer::{Credentials, StoreKind};
    ///
    /// let store = Credentials::from_environment().store_for(&"ghcr.io".parse()?, StoreKind::DockerConfig)?;
    /// println!("credentials go to {}", store.place());
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn store_for(
        &self,
        registry: &RegistryKey,
        kind: StoreKind,
    ) -> Result<Box<dyn CredentialStore>, CredentialError> {
        if kind == StoreKind::DockerConfig
            && let Some(path) = &self.locations().docker_config
            && AuthFile::read(path, Style::Docker)?.is_some_and(|file| file.names_us(registry))
        {
            return self.secure_store();
        }
        self.store(kind)
    }

    /// Returns the most secure store that works: the keyring if a probe can be written to it, else the encrypted file if there is a
    /// passphrase for it. Never a plain-text store.
    ///
    /// # Errors
    ///
    /// If neither works. The message names the remedies.
    ///
    /// ```no_run
    /// let store = layerslayer::Credentials::from_environment().secure_store()?;
    /// println!("credentials go to {}", store.place());
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn secure_store(&self) -> Result<Box<dyn CredentialStore>, CredentialError> {
        #[cfg(feature = "keyring")]
        let keyring = super::keyring::Keyring.probe();
        #[cfg(not(feature = "keyring"))]
        let keyring: Result<(), _> =
            Err(CredentialError::unavailable("this program was built without keyring support"));
        let Err(keyring) = keyring else { return self.store(StoreKind::Keyring) };
        // The keyring has just failed, so the key cannot be stored there.
        let sealed = SealedFile::new(self.own()?, self.passphrases().clone(), None);
        match sealed.probe() {
            Ok(()) => Ok(Box::new(sealed)),
            Err(error) if sealed.file_exists() || !error.lacks_passphrase() => Err(error),
            Err(_) => Err(CredentialError::locked(format!(
                "no secure store is available ({keyring}; there is no passphrase for the encrypted file): set \
                 LAYERSLAYER_PASSPHRASE or LAYERSLAYER_PASSPHRASE_FD, or run this in a terminal"
            ))),
        }
    }

    /// Our own stores that exist.
    ///
    /// ```no_run
    /// for store in layerslayer::Credentials::from_environment().stores() {
    ///     println!("{}: {}", store.place(), store.list()?.len());
    /// }
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    #[must_use]
    pub fn stores(&self) -> Vec<Box<dyn CredentialStore>> {
        let all = super::own(self.locations(), self.passphrases());
        all.into_iter().filter(|(_, exists)| exists()).map(|(store, _)| store).collect()
    }

    /// Saves a credential to `store` and removes older ones for this registry from our stores: other kinds, and those in other stores.
    /// Returns an error for each store that may still have one.
    ///
    /// # Errors
    ///
    /// If it cannot be stored. Then nothing is removed.
    ///
    /// ```no_run
    /// use layerslayer::{Credential, Credentials};
    ///
    /// let credentials = Credentials::from_environment();
    /// let store = credentials.secure_store()?;
    /// let credential = Credential::basic("me", "secret");
    /// let remaining = credentials.save(store.as_ref(), &"ghcr.io".parse()?, &credential)?;
    /// assert!(remaining.is_empty());
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn save(
        &self,
        store: &dyn CredentialStore,
        registry: &RegistryKey,
        credential: &Credential,
    ) -> Result<Vec<CredentialError>, CredentialError> {
        store.store(registry, credential)?;
        let place = store.place();
        let mut remaining = Vec::new();
        for other in self.stores() {
            let is_same = other.place() == place;
            for kind in CredentialKind::ALL.into_iter().filter(|kind| !is_same || *kind != credential.kind())
            {
                match other.delete(registry, kind) {
                    Ok(_) => {}
                    // A keyring that does not exist holds nothing.
                    Err(error) if error.is_unavailable() => break,
                    Err(error) => {
                        let other = other.place();
                        remaining.push(error.with_context(format_args!(
                            "{other} may still have an older credential for {registry}"
                        )));
                        break;
                    }
                }
            }
        }
        // Another process may have saved to another store at the same time and removed this one.
        if !store.exists(registry, credential.kind())? {
            store.store(registry, credential)?;
        }
        Ok(remaining)
    }

    fn own(&self) -> Result<&Path, CredentialError> {
        self.locations().own.as_deref().ok_or_else(no_home)
    }
}

fn no_home() -> CredentialError {
    CredentialError::unavailable("there is no home directory: set HOME or XDG_CONFIG_HOME")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{
        super::{super::passphrase::Passphrases, StoredEntry, environment::Environment},
        *,
    };
    use crate::auth::locations::Locations;

    /// A store that runs something else right after its first write.
    struct Interrupted<'a> {
        store: PlainFile,
        interruption: &'a (dyn Fn() + Sync),
        has_happened: AtomicBool,
    }

    impl CredentialStore for Interrupted<'_> {
        fn place(&self) -> String {
            self.store.place()
        }

        fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
            self.store.store(registry, credential)?;
            if !self.has_happened.swap(true, Ordering::Relaxed) {
                (self.interruption)();
            }
            Ok(())
        }

        fn retrieve(
            &self,
            registry: &RegistryKey,
            kind: CredentialKind,
        ) -> Result<Option<Credential>, CredentialError> {
            self.store.retrieve(registry, kind)
        }

        fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
            self.store.delete(registry, kind)
        }

        fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
            self.store.list()
        }
    }

    #[test]
    fn of_two_concurrent_logins_to_two_stores_one_remains() {
        let folder = tempfile::tempdir().unwrap();
        let locations = Locations::new(&|_| None, Some(folder.path().into()), None);
        let sources = Credentials::new(Environment::default(), locations, Passphrases::fixed("open sesame"));
        let registry: RegistryKey = "two-logins.example".parse().unwrap();
        let login = |user: &str| Credential::basic(user, "x");
        // The other login ends before this one removes from other stores: each removes the other's credential.
        let other = || {
            let sealed = sources.store(StoreKind::File).unwrap();
            sources.save(sealed.as_ref(), &registry, &login("other")).unwrap();
            assert!(sealed.exists(&registry, CredentialKind::Password).unwrap());
        };
        let store = PlainFile::new(sources.own().unwrap());
        let store = Interrupted { store, interruption: &other, has_happened: AtomicBool::new(false) };
        sources.save(&store, &registry, &login("this")).unwrap();
        let found = sources.stored(&registry, None).unwrap();
        assert_eq!(found.expect("one of the two credentials").username(), "this");
    }

    #[test]
    fn a_store_kind_is_parsed_from_its_name() {
        for kind in StoreKind::ALL {
            assert_eq!(kind.as_str().parse::<StoreKind>().unwrap(), kind);
        }
        let error = "vault".parse::<StoreKind>().unwrap_err().to_string();
        assert!(error.contains("docker-config, file, keyring, plaintext"), "{error}");
    }
}
