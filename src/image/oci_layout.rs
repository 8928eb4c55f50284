//! OCI image layouts (OCI image specification, image-layout.md): `index.json` and `blobs/ALGORITHM/HEX`.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    resolve::{ImageRequest, RootManifest},
    select::{Selected, select},
};
use crate::{
    error::{Error, Kind},
    limits,
    oci::{
        digest::Digest,
        manifest::{Descriptor, Manifest},
        reference::{ImageReference, LayoutImage},
    },
    source::{
        file::FileBlob,
        local::{Local, LocalBlob},
    },
};

/// Annotation with the name of an image in a layout (OCI image specification, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the full image name, written by containerd and BuildKit.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Reads the manifest or index of the requested image. Blocks.
pub(super) fn root(local: &Arc<Local>, request: &ImageRequest) -> Result<RootManifest, Error> {
    let reference = &request.reference;
    let (ImageReference::OciLayout { image, .. } | ImageReference::OciArchive { image, .. }) = reference
    else {
        return Err(Error::new(Kind::Usage, format!("{reference} is not an OCI image layout")));
    };
    let Some(index) = local.open("index.json")? else {
        let hint = match (local.open("manifest.json")?, &**local) {
            (Some(_), Local::Archive(_)) => " (it is a docker archive, which is written docker-archive:FILE)",
            (Some(_), Local::Directory(_)) => " (it has skopeo's dir: format, which is not supported)",
            (None, _) => "",
        };
        let message = format!("{reference} is not an OCI image layout: it has no index.json{hint}");
        return Err(Error::new(Kind::NoSuchImage, message));
    };
    let bytes = read(&index, limits::MANIFEST_BYTES)?;
    let index = match Manifest::parse(&bytes, None) {
        Ok(Manifest::Index(index)) => index,
        Ok(Manifest::Image(_)) => {
            return Err(Error::new(
                Kind::Corrupt,
                format!("index.json of {reference} is not an image index"),
            ));
        }
        Err(error) => {
            return Err(Error::caused(Kind::Corrupt, format!("reading index.json of {reference}"), error));
        }
    };
    let descriptor = choose(index.manifests(), image.as_ref(), request)?;
    let digest = descriptor.digest().clone();
    let bytes = document(local, &digest, descriptor.size(), limits::MANIFEST_BYTES)?;
    Ok(RootManifest { bytes, content_type: Some(descriptor.media_type().to_string()), digest })
}

/// Selects the descriptor of the requested image. Descriptors of the same manifest are one image, and so are descriptors
/// of the same name that differ in their platform.
fn choose<'a>(
    manifests: &'a [Descriptor],
    image: Option<&LayoutImage>,
    request: &ImageRequest,
) -> Result<&'a Descriptor, Error> {
    let reference = &request.reference;
    let name = |descriptor: &'a Descriptor, key| descriptor.annotations().get(key).map(String::as_str);
    let names = |descriptor| (name(descriptor, REF_NAME), name(descriptor, CONTAINERD_NAME));
    let mut fitting: Vec<&Descriptor> = Vec::new();
    for candidate in manifests {
        let fits = match image {
            Some(LayoutImage::Digest(digest)) => candidate.digest() == digest,
            Some(LayoutImage::Tag(tag)) => {
                let (short, full) = names(candidate);
                short == Some(tag) || full == Some(tag)
            }
            None => !candidate.is_attestation(),
        };
        if fits && fitting.iter().all(|other| other.digest() != candidate.digest()) {
            fitting.push(candidate);
        }
    }
    let is_alone = |descriptor: &&Descriptor| {
        let same = fitting.iter().filter(|other| other.platform() == descriptor.platform());
        descriptor.platform().is_some() && same.count() == 1
    };
    let found = match *fitting.as_slice() {
        [only] => Some(only),
        [first, ..]
            if fitting.iter().all(|other| names(other) == names(first)) && fitting.iter().all(is_alone) =>
        {
            match select(request, fitting.iter().copied())? {
                Selected::Entry(descriptor) => Some(descriptor),
                Selected::Unstated(_) => None,
            }
        }
        [first, ..] if image.is_some() => Some(first),
        _ => None,
    };
    found.ok_or_else(|| {
        let present: Vec<String> = manifests
            .iter()
            .map(|candidate| match candidate.annotations().get(REF_NAME) {
                Some(tag) => format!(":{tag}"),
                None => format!("@{}", candidate.digest()),
            })
            .collect();
        let problem = if image.is_some() { "has no such image" } else { "does not have exactly one image" };
        let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
        Error::new(Kind::NoSuchImage, format!("{reference} {problem}; it has {present}"))
    })
}

/// Reads a small blob and checks its digest and size. Blocks.
pub(super) fn document(local: &Arc<Local>, digest: &Digest, size: u64, cap: u64) -> Result<Bytes, Error> {
    let bytes = read(&blob(local, digest, size).file()?, cap)?;
    if !digest.matches(&bytes) {
        return Err(Error::new(Kind::Corrupt, format!("the blob {digest} hashes to another digest")));
    }
    Ok(bytes.into())
}

/// A blob, by the digest and size in its descriptor.
pub(super) fn blob(local: &Arc<Local>, digest: &Digest, size: u64) -> LocalBlob {
    let name = format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
    LocalBlob::new(Arc::clone(local), name, size)
}

fn read(blob: &FileBlob, cap: u64) -> Result<Vec<u8>, Error> {
    blob.read_all(cap).map_err(|error| Error::caused(Kind::Other, format!("reading {}", blob.name()), error))
}
