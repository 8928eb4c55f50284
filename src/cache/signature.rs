//! Signatures of shared TOCs: Ed25519 keys (RFC 8032), as PKCS#8 (RFC 5958) and SubjectPublicKeyInfo (RFC 8410) in PEM.
//!
//! ```text
//! shared object     TOC │ signature, 64 bytes │ "LayerSig"
//! signed statement  purpose │ format version │ digest of the layer │ SHA-256 of the TOC
//! ```

use std::{fmt, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use zeroize::Zeroizing;

use super::error::CacheError;
use crate::{
    files::{check_private, read_with_metadata},
    oci::digest::Digest,
};

/// Separates these signatures from others made with the same key.
const PURPOSE: &[u8] = b"layerslayer table of contents\0";
/// The last bytes of a signed object.
const TRAILER_MAGIC: &[u8; 8] = b"LayerSig";
const SIGNATURE_BYTES: usize = 64;
/// Position of the format version in a TOC, after its magic.
const VERSION: std::ops::Range<usize> = 8..12;
/// The constant part of an Ed25519 SubjectPublicKeyInfo, in front of the key.
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PUBLIC_LABEL: &str = "PUBLIC KEY";
const PRIVATE_LABEL: &str = "PRIVATE KEY";
/// Largest key file, in bytes.
const FILE_BYTES: u64 = 16 << 10;
/// Base64 characters per line of PEM (RFC 7468).
const LINE: usize = 64;

/// A key that signs TOCs, so that other machines can trust them.
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

/// The configured keys.
#[derive(Default)]
pub(super) struct Keys {
    signer: Option<SigningKey>,
    trusted: Vec<[u8; 32]>,
}

/// A TOC from a shared store.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum SharedToc {
    /// A trusted key has signed it.
    Trusted(Bytes),
    /// It is not signed by a trusted key.
    Untrusted(Bytes),
}

