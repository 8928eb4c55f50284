//! Identity tokens that change: some token servers give a new one each time that the old one is used, and refuse the old one from
//! then on. Two processes must not use the same one at once.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    super::{
        credential::{Credential, CredentialKind, Keeper, Lease},
        error::CredentialError,
        key::RegistryKey,
    },
    CredentialStore,
    private::{Lock, PrivateDirectory},
};

/// The identity token of one registry in one store.
#[derive(Clone)]
pub(crate) struct StoreKeeper {
    pub(crate) store: Arc<dyn CredentialStore>,
    pub(crate) registry: RegistryKey,
    pub(crate) directory: PrivateDirectory,
}

struct Held {
    keeper: StoreKeeper,
    credential: Option<Credential>,
    _lock: Lock,
}

impl Keeper for StoreKeeper {
    fn begin(&self) -> Result<Box<dyn Lease>, CredentialError> {
        // Others that write to the store meanwhile are not held up: they take another lock, and only for a moment.
        let name = self.registry.as_str().replace(|sign: char| !sign.is_ascii_alphanumeric(), "_");
        let lock = self.directory.lock_named(&format!("renewal-{name}.lock"))?;
        let credential = self.store.retrieve(&self.registry, CredentialKind::IdentityToken)?;
        Ok(Box::new(Held { keeper: self.clone(), credential, _lock: lock }))
    }
}

impl Lease for Held {
    fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    fn replace(&self, token: &SecretString) -> Result<(), CredentialError> {
        let Some(old) = &self.credential else { return Ok(()) };
        if old.secret().expose_secret() == token.expose_secret() {
            return Ok(());
        }
        let new = Credential::identity_token(old.username(), token.clone());
        let new = new.pinned_to(old.token_server().map(str::to_owned));
        self.keeper.store.store(&self.keeper.registry, &new)
    }

    fn remove(&self) -> Result<(), CredentialError> {
        self.keeper.store.delete(&self.keeper.registry, CredentialKind::IdentityToken).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{plain_file::PlainFile, private::tests::private_folder},
        *,
    };

    #[test]
    fn who_waited_uses_the_token_that_came_meanwhile() {
        let folder = private_folder();
        let store: Arc<dyn CredentialStore> = Arc::new(PlainFile::new(folder.path()));
        let registry: RegistryKey = "a.b:5000".parse().unwrap();
        let pin = Some("https://auth.a.b/token".to_owned());
        let first = Credential::identity_token("me", String::from("0").into()).pinned_to(pin.clone());
        store.store(&registry, &first).unwrap();
        let directory = PrivateDirectory::new(folder.path());
        let keeper = StoreKeeper { store: Arc::clone(&store), registry: registry.clone(), directory };
        let renew = || {
            let lease = keeper.begin().unwrap();
            let number: usize = lease.credential().unwrap().secret().expose_secret().parse().unwrap();
            lease.replace(&(number + 1).to_string().into()).unwrap();
        };
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(renew))));
        let now = store.retrieve(&registry, CredentialKind::IdentityToken).unwrap().unwrap();
        assert_eq!((now.secret().expose_secret(), now.username()), ("8", "me"));
        assert_eq!(now.token_server(), pin.as_deref());
        keeper.begin().unwrap().remove().unwrap();
        assert!(keeper.begin().unwrap().credential().is_none());
    }
}
