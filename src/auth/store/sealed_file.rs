//! Credentials in an encrypted file. Which registries and users there are can be read; secrets are sealed one by one.
//!
//! ```text
//! passphrase ─Argon2id(salt)─▶ key ─XChaCha20-Poly1305─▶ check = seal("")        says whether the key is right
//!    or the keyring ───────────▶                       ─▶ entry = seal(record)    bound to registry, kind and user name
//! ```
//!
//! Argon2id: RFC 9106, with the parameters that OWASP recommends at least. XChaCha20-Poly1305: draft-irtf-cfrg-xchacha, with a
//! random nonce for each seal. Bound means: an entry that was moved to another registry does not open.

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
    own_file::OwnFile,
    record,
    table::Content,
};
use crate::limits;

/// The file's name.
const NAME: &str = "credentials.sealed.toml";

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Memory of Argon2id in KiB, passes over it, and lanes.
const COST: (u32, u32, u32) = (19 << 10, 2, 1);

type Key = Zeroizing<[u8; KEY_BYTES]>;

/// Where a key lies that no passphrase makes.
pub(crate) trait KeyChest: Send + Sync {
    /// The key, if there is one.
    fn key(&self) -> Result<Option<SecretString>, CredentialError>;

    /// Keeps a new one, in base64.
    fn keep(&self, key: &SecretString) -> Result<(), CredentialError>;
}

/// The encrypted file in our directory.
pub(crate) struct SealedFile {
    file: OwnFile,
    passphrases: Passphrases,
    chest: Option<Box<dyn KeyChest>>,
    /// The key that was made last, and the header it belongs to: making one takes a while.
    made: Mutex<Option<(String, Key)>>,
}

impl SealedFile {
    /// The one in `directory`, be it there or not. Without a passphrase a new one has its key in `chest`.
    pub(crate) fn new(directory: &Path, passphrases: Passphrases, chest: Option<Box<dyn KeyChest>>) -> Self {
        Self { file: OwnFile::new(directory, NAME), passphrases, chest, made: Mutex::default() }
    }

    /// Whether there is such a file.
    pub(crate) fn is_there(&self) -> bool {
        self.file.is_there()
    }

    /// Whether a credential could be sealed now. Makes nothing, for want of a passphrase above all.
    pub(crate) fn try_out(&self) -> Result<(), CredentialError> {
        let content = self.file.read()?;
        match Header::read(&content)? {
            Some(header) => self.key(&content, &header).map(drop),
            None => self.new_secret().map(drop),
        }
    }

