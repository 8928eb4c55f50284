//! Layers: archives in the encodings that registries hold.

use layerslayer::Digest;
use serde_json::Value;

use super::super::tools;

pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How a layer's archive is stored; every encoder is an independent program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Compression {
    /// `gzip`.
    Gzip,
    /// Uncompressed.
    None,
    /// `pigz --independent` with small blocks: deflate blocks that do not look back.
    Pigz,
    /// `zstd`.
    Zstd,
}

impl Compression {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Gzip, Self::None, Self::Pigz, Self::Zstd];

    /// `bytes` encoded.
    pub(crate) fn encode(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => tools::filter(tools::command("gzip").args(["-c", "-n", "-6"]), bytes),
            Self::None => bytes.to_vec(),
            Self::Pigz => {
                let arguments = ["-c", "-n", "--independent", "--blocksize", "128", "--processes", "2"];
                tools::filter(tools::command("pigz").args(arguments), bytes)
            }
            Self::Zstd => {
                tools::filter(tools::command("zstd").args(["-c", "-q", "-3", "--no-progress"]), bytes)
            }
        }
    }

    /// The media type of a layer stored this way.
    pub(crate) fn media_type(self) -> String {
        let suffix = match self {
            Self::Gzip | Self::Pigz => "+gzip",
            Self::None => "",
            Self::Zstd => "+zstd",
        };
        format!("{LAYER}{suffix}")
    }
}

/// Incompressible bytes, always the same.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A layer: what is stored, and the digest of what it unpacks to.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) diff_id: String,
    pub(crate) created_by: String,
    pub(crate) annotations: Value,
}

impl Layer {
    /// An archive, stored with `compression`.
    pub(crate) fn new(tar: &[u8], compression: Compression) -> Self {
        Self {
            blob: compression.encode(tar),
            media_type: compression.media_type(),
            diff_id: Digest::sha256(tar).to_string(),
            created_by: "layerslayer test".to_owned(),
            annotations: Value::Null,
        }
    }

    /// Sets another media type.
    pub(crate) fn media_type(mut self, media_type: &str) -> Self {
        media_type.clone_into(&mut self.media_type);
        self
    }

    /// Sets another command in the history.
    pub(crate) fn created_by(mut self, command: &str) -> Self {
        command.clone_into(&mut self.created_by);
        self
    }

    /// Stores other bytes than the encoded archive.
    pub(crate) fn blob(mut self, blob: Vec<u8>) -> Self {
        self.blob = blob;
        self
    }

    /// The digest of the stored blob.
    pub(crate) fn digest(&self) -> String {
        Digest::sha256(&self.blob).to_string()
    }
}
