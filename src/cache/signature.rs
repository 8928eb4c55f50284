//! Who may vouch for shared tables: Ed25519 keys (RFC 8032), as PKCS#8 (RFC 5958) and SubjectPublicKeyInfo (RFC 8410) in PEM.
//!
//! ```text
//! shared object    table │ signature, 64 bytes │ "LayerSig"
//! what is signed   a text that says what it is │ format version │ digest of the layer │ SHA-256 of the table
//! ```

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::error::CacheError;
use crate::oci::digest::Digest;

/// Keeps these signatures apart from any others that the key may make.
const PURPOSE: &[u8] = b"layerslayer table of contents\0";
/// Ends a signed object.
const MARK: &[u8; 8] = b"LayerSig";
const SIGNATURE_BYTES: usize = 64;
/// The format's version stands after its magic, in front of the table.
const VERSION: std::ops::Range<usize> = 8..12;
/// Everything of a SubjectPublicKeyInfo of Ed25519 that is not the key.
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PUBLIC_LABEL: &str = "PUBLIC KEY";
const PRIVATE_LABEL: &str = "PRIVATE KEY";
/// Longest file of a key, in bytes.
const FILE_BYTES: u64 = 16 << 10;
/// Characters of base64 in a line of PEM (RFC 7468).
const LINE: usize = 64;

/// A key that vouches for tables of layers, so that other machines believe them.
///
/// ```
/// let key = layerslayer::SigningKey::generate()?;
/// assert!(key.public_pem().starts_with("-----BEGIN PUBLIC KEY-----\n"));
/// # Ok::<(), layerslayer::CacheError>(())
/// ```
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// The keys that are configured.
#[derive(Default)]
pub(super) struct Keys {
    signer: Option<SigningKey>,
    trusted: Vec<[u8; 32]>,
}

/// What came from a shared store.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Opened {
    /// Nobody that we trust vouches for it.
    Hint(Bytes),
    /// Somebody does.
    Trusted(Bytes),
}

impl SigningKey {
    /// A new one.
    ///
    /// ```
    /// let key = layerslayer::SigningKey::generate()?;
    /// # Ok::<(), layerslayer::CacheError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the system has no randomness to give.
    pub fn generate() -> Result<Self, CacheError> {
        let failed = || CacheError::setting("the system gives no random numbers for a key".to_owned());
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| failed())?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| failed())?;
        Ok(Self { pair, pkcs8 })
    }

    /// The key itself, for a file that only its owner can read (PKCS#8 in PEM).
    ///
    /// ```
    /// use secrecy::ExposeSecret as _;
    ///
    /// let key = layerslayer::SigningKey::generate()?;
    /// assert!(key.private_pem().expose_secret().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    /// # Ok::<(), layerslayer::CacheError>(())
    /// ```
    #[must_use]
    pub fn private_pem(&self) -> SecretString {
        SecretString::from(pem(PRIVATE_LABEL, &self.pkcs8))
    }

    /// What others need to believe it (SubjectPublicKeyInfo in PEM).
    ///
    /// ```
    /// let key = layerslayer::SigningKey::generate()?;
    /// assert!(key.public_pem().ends_with("-----END PUBLIC KEY-----\n"));
    /// # Ok::<(), layerslayer::CacheError>(())
    /// ```
    #[must_use]
    pub fn public_pem(&self) -> String {
        pem(PUBLIC_LABEL, &[&PUBLIC_PREFIX, self.pair.public_key().as_ref()].concat())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the files of keys. A private key signs, the first of several; all of them are trusted.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, CacheError> {
        let mut keys = Self::default();
        for path in paths {
            let text =
                read(path).map_err(|error| CacheError::io("reading the key", path, error).of_setting())?;
            keys.add(&text)
                .map_err(|problem| CacheError::setting(format!("the key {}: {problem}", path.display())))?;
        }
        Ok(keys)
    }

    fn add(&mut self, text: &str) -> Result<(), &'static str> {
        if let Some(der) = unpem(PUBLIC_LABEL, text) {
            let key = der.strip_prefix(&PUBLIC_PREFIX).and_then(|key| key.try_into().ok());
            self.trusted.push(key.ok_or("not a public key of Ed25519")?);
            return Ok(());
        }
        let pkcs8 = unpem(PRIVATE_LABEL, text).ok_or("neither a public nor a private key in PEM")?;
        // Version 1 of PKCS#8, which other programs write, has no public key to check against.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)
            .map_err(|_| "not a private key of Ed25519, in PKCS#8 without a passphrase")?;
        self.trusted.push(pair.public_key().as_ref().try_into().map_err(|_| "not a key of Ed25519")?);
        self.signer.get_or_insert(SigningKey { pair, pkcs8 });
        Ok(())
    }

    /// Whether there is a key to sign with.
    pub(super) fn can_sign(&self) -> bool {
        self.signer.is_some()
    }

    /// Whether there is a key to believe.
    pub(super) fn can_trust(&self) -> bool {
        !self.trusted.is_empty()
    }

    /// What the key to sign with is known by.
    pub(super) fn name(&self) -> Option<Digest> {
        Some(Digest::sha256(self.signer.as_ref()?.pair.public_key().as_ref()))
    }

    /// The signature for a table of this layer; `None` if there is no key to sign with, or if that is no table.
    pub(super) fn sign(&self, layer: &Digest, table: &[u8]) -> Option<Vec<u8>> {
        Some(self.signer.as_ref()?.pair.sign(&statement(layer, table)?).as_ref().to_vec())
    }

    /// Whether a trusted key made this signature for a table of this layer.
    pub(super) fn holds(&self, layer: &Digest, table: &[u8], signature: &[u8]) -> bool {
        statement(layer, table).is_some_and(|statement| {
            let holds =
                |key: &[u8; 32]| UnparsedPublicKey::new(&ED25519, key).verify(&statement, signature).is_ok();
            self.trusted.iter().any(holds)
        })
    }

    /// What follows the table in a shared object; `None` if there is no key to sign with, or if that is no table.
    pub(super) fn seal(&self, layer: &Digest, table: &[u8]) -> Option<Vec<u8>> {
        Some([self.sign(layer, table)?.as_slice(), MARK].concat())
    }

    /// Takes a shared object apart.
    pub(super) fn open(&self, layer: &Digest, object: Bytes) -> Opened {
        let Some(length) = object.len().checked_sub(SIGNATURE_BYTES + MARK.len()) else {
            return Opened::Hint(object);
        };
        let Some((signature, MARK)) = object
            .get(length..)
            .and_then(|end| end.split_first_chunk::<SIGNATURE_BYTES>())
            .and_then(|(signature, mark)| Some((signature, <&[u8; 8]>::try_from(mark).ok()?)))
        else {
            return Opened::Hint(object);
        };
        let table = object.slice(..length);
        if self.holds(layer, &table, signature) { Opened::Trusted(table) } else { Opened::Hint(table) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("trusted", &self.trusted.len()).finish_non_exhaustive()
    }
}