    /// The key of a file, checked.
    fn key(&self, content: &Content, header: &Header) -> Result<Key, CredentialError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, key)) = made.as_ref()
            && *of == header.check
        {
            return Ok(key.clone());
        }
        let key = match &header.kind {
            KeyKind::Keyring => self.key_of_chest()?,
            KeyKind::Passphrase { cost, salt } => {
                let passphrase = self.passphrases.obtain(PassphrasePurpose::Unlock)?;
                let passphrase = passphrase.ok_or_else(|| self.locked("a passphrase opens it"))?;
                derive(&passphrase, salt, *cost).ok_or_else(|| content.damaged("its key has no sense"))?
            }
        };
        if open(&key, &header.check, &header.bound()).is_none() {
            self.passphrases.forget();
            let path = self.file.path().display();
            let problem = match header.kind {
                KeyKind::Keyring => format!("the key in the keyring does not open {path}"),
                KeyKind::Passphrase { .. } => format!("wrong passphrase for {path}"),
            };
            return Err(CredentialError::locked(format!(
                "{problem}, or its header is damaged; it is left as it is"
            )));
        }
        *made = Some((header.check.clone(), key.clone()));
        Ok(key)
    }

    fn key_of_chest(&self) -> Result<Key, CredentialError> {
        let Some(chest) = &self.chest else { return Err(self.locked("its key is in the keyring")) };
        let Some(text) = chest.key()? else {
            return Err(self.locked("its key is no longer in the keyring"));
        };
        let bytes = STANDARD.decode(text.expose_secret()).map(Zeroizing::new).ok();
        let key = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok());
        key.map(Zeroizing::new).ok_or_else(|| self.locked("what the keyring holds is not its key"))
    }

    fn locked(&self, problem: &str) -> CredentialError {
        CredentialError::locked(format!(
            "{} is locked: {problem}; give it in LAYERSLAYER_PASSPHRASE or LAYERSLAYER_PASSPHRASE_FD, or run this in a \
             terminal",
            self.file.path().display()
        ))
    }

    /// What a new file's key is made of: a passphrase, else a key in the chest.
    fn new_secret(&self) -> Result<Option<SecretString>, CredentialError> {
        let passphrase = self.passphrases.obtain(PassphrasePurpose::New)?;
        match (&passphrase, &self.chest) {
            (None, None) => Err(CredentialError::locked(format!(
                "a new encrypted file {} needs a passphrase: give it in LAYERSLAYER_PASSPHRASE or \
                 LAYERSLAYER_PASSPHRASE_FD, or run this in a terminal",
                self.file.path().display()
            ))),
            _ => Ok(passphrase),
        }
    }

    /// The key of a file that has none yet, and writes down what it comes from.
    fn begin(&self, content: &mut Content) -> Result<Key, CredentialError> {
        let failed = || CredentialError::other("no random numbers to be had");
        let (kind, key) = match (self.new_secret()?, &self.chest) {
            (Some(passphrase), _) => {
                let salt = <[u8; 16]>::try_generate().map_err(|_| failed())?;
                let key = derive(&passphrase, &salt, COST).ok_or_else(failed)?;
                (KeyKind::Passphrase { cost: COST, salt: salt.to_vec() }, key)
            }
            (None, Some(chest)) => {
                let key = Zeroizing::new(<[u8; KEY_BYTES]>::try_generate().map_err(|_| failed())?);
                chest.keep(&SecretString::from(STANDARD.encode(*key)))?;
                (KeyKind::Keyring, key)
            }
            (None, None) => return Err(failed()),
        };
        let mut header = Header { kind, check: String::new() };
        header.check = seal(&key, b"", &header.bound()).ok_or_else(failed)?;
        header.write(content);
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some((header.check, key.clone()));
        Ok(key)
    }
}

impl CredentialStore for SealedFile {
    fn place(&self) -> String {
        format!("the encrypted file {}", self.file.path().display())
    }

    fn check(&self, _: &RegistryKey) -> Result<(), CredentialError> {
        self.try_out()?;
        self.file.check()
    }

    fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
        // Whoever has to be asked for the passphrase is asked before others have to wait for the lock.
        self.try_out()?;
        let kind = credential.kind();
        self.file.change(|content| {
            let key = match Header::read(content)? {
                Some(header) => self.key(content, &header)?,
                None => self.begin(content)?,
            };
            let username = credential.username();
            let sealed = seal(&key, record::write(credential).as_bytes(), &bound(registry, kind, username))
                .ok_or_else(|| CredentialError::other("no random numbers to be had"))?;
            content.set(
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
        let content = self.file.read()?;
        let Some(entry) = content.entry(registry, kind)? else { return Ok(None) };
        let Some(header) = Header::read(&content)? else {
            return Err(content.damaged("it says nothing of its key"));
        };
        let key = self.key(&content, &header)?;
        let sealed = content.text_of(registry, entry, "sealed")?.unwrap_or_default();
        let username = content.text_of(registry, entry, "username")?.unwrap_or_default();
        let opened = open(&key, sealed, &bound(registry, kind, username));
        let credential = opened.and_then(|opened| record::read(&opened, kind));
        match credential {
            Some(credential) => Ok(Some(credential.found_in(self.place()))),
            None => Err(content.damaged(format!("the entry of {registry} does not open"))),
        }
    }

    fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        self.file.delete(registry, kind)
    }

    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        self.file.read()?.list()
    }
}

/// What the file says of its key.
struct Header {
    kind: KeyKind,
    check: String,
}

