//! Stores of credentials: one trait and its implementations.

#[cfg(feature = "stores")]
pub(crate) mod choice;
#[cfg(all(test, feature = "stores"))]
mod conformance;
#[cfg(feature = "stores")]
pub(super) mod document;
pub(crate) mod environment;

#[cfg(feature = "keyring")]
pub(crate) mod keyring;

#[cfg(feature = "stores")]
mod own_file;
#[cfg(feature = "stores")]
pub(crate) mod plain_file;
#[cfg(feature = "stores")]
pub(crate) mod private;
#[cfg(feature = "stores")]
mod record;
#[cfg(feature = "stores")]
pub(crate) mod refresh;
#[cfg(feature = "stores")]
pub(crate) mod sealed_file;
#[cfg(feature = "stores")]
pub(crate) mod shared_file;

use super::{
    credential::{Credential, CredentialKind},
    error::CredentialError,
    key::RegistryKey,
};

/// A store of credentials by registry and kind. Methods block: on files, on D-Bus, on a prompt for a passphrase.
///
/// ```
/// use layerslayer::{CredentialError, CredentialStore, RegistryKey};
///
/// fn remove_all(store: &dyn CredentialStore, registry: &RegistryKey) -> Result<(), CredentialError> {
///     for entry in store.list()?.iter().filter(|entry| entry.registry == *registry) {
///         store.delete(registry, entry.kind)?;
///     }
///     Ok(())
/// }
/// ```
pub trait CredentialStore: Send + Sync {
    /// Its location, for messages: `the keyring`, `the encrypted file PATH`.
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(store: &dyn CredentialStore) -> Result<(), CredentialError> {
    /// println!("stored in {}", store.place());
    /// # Ok(())
    /// # }
    /// ```
    fn place(&self) -> String;

    /// Checks whether a credential for this registry could be stored now, so that no password is requested in vain. Asks for the
    /// passphrase if storing needs one.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(store: &dyn CredentialStore) -> Result<(), CredentialError> {
    /// store.check(&"ghcr.io".parse()?)?;
    /// # Ok(())
    /// # }
    /// ```
    fn check(&self, registry: &RegistryKey) -> Result<(), CredentialError> {
        let _ = registry;
        Ok(())
    }

    /// Stores a credential. It replaces one of the same registry and kind.
    ///
    /// # Errors
    ///
    /// If it cannot be written. The previous credential is then unchanged.
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(store: &dyn CredentialStore) -> Result<(), CredentialError> {
    /// store.store(&"ghcr.io".parse()?, &Credential::basic("me", "secret"))?;
    /// # Ok(())
    /// # }
    /// ```
    fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError>;

    /// Returns a credential, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or opened.
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(store: &dyn CredentialStore) -> Result<(), CredentialError> {
    /// let found = store.retrieve(&"ghcr.io".parse()?, CredentialKind::Password)?;
    /// assert!(found.is_none_or(|found| found.kind() == CredentialKind::Password));
    /// # Ok(())
    /// # }
    /// ```
    fn retrieve(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<Option<Credential>, CredentialError>;

    /// Removes a credential. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(store: &dyn CredentialStore) -> Result<(), CredentialError> {
    /// store.delete(&"ghcr.io".parse()?, CredentialKind::Password)?;
    /// # Ok(())
    /// # }
    /// ```
    fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError>;

    /// Lists all entries, sorted by registry and kind. Opens no secret and asks for no passphrase.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(store: &dyn CredentialStore) -> Result<(), CredentialError> {
    /// let registries: Vec<RegistryKey> = store.list()?.into_iter().map(|entry| entry.registry).collect();
    /// # let _ = registries;
    /// # Ok(())
    /// # }
    /// ```
    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError>;

    /// Whether there is such a credential. Opens no secret and asks for no passphrase.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(store: &dyn CredentialStore) -> Result<(), CredentialError> {
    /// let is_known = store.exists(&"ghcr.io".parse()?, CredentialKind::Password)?;
    /// # let _ = is_known;
    /// # Ok(())
    /// # }
    /// ```
    fn exists(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        Ok(self.list()?.iter().any(|entry| entry.registry == *registry && entry.kind == kind))
    }
}

/// What a store lists of a credential without opening it.
///
/// ```
/// # fn show(store: &dyn layerslayer::CredentialStore) -> Result<(), layerslayer::CredentialError> {
/// for entry in store.list()? {
///     println!("{} {} {}", entry.registry, entry.kind, entry.username);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub struct StoredEntry {
    /// The credential's registry.
    pub registry: RegistryKey,
    /// The kind of secret.
    pub kind: CredentialKind,
    /// The user name; may be empty.
    pub username: String,
}

/// The credential that a store has for an image, with its key: the one with the longest path above the image, of the kind that docker
/// prefers.
pub(crate) fn preferred(
    store: &dyn CredentialStore,
    registry: &RegistryKey,
    repository: Option<&str>,
) -> Result<Option<(RegistryKey, Credential)>, CredentialError> {
    let listed = match store.list() {
        Err(error) if error.is_locked() => return unlisted(store, registry, repository),
        listed => listed?,
    };
    let covering = listed.iter().filter(|entry| entry.registry.covers(registry, repository));
    let best = covering.max_by_key(|entry| {
        let rank = CredentialKind::ALL.iter().rev().position(|kind| *kind == entry.kind);
        (entry.registry.as_str().len(), rank)
    });
    let Some(best) = best else { return Ok(None) };
    Ok(store.retrieve(&best.registry, best.kind)?.map(|found| (best.registry.clone(), found)))
}

/// As [`preferred`], for a locked store that cannot be listed. It is searched for each key that covers the image, and opened, which may
/// prompt for its password, only if it has one.
fn unlisted(
    store: &dyn CredentialStore,
    registry: &RegistryKey,
    repository: Option<&str>,
) -> Result<Option<(RegistryKey, Credential)>, CredentialError> {
    let mut path = repository;
    let paths = std::iter::from_fn(|| {
        let now = path?;
        path = now.rsplit_once('/').map(|(parent, _)| parent);
        format!("{registry}/{now}").parse::<RegistryKey>().ok()
    });
    for key in paths.chain([registry.clone()]) {
        for kind in CredentialKind::ALL {
            if store.exists(&key, kind)? {
                return Ok(store.retrieve(&key, kind)?.map(|found| (key, found)));
            }
        }
    }
    Ok(None)
}

/// A store, and whether it exists.
pub(crate) type StoreAndCheck = (Box<dyn CredentialStore>, Box<dyn Fn() -> bool + Send + Sync>);

/// Our own stores in order of precedence: keyring, encrypted file, plain file.
#[cfg(feature = "stores")]
pub(crate) fn own(
    locations: &super::locations::Locations,
    passphrases: &super::passphrase::Passphrases,
) -> Vec<StoreAndCheck> {
    let mut stores: Vec<StoreAndCheck> = Vec::new();
    #[cfg(feature = "keyring")]
    stores.push((Box::new(keyring::Keyring), Box::new(keyring::may_exist)));
    if let Some(directory) = &locations.own {
        let sealed = std::sync::Arc::new(sealed(directory, passphrases));
        let plain = plain_file::PlainFile::new(directory);
        let (sealed_too, plain_too) = (std::sync::Arc::clone(&sealed), plain.clone());
        stores.push((Box::new(sealed), Box::new(move || sealed_too.file_exists())));
        stores.push((Box::new(plain), Box::new(move || plain_too.file_exists())));
    }
    stores
}

/// The encrypted file in our directory.
#[cfg(feature = "stores")]
pub(crate) fn sealed(
    directory: &std::path::Path,
    passphrases: &super::passphrase::Passphrases,
) -> sealed_file::SealedFile {
    #[cfg(feature = "keyring")]
    let key_store =
        keyring::may_exist().then(|| Box::new(keyring::Keyring) as Box<dyn sealed_file::KeyStore>);
    #[cfg(not(feature = "keyring"))]
    let key_store = None;
    sealed_file::SealedFile::new(directory, passphrases.clone(), key_store)
}

#[cfg(feature = "stores")]
impl<T: CredentialStore + ?Sized> CredentialStore for std::sync::Arc<T> {
    fn place(&self) -> String {
        (**self).place()
    }

    fn check(&self, registry: &RegistryKey) -> Result<(), CredentialError> {
        (**self).check(registry)
    }

    fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
        (**self).store(registry, credential)
    }

    fn retrieve(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<Option<Credential>, CredentialError> {
        (**self).retrieve(registry, kind)
    }

    fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        (**self).delete(registry, kind)
    }

    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        (**self).list()
    }

    fn exists(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        (**self).exists(registry, kind)
    }
}

#[cfg(all(test, feature = "stores"))]
mod tests {
    use super::*;