impl SigningKey {
    /// Generates a new key.
    ///
    /// ```
    /// let key = layerslayer::SigningKey::generate()?;
    /// # Ok::<(), layerslayer::CacheError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if the system provides no random numbers.
    pub fn generate() -> Result<Self, CacheError> {
        let failed = || CacheError::setting("the system provides no random numbers for a key".to_owned());
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| failed())?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| failed())?;
        Ok(Self { pair, pkcs8 })
    }

    /// The private key (PKCS#8 in PEM). Store it in a file that only its owner can read: another one is refused.
    ///
    /// ```
    /// let key = layerslayer::SigningKey::generate()?;
    /// assert!(key.expose_private_pem().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    /// # Ok::<(), layerslayer::CacheError>(())
    /// ```
    #[must_use]
    pub fn expose_private_pem(&self) -> String {
        pem(PRIVATE_LABEL, &self.pkcs8)
    }

    /// The public key, which other machines need to verify signatures (SubjectPublicKeyInfo in PEM).
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
    /// Reads key files. All keys are trusted; the first private key signs.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, CacheError> {
        let mut keys = Self::default();
        for path in paths {
            let failed =
                |problem: &str| CacheError::setting(format!("the key {}: {problem}", path.display()));
            let (text, metadata) = read_with_metadata(path, FILE_BYTES)
                .map_err(|error| CacheError::io("reading the key", path, error).of_setting())?;
            let text = std::str::from_utf8(&text).map_err(|_| failed("not PEM"))?;
            // With a private key that other users can read they can sign, and with one they can write they can make us trust them.
            if parse_pem(PRIVATE_LABEL, text).is_some() {
                check_private(path, &metadata, "600").map_err(CacheError::setting)?;
            }
            keys.add(text).map_err(failed)?;
        }
        Ok(keys)
    }

    fn add(&mut self, text: &str) -> Result<(), &'static str> {
        if let Some(der) = parse_pem(PUBLIC_LABEL, text) {
            let key = der.strip_prefix(&PUBLIC_PREFIX).and_then(|key| key.try_into().ok());
            self.trusted.push(key.ok_or("not a public key of Ed25519")?);
            return Ok(());
        }
        let pkcs8 = parse_pem(PRIVATE_LABEL, text).ok_or("neither a public nor a private key in PEM")?;
        // Version 1 of PKCS#8, which other programs write, has no public key to check against.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)
            .map_err(|_| "not a private key of Ed25519, in PKCS#8 without a passphrase")?;
        self.trusted.push(pair.public_key().as_ref().try_into().map_err(|_| "not a key of Ed25519")?);
        self.signer.get_or_insert(SigningKey { pair, pkcs8 });
        Ok(())
    }

    /// Whether there is a signing key.
    pub(super) fn can_sign(&self) -> bool {
        self.signer.is_some()
    }

    /// Whether there is a trusted key.
    pub(super) fn can_trust(&self) -> bool {
        !self.trusted.is_empty()
    }

    /// The name of the signing key: the digest of its public half.
    pub(super) fn name(&self) -> Option<Digest> {
        Some(Digest::sha256(self.signer.as_ref()?.pair.public_key().as_ref()))
    }

    /// Signs a TOC of this layer; `None` if there is no signing key, or if the bytes are not a TOC.
    pub(super) fn sign(&self, layer: &Digest, toc: &[u8]) -> Option<Vec<u8>> {
        Some(self.signer.as_ref()?.pair.sign(&statement(layer, toc)?).as_ref().to_vec())
    }

    /// Whether this is a trusted key's signature of a TOC of this layer.
    pub(super) fn verify(&self, layer: &Digest, toc: &[u8], signature: &[u8]) -> bool {
        statement(layer, toc).is_some_and(|statement| {
            let is_valid =
                |key: &[u8; 32]| UnparsedPublicKey::new(&ED25519, key).verify(&statement, signature).is_ok();
            self.trusted.iter().any(is_valid)
        })
    }

    /// The part after the TOC in a shared object; `None` if there is no signing key, or if the bytes are not a TOC.
    pub(super) fn signature_trailer(&self, layer: &Digest, toc: &[u8]) -> Option<Vec<u8>> {
        Some([self.sign(layer, toc)?.as_slice(), TRAILER_MAGIC].concat())
    }

    /// Splits a shared object into TOC and signature, and verifies the signature.
    pub(super) fn open(&self, layer: &Digest, object: Bytes) -> SharedToc {
        let Some(length) = object.len().checked_sub(SIGNATURE_BYTES + TRAILER_MAGIC.len()) else {
            return SharedToc::Untrusted(object);
        };
        let Some((signature, TRAILER_MAGIC)) = object
            .get(length..)
            .and_then(|end| end.split_first_chunk::<SIGNATURE_BYTES>())
            .and_then(|(signature, mark)| Some((signature, <&[u8; 8]>::try_from(mark).ok()?)))
        else {
            return SharedToc::Untrusted(object);
        };
        let toc = object.slice(..length);
        if self.verify(layer, &toc, signature) { SharedToc::Trusted(toc) } else { SharedToc::Untrusted(toc) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("trusted", &self.trusted.len()).finish_non_exhaustive()
    }
}

