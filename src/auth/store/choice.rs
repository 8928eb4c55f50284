//! Which store a credential goes to.

use std::{fmt, path::Path, str::FromStr};

use super::{
    super::{
        auth_file::{AuthFile, Style},
        credential::{Credential, CredentialKind},
        error::CredentialError,
        key::RegistryKey,
        sources::CredentialSources,
    },
    CredentialStore,
    others::OthersFile,
    plain_file::PlainFile,
    sealed,
    sealed_file::SealedFile,
};

/// A store that can be written to.
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
    /// Docker's `config.json`, or the credential helper that it names: shared with docker.
    DockerConfig,
    /// Our encrypted file.
    File,
    /// The desktop's keyring.
    Keyring,
    /// Our file that holds secrets in the clear.
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
            CredentialError::usage(format!("{text:?} is no store; there are: {names}"))
        })
    }
}

impl CredentialSources {
    /// A store to write to.
    ///
    /// # Errors
    ///
    /// If there is none of this kind here.
    ///
    /// ```no_run
    /// use layerslayer::{Credential, CredentialSources, StoreKind};
    ///
    /// let store = CredentialSources::new().store(StoreKind::Keyring)?;
    /// store.store(&"ghcr.io".parse()?, &Credential::basic("me", String::from("secret").into()))?;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn store(&self, kind: StoreKind) -> Result<Box<dyn CredentialStore>, CredentialError> {
        match kind {
            StoreKind::DockerConfig => {
                let Some(path) = &self.places().docker_config else { return Err(homeless()) };
                Ok(Box::new(OthersFile::new(path, Style::Docker, self.own()?)))
            }
            StoreKind::File => Ok(Box::new(sealed(self.own()?, self.passphrases()))),
            #[cfg(feature = "keyring")]
            StoreKind::Keyring => Ok(Box::new(super::keyring::Keyring)),
            #[cfg(not(feature = "keyring"))]
            StoreKind::Keyring => {
                Err(CredentialError::unavailable("this program was built without keyrings"))
            }
            StoreKind::Plaintext => Ok(Box::new(PlainFile::new(self.own()?))),
        }
    }

    /// The store to write to for one registry: where docker's configuration names ourselves as its helper, that is our own
    /// [secure store](Self::secure_store).
    ///
    /// # Errors
    ///
    /// If there is none of this kind here.
    ///
    /// ```no_run
    /// use layerslayer::{CredentialSources, StoreKind};
    ///
    /// let store = CredentialSources::new().store_for(&"ghcr.io".parse()?, StoreKind::DockerConfig)?;
    /// println!("credentials go to {}", store.place());
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn store_for(
        &self,
        registry: &RegistryKey,
        kind: StoreKind,
    ) -> Result<Box<dyn CredentialStore>, CredentialError> {
        if kind == StoreKind::DockerConfig
            && let Some(path) = &self.places().docker_config
            && AuthFile::read(path, Style::Docker)?.is_some_and(|file| file.asks_us(registry))
        {
            return self.secure_store();
        }
        self.store(kind)
    }

    /// The most secure store that works here: the keyring, if a probe can be written to it, else the encrypted file, if there
    /// is a passphrase for it. Secrets are never put in the clear unasked.
    ///
    /// # Errors
    ///
    /// If neither works: the message says what to do.
    ///
    /// ```no_run
    /// let store = layerslayer::CredentialSources::new().secure_store()?;
    /// println!("credentials go to {}", store.place());
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn secure_store(&self) -> Result<Box<dyn CredentialStore>, CredentialError> {
        #[cfg(feature = "keyring")]
        let keyring = super::keyring::Keyring.try_out();
        #[cfg(not(feature = "keyring"))]
        let keyring: Result<(), _> =
            Err(CredentialError::unavailable("this program was built without keyrings"));
        let Err(keyring) = keyring else { return self.store(StoreKind::Keyring) };
        // Without the keyring for its key: that has just refused.
        let sealed = SealedFile::new(self.own()?, self.passphrases().clone(), None);
        match sealed.try_out() {
            Ok(()) => Ok(Box::new(sealed)),
            Err(error) if sealed.is_there() || !error.is_without_passphrase() => Err(error),
            Err(_) => Err(CredentialError::locked(format!(
                "no secure store works here ({keyring}; nobody gives a passphrase for the encrypted file): set \
                 LAYERSLAYER_PASSPHRASE or LAYERSLAYER_PASSPHRASE_FD, or run this in a terminal; `--store plaintext` keeps \
                 it in the clear"
            ))),
        }
    }

    /// Every store of ours that has anything.
    ///
    /// ```no_run
    /// for store in layerslayer::CredentialSources::new().stores() {
    ///     println!("{}: {}", store.place(), store.list()?.len());
    /// }
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    #[must_use]
    pub fn stores(&self) -> Vec<Box<dyn CredentialStore>> {
        let all = super::own(self.places(), self.passphrases());
        all.into_iter().filter(|(_, is_there)| is_there()).map(|(store, _)| store).collect()
    }

    /// Keeps a credential in `store`, and removes from our stores what would count before it or could be mistaken for it: other
    /// kinds for this registry, and what other stores have. What could not be removed is returned.
    ///
    /// # Errors
    ///
    /// If it cannot be kept; then nothing is removed.
    ///
    /// ```no_run
    /// use layerslayer::{Credential, CredentialSources};
    ///
    /// let sources = CredentialSources::new();
    /// let store = sources.secure_store()?;
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// let left = sources.keep(store.as_ref(), &"ghcr.io".parse()?, &credential)?;
    /// assert!(left.is_empty());
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn keep(
        &self,
        store: &dyn CredentialStore,
        registry: &RegistryKey,
        credential: &Credential,
    ) -> Result<Vec<CredentialError>, CredentialError> {
        store.store(registry, credential)?;
        let place = store.place();
        let mut left = Vec::new();
        for other in self.stores() {
            let is_same = other.place() == place;
            for kind in CredentialKind::ALL.into_iter().filter(|kind| !is_same || *kind != credential.kind())
            {
                match other.delete(registry, kind) {
                    Ok(_) => {}
                    // A keyring that is not there holds nothing.
                    Err(error) if error.is_unavailable() => break,
                    Err(error) => {
                        let other = other.place();
                        left.push(error.about(format_args!(
                            "{other} may still hold an older credential for {registry}"
                        )));
                        break;
                    }
                }
            }
        }
        // Somebody else may have done the same with another store meanwhile.
        if !store.exists(registry, credential.kind())? {
            store.store(registry, credential)?;
        }
        Ok(left)
    }

    fn own(&self) -> Result<&Path, CredentialError> {
        self.places().own.as_deref().ok_or_else(homeless)
    }
}