    /// Can be searched but not listed.
    struct Locked(RegistryKey);

    impl CredentialStore for Locked {
        fn place(&self) -> String {
            "a locked store".into()
        }

        fn store(&self, _: &RegistryKey, _: &Credential) -> Result<(), CredentialError> {
            Err(CredentialError::locked("it is locked"))
        }

        fn retrieve(
            &self,
            registry: &RegistryKey,
            _: CredentialKind,
        ) -> Result<Option<Credential>, CredentialError> {
            assert_eq!(*registry, self.0);
            Ok(Some(Credential::identity_token("me", "refresh")))
        }

        fn delete(&self, _: &RegistryKey, _: CredentialKind) -> Result<bool, CredentialError> {
            Err(CredentialError::locked("it is locked"))
        }

        fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
            Err(CredentialError::locked("it is locked"))
        }

        fn exists(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
            Ok(*registry == self.0 && kind == CredentialKind::IdentityToken)
        }
    }

    #[test]
    fn a_store_that_cannot_be_listed_is_searched_for_every_key_that_covers_the_image() {
        let host: RegistryKey = "a.b:5000".parse().unwrap();
        for (kept, is_found) in [
            ("a.b:5000", true),
            ("a.b:5000/team", true),
            ("a.b:5000/team/image", true),
            ("a.b:5000/te", false),
            ("a.b", false),
        ] {
            let store = Locked(kept.parse().unwrap());
            let found = preferred(&store, &host, Some("team/image")).unwrap();
            let key = found.map(|(key, _)| key.to_string());
            assert_eq!(key.as_deref(), is_found.then_some(kept));
        }
    }
}