fn statement(layer: &Digest, table: &[u8]) -> Option<Vec<u8>> {
    let version = table.get(VERSION)?;
    let layer = layer.to_string();
    let table = Digest::sha256(table).to_string();
    Some([PURPOSE, version, layer.as_bytes(), b"\0", table.as_bytes()].concat())
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    fs::File::open(path)?.take(FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(BASE64_STANDARD.encode(der));
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn unpem(label: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body = Zeroizing::new(body.split_whitespace().collect::<String>());
    BASE64_STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const TABLE: &[u8] = b"LayerToc\x01\0\0\0 and so on";

    fn keys(texts: &[&str]) -> Keys {
        let mut keys = Keys::default();
        texts.iter().for_each(|text| keys.add(text).unwrap());
        keys
    }

    fn object(keys: &Keys, layer: &Digest, table: &[u8]) -> Bytes {
        [table, &keys.seal(layer, table).unwrap()].concat().into()
    }

    #[test]
    fn a_table_counts_only_as_it_was_signed_for_its_layer_by_a_trusted_key() {
        let (own, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signer = keys(&[own.private_pem().expose_secret()]);
        let layer = Digest::sha256(b"layer");
        let signed = object(&signer, &layer, TABLE);
        let trusting = [
            keys(&[&own.public_pem()]),
            keys(&[&other.public_pem(), &own.public_pem()]),
            keys(&[other.private_pem().expose_secret(), &own.public_pem()]),
            signer,
        ];
        for keys in &trusting {
            assert_eq!(keys.open(&layer, signed.clone()), Opened::Trusted(Bytes::from_static(TABLE)));
            assert!(matches!(keys.open(&Digest::sha256(b"another"), signed.clone()), Opened::Hint(_)));
            assert_eq!(keys.open(&layer, Bytes::from_static(TABLE)), Opened::Hint(Bytes::from_static(TABLE)));
            for at in 0..signed.len() * 8 {
                let mut damaged = signed.to_vec();
                damaged[at / 8] ^= 1 << (at % 8);
                assert!(matches!(keys.open(&layer, damaged.into()), Opened::Hint(_)), "bit {at}");
            }
        }
        for keys in [Keys::default(), keys(&[&other.public_pem()])] {
            assert_eq!(keys.open(&layer, signed.clone()), Opened::Hint(Bytes::from_static(TABLE)));
            assert_eq!(keys.seal(&layer, TABLE), None);
        }
        assert_eq!(trusting[3].seal(&layer, b"LayerToc"), None);
        assert!(matches!(trusting[3].open(&layer, Bytes::from_static(MARK)), Opened::Hint(_)));
    }

    #[test]
    fn the_first_private_key_signs() {
        let (first, second) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let layer = Digest::sha256(b"layer");
        let both = keys(&[first.private_pem().expose_secret(), second.private_pem().expose_secret()]);
        let signed = object(&both, &layer, TABLE);
        assert!(matches!(keys(&[&first.public_pem()]).open(&layer, signed.clone()), Opened::Trusted(_)));
        assert!(matches!(keys(&[&second.public_pem()]).open(&layer, signed), Opened::Hint(_)));
    }

    #[test]
    fn keys_of_other_programs_are_read_and_what_is_no_key_is_refused() {
        // RFC 8410, section 10: a private key, without a public one, and its public key.
        let private = "-----BEGIN PRIVATE KEY-----\n\
                       MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                       -----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----\n";
        let layer = Digest::sha256(b"layer");
        let signed = object(&keys(&[private]), &layer, TABLE);
        assert!(matches!(keys(&[public]).open(&layer, signed), Opened::Trusted(_)));
        let refused = |text: &str| Keys::default().add(text).is_err();
        for text in ["", "key", &private.replace("PRIVATE", "RSA PRIVATE"), &public.replace("MCow", "MCox")] {
            assert!(refused(text), "{text}");
        }
        assert!(refused(&private.replace("MC4C", "MC5C")) && refused(&public.replace("=\n", "\n")));
    }

    #[test]
    fn a_key_shows_nothing_of_itself() {
        let key = SigningKey::generate().unwrap();
        let secret = key.private_pem();
        let body: String = secret.expose_secret().lines().skip(1).take(1).collect();
        assert!(!format!("{key:?}").contains(&body));
        assert_eq!(format!("{key:?}"), "SigningKey { .. }");
    }
}
