//! Credentials in an encrypted file. Registries and user names are readable; secrets are sealed one by one.
//!
//! ```text
//! passphrase ─Argon2id(salt)─▶ key ─XChaCha20-Poly1305─▶ check = seal("")        proves that the key is right
//!    or the keyring ───────────▶                       ─▶ entry = seal(record)    bound to registry, kind and user name
//! ```
//!
//! Argon2id: RFC 9106, with the first parameters in OWASP's Password Storage Cheat Sheet. XChaCha20-Poly1305:
//! draft-irtf-cfrg-xchacha, with a random nonce for each seal. Bound means that an entry moved to another registry does not open.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Generate as _, Payload},
};
use secrecy::{ExposeSecret as _, SecretString};
use toml_edit::Table;
use zeroize::Zeroizing;

use super::{
    super::{
        credential::{Credential, CredentialKind},
        error::CredentialError,
        key::RegistryKey,
        passphrase::{PassphrasePurpose, Passphrases},
    },
    CredentialStore, StoredEntry,
    document::CredentialsDocument,
    own_file::OwnFile,
    record,
};
use crate::limits;

/// The file's name.
const NAME: &str = "credentials.sealed.toml";

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Argon2id's memory in KiB, passes and lanes for new files. The header of a file has its own.
const COST: (u32, u32, u32) = (46 << 10, 1, 1);

type Key = Zeroizing<[u8; KEY_BYTES]>;

/// The store of a file's key that is not derived from a passphrase.
pub(crate) trait KeyStore: Send + Sync {
    /// Returns the key in base64, if there is one.
    fn load_key(&self) -> Result<Option<SecretString>, CredentialError>;

    /// Stores a new key in base64.
    fn save_key(&self, key: &SecretString) -> Result<(), CredentialError>;
}

/// The encrypted file in our directory.
pub(crate) struct SealedFile {
    file: OwnFile,
    passphrases: Passphrases,
    key_store: Option<Box<dyn KeyStore>>,
    /// The last derived key and the check of its header: deriving takes a while.
    derived: Mutex<Option<(String, Key)>>,
}

impl SealedFile {
    /// The file in `directory`, which may not exist yet. Without a passphrase the key of a new file is saved to `key_store`.
    pub(crate) fn new(
        directory: &Path,
        passphrases: Passphrases,
        key_store: Option<Box<dyn KeyStore>>,
    ) -> Self {
        Self { file: OwnFile::new(directory, NAME), passphrases, key_store, derived: Mutex::default() }
    }

    pub(crate) fn file_exists(&self) -> bool {
        self.file.file_exists()
    }

    /// Checks whether a credential could be sealed now. Creates nothing.
    pub(crate) fn probe(&self) -> Result<(), CredentialError> {
        let document = self.file.read()?;
        match Header::read(&document)? {
            Some(header) => self.key(&document, &header).map(drop),
            None => self.new_secret().map(drop),
        }
    }

