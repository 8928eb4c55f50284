//! `--layer N|DIGEST`: selects a layer.

use super::{exit::Failure, output::facts::LayerFacts};

/// Minimum number of digits of a digest.
const MIN_DIGEST_DIGITS: usize = 6;

/// Maximum number of digits of an index; more digits are a digest.
const MAX_INDEX_DIGITS: usize = 4;

/// Returns the index of the layer that `text` selects.
pub(crate) fn layer(text: &str, layers: &[LayerFacts]) -> Result<usize, Failure> {
    if !text.is_empty() && text.len() <= MAX_INDEX_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let index = text.parse().unwrap_or(usize::MAX);
        return match layers.len() {
            count if index < count => Ok(index),
            0 => Err(Failure::usage(format!("--layer {text}: the image has no layers"))),
            1 => Err(Failure::usage(format!("--layer {text}: the image has one layer, 0"))),
            count => Err(Failure::usage(format!("--layer {text}: the image has layers 0 to {}", count - 1))),
        };
    }
    let (algorithm, digits) = text.split_once(':').map_or((None, text), |(name, hex)| (Some(name), hex));
    if digits.len() < MIN_DIGEST_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let rule = format!("expected an index or at least {MIN_DIGEST_DIGITS} digits of a digest");
        return Err(Failure::usage(format!("--layer {text}: {rule}")));
    }
    let digits = digits.to_ascii_lowercase();
    let matches = |digest: &str| {
        digest.split_once(':').is_some_and(|(name, hex)| {
            algorithm.is_none_or(|algorithm| algorithm == name) && hex.starts_with(&digits)
        })
    };
    let mut found =
        layers.iter().filter(|layer| matches(&layer.digest) || layer.diff_id.as_deref().is_some_and(matches));
    let Some(first) = found.next() else {
        return Err(Failure::usage(format!("--layer {text}: no layer of the image has this digest")));
    };
    // The same blob may be in an image twice; the first one is as good as any.
    match found.find(|other| other.digest != first.digest) {
        Some(_) => {
            Err(Failure::usage(format!("--layer {text}: several layers have digests that start like this")))
        }
        None => Ok(first.index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<LayerFacts> {
        ["aabbccdd00", "aabbccee00", "aabbccdd00"]
            .into_iter()
            .enumerate()
            .map(|(index, hex)| LayerFacts {
                index,
                digest: format!("sha256:{hex}"),
                diff_id: (index == 1).then(|| "sha256:123456".to_owned()),
                ..LayerFacts::default()
            })
            .collect()
    }

    #[test]
    fn a_layer_is_selected_by_index_digest_prefix_or_diff_id() {
        let cases =
            [("0", 0), ("2", 2), ("aabbccee", 1), ("sha256:AABBCCEE00", 1), ("aabbccdd", 0), ("123456", 1)];
        for (text, index) in cases {
            assert_eq!(layer(text, &layers()), Ok(index), "{text}");
        }
    }

    #[test]
    fn no_match_or_several_matches_are_usage_failures() {
        for text in ["3", "aabbcc", "abc", "", "sha512:aabbccee", "nothex", "ffffff", "-1"] {
            let failure = layer(text, &layers()).unwrap_err();
            assert_eq!(failure.exit.code(), 2, "{text}");
        }
        assert!(layer("0", &[]).is_err());
    }
}
