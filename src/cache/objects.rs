//! TOCs in an object store that several machines share: S3, Google Cloud Storage, Azure or a directory. Anyone with write access can
//! store anything, so TOCs are trusted only with a valid signature.

use std::{io::Write, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    BackoffConfig, Error as ObjectError, ObjectStore, ObjectStoreExt as _, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, client::HttpConnector, gcp::GoogleCloudStorageBuilder,
    local::LocalFileSystem, path::Path,
};
use tokio::runtime::{Builder, Runtime};

use super::{
    error::CacheError,
    store::{Key, Store, StoredItem},
};

/// Longest time that a failing store may delay an answer.
const RETRY_TIME: Duration = Duration::from_secs(10);
const RETRIES: usize = 3;

/// One prefix of an object store.
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
    /// A runtime of its own, so that any thread can use the store. Present until drop.
    runtime: Option<Runtime>,
}

impl Objects {
    /// The store at `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `file:///DIRECTORY`, with the
    /// credentials from the environment. Sends no request yet.
    pub(super) fn open(address: &str, connector: impl HttpConnector) -> Result<Self, CacheError> {
        let refused = |problem: &str| CacheError::setting(format!("the TOC store {address:?}: {problem}"));
        let unknown = || {
            refused("not s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///DIRECTORY")
        };
        let (scheme, rest) = address.split_once("://").ok_or_else(unknown)?;
        if rest.contains(['?', '#', '@']) {
            return Err(unknown());
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let path = Path::parse(prefix.trim_end_matches('/')).map_err(|error| refused(&error.to_string()))?;
        let backoff = BackoffConfig::default();
        let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIME };
        let failed = |error: ObjectError| refused(&describe(&error));
        let (store, path): (Arc<dyn ObjectStore>, Path) = match scheme {
            "s3" if !bucket.is_empty() => {
                let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
                (Arc::new(builder.with_http_connector(connector).build().map_err(failed)?), path)
            }
            "gs" if !bucket.is_empty() => {
                let builder =
                    GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry);
                (Arc::new(builder.with_http_connector(connector).build().map_err(failed)?), path)
            }
            "az" if !bucket.is_empty() => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retry);
                (Arc::new(builder.with_http_connector(connector).build().map_err(failed)?), path)
            }
            "file" if bucket.is_empty() && !prefix.is_empty() => {
                let store = LocalFileSystem::new_with_prefix(format!("/{prefix}")).map_err(failed)?;
                (Arc::new(store.with_fsync(true)), Path::default())
            }
            _ => return Err(unknown()),
        };
        Self::over(store, path, address)
    }

    fn over(store: Arc<dyn ObjectStore>, prefix: Path, address: &str) -> Result<Self, CacheError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CacheError::caused("starting the TOC store", error))?;
        Ok(Self { store, prefix, shown: address.to_owned(), runtime: Some(runtime) })
    }

    fn path(&self, key: &Key) -> Path {
        self.prefix.parts().chain(Path::from(key.path()).parts()).collect()
    }

    /// Runs a request on a thread of its own that may block.
    fn run<T: Send>(
        &self,
        operation: &str,
        request: impl Future<Output = Result<T, ObjectError>> + Send,
    ) -> Result<T, CacheError> {
        let failed = |problem: String| {
            CacheError::caused(
                &format!("{operation} the TOC store {}", self.shown),
                std::io::Error::other(problem),
            )
        };
        let Some(runtime) = &self.runtime else { return Err(failed("it is closed".to_owned())) };
        let result = thread::scope(|scope| scope.spawn(|| runtime.block_on(request)).join());
        match result {
            Ok(result) => result.map_err(|error| failed(describe(&error))),
            Err(_) => Err(failed("its client panicked".to_owned())),
        }
    }
}

impl Store for Objects {
    fn read(&self, key: &Key, cap: u64) -> Result<Option<Bytes>, CacheError> {
        let path = self.path(key);
        self.run("reading from", async {
            let found = match self.store.get(&path).await {
                Err(ObjectError::NotFound { .. }) => return Ok(None),
                found => found?,
            };
            let mut content = Vec::new();
            let mut pieces = found.into_stream();
            while let Some(piece) = pieces.next().await {
                content.extend_from_slice(&piece?);
                if content.len() as u64 > cap {
                    return Ok(None);
                }
            }
            Ok(Some(content.into()))
        })
    }

    fn write(
        &self,
        key: &Key,
        write: &mut dyn FnMut(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<bool, CacheError> {
        let mut content = Vec::new();
        write(&mut content).map_err(|error| CacheError::caused("writing a TOC", error))?;
        let path = self.path(key);
        self.run("writing to", async { self.store.put(&path, content.into()).await.map(|_| true) })
    }

    fn remove(&self, key: &Key) -> Result<(), CacheError> {
        let path = self.path(key);
        self.run("removing from", async {
            match self.store.delete(&path).await {
                Err(ObjectError::NotFound { .. }) => Ok(()),
                removed => removed,
            }
        })
    }

    fn list(&self) -> Result<Vec<StoredItem>, CacheError> {
        let found = self.run("listing", self.store.list(Some(&self.prefix)).try_collect::<Vec<_>>())?;
        let items = found.into_iter().filter_map(|object| {
            let path = object.location.prefix_match(&self.prefix)?;
            let path: Vec<_> = path.map(|part| part.as_ref().to_owned()).collect();
            let key = Key::of_path(&path.join("/"))?;
            Some(StoredItem { key, size: object.size, used: object.last_modified.into() })
        });
        Ok(items.collect())
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // Dropping a runtime blocks, which panics in async contexts.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Formats an error of the store's client in one line, without query strings of URLs, which may contain signatures.
fn describe(error: &ObjectError) -> String {
    let text = error.to_string();
    let words = text.split_whitespace().map(|word| match word.split_once('?') {
        Some((address, _)) if address.contains("://") => address,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
