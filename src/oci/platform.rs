//! Platforms: operating system, architecture and variant, normalised as containerd does.

mod level;

#[cfg(test)]
mod tests;

use std::{
    env, fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use self::level::Level;

const KNOWN_ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];
const KNOWN_SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

/// A platform, normalised: `x86_64` is `amd64`, `aarch64` and `arm64/v8` are `arm64`, `arm` is `arm/v7`.
///
/// A platform that was parsed from a string is *required*; [`Platform::host`] is only a preference. Comparisons
/// ignore this difference.
///
/// ```
/// use layerslayer::Platform;
///
/// let platform: Platform = "linux/aarch64".parse()?;
/// assert_eq!(platform.to_string(), "linux/arm64");
/// assert!(platform.is_required());
/// assert!(platform.matches(&"linux/arm64/v8".parse()?));
/// assert!(!platform.matches(&"linux/amd64".parse()?));
/// # Ok::<(), layerslayer::PlatformError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
    os_version: Option<String>,
    required: bool,
}

impl Platform {
    /// Linux on this machine's architecture, as a preference: an image for another platform is accepted with a
    /// warning.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = host_architecture();
        Self { os: "linux".into(), architecture, variant, os_version: None, required: false }
    }

    /// Whether only this platform is acceptable, because it was requested by name.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Operating system, as in Go's `GOOS`: `linux`, `windows`, ….
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// Architecture, as in Go's `GOARCH`: `amd64`, `arm64`, ….
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Variant of the architecture, as `v7` for `arm`. `None` means `v8` for `arm64` and `v1` for `amd64`.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Version of the operating system, as `10.0.17763.1234`. Only Windows images have one.
    #[must_use]
    pub fn os_version(&self) -> Option<&str> {
        self.os_version.as_deref()
    }

    /// Whether an image for `other` satisfies a request for this platform.
    ///
    /// An older variant of the same architecture does (`arm/v6` for `arm/v7`, `arm64/v8` for `arm64/v9`), a
    /// newer one does not. A preference also accepts other architectures that the machine runs: `386` for
    /// `amd64`, `arm` for `arm64`.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.distance(other).is_some()
    }

    /// The best candidate: the newest variant that is not too new. The first one wins among equals.
    pub fn select<'a, T>(&self, candidates: impl Iterator<Item = (&'a Self, T)>) -> Option<T> {
        candidates
            .filter_map(|(platform, item)| Some((self.distance(platform)?, item)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, item)| item)
    }

    /// Whether this is `unknown/unknown`, which BuildKit uses for attestations.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    /// The platform that a document states; `None` if it has no architecture.
    pub(crate) fn stated(
        os: &str,
        architecture: &str,
        variant: &str,
        os_version: &str,
    ) -> Result<Option<Self>, PlatformError> {
        if architecture.is_empty() {
            return Ok(None);
        }
        for part in [os, architecture, variant] {
            check_characters(part, 0)?;
        }
        if let Some((at, found)) = os_version.char_indices().find(|(_, char)| char.is_control()) {
            return Err(PlatformError { kind: PlatformErrorKind::Character { found }, at });
        }
        let (architecture, variant) = normalise_architecture(architecture, variant);
        Ok(Some(Self {
            os: if os.is_empty() { "linux".into() } else { normalise_os(os) },
            architecture,
            variant,
            os_version: some(os_version),
            required: false,
        }))
    }

    /// How far `other` is from this platform; `None` if it does not match.
    fn distance(&self, other: &Self) -> Option<u32> {
        if self.os != other.os || !self.has_version(other) {
            return None;
        }
        let (own, other) = (self.level(), other.level());
        own.distance(other).or_else(|| if self.required { None } else { own.distance_across(other) })
    }

    fn level(&self) -> Level<'_> {
        Level::new(&self.architecture, self.variant())
    }

    fn key(&self) -> (&str, &str, Option<&str>, Option<&str>) {
        (&self.os, &self.architecture, self.variant(), self.os_version())
    }

    /// Parses a single word: `linux` implies this machine's architecture, `arm64` implies Linux.
    fn from_one(name: &str, version: &str) -> Result<Self, PlatformError> {
        let os = normalise_os(name);
        if KNOWN_SYSTEMS.contains(&os.as_str()) {
            return Ok(Self { os, os_version: some(version), required: true, ..Self::host() });
        }
        let (architecture, variant) = normalise_architecture(name, "");
        if version.is_empty() && KNOWN_ARCHITECTURES.contains(&architecture.as_str()) {
            return Ok(Self { architecture, variant, required: true, ..Self::host() });
        }
        Err(PlatformError { kind: PlatformErrorKind::Unknown, at: 0 })
    }

    /// A request without a version accepts any; `10.0.17763` accepts `10.0.17763.1234`.
    fn has_version(&self, other: &Self) -> bool {
        let Some(wanted) = &self.os_version else { return true };
        let rest = other.os_version.as_deref().and_then(|version| version.strip_prefix(wanted.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self::host()
    }
}

impl PartialEq for Platform {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Platform {}

impl Hash for Platform {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let mut parts = Vec::with_capacity(3);
        let mut at = 0;
        for part in text.split('/') {
            if parts.len() == 3 {
                return Err(PlatformError { kind: PlatformErrorKind::Parts, at });
            }
            if part.is_empty() {
                return Err(PlatformError { kind: PlatformErrorKind::Empty, at });
            }
            let (checked, version) = if at == 0 { split_version(part)? } else { (part, "") };
            check_characters(checked, at)?;
            parts.push((checked, version));
            at = at.saturating_add(part.len()).saturating_add(1);
        }
        let (os, version, architecture, variant) = match parts.as_slice() {
            [(os, version), (architecture, _)] => (*os, *version, *architecture, ""),
            [(os, version), (architecture, _), (variant, _)] => (*os, *version, *architecture, *variant),
            [(one, version)] => return Self::from_one(one, version),
            _ => return Err(PlatformError { kind: PlatformErrorKind::Empty, at: 0 }),
        };
        let (architecture, variant) = normalise_architecture(architecture, variant);
        Ok(Self { os: normalise_os(os), architecture, variant, os_version: some(version), required: true })
    }
}

fn normalise_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".into(),
        other => other.into(),
    }
}

