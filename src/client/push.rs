//! Storing the tables of an image's layers beside it, for others to use.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

use super::Client;
use crate::{
    error::{Error, Kind},
    hint::Hint,
    image::Image,
    limits,
    oci::{digest::Digest, reference::ImageReference},
    reader::discover,
    referrers::{ARTIFACT_TYPE, KEY_ANNOTATION, LAYER_ANNOTATION, SIGNATURE_ANNOTATION, TOC_TYPE},
    registry::Session,
};

const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// What [`Client::push_tocs`] has stored.
///
/// ```no_run
/// # async fn example(client: layerslayer::Client, image: layerslayer::Image) -> Result<(), layerslayer::Error> {
/// let pushed = client.push_tocs(&image).await?;
/// println!("{} tables in {}", pushed.tocs, pushed.digest);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PushedArtifact {
    /// Digest of the artifact's manifest.
    pub digest: Digest,
    /// How many tables it has.
    pub tocs: usize,
    /// Their sizes together, in bytes.
    pub bytes: u64,
}

impl Client {
    /// Stores the tables of contents of an image's layers in its repository, signed, as an artifact that refers to the image;
    /// makes those that are not there yet. Whoever trusts the key finds them there.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] if the image is not in a registry, or if the client's cache has no private key to sign with
    /// ([`CacheOptions::key`](crate::CacheOptions::key)); [`Error::is_unauthorized`] if the registry lets us not store; what
    /// [`Image::build_tocs`] gives.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use layerslayer::{Cache, CacheOptions, Client};
    ///
    /// let cache = Cache::open(&CacheOptions::from_environment()?.key("layerslayer-toc.pem"))?;
    /// let client = Client::builder().cache(cache).build()?;
    /// let image = client.image(&"registry.example.com/app:1".parse()?, &Default::default()).await?;
    /// client.push_tocs(&image).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn push_tocs(&self, image: &Image) -> Result<PushedArtifact, Error> {
        let (ImageReference::Registry(reference), Some(own)) = (image.reference(), &image.inner.session)
        else {
            let problem = format!("{} is not in a registry: there is nowhere to push to", image.reference());
            return Err(Error::new(Kind::Usage, problem));
        };
        let Some(cache) = self.cache.clone().filter(crate::cache::Cache::can_sign) else {
            let error = Error::new(Kind::Usage, "there is no private key to sign TOCs with");
            return Err(error.with_hint(Hint::CreateSigningKey));
        };
        image.build_tocs().await?;
        let progress = self.progress.for_image(reference);
        progress.resolved(image.digest(), image.layers().iter().map(|layer| layer.digest().clone()));
        let (repository, credential) = self.access(reference, &progress).await?;
        let (http, progress) = (Arc::clone(&self.http), Arc::new(progress));
        let session = Session::pushing(http, repository, credential, progress);
        let (mut tables, mut seen, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        for layer in image.layers() {
            if !seen.insert(layer.digest().clone()) {
                continue;
            }
            let gone = || layer.error(Error::new(Kind::Other, "its table of contents is no longer there"));
            let table = discover::stored(layer).await.ok_or_else(gone)?.bytes;
            let signature = cache.sign(layer.digest(), &table).ok_or_else(gone)?;
            let (digest, size) = (Digest::sha256(&table), table.len() as u64);
            bytes += size;
            tables.push(json!({
                "mediaType": TOC_TYPE, "digest": digest.to_string(), "size": size,
                "annotations": {
                    LAYER_ANNOTATION: layer.digest().to_string(),
                    SIGNATURE_ANNOTATION: BASE64_STANDARD.encode(signature),
                },
            }));
            session.push_blob(&digest, table).await?;
        }
        let empty = Digest::sha256(EMPTY);
        session.push_blob(&empty, Bytes::from_static(EMPTY)).await?;
        let subject = own.manifest(&image.digest().to_string(), Some(image.digest())).await?;
        let media_type = subject.content_type.as_deref().unwrap_or(MANIFEST_TYPE);
        let tocs = tables.len();
        let annotations = json!({ KEY_ANNOTATION: cache.key_name().map(|name| name.to_string()) });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "artifactType": ARTIFACT_TYPE,
            "config": { "mediaType": EMPTY_TYPE, "digest": empty.to_string(), "size": EMPTY.len() },
            "layers": tables,
            "subject": {
                "mediaType": media_type, "digest": image.digest().to_string(), "size": subject.bytes.len(),
            },
            "annotations": annotations,
        });
        let manifest = Bytes::from(manifest.to_string());
        if manifest.len() as u64 > limits::MANIFEST_BYTES {
            return Err(Error::new(Kind::Other, "the image has too many layers for one manifest of tables"));
        }
        let digest = Digest::sha256(&manifest);
        let size = manifest.len();
        if !session.push_manifest(&digest.to_string(), MANIFEST_TYPE, manifest).await? {
            let own = json!({
                "mediaType": MANIFEST_TYPE, "artifactType": ARTIFACT_TYPE, "digest": digest.to_string(), "size": size,
                "annotations": annotations,
            });
            list(&session, image.digest(), own).await?;
        }
        session.close().await;
        Ok(PushedArtifact { digest, tocs, bytes })
    }
}

/// Adds an artifact to the tag that lists what refers to an image, where the registry keeps no list of its own. The last one comes
/// first, in place of an earlier one of the same key; what others have pushed stays.
async fn list(session: &Session, subject: &Digest, own: Value) -> Result<(), Error> {
    let mut index = match session.referrers_by_tag(subject).await? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| unlisted(subject))?,
        None => json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [] }),
    };
    let listed = index.get_mut("manifests").and_then(Value::as_array_mut);
    let listed = listed.ok_or_else(|| unlisted(subject))?;
    let key = |one: &Value| {
        Some((one.get("artifactType")?.clone(), one.get("annotations")?.get(KEY_ANNOTATION)?.clone()))
    };
    let of_own = key(&own);
    listed.retain(|one| one.get("digest") != own.get("digest") && key(one) != of_own);
    listed.insert(0, own);
    session.push_referrers_tag(subject, Bytes::from(index.to_string())).await?;
    Ok(())
}

/// What is there must not be lost.
fn unlisted(subject: &Digest) -> Error {
    let problem =
        format!("the tag that lists what refers to {subject} is no image index: it is left as it is");
    Error::new(Kind::Other, problem)
}
