//! The desktop's keyring, over D-Bus with the Secret Service protocol (freedesktop.org, Secret Storage, draft 0.2).
//!
//! An item has the attributes `service` = `layerslayer`, `registry`, `kind` and `username`; its secret is a JSON record. Searching by
//! attributes also works on a locked keyring, so no unlock prompt appears for registries without an item. Listing does not work:
//! gnome-keyring stores only hashes of the attributes outside the encrypted part.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret as _, SecretString};
use secret_service::{
    EncryptionType, Error,
    blocking::{Item, SecretService},
};
use zeroize::Zeroizing;

use super::{
    super::{
        credential::{Credential, CredentialKind},
        error::{CredentialError, Kind},
        key::RegistryKey,
    },
    CredentialStore, StoredEntry, record,
    sealed_file::KeyStore,
};

/// The attribute that all our items share, with its value.
const SERVICE: (&str, &str) = ("service", "layerslayer");

/// The attribute of items that are not credentials: the key of the encrypted file, the probe.
const PURPOSE: &str = "purpose";
const FILE_KEY: &str = "file-key";
const PROBE: &str = "probe";

const CONTENT_TYPE: &str = "application/json";

/// Longest wait for the keyring's answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Longest wait for the user to unlock the keyring.
const UNLOCK_WAIT: Duration = Duration::from_secs(120);

/// How long a keyring that has not answered is left alone: every call would wait for it again.
const SILENCE: Duration = Duration::from_secs(60);

/// Until when the keyring is left alone.
static SILENT_UNTIL: Mutex<Option<Instant>> = Mutex::new(None);

/// The keyring. Connects for each call, since it may have been locked or restarted since the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyring;

/// Whether there is a session bus. Without one there is no need to connect.
pub(crate) fn may_exist() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("DBUS_SESSION_BUS_ADDRESS").is_some()
        || set("XDG_RUNTIME_DIR").is_some_and(|folder| std::path::Path::new(&folder).join("bus").exists())
}

impl Keyring {
    /// Checks whether a credential could be stored now, by writing an item: to readers a locked keyring looks empty.
    pub(crate) fn probe(self) -> Result<(), CredentialError> {
        if !may_exist() {
            return Err(CredentialError::unavailable("there is no keyring: no session bus"));
        }
        with(|service, prompt| {
            let attributes = HashMap::from([SERVICE, (PURPOSE, PROBE)]);
            let collection = service.get_default_collection()?;
            if collection.is_locked()? {
                prompt.during(|| collection.unlock())?;
            }
            let item =
                collection.create_item("layerslayer: probe", attributes, b"probe", true, "text/plain")?;
            item.delete()
        })
    }

    fn save_item(
        self,
        label: String,
        attributes: Vec<(&'static str, String)>,
        identity: Vec<(&'static str, String)>,
        secret: Zeroizing<Vec<u8>>,
    ) -> Result<(), CredentialError> {
        with(move |service, prompt| {
            let collection = service.get_default_collection()?;
            if collection.is_locked()? {
                prompt.during(|| collection.unlock())?;
            }
            let old = find(service, &identity)?;
            let created =
                collection.create_item(&label, borrowed(&attributes), &secret, true, CONTENT_TYPE)?;
            // For the keyring an item with another user name is a different one. We replace it.
            for item in old.iter().filter(|item| item.item_path != created.item_path) {
                unlock(item, prompt)?;
                item.delete()?;
            }
            Ok(())
        })
    }

    fn load_item(
        self,
        identity: Vec<(&'static str, String)>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        with(move |service, prompt| {
            let items = find(service, &identity)?;
            let Some(item) = items.first() else { return Ok(None) };
            unlock(item, prompt)?;
            item.get_secret().map(|secret| Some(Zeroizing::new(secret)))
        })
    }
}

impl CredentialStore for Keyring {
    fn place(&self) -> String {
        "the keyring".into()
    }

    fn check(&self, _: &RegistryKey) -> Result<(), CredentialError> {
        self.probe()
    }

    fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
        let identity = identity(registry, credential.kind());
        let mut attributes = identity.clone();
        attributes.push(("username", credential.username().to_owned()));
        let secret = Zeroizing::new(record::write(credential).as_bytes().to_vec());
        self.save_item(format!("layerslayer: {registry}"), attributes, identity, secret)
    }

