//! Small notes on what was asked for before: hints that spare round trips, and on which no answer rests.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Cache, store::Key};
use crate::{limits, oci::digest::Digest};

/// That a tag has been seen, and what it meant then.
#[derive(Debug, Deserialize, Serialize)]
struct TagRecord {
    reference: String,
    digest: String,
}

/// How a registry was found when its blobs were read last.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct RegistryRecord {
    /// Host of its API, with the port if that is not the scheme's.
    pub(crate) registry: String,
    /// Whether it was spoken to by plain http.
    pub(crate) is_plain: bool,
    /// Whether it answered without any authorisation.
    pub(crate) is_open: bool,
    /// Where it sent us for blobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storage: Option<StorageRecord>,
}

/// A server to which a registry redirects.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct StorageRecord {
    /// Scheme, host and port; what lies below may be secret.
    pub(crate) address: String,
    /// How private an address it was allowed to have.
    pub(crate) floor: String,
}

/// All of this blocks, and none of it fails.
impl Cache {
    /// What the tag of this canonical reference was when it was last seen. It may have moved since.
    pub(crate) fn tag(&self, reference: &str) -> Option<Digest> {
        let parse = |record: TagRecord| {
            (record.reference == reference).then_some(record.digest)?.parse::<Digest>().ok()
        };
        self.record(&Key::tag(reference), parse)
    }

    /// Notes what the tag of this canonical reference is now.
    pub(crate) fn put_tag(&self, reference: &str, digest: &Digest) {
        let record = TagRecord { reference: reference.to_owned(), digest: digest.to_string() };
        self.put_record(&Key::tag(reference), &record);
    }

    /// How the registry with this API host was found the last time.
    pub(crate) fn registry(&self, host: &str) -> Option<RegistryRecord> {
        self.record(&Key::registry(host), |record: RegistryRecord| {
            (record.registry == host).then_some(record)
        })
    }

    /// Notes how a registry was found.
    pub(crate) fn put_registry(&self, record: &RegistryRecord) {
        self.put_record(&Key::registry(&record.registry), record);
    }

    /// A record; one that is not what it should be is removed.
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