    /// The verified key of a file.
    fn key(&self, document: &CredentialsDocument, header: &Header) -> Result<Key, CredentialError> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((check, key)) = derived.as_ref()
            && *check == header.check
        {
            return Ok(key.clone());
        }
        let key = match &header.kind {
            KeyKind::Keyring => self.stored_key()?,
            KeyKind::Passphrase { cost, salt } => {
                let passphrase = self.passphrases.obtain(PassphrasePurpose::Unlock)?;
                let passphrase = passphrase.ok_or_else(|| self.locked("it needs its passphrase"))?;
                derive(&passphrase, salt, *cost)
                    .ok_or_else(|| document.damaged("the parameters of its key are invalid"))?
            }
        };
        if open(&key, &header.check, &header.bound()).is_none() {
            self.passphrases.discard();
            let path = self.file.path().display();
            let problem = match header.kind {
                KeyKind::Keyring => format!("the key in the keyring does not open {path}"),
                KeyKind::Passphrase { .. } => format!("wrong passphrase for {path}"),
            };
            return Err(CredentialError::locked(format!(
                "{problem}, or its header is damaged; it is not changed"
            )));
        }
        *derived = Some((header.check.clone(), key.clone()));
        Ok(key)
    }

    fn stored_key(&self) -> Result<Key, CredentialError> {
        let Some(key_store) = &self.key_store else { return Err(self.locked("its key is in the keyring")) };
        let Some(text) = key_store.load_key()? else {
            return Err(self.locked("its key is no longer in the keyring"));
        };
        let bytes = STANDARD.decode(text.expose_secret()).map(Zeroizing::new).ok();
        let key = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok());
        key.map(Zeroizing::new).ok_or_else(|| self.locked("the key in the keyring is malformed"))
    }

    fn locked(&self, problem: &str) -> CredentialError {
        CredentialError::locked(format!(
            "{} is locked: {problem}; set LAYERSLAYER_PASSPHRASE or LAYERSLAYER_PASSPHRASE_FD, or run this in a terminal",
            self.file.path().display()
        ))
    }

    /// The passphrase for a new file; `None` if its key is to be saved to the key store.
    fn new_secret(&self) -> Result<Option<SecretString>, CredentialError> {
        let passphrase = self.passphrases.obtain(PassphrasePurpose::New)?;
        match (&passphrase, &self.key_store) {
            (None, None) => Err(CredentialError::locked(format!(
                "a new encrypted file {} needs a passphrase: set LAYERSLAYER_PASSPHRASE or LAYERSLAYER_PASSPHRASE_FD, or \
                 run this in a terminal",
                self.file.path().display()
            ))),
            _ => Ok(passphrase),
        }
    }

    /// Creates the key of a new file and writes the header.
    fn create_key(&self, document: &mut CredentialsDocument) -> Result<Key, CredentialError> {
        let failed = || CredentialError::other("the system provides no random numbers");
        let (kind, key) = match (self.new_secret()?, &self.key_store) {
            (Some(passphrase), _) => {
                let salt = <[u8; 16]>::try_generate().map_err(|_| failed())?;
                let key = derive(&passphrase, &salt, COST).ok_or_else(failed)?;
                (KeyKind::Passphrase { cost: COST, salt: salt.to_vec() }, key)
            }
            (None, Some(key_store)) => {
                let key = Zeroizing::new(<[u8; KEY_BYTES]>::try_generate().map_err(|_| failed())?);
                key_store.save_key(&SecretString::from(STANDARD.encode(*key)))?;
                (KeyKind::Keyring, key)
            }
            (None, None) => return Err(failed()),
        };
        let mut header = Header { kind, check: String::new() };
        header.check = seal(&key, b"", &header.bound()).ok_or_else(failed)?;
        header.write(document);
        *self.derived.lock().unwrap_or_else(PoisonError::into_inner) = Some((header.check, key.clone()));
        Ok(key)
    }
}

impl CredentialStore for SealedFile {
    fn place(&self) -> String {
        format!("the encrypted file {}", self.file.path().display())
    }

    fn check(&self, _: &RegistryKey) -> Result<(), CredentialError> {
        self.probe()?;
        self.file.check()
    }

    fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
        // Prompts for the passphrase before taking the lock, so that other processes need not wait.
        self.probe()?;
        let kind = credential.kind();
        self.file.change(|document| {
            let key = match Header::read(document)? {
                Some(header) => self.key(document, &header)?,
                None => self.create_key(document)?,
            };
            let username = credential.username();
            let sealed = seal(&key, record::write(credential).as_bytes(), &bound(registry, kind, username))
                .ok_or_else(|| CredentialError::other("the system provides no random numbers"))?;
            document.set(
                registry,
                kind,
                vec![("username", Some(username.into())), ("sealed", Some(sealed.into()))],
            )
        })
    }

    fn retrieve(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<Option<Credential>, CredentialError> {
        let document = self.file.read()?;
        let Some(entry) = document.entry(registry, kind)? else { return Ok(None) };
        let Some(header) = Header::read(&document)? else {
            return Err(document.damaged("it has no key"));
        };
        let key = self.key(&document, &header)?;
        let sealed = document.text_of(registry, entry, "sealed")?.unwrap_or_default();
        let username = document.text_of(registry, entry, "username")?.unwrap_or_default();
        let opened = open(&key, sealed, &bound(registry, kind, username));
        let credential = opened.and_then(|opened| record::read(&opened, kind));
        match credential {
            Some(credential) => Ok(Some(credential.with_source(self.place()))),
            None => Err(document.damaged(format!("the entry of {registry} does not open"))),
        }
    }

    fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        self.file.delete(registry, kind)
    }

    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        self.file.read()?.list()
    }
}