    fn retrieve(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<Option<Credential>, CredentialError> {
        let Some(text) = self.load_item(identity(registry, kind))? else { return Ok(None) };
        let credential = record::read(&text, kind).ok_or_else(|| {
            CredentialError::other(format!("the keyring's item for {registry} is malformed"))
        })?;
        Ok(Some(credential.with_source(self.place())))
    }

    fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        let identity = identity(registry, kind);
        with(move |service, prompt| {
            let items = find(service, &identity)?;
            for item in &items {
                unlock(item, prompt)?;
                item.delete()?;
            }
            Ok(!items.is_empty())
        })
    }

    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        with(|service, _| {
            let mut entries = Vec::new();
            for item in find(service, &[(SERVICE.0, SERVICE.1.to_owned())])? {
                let attributes = item.get_attributes()?;
                let text = |name: &str| attributes.get(name).map(String::as_str);
                let registry = text("registry").and_then(|registry| registry.parse().ok());
                let (Some(registry), Some(kind)) =
                    (registry, text("kind").and_then(CredentialKind::from_name))
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
        with(move |service, _| find(service, &identity).map(|items| !items.is_empty()))
    }
}

impl KeyStore for Keyring {
    fn load_key(&self) -> Result<Option<SecretString>, CredentialError> {
        let Some(key) = self.load_item(file_key())? else { return Ok(None) };
        Ok(Some(SecretString::from(String::from_utf8_lossy(&key).as_ref())))
    }

    fn save_key(&self, key: &SecretString) -> Result<(), CredentialError> {
        let secret = Zeroizing::new(key.expose_secret().as_bytes().to_vec());
        self.save_item("layerslayer: key of the encrypted file".into(), file_key(), file_key(), secret)
    }
}

/// The attributes that identify a credential.
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

/// Prompts for the keyring's password if necessary.
fn unlock(item: &Item<'_>, prompt: &Prompt) -> Result<(), Error> {
    if item.is_locked()? {
        prompt.during(|| item.unlock())?;
    }
    Ok(())
}

/// Whether the user is being prompted for the keyring's password, which takes longer than an answer of the service.
#[derive(Clone, Default)]
struct Prompt(Arc<AtomicBool>);

impl Prompt {
    fn during<T>(&self, unlock: impl FnOnce() -> T) -> T {
        self.0.store(true, Ordering::Release);
        let result = unlock();
        self.0.store(false, Ordering::Release);
        result
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Runs an action on the keyring in a thread of its own: the protocol's runtime must not start inside another one, and a keyring that
/// never answers must not block us.
fn with<T: Send + 'static>(
    action: impl FnOnce(&SecretService<'_>, &Prompt) -> Result<T, Error> + Send + 'static,
) -> Result<T, CredentialError> {
    let silent = || {
        let seconds = ANSWER_WAIT.as_secs();
        CredentialError::new(Kind::TimedOut, format!("the keyring has not answered within {seconds} s"))
    };
    let silent_until = || SILENT_UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    if silent_until().is_some_and(|until| Instant::now() < until) {
        return Err(silent());
    }
    let (sender, receiver) = mpsc::channel();
    let prompt = Prompt::default();
    let prompting = prompt.clone();
    thread::spawn(move || {
        let result = SecretService::connect(EncryptionType::Dh).and_then(|service| action(&service, &prompt));
        // The receiver is gone after the timeout.
        let _ = sender.send(result);
    });
    let mut answer = receiver.recv_timeout(ANSWER_WAIT);
    if matches!(answer, Err(RecvTimeoutError::Timeout)) && prompting.is_open() {
        answer = receiver.recv_timeout(UNLOCK_WAIT);
    }
    match answer {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err(refused(&error)),
        Err(_) => {
            *silent_until() = Some(Instant::now() + SILENCE);
            Err(silent())
        }
    }
}

/// Converts an error. D-Bus errors may quote what was sent, so their text is left out.
fn refused(error: &Error) -> CredentialError {
    match error {
        Error::Locked | Error::Prompt => {
            CredentialError::locked("the keyring is locked, and its prompt for the password was not answered")
        }
        Error::NoResult => CredentialError::unavailable("the keyring has no default collection"),
        Error::Unavailable => {
            CredentialError::unavailable("there is no keyring: no Secret Service on the session bus")
        }
        _ => CredentialError::unavailable("the keyring refuses: its service failed"),
    }
}