enum KeyKind {
    Keyring,
    Passphrase { cost: (u32, u32, u32), salt: Vec<u8> },
}

impl Header {
    fn read(content: &Content) -> Result<Option<Self>, CredentialError> {
        let Some(table) = content.section("key") else {
            return match content.list()?.is_empty() {
                true => Ok(None),
                // A new key would make the entries unreadable for good.
                false => Err(content.damaged("it says nothing of its key")),
            };
        };
        let text = |name: &str| table.get(name).and_then(|item| item.as_str());
        let (Some(kind), Some(check)) = (text("kind"), text("check")) else {
            return Err(content.damaged("its key has no kind or no check"));
        };
        let kind = match kind {
            "keyring" => KeyKind::Keyring,
            "passphrase" => {
                let number = |name: &str, most: u32| number(content, table, name, most);
                let cost = (
                    number("memory", limits::ARGON2_KIB)?,
                    number("passes", limits::ARGON2_PASSES)?,
                    number("lanes", limits::ARGON2_LANES)?,
                );
                let salt = text("salt").and_then(|salt| STANDARD.decode(salt).ok());
                let salt = salt.ok_or_else(|| content.damaged("its key has no salt"))?;
                KeyKind::Passphrase { cost, salt }
            }
            _ => return Err(content.damaged("its key is of a kind that is not known")),
        };
        Ok(Some(Self { kind, check: check.to_owned() }))
    }

    fn write(&self, content: &mut Content) {
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
        content.set_section("key", values.into_iter().chain([check]).collect());
    }

    /// What the check is bound to.
    fn bound(&self) -> Vec<u8> {
        match &self.kind {
            KeyKind::Keyring => b"layerslayer key keyring".to_vec(),
            KeyKind::Passphrase { cost, salt } => {
                format!("layerslayer key passphrase {cost:?} {}", STANDARD.encode(salt)).into_bytes()
            }
        }
    }
}

fn number(content: &Content, table: &Table, name: &str, most: u32) -> Result<u32, CredentialError> {
    let number =
        table.get(name).and_then(|item| item.as_integer()).and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| content.damaged(format!("{name} of its key is not a number from 1 to {most}")))
}

/// What an entry is bound to.
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
mod tests {
    use std::{fs, sync::Arc};

    use super::{super::private::tests::private_folder, *};

    fn sealed(directory: &Path, passphrase: &str) -> SealedFile {
        SealedFile::new(directory, Passphrases::fixed(passphrase), None)
    }

    fn key(text: &str) -> RegistryKey {
        text.parse().unwrap()
    }

    fn login(secret: &str) -> Credential {
        Credential::basic("me", secret.to_owned().into())
    }

    #[derive(Clone, Default)]
    struct Chest(Arc<Mutex<Option<SecretString>>>);

    impl KeyChest for Chest {
        fn key(&self) -> Result<Option<SecretString>, CredentialError> {
            Ok(self.0.lock().unwrap().clone())
        }

        fn keep(&self, key: &SecretString) -> Result<(), CredentialError> {
            *self.0.lock().unwrap() = Some(key.clone());
            Ok(())
        }
    }