fn homeless() -> CredentialError {
    CredentialError::unavailable("there is no home directory: set HOME or XDG_CONFIG_HOME")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{
        super::{super::passphrase::Passphrases, StoredEntry, environment::Environment},
        *,
    };
    use crate::auth::places::Places;

    /// A store that something else happens beside, as soon as it has stored.
    struct Interrupted<'a> {
        store: PlainFile,
        meanwhile: &'a (dyn Fn() + Sync),
        has_happened: AtomicBool,
    }

    impl CredentialStore for Interrupted<'_> {
        fn place(&self) -> String {
            self.store.place()
        }

        fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
            self.store.store(registry, credential)?;
            if !self.has_happened.swap(true, Ordering::Relaxed) {
                (self.meanwhile)();
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
    fn two_logins_at_once_to_two_stores_do_not_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::of(&|_| None, Some(folder.path().into()), None);
        let environment = Environment::of(std::iter::empty());
        let sources = CredentialSources::of(environment, places, Passphrases::fixed("open sesame"));
        let registry: RegistryKey = "two-logins.example".parse().unwrap();
        let login = |user: &str| Credential::basic(user, String::from("x").into());
        // The other one is over before this one has removed what other stores have: each removes the other's.
        let other = || {
            let sealed = sources.store(StoreKind::File).unwrap();
            sources.keep(sealed.as_ref(), &registry, &login("other")).unwrap();
            assert!(sealed.exists(&registry, CredentialKind::Password).unwrap());
        };
        let store = PlainFile::new(sources.own().unwrap());
        let store = Interrupted { store, meanwhile: &other, has_happened: AtomicBool::new(false) };
        sources.keep(&store, &registry, &login("this")).unwrap();
        let found = sources.stored(&registry, None).unwrap();
        assert_eq!(found.expect("one of the two").username(), "this");
    }

    #[test]
    fn a_store_is_known_by_its_name() {
        for kind in StoreKind::ALL {
            assert_eq!(kind.as_str().parse::<StoreKind>().unwrap(), kind);
        }
        let error = "vault".parse::<StoreKind>().unwrap_err().to_string();
        assert!(error.contains("docker-config, file, keyring, plaintext"), "{error}");
    }
}
