//! Content digests: `sha256:…` and `sha512:…` (OCI image specification, descriptor.md, "Digests").

use std::{fmt, str::FromStr};

use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

/// A hash algorithm that the image specification registers.
///
/// ```
/// use layerslayer::{Algorithm, Digest};
///
/// assert_eq!(Digest::sha256(b"").algorithm(), Algorithm::Sha256);
/// assert_eq!(Algorithm::Sha512.as_str(), "sha512");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256, which every implementation must support.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name, which is the part before the colon.
    ///
    /// ```
    /// assert_eq!(layerslayer::Algorithm::Sha256.as_str(), "sha256");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// All algorithms, the most common one first.
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of some content: an algorithm and its value in lower-case hexadecimal.
///
/// ```
/// use layerslayer::Digest;
///
/// let empty: Digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
/// assert_eq!(empty, Digest::sha256(b""));
/// assert!("sha256:E3B0".parse::<Digest>().is_err());
/// # Ok::<(), layerslayer::DigestError>(())
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// The SHA-256 of `content`.
    ///
    /// ```
    /// let digest = layerslayer::Digest::sha256(b"");
    /// assert!(digest.to_string().starts_with("sha256:e3b0c442"));
    /// ```
    #[must_use]
    pub fn sha256(content: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, content)
    }

    /// The digest of `content` under this algorithm.
    pub(crate) fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// The hash algorithm.
    ///
    /// ```
    /// use layerslayer::{Algorithm, Digest};
    ///
    /// assert_eq!(Digest::sha256(b"").algorithm(), Algorithm::Sha256);
    /// ```
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value in lower-case hexadecimal, without the algorithm.
    ///
    /// ```
    /// assert!(layerslayer::Digest::sha256(b"").hex().starts_with("e3b0c442"));
    /// ```
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Whether `content` has this digest.
    ///
    /// ```
    /// let digest = layerslayer::Digest::sha256(b"content");
    /// assert!(digest.matches(b"content"));
    /// assert!(!digest.matches(b"something else"));
    /// ```
    #[must_use]
    pub fn matches(&self, content: &[u8]) -> bool {
        Self::of(self.algorithm, content) == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::NoColon)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm),
        };
        if hex.len() != algorithm.hex_length() {
            return Err(DigestError::Length { expected: algorithm.hex_length(), found: hex.len() });
        }
        match hex.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Some(at) => Err(DigestError::Character { at: name.len() + 1 + at }),
            None => Ok(Self { algorithm, hex: hex.into() }),
        }
    }
}

/// Why a text is not a digest.
///
/// ```
/// use layerslayer::{Digest, DigestError};
///
/// assert_eq!("garbage".parse::<Digest>(), Err(DigestError::NoColon));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The algorithm is not one of the registered ones.
    #[error("unknown digest algorithm (sha256 and sha512 are known)")]
    Algorithm,
    /// A character other than `0-9a-f`.
    #[error("character {at} of the digest is not a lower-case hexadecimal digit")]
    Character {
        /// Byte offset from the start of the digest.
        at: usize,
    },
    /// Too few or too many digits.
    #[error("a digest of this algorithm has {expected} hexadecimal digits, not {found}")]
    Length {
        /// Digits that the algorithm requires.
        expected: usize,
        /// Digits in the text.
        found: usize,
    },
    /// The `algorithm:` prefix is missing.
    #[error("a digest looks like sha256:… (no colon found)")]
    NoColon,
}

/// Computes a [`Digest`] of content that arrives in pieces.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// Creates a hasher that has seen no content.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Saves the state, to [`resume`](Self::resume) from later. The state reveals something about the content.
    pub(crate) fn save(&self) -> Vec<u8> {
        match self {
            Self::Sha256(hasher) => hasher.serialize().to_vec(),
            Self::Sha512(hasher) => hasher.serialize().to_vec(),
        }
    }

    /// Restores a saved state; `None` if `saved` is not a state of this algorithm.
    pub(crate) fn resume(algorithm: Algorithm, saved: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::Sha256 => {
                let state = SerializedState::<Sha256>::try_from(saved).ok()?;
                Some(Self::Sha256(Sha256::deserialize(&state).ok()?))
            }
            Algorithm::Sha512 => {
                let state = SerializedState::<Sha512>::try_from(saved).ok()?;
                Some(Self::Sha512(Sha512::deserialize(&state).ok()?))
            }
        }
    }

    /// The algorithm that is computed.
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Adds the next piece.
    pub(crate) fn update(&mut self, content: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(content),
            Self::Sha512(hasher) => hasher.update(content),
        }
    }

    /// The digest of all pieces.
    pub(crate) fn finish(self) -> Digest {
        let (algorithm, bytes) = match self {
            Self::Sha256(hasher) => (Algorithm::Sha256, hasher.finalize().to_vec()),
            Self::Sha512(hasher) => (Algorithm::Sha512, hasher.finalize().to_vec()),
        };
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            for nibble in [byte >> 4, byte & 0xf] {
                hex.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Self::digest(algorithm, hex)
    }

    fn digest(algorithm: Algorithm, hex: String) -> Digest {
        Digest { algorithm, hex: hex.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_printed_as_it_was_read() {
        let text = format!("sha512:{}", "0a".repeat(64));
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
    }

    #[test]
    fn malformed_digests_are_refused_with_the_position() {
        let refused = |text: &str| text.parse::<Digest>().unwrap_err();
        assert_eq!(refused("garbage"), DigestError::NoColon);
        assert_eq!(refused("md5:00"), DigestError::Algorithm);
        assert_eq!(refused("sha256:00"), DigestError::Length { expected: 64, found: 2 });
        let upper = format!("sha256:{}F", "0".repeat(63));
        assert_eq!(refused(&upper), DigestError::Character { at: 70 });
    }

    #[test]
    fn a_saved_hasher_resumes_where_it_stopped() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let content: Vec<u8> = (0..=255).cycle().take(1_000).collect();
            let mut whole = Hasher::new(algorithm);
            whole.update(&content);
            let whole = whole.finish();
            for cut in [0, 1, 63, 64, 127, 128, 999] {
                let (head, rest) = content.split_at(cut);
                let mut first = Hasher::new(algorithm);
                first.update(head);
                let mut second = Hasher::resume(algorithm, &first.save()).unwrap();
                second.update(rest);
                assert_eq!(second.finish(), whole, "{cut}");
            }
            assert!(Hasher::resume(algorithm, b"").is_none());
            assert!(Hasher::resume(algorithm, &[0xff; 104]).is_none());
        }
    }

    #[test]
    fn content_matches_only_its_own_digest() {
        let digest = Digest::sha256(b"content");
        assert!(digest.matches(b"content"));
        assert!(!digest.matches(b"Content"));
    }
}
