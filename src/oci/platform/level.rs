//! Feature levels of an architecture, and which lower levels a machine also runs.

/// A distance greater than any within the same architecture.
const OTHER_ARCHITECTURE: u32 = 1_000;

/// An architecture at one feature level.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Level<'a> {
    architecture: &'a str,
    variant: Variant<'a>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Variant<'a> {
    Named(&'a str),
    /// `v8.2` is `(8, 2)`; `v7` is `(7, 0)`.
    Number(u32, u32),
}

impl<'a> Level<'a> {
    /// The level of a normalised architecture and variant.
    pub(super) fn new(architecture: &'a str, variant: Option<&'a str>) -> Self {
        let variant = match (architecture, variant) {
            ("amd64", None) => Variant::Number(1, 0),
            ("arm64", None) => Variant::Number(8, 0),
            (_, None) => Variant::Named(""),
            (_, Some(name)) => number(name).unwrap_or(Variant::Named(name)),
        };
        Self { architecture, variant }
    }

    /// How far `other` is below this level, 0 if they are the same; `None` if a machine of this level cannot run
    /// it.
    pub(super) fn distance(self, other: Self) -> Option<u32> {
        if self == other {
            return Some(0);
        }
        let (Variant::Number(major, minor), Variant::Number(other_major, other_minor)) =
            (self.variant, other.variant)
        else {
            return None;
        };
        let lowest = match self.architecture {
            _ if self.architecture != other.architecture => return None,
            "amd64" => 1,
            "arm" => 5,
            "arm64" => 8,
            _ => return None,
        };
        match (self.architecture, major.checked_sub(other_major)?) {
            _ if other_major < lowest => None,
            ("arm64", 0) => minor.checked_sub(other_minor),
            // Armv9.n includes all of Armv8.(n+5), and Armv8.9 is the last Armv8.
            ("arm64", 1) => {
                let newest = minor.saturating_add(5).min(9);
                Some(newest.checked_sub(other_minor)?.saturating_add(minor).saturating_add(1))
            }
            ("amd64" | "arm", below) if minor == 0 && other_minor == 0 => Some(below),
            _ => None,
        }
    }

    /// Like [`Self::distance`], for another architecture that the machine also runs.
    pub(super) fn distance_across(self, other: Self) -> Option<u32> {
        let across = match (self.architecture, other.architecture) {
            ("amd64", "386") if other.variant == Variant::Named("") => 0,
            ("arm64", "arm") => {
                Level { architecture: "arm", variant: Variant::Number(8, 0) }.distance(other)?
            }
            _ => return None,
        };
        Some(across.saturating_add(OTHER_ARCHITECTURE))
    }
}

/// Parses `v8.2`, with at most two digits per number; anything longer is a name.
fn number(name: &str) -> Option<Variant<'_>> {
    let digits = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    let name = name.strip_prefix('v')?;
    let (major, minor) = name.split_once('.').unwrap_or((name, "0"));
    Some(Variant::Number(digits(major)?, digits(minor)?))
}
