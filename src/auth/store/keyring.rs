//! The desktop's keyring, by the Secret Service's protocol over D-Bus (freedesktop.org, Secret Storage, draft 0.2).
//!
//! An item has the attributes `service` = `layerslayer`, `registry`, `kind` and `username`; its secret is a record in JSON.
//! Searching by attributes works on locked keyrings too, so whoever has nothing for a registry is never asked to unlock. Listing
//! does not: gnome-keyring keeps hashes of the attributes alone where it can be read without the password.

use std::{collections::HashMap, sync::mpsc, thread, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use secret_service::{
    EncryptionType, Error,
    blocking::{Item, SecretService},
};
use zeroize::Zeroizing;

use super::{
    super::{
        credential::{Credential, CredentialKind},
        error::CredentialError,
        key::RegistryKey,
    },
    CredentialStore, StoredEntry, record,
    sealed_file::KeyChest,
};

/// The attribute that all our items share, and its value.
const SERVICE: (&str, &str) = ("service", "layerslayer");

/// The attribute of items that are no credentials: the key of the encrypted file, the probe.
const PURPOSE: &str = "purpose";
const FILE_KEY: &str = "file-key";
const PROBE: &str = "probe";

const CONTENT_TYPE: &str = "application/json";

/// Longest wait for the keyring: somebody may have to be asked for its password.
const WAIT: Duration = Duration::from_secs(120);

/// The keyring. Connects anew for each call: it may have been locked or restarted meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyring;

/// Whether there is a session bus to ask. Spares machines without one the attempt.
pub(crate) fn may_be_there() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("DBUS_SESSION_BUS_ADDRESS").is_some()
        || set("XDG_RUNTIME_DIR").is_some_and(|folder| std::path::Path::new(&folder).join("bus").exists())
}

impl Keyring {
    /// Whether a credential could be kept now. Writes: a locked keyring answers "nothing there" to readers.
    pub(crate) fn try_out(self) -> Result<(), CredentialError> {
        if !may_be_there() {
            return Err(CredentialError::unavailable("there is no keyring: no session bus"));
        }
        with(|service| {
            let attributes = HashMap::from([SERVICE, (PURPOSE, PROBE)]);
            let collection = service.get_default_collection()?;
            if collection.is_locked()? {
                collection.unlock()?;
            }
            let item =
                collection.create_item("layerslayer: probe", attributes, b"probe", true, "text/plain")?;
            item.delete()
        })
    }

    fn keep_item(
        self,
        label: String,
        attributes: Vec<(&'static str, String)>,
        identity: Vec<(&'static str, String)>,
        secret: Zeroizing<Vec<u8>>,
    ) -> Result<(), CredentialError> {
        with(move |service| {
            let collection = service.get_default_collection()?;
            if collection.is_locked()? {
                collection.unlock()?;
            }
            let old = find(service, &identity)?;
            let created =
                collection.create_item(&label, borrowed(&attributes), &secret, true, CONTENT_TYPE)?;
            // Another user name is another item to the keyring, but not to us.
            for item in old.iter().filter(|item| item.item_path != created.item_path) {
                unlock(item)?;
                item.delete()?;
            }
            Ok(())
        })
    }

    fn bring(
        self,
        identity: Vec<(&'static str, String)>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        with(move |service| {
            let items = find(service, &identity)?;
            let Some(item) = items.first() else { return Ok(None) };
            unlock(item)?;
            item.get_secret().map(|secret| Some(Zeroizing::new(secret)))
        })
    }
}

impl CredentialStore for Keyring {
    fn place(&self) -> String {
        "the keyring".into()
    }

    fn check(&self, _: &RegistryKey) -> Result<(), CredentialError> {
        self.try_out()
    }

    fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
        let identity = identity(registry, credential.kind());
        let mut attributes = identity.clone();
        attributes.push(("username", credential.username().to_owned()));
        let secret = Zeroizing::new(record::write(credential).as_bytes().to_vec());
        self.keep_item(format!("layerslayer: {registry}"), attributes, identity, secret)
    }