fn normalise_architecture(architecture: &str, variant: &str) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        ("amd64" | "x86_64" | "x86-64", "v1" | "1") => ("amd64", ""),
        ("amd64" | "x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.into(), some(variant))
}

/// This machine's architecture, translated from Rust's name to Go's.
fn host_architecture() -> (String, Option<String>) {
    match env::consts::ARCH {
        "loongarch64" => ("loong64".into(), None),
        "powerpc" => ("ppc".into(), None),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le".into(), None),
        "powerpc64" => ("ppc64".into(), None),
        "mips" if cfg!(target_endian = "little") => ("mipsle".into(), None),
        "mips64" if cfg!(target_endian = "little") => ("mips64le".into(), None),
        "wasm32" | "wasm64" => ("wasm".into(), None),
        name => normalise_architecture(name, ""),
    }
}

/// Splits `windows(10.0.17763)` into name and version.
fn split_version(part: &str) -> Result<(&str, &str), PlatformError> {
    let Some((name, rest)) = part.split_once('(') else { return Ok((part, "")) };
    let at = name.len().saturating_add(1);
    let Some(version) = rest.strip_suffix(')') else {
        return Err(PlatformError { kind: PlatformErrorKind::Parenthesis, at: part.len() });
    };
    if name.is_empty() {
        return Err(PlatformError { kind: PlatformErrorKind::Empty, at: 0 });
    }
    check_characters(version, at)?;
    Ok((name, version))
}

fn check_characters(text: &str, start: usize) -> Result<(), PlatformError> {
    let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '.' | '_');
    match text.char_indices().find(|(_, char)| !allowed(*char)) {
        Some((at, found)) => {
            Err(PlatformError { kind: PlatformErrorKind::Character { found }, at: start.saturating_add(at) })
        }
        None => Ok(()),
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.into())
}

/// A string is not a platform.
///
/// ```
/// use layerslayer::Platform;
///
/// assert!("linux/amd64/v1/more".parse::<Platform>().is_err());
/// ```
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{kind} (character {})", .at.saturating_add(1))]
pub struct PlatformError {
    kind: PlatformErrorKind,
    at: usize,
}

impl PlatformError {
    /// The kind of error.
    #[must_use]
    pub fn kind(&self) -> &PlatformErrorKind {
        &self.kind
    }

    /// Position of the error: byte offset from the start of the string.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }
}

/// Kinds of errors in a platform.
///
/// ```
/// use layerslayer::Platform;
///
/// let error = "linux//".parse::<Platform>().unwrap_err();
/// println!("{:?} at byte {}", error.kind(), error.at());
/// ```
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformErrorKind {
    /// A character that is not allowed.
    #[error("{found:?} is not allowed in a platform like linux/arm64/v8")]
    Character {
        /// The character.
        found: char,
    },
    /// An empty part.
    #[error("a part of the platform is empty (a platform looks like linux/arm64/v8)")]
    Empty,
    /// A version without its closing parenthesis.
    #[error("the version of the operating system has no closing parenthesis")]
    Parenthesis,
    /// More than three parts.
    #[error("a platform has at most three parts, like linux/arm64/v8")]
    Parts,
    /// A single word that is neither an operating system nor an architecture.
    #[error("not a known operating system or architecture (a platform looks like linux/arm64)")]
    Unknown,
}
