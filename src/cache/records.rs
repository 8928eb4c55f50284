//! Small records of earlier requests: hints that save round trips. Answers never rely on them.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Cache, store::Key};
use crate::{limits, oci::digest::Digest};

/// The digest that a tag pointed to when it was last seen.
#[derive(Debug, Deserialize, Serialize)]
struct TagRecord {
    reference: String,
    digest: String,
}

/// Properties of a registry, observed when its blobs were last read.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct RegistryRecord {
    /// Host of its API, with the port unless it is the scheme's default.
    pub(crate) registry: String,
    /// Whether it was contacted over plain HTTP.
    pub(crate) is_plain: bool,
    /// Whether it answered without authorisation.
    pub(crate) is_open: bool,
    /// Where it redirected requests for blobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storage: Option<StorageRecord>,
}

/// A server to which a registry redirects.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct StorageRecord {
    /// Scheme, host and port. The path is left out because it may contain secrets.
    pub(crate) address: String,
    /// The least public class of address that it was allowed to have.
    pub(crate) floor: String,
}

/// These methods block and do not fail.
impl Cache {
    /// The digest of this canonical reference when its tag was last seen. The tag may have moved since.
    pub(crate) fn tag(&self, reference: &str) -> Option<Digest> {
        let parse = |record: TagRecord| {
            (record.reference == reference).then_some(record.digest)?.parse::<Digest>().ok()
        };
        self.record(&Key::tag(reference), parse)
    }

    /// Records the current digest of this canonical reference.
    pub(crate) fn put_tag(&self, reference: &str, digest: &Digest) {
        let record = TagRecord { reference: reference.to_owned(), digest: digest.to_string() };
        self.put_record(&Key::tag(reference), &record);
    }

    /// The record of the registry with this API host.
    pub(crate) fn registry(&self, host: &str) -> Option<RegistryRecord> {
        self.record(&Key::registry(host), |record: RegistryRecord| {
            (record.registry == host).then_some(record)
        })
    }

    /// Records the properties of a registry.
    pub(crate) fn put_registry(&self, record: &RegistryRecord) {
        self.put_record(&Key::registry(&record.registry), record);
    }

    /// Reads a record. An invalid one is removed.
    fn record<R: DeserializeOwned, T>(&self, key: &Key, parse: impl FnOnce(R) -> Option<T>) -> Option<T> {
        let bytes = self.read(key, limits::CACHE_RECORD_BYTES)?;
        let found = serde_json::from_slice(&bytes).ok().and_then(parse);
        if found.is_none() {
            self.remove(key);
        }
        found
    }

    fn put_record(&self, key: &Key, record: &impl Serialize) {
        self.write(key, &mut |out| Ok(serde_json::to_writer(out, record)?));
    }
}
