//! OCI image layouts, assembled blob by blob (OCI image specification, image-layout.md).

use std::{
    fs,
    path::{Path, PathBuf},
};

use layerslayer::Digest;
use serde_json::{Value, json};

use super::{
    super::tools,
    layer::{Compression, Layer},
};

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image for one platform.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    layers: Vec<Layer>,
    platform: Value,
    config: Value,
    manifest: Value,
}

impl Image {
    /// An image without layers for Linux on this machine's architecture, which is what commands look for by default.
    pub(crate) fn new() -> Self {
        let platform = json!({ "architecture": architecture(), "os": "linux" });
        Self { layers: Vec::new(), platform, config: json!({}), manifest: json!({}) }
    }

    /// A gzip image of these archives, base first.
    pub(crate) fn of(archives: impl IntoIterator<Item = Vec<u8>>) -> Self {
        archives.into_iter().fold(Self::new(), |image, tar| image.layer(Layer::new(&tar, Compression::Gzip)))
    }

    /// Adds a layer on top.
    pub(crate) fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets another platform; an empty variant means none.
    pub(crate) fn platform(mut self, os: &str, architecture: &str, variant: &str) -> Self {
        self.platform = json!({ "architecture": architecture, "os": os });
        if !variant.is_empty() {
            self.platform["variant"] = variant.into();
        }
        self
    }

    /// Sets (or with `null` removes) a top-level member of the configuration.
    pub(crate) fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Sets (or with `null` removes) a top-level member of the manifest.
    pub(crate) fn manifest(mut self, key: &str, value: Value) -> Self {
        self.manifest[key] = value;
        self
    }
}

/// This machine's architecture, by Go's name.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

/// A layout folder under construction; complete after every call of [`Layout::tag`].
#[derive(Debug)]
pub(crate) struct Layout {
    folder: PathBuf,
    /// Removes the folder on drop, unless it was given.
    _temporary: Option<tempfile::TempDir>,
    manifests: Vec<Value>,
}

impl Layout {
    /// An empty layout in a temporary folder.
    pub(crate) fn new() -> Self {
        let temporary = tools::temporary_folder();
        let mut layout = Self::at(temporary.path());
        layout._temporary = Some(temporary);
        layout
    }

    /// A layout with one image, tagged `latest`.
    pub(crate) fn of(image: &Image) -> Self {
        let mut layout = Self::new();
        let descriptor = layout.image(image);
        layout.tag("latest", descriptor);
        layout
    }

    /// An empty layout in `folder`.
    pub(crate) fn at(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layout = Self { folder: folder.to_owned(), _temporary: None, manifests: Vec::new() };
        layout.write_index();
        layout
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// `oci:FOLDER:TAG`, as our commands and skopeo expect it.
    pub(crate) fn reference(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", tools::text(&self.folder))
    }

    /// The file of a blob.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest.replace(':', "/"))
    }

    /// Stores a blob and returns its descriptor.
    pub(crate) fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = Digest::sha256(bytes).to_string();
        fs::write(self.blob_file(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Stores an image and returns its manifest's descriptor, platform included.
    pub(crate) fn image(&self, image: &Image) -> Value {
        let diff_ids: Vec<&str> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let history: Vec<Value> =
            image.layers.iter().map(|layer| json!({ "created_by": layer.created_by })).collect();
        let mut config = image.platform.clone();
        config["config"] = json!({});
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        config["history"] = history.into();
        merge(&mut config, &image.config);
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|layer| {
                let mut descriptor = self.blob(&layer.blob, &layer.media_type);
                if !layer.annotations.is_null() {
                    descriptor["annotations"] = layer.annotations.clone();
                }
                descriptor
            })
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(config.to_string().as_bytes(), CONFIG),
            "layers": layers,
        });
        merge(&mut manifest, &image.manifest);
        let mut descriptor = self.blob(manifest.to_string().as_bytes(), MANIFEST);
        descriptor["platform"] = image.platform.clone();
        descriptor
    }

    /// Stores what BuildKit attaches to an image: a manifest of platform unknown/unknown without a
    /// file system.
    pub(crate) fn attestation(&self, subject: &Value) -> Value {
        let statement =
            self.blob(br#"{"_type":"https://in-toto.io/Statement/v0.1"}"#, "application/vnd.in-toto+json");
        let config = json!({ "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": { "type": "layers",
            "diff_ids": [statement["digest"]] } });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(config.to_string().as_bytes(), CONFIG),
            "layers": [statement],
        });
        let mut descriptor = self.blob(manifest.to_string().as_bytes(), MANIFEST);
        descriptor["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
        descriptor["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": subject["digest"],
        });
        descriptor
    }

    /// Stores an image index over manifests or other indexes.
    pub(crate) fn index(&self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.blob(index.to_string().as_bytes(), INDEX)
    }

    /// Gives a manifest or an index a name in `index.json`; without a name if `tag` is empty.
    pub(crate) fn tag(&mut self, tag: &str, mut descriptor: Value) {
        if !tag.is_empty() {
            descriptor["annotations"]["org.opencontainers.image.ref.name"] = tag.into();
        }
        self.manifests.push(descriptor);
        self.write_index();
    }

    fn write_index(&self) {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests });
        fs::write(self.folder.join("index.json"), index.to_string()).unwrap();
    }
}

fn merge(into: &mut Value, changes: &Value) {
    let (Some(into), Some(changes)) = (into.as_object_mut(), changes.as_object()) else { return };
    for (key, value) in changes {
        if value.is_null() {
            into.remove(key);
        } else {
            into.insert(key.clone(), value.clone());
        }
    }
}
