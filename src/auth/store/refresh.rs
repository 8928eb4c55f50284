//! Rotating identity tokens. Some token servers replace an identity token on each use and reject the old one from then on, so two
//! processes must not use the same token at once.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    super::{
        credential::{Credential, CredentialKind, RefreshLease, TokenStore},
        error::CredentialError,
        key::RegistryKey,
    },
    CredentialStore,
    private::{Lock, PrivateDirectory},
};

/// The identity token of one registry in one store.
#[derive(Clone)]
pub(crate) struct StoredIdentityToken {
    pub(crate) store: Arc<dyn CredentialStore>,
    pub(crate) registry: RegistryKey,
    pub(crate) directory: PrivateDirectory,
}

struct LockedToken {
    stored: StoredIdentityToken,
    credential: Option<Credential>,
    _lock: Lock,
}

impl TokenStore for StoredIdentityToken {
    fn lease(&self) -> Result<Box<dyn RefreshLease>, CredentialError> {
        // Other writers to the store are not blocked: they take another lock, and only briefly.
        let name = self.registry.as_str().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
        let lock = self.directory.lock_named(&format!("renewal-{name}.lock"))?;
        let credential = self.store.retrieve(&self.registry, CredentialKind::IdentityToken)?;
        Ok(Box::new(LockedToken { stored: self.clone(), credential, _lock: lock }))
    }
}

impl RefreshLease for LockedToken {
    fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    fn replace(&self, token: &SecretString) -> Result<(), CredentialError> {
        let Some(old) = &self.credential else { return Ok(()) };
        if old.secret().expose_secret() == token.expose_secret() {
            return Ok(());
        }
        let new = Credential::identity_token(old.username(), token.expose_secret());
        let new = new.pinned_to(old.token_server().map(str::to_owned));
        self.stored.store.store(&self.stored.registry, &new)
    }

    fn remove(&self) -> Result<(), CredentialError> {
        self.stored.store.delete(&self.stored.registry, CredentialKind::IdentityToken).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{plain_file::PlainFile, private::tests::private_folder},
        *,
    };

    #[test]
    fn a_waiting_process_uses_the_replaced_token() {
        let folder = private_folder();
        let store: Arc<dyn CredentialStore> = Arc::new(PlainFile::new(folder.path()));
        let registry: RegistryKey = "a.b:5000".parse().unwrap();
        let pin = Some("https://auth.a.b/token".to_owned());
        let first = Credential::identity_token("me", "0").pinned_to(pin.clone());
        store.store(&registry, &first).unwrap();
        let directory = PrivateDirectory::new(folder.path());
        let stored = StoredIdentityToken { store: Arc::clone(&store), registry: registry.clone(), directory };
        let refresh = || {
            let lease = stored.lease().unwrap();
            let number: usize = lease.credential().unwrap().expose_secret().parse().unwrap();
            lease.replace(&(number + 1).to_string().into()).unwrap();
        };
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(refresh))));
        let now = store.retrieve(&registry, CredentialKind::IdentityToken).unwrap().unwrap();
        assert_eq!((now.expose_secret(), now.username()), ("8", "me"));
        assert_eq!(now.token_server(), pin.as_deref());
        stored.lease().unwrap().remove().unwrap();
        assert!(stored.lease().unwrap().credential().is_none());
    }
}