    #[test]
    fn a_wrong_passphrase_is_an_error_and_the_bytes_stay() {
        let folder = private_folder();
        let path = folder.path().join(NAME);
        sealed(folder.path(), "right").store(&key("a.b"), &login("hush")).unwrap();
        let before = fs::read(&path).unwrap();
        let wrong = sealed(folder.path(), "wrong");
        for error in [
            wrong.retrieve(&key("a.b"), CredentialKind::Password).unwrap_err(),
            wrong.store(&key("a.b"), &login("other")).unwrap_err(),
            wrong.store(&key("c.d"), &login("other")).unwrap_err(),
            wrong.try_out().unwrap_err(),
        ] {
            assert!(error.is_locked() && error.to_string().contains("wrong passphrase"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        // What is there can be listed without any.
        assert_eq!(wrong.list().unwrap().len(), 1);
    }

    #[test]
    fn no_byte_of_the_file_can_be_changed_unnoticed() {
        let folder = private_folder();
        let file = sealed(folder.path(), "right");
        file.store(&key("a.b"), &login("hush")).unwrap();
        file.store(&key("c.d"), &login("hush too")).unwrap();
        let path = folder.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("hush"));
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let Some((name, value)) = line.split_once(" = ") else { continue };
            let changed = match (name, value) {
                ("salt" | "check" | "sealed", value) => {
                    let middle = value.len() / 2;
                    let sign = if value.as_bytes()[middle] == b'A' { "B" } else { "A" };
                    format!("{}{sign}{}", &value[..middle], &value[middle + 1..])
                }
                ("username", _) => "\"you\"".to_owned(),
                ("memory", _) => "8".to_owned(),
                (_, "1") => "2".to_owned(),
                (_, "2") => "1".to_owned(),
                ("kind", _) => "\"keyring\"".to_owned(),
                other => panic!("{other:?}"),
            };
            let mut lines = lines.clone();
            let line = format!("{name} = {changed}");
            lines[number] = &line;
            fs::write(&path, lines.join("\n")).unwrap();
            let file = sealed(folder.path(), "right");
            let opened = ["a.b", "c.d"].map(|host| file.retrieve(&key(host), CredentialKind::Password));
            assert!(opened.iter().any(Result::is_err), "{line}");
        }
        // Entries that change places do not open either.
        let swapped = text.replace("a.b", "x").replace("c.d", "a.b").replace("\"x\"", "\"c.d\"");
        fs::write(&path, swapped).unwrap();
        for host in ["a.b", "c.d"] {
            let error =
                sealed(folder.path(), "right").retrieve(&key(host), CredentialKind::Password).unwrap_err();
            assert!(error.to_string().contains("does not open"), "{error}");
        }
    }

    #[test]
    fn a_header_that_asks_for_too_much_is_refused() {
        let folder = private_folder();
        sealed(folder.path(), "right").store(&key("a.b"), &login("hush")).unwrap();
        let path = folder.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("memory = 19456", "memory = 4294967295"),
            ("passes = 2", "passes = 1000000"),
            ("lanes = 1", "lanes = 0"),
            ("memory = 19456", "memory = \"1\""),
            ("kind = \"passphrase\"", "kind = \"magic\""),
            ("[key]", "[other]"),
        ] {
            fs::write(&path, text.replace(from, to)).unwrap();
            let file = sealed(folder.path(), "right");
            let error = file.store(&key("a.b"), &login("x")).unwrap_err().to_string();
            assert!(error.contains("damaged"), "{to}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text.replace(from, to));
        }
    }

    #[test]
    fn without_a_passphrase_the_key_lies_in_the_keyring_and_never_in_the_file() {
        let folder = private_folder();
        let chest = Chest::default();
        let none = || Passphrases::of_process(Arc::new(|_| Ok(None)));
        let file = |chest: Option<Chest>| {
            SealedFile::new(folder.path(), none(), chest.map(|chest| Box::new(chest) as _))
        };
        let error = file(None).store(&key("a.b"), &login("hush")).unwrap_err();
        assert!(error.is_locked() && error.to_string().contains("LAYERSLAYER_PASSPHRASE"), "{error}");
        assert!(!folder.path().join(NAME).exists());
        file(Some(chest.clone())).store(&key("a.b"), &login("hush")).unwrap();
        let found =
            file(Some(chest.clone())).retrieve(&key("a.b"), CredentialKind::Password).unwrap().unwrap();
        assert!(found.is_same(&login("hush")));
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert!(!text.contains(chest.key().unwrap().unwrap().expose_secret()));
        let other = Chest::default();
        assert!(
            file(Some(other.clone()))
                .retrieve(&key("a.b"), CredentialKind::Password)
                .unwrap_err()
                .is_locked()
        );
        other.keep(&STANDARD.encode([0; KEY_BYTES]).into()).unwrap();
        assert!(file(Some(other)).retrieve(&key("a.b"), CredentialKind::Password).unwrap_err().is_locked());
    }
}