/// What the file says about its key.
struct Header {
    kind: KeyKind,
    check: String,
}

enum KeyKind {
    Keyring,
    Passphrase { cost: (u32, u32, u32), salt: Vec<u8> },
}

impl Header {
    fn read(document: &CredentialsDocument) -> Result<Option<Self>, CredentialError> {
        let Some(table) = document.section("key") else {
            return match document.list()?.is_empty() {
                true => Ok(None),
                // A new key would make the entries permanently unreadable.
                false => Err(document.damaged("it has no key")),
            };
        };
        let text = |name: &str| table.get(name).and_then(|item| item.as_str());
        let (Some(kind), Some(check)) = (text("kind"), text("check")) else {
            return Err(document.damaged("its key has no kind or no check"));
        };
        let kind = match kind {
            "keyring" => KeyKind::Keyring,
            "passphrase" => {
                let number = |name: &str, cap: u32| number(document, table, name, cap);
                let cost = (
                    number("memory", limits::ARGON2_KIB)?,
                    number("passes", limits::ARGON2_PASSES)?,
                    number("lanes", limits::ARGON2_LANES)?,
                );
                let salt = text("salt").and_then(|salt| STANDARD.decode(salt).ok());
                let salt = salt.ok_or_else(|| document.damaged("its key has no salt"))?;
                KeyKind::Passphrase { cost, salt }
            }
            _ => return Err(document.damaged("its key is of an unknown kind")),
        };
        Ok(Some(Self { kind, check: check.to_owned() }))
    }

    fn write(&self, document: &mut CredentialsDocument) {
        let values = match &self.kind {
            KeyKind::Keyring => vec![("kind", "keyring".into())],
            KeyKind::Passphrase { cost: (memory, passes, lanes), salt } => vec![
                ("kind", "passphrase".into()),
                ("memory", i64::from(*memory).into()),
                ("passes", i64::from(*passes).into()),
                ("lanes", i64::from(*lanes).into()),
                ("salt", STANDARD.encode(salt).into()),
            ],
        };
        let check = ("check", self.check.as_str().into());
        document.set_section("key", values.into_iter().chain([check]).collect());
    }

    /// The text that the check is bound to.
    fn bound(&self) -> Vec<u8> {
        match &self.kind {
            KeyKind::Keyring => b"layerslayer key keyring".to_vec(),
            KeyKind::Passphrase { cost, salt } => {
                format!("layerslayer key passphrase {cost:?} {}", STANDARD.encode(salt)).into_bytes()
            }
        }
    }
}

fn number(
    document: &CredentialsDocument,
    table: &Table,
    name: &str,
    cap: u32,
) -> Result<u32, CredentialError> {
    let number =
        table.get(name).and_then(|item| item.as_integer()).and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| (1..=cap).contains(number));
    number.ok_or_else(|| document.damaged(format!("{name} of its key is not a number from 1 to {cap}")))
}

/// The text that an entry is bound to.
fn bound(registry: &RegistryKey, kind: CredentialKind, username: &str) -> Vec<u8> {
    format!("layerslayer entry\0{registry}\0{kind}\0{username}").into_bytes()
}

fn derive(passphrase: &SecretString, salt: &[u8], (memory, passes, lanes): (u32, u32, u32)) -> Option<Key> {
    let parameters = Params::new(memory, passes, lanes, Some(KEY_BYTES)).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    argon2.hash_password_into(passphrase.expose_secret().as_bytes(), salt, key.as_mut()).ok()?;
    Some(key)
}

fn seal(key: &Key, text: &[u8], bound: &[u8]) -> Option<String> {
    let nonce = XNonce::try_generate().ok()?;
    let payload = Payload { msg: text, aad: bound };
    let sealed = XChaCha20Poly1305::new((&**key).into()).encrypt(&nonce, payload).ok()?;
    Some(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
}

fn open(key: &Key, sealed: &str, bound: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = STANDARD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
    let nonce = XNonce::try_from(nonce).ok()?;
    let payload = Payload { msg: sealed, aad: bound };
    XChaCha20Poly1305::new((&**key).into()).decrypt(&nonce, payload).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests;