fn statement(layer: &Digest, toc: &[u8]) -> Option<Vec<u8>> {
    let version = toc.get(VERSION)?;
    let layer = layer.to_string();
    let toc = Digest::sha256(toc).to_string();
    Some([PURPOSE, version, layer.as_bytes(), b"\0", toc.as_bytes()].concat())
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

fn parse_pem(label: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body = Zeroizing::new(body.split_whitespace().collect::<String>());
    BASE64_STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOC: &[u8] = b"LayerToc\x01\0\0\0 and so on";

    fn keys(texts: &[&str]) -> Keys {
        let mut keys = Keys::default();
        texts.iter().for_each(|text| keys.add(text).unwrap());
        keys
    }

    fn object(keys: &Keys, layer: &Digest, toc: &[u8]) -> Bytes {
        [toc, &keys.signature_trailer(layer, toc).unwrap()].concat().into()
    }

    #[test]
    fn only_the_unchanged_toc_signed_for_this_layer_by_a_trusted_key_is_trusted() {
        let (own, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signer = keys(&[&own.expose_private_pem()]);
        let layer = Digest::sha256(b"layer");
        let signed = object(&signer, &layer, TOC);
        let trusting = [
            keys(&[&own.public_pem()]),
            keys(&[&other.public_pem(), &own.public_pem()]),
            keys(&[&other.expose_private_pem(), &own.public_pem()]),
            signer,
        ];
        for keys in &trusting {
            assert_eq!(keys.open(&layer, signed.clone()), SharedToc::Trusted(Bytes::from_static(TOC)));
            assert!(matches!(
                keys.open(&Digest::sha256(b"another"), signed.clone()),
                SharedToc::Untrusted(_)
            ));
            assert_eq!(
                keys.open(&layer, Bytes::from_static(TOC)),
                SharedToc::Untrusted(Bytes::from_static(TOC))
            );
            for at in 0..signed.len() * 8 {
                let mut damaged = signed.to_vec();
                damaged[at / 8] ^= 1 << (at % 8);
                assert!(matches!(keys.open(&layer, damaged.into()), SharedToc::Untrusted(_)), "bit {at}");
            }
        }
        for keys in [Keys::default(), keys(&[&other.public_pem()])] {
            assert_eq!(keys.open(&layer, signed.clone()), SharedToc::Untrusted(Bytes::from_static(TOC)));
            assert_eq!(keys.signature_trailer(&layer, TOC), None);
        }
        assert_eq!(trusting[3].signature_trailer(&layer, b"LayerToc"), None);
        assert!(matches!(
            trusting[3].open(&layer, Bytes::from_static(TRAILER_MAGIC)),
            SharedToc::Untrusted(_)
        ));
    }

    #[test]
    fn the_first_private_key_signs() {
        let (first, second) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let layer = Digest::sha256(b"layer");
        let both = keys(&[&first.expose_private_pem(), &second.expose_private_pem()]);
        let signed = object(&both, &layer, TOC);
        assert!(matches!(keys(&[&first.public_pem()]).open(&layer, signed.clone()), SharedToc::Trusted(_)));
        assert!(matches!(keys(&[&second.public_pem()]).open(&layer, signed), SharedToc::Untrusted(_)));
    }

    #[test]
    fn keys_of_other_programs_are_read_and_malformed_keys_are_refused() {
        // RFC 8410, section 10: a private key, without a public one, and its public key.
        let private = "-----BEGIN PRIVATE KEY-----\n\
                       MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                       -----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----\n";
        let layer = Digest::sha256(b"layer");
        let signed = object(&keys(&[private]), &layer, TOC);
        assert!(matches!(keys(&[public]).open(&layer, signed), SharedToc::Trusted(_)));
        let refused = |text: &str| Keys::default().add(text).is_err();
        for text in ["", "key", &private.replace("PRIVATE", "RSA PRIVATE"), &public.replace("MCow", "MCox")] {
            assert!(refused(text), "{text}");
        }
        assert!(refused(&private.replace("MC4C", "MC5C")) && refused(&public.replace("=\n", "\n")));
    }

    #[test]
    fn a_private_key_that_other_users_can_access_is_refused() {
        use std::{fs, os::unix::fs::PermissionsExt as _};

        let folder = tempfile::tempdir().unwrap();
        let (path, key) = (folder.path().join("key.pem"), SigningKey::generate().unwrap());
        fs::write(&path, key.expose_private_pem()).unwrap();
        for mode in [0o640, 0o604, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Keys::load(std::slice::from_ref(&path)).err().unwrap();
            let shown = error.to_string();
            assert!(
                error.is_setting() && shown.contains(&format!("chmod 600 '{}'", path.display())),
                "{shown}"
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Keys::load(std::slice::from_ref(&path)).unwrap().can_sign());
        // A public key is no secret.
        fs::write(&path, key.public_pem()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Keys::load(&[path]).unwrap().can_trust());
    }

    #[test]
    fn a_device_in_place_of_a_key_is_refused_at_once() {
        let error = Keys::load(&["/dev/zero".into()]).err().unwrap();
        assert!(error.is_setting(), "{error}");
    }

    #[test]
    fn debug_output_does_not_reveal_the_key() {
        let key = SigningKey::generate().unwrap();
        let secret = key.expose_private_pem();
        let body: String = secret.lines().skip(1).take(1).collect();
        assert!(!format!("{key:?}").contains(&body));
        assert_eq!(format!("{key:?}"), "SigningKey { .. }");
    }
}
