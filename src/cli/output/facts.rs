//! Facts about an image, as plain data.

use std::collections::BTreeMap;

use layerslayer::{Error, Image, ImageConfig, Layer};
use serde::Serialize;

/// The identity of an image.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct ImageFacts {
    pub(crate) reference: String,
    pub(crate) digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<String>,
    /// The type of artifact, if this is not a container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
}

impl ImageFacts {
    /// The facts of an open image.
    pub(crate) async fn of(image: &Image) -> Result<Self, Error> {
        Ok(Self {
            reference: image.reference().to_string(),
            digest: image.digest().to_string(),
            platform: image.platform().await?.map(ToString::to_string),
            artifact_type: image.artifact_type().map(ToString::to_string),
        })
    }
}

/// One layer.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct LayerFacts {
    #[serde(rename = "layer")]
    pub(crate) index: usize,
    pub(crate) digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) diff_id: Option<String>,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_by: Option<String>,
}

impl LayerFacts {
    /// The facts of one layer.
    pub(crate) async fn of(layer: &Layer) -> Result<Self, Error> {
        Ok(Self {
            index: layer.index(),
            digest: layer.digest().to_string(),
            diff_id: layer.diff_id().await?.map(ToString::to_string),
            media_type: layer.media_type().to_string(),
            size: layer.size(),
            created_by: layer.created_by().await?.map(ToOwned::to_owned),
        })
    }

    /// The facts of all layers, base first.
    pub(crate) async fn of_all(image: &Image) -> Result<Vec<Self>, Error> {
        let mut facts = Vec::with_capacity(image.layers().len());
        for layer in image.layers() {
            facts.push(Self::of(layer).await?);
        }
        Ok(facts)
    }

    /// The compression that the media type names, or the media type itself if it is unknown.
    pub(crate) fn encoding(&self) -> &str {
        let media_type = self.media_type.split(';').next().unwrap_or_default().trim_end();
        let known =
            [("+gzip", "gzip"), (".gzip", "gzip"), ("+zstd", "zstd"), (".zstd", "zstd"), (".tar", "tar")];
        match known.into_iter().find(|(suffix, _)| media_type.ends_with(suffix)) {
            Some((_, encoding)) => encoding,
            None => media_type,
        }
    }
}

/// How a container of the image runs.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct ConfigFacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) working_dir: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cmd: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) exposed_ports: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) volumes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
}

impl ConfigFacts {
    /// The facts of a configuration.
    pub(crate) fn of(config: &ImageConfig) -> Self {
        let text = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(ToOwned::to_owned);
        Self {
            created: text(config.created()),
            user: text(config.user()),
            working_dir: text(config.working_dir()),
            entrypoint: config.entrypoint().to_vec(),
            cmd: config.cmd().to_vec(),
            env: config.env().to_vec(),
            exposed_ports: config.exposed_ports().to_vec(),
            volumes: config.volumes().to_vec(),
            stop_signal: text(config.stop_signal()),
            labels: config.labels().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_follows_from_the_media_type() {
        for (media_type, encoding) in [
            ("application/vnd.oci.image.layer.v1.tar+gzip", "gzip"),
            ("application/vnd.oci.image.layer.v1.tar+zstd", "zstd"),
            ("application/vnd.oci.image.layer.v1.tar", "tar"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip; a=b", "gzip"),
            ("application/wasm", "application/wasm"),
        ] {
            let layer = LayerFacts { media_type: media_type.to_owned(), ..LayerFacts::default() };
            assert_eq!(layer.encoding(), encoding);
        }
    }
}