    fn retrieve(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<Option<Credential>, CredentialError> {
        let Some(text) = self.bring(identity(registry, kind))? else { return Ok(None) };
        let credential = record::read(&text, kind).ok_or_else(|| {
            CredentialError::other(format!("what the keyring holds for {registry} is no credential of ours"))
        })?;
        Ok(Some(credential.found_in(self.place())))
    }

    fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        let identity = identity(registry, kind);
        with(move |service| {
            let items = find(service, &identity)?;
            for item in &items {
                unlock(item)?;
                item.delete()?;
            }
            Ok(!items.is_empty())
        })
    }

    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        with(|service| {
            let mut entries = Vec::new();
            for item in find(service, &[(SERVICE.0, SERVICE.1.to_owned())])? {
                let attributes = item.get_attributes()?;
                let text = |name: &str| attributes.get(name).map(String::as_str);
                let registry = text("registry").and_then(|registry| registry.parse().ok());
                let (Some(registry), Some(kind)) = (registry, text("kind").and_then(CredentialKind::named))
                else {
                    if item.is_locked()? {
                        return Err(Error::Locked);
                    }
                    continue;
                };
                let username = text("username").unwrap_or_default().to_owned();
                entries.push(StoredEntry { registry, kind, username });
            }
            entries.sort();
            entries.dedup();
            Ok(entries)
        })
    }

    fn exists(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        let identity = identity(registry, kind);
        with(move |service| find(service, &identity).map(|items| !items.is_empty()))
    }
}

impl KeyChest for Keyring {
    fn key(&self) -> Result<Option<SecretString>, CredentialError> {
        let Some(key) = self.bring(file_key())? else { return Ok(None) };
        Ok(Some(SecretString::from(String::from_utf8_lossy(&key).as_ref())))
    }

    fn keep(&self, key: &SecretString) -> Result<(), CredentialError> {
        let secret = Zeroizing::new(key.expose_secret().as_bytes().to_vec());
        self.keep_item("layerslayer: key of the encrypted file".into(), file_key(), file_key(), secret)
    }
}

/// The attributes that say which credential it is.
fn identity(registry: &RegistryKey, kind: CredentialKind) -> Vec<(&'static str, String)> {
    let service = (SERVICE.0, SERVICE.1.to_owned());
    vec![service, ("registry", registry.as_str().to_owned()), ("kind", kind.as_str().to_owned())]
}

fn file_key() -> Vec<(&'static str, String)> {
    vec![(SERVICE.0, SERVICE.1.to_owned()), (PURPOSE, FILE_KEY.to_owned())]
}

fn borrowed<'a>(attributes: &'a [(&'static str, String)]) -> HashMap<&'static str, &'a str> {
    attributes.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn find<'a>(
    service: &'a SecretService<'a>,
    attributes: &'a [(&'static str, String)],
) -> Result<Vec<Item<'a>>, Error> {
    let found = service.search_items(borrowed(attributes))?;
    Ok(found.unlocked.into_iter().chain(found.locked).collect())
}

/// Has the user asked for the keyring's password if need be.
fn unlock(item: &Item<'_>) -> Result<(), Error> {
    if item.is_locked()? {
        item.unlock()?;
    }
    Ok(())
}

/// Does something with the keyring in a thread of its own: the protocol's runtime must not start inside of another, and
/// a keyring that never answers must not stop us for good.
fn with<T: Send + 'static>(
    action: impl FnOnce(&SecretService<'_>) -> Result<T, Error> + Send + 'static,
) -> Result<T, CredentialError> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let result = SecretService::connect(EncryptionType::Dh).and_then(|service| action(&service));
        // Nobody waits any more after the time is over.
        let _ = sender.send(result);
    });
    match receiver.recv_timeout(WAIT) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err(refused(&error)),
        Err(_) => Err(CredentialError::unavailable("the keyring does not answer")),
    }
}

/// D-Bus errors may quote what was sent: their text is left out.
fn refused(error: &Error) -> CredentialError {
    match error {
        Error::Locked | Error::Prompt => CredentialError::locked(
            "the keyring is locked, and was not unlocked when it asked for its password",
        ),
        Error::NoResult => {
            CredentialError::unavailable("the keyring has no default collection to keep it in")
        }
        Error::Unavailable => {
            CredentialError::unavailable("there is no keyring: no Secret Service on the session bus")
        }
        _ => CredentialError::unavailable("the keyring refuses: its service failed to do what was asked"),
    }
}
