//! Tables in an object store that many machines share: S3, Google Cloud Storage, Azure, a directory. Whoever can write there
//! could write anything, so what comes from it counts only with a signature.

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
    store::{Item, Key, Store},
};

/// A store that does not work must not keep anybody from an answer for longer.
const RETRY_TIME: Duration = Duration::from_secs(10);
const RETRIES: usize = 3;

/// A part of an object store.
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
    /// Of its own, so that it can be asked from any thread. Always there until drop.
    runtime: Option<Runtime>,
}

impl Objects {
    /// The store at `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `file:///DIRECTORY`, with the
    /// credentials that the environment gives for it. Nothing is sent yet.
    pub(super) fn open(address: &str, connector: impl HttpConnector) -> Result<Self, CacheError> {
        let refused =
            |problem: &str| CacheError::setting(format!("the store of tables {address:?}: {problem}"));
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
        let failed = |error: ObjectError| refused(&told(&error));
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
        let runtime = runtime.map_err(|error| CacheError::caused("starting the store of tables", error))?;
        Ok(Self { store, prefix, shown: address.to_owned(), runtime: Some(runtime) })
    }

    fn place(&self, key: &Key) -> Path {
        self.prefix.parts().chain(Path::from(key.path()).parts()).collect()
    }

    /// Runs a request to its end, on a thread that may wait for it whoever called.
    fn run<T: Send>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, ObjectError>> + Send,
    ) -> Result<T, CacheError> {
        let failed = |problem: String| {
            CacheError::caused(
                &format!("{doing} the store of tables {}", self.shown),
                std::io::Error::other(problem),
            )
        };
        let Some(runtime) = &self.runtime else { return Err(failed("it is closed".to_owned())) };
        let result = thread::scope(|scope| scope.spawn(|| runtime.block_on(request)).join());
        match result {
            Ok(result) => result.map_err(|error| failed(told(&error))),
            Err(_) => Err(failed("its client broke down".to_owned())),
        }
    }
}

impl Store for Objects {
    fn read(&self, key: &Key, cap: u64) -> Result<Option<Bytes>, CacheError> {
        let place = self.place(key);
        self.run("reading from", async {
            let found = match self.store.get(&place).await {
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
        write(&mut content).map_err(|error| CacheError::caused("making a table", error))?;
        let place = self.place(key);
        self.run("writing to", async { self.store.put(&place, content.into()).await.map(|_| true) })
    }

    fn remove(&self, key: &Key) -> Result<(), CacheError> {
        let place = self.place(key);
        self.run("removing from", async {
            match self.store.delete(&place).await {
                Err(ObjectError::NotFound { .. }) => Ok(()),
                removed => removed,
            }
        })
    }

    fn list(&self) -> Result<Vec<Item>, CacheError> {
        let found = self.run("listing", self.store.list(Some(&self.prefix)).try_collect::<Vec<_>>())?;
        let items = found.into_iter().filter_map(|object| {
            let place = object.location.prefix_match(&self.prefix)?;
            let place: Vec<_> = place.map(|part| part.as_ref().to_owned()).collect();
            let key = Key::of_path(&place.join("/"))?;
            Some(Item { key, size: object.size, used: object.last_modified.into() })
        });
        Ok(items.collect())
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // Dropping it would wait, which is not allowed everywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a store's client says, in one line and without queries of links: they may hold signatures.
fn told(error: &ObjectError) -> String {
    let text = error.to_string();
    let words = text.split_whitespace().map(|word| match word.split_once('?') {
        Some((address, _)) if address.contains("://") => address,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
