//! What earlier runs learnt about a registry: whether it required a token, and where it redirects for blobs. This saves round trips;
//! if it is out of date, only those are lost.

use std::sync::{Arc, Mutex};

use tokio::task::spawn_blocking;

use crate::{
    cache::{Cache, RegistryRecord, StorageRecord},
    registry::{
        http::{Url, address::AddressClass},
        lock,
    },
};

/// Hints about one registry.
#[derive(Default)]
pub(crate) struct RegistryHints {
    /// Where the hints persist.
    cache: Option<Cache>,
    /// As earlier runs left them.
    loaded: RegistryRecord,
    /// As they are now.
    now: Arc<Mutex<RegistryRecord>>,
    /// Held while writing: concurrent writers each write the current state.
    writing: Arc<Mutex<()>>,
}

impl RegistryHints {
    /// Loads the hints of the registry with this API host.
    pub(crate) async fn of(host: &str, cache: Option<Cache>) -> Self {
        let host = host.to_owned();
        let reading = cache.clone().map(|cache| {
            let host = host.clone();
            spawn_blocking(move || cache.registry(&host))
        });
        let loaded = match reading {
            Some(reading) => reading.await.ok().flatten(),
            None => None,
        };
        let loaded = loaded.unwrap_or_else(|| RegistryRecord { registry: host, ..RegistryRecord::default() });
        Self { cache, now: Arc::new(Mutex::new(loaded.clone())), loaded, writing: Arc::default() }
    }

    #[cfg(test)]
    pub(super) fn loaded(record: RegistryRecord) -> Self {
        Self { loaded: record, ..Self::default() }
    }

    /// Whether it accepted requests over HTTP (`is_plain`) or HTTPS without authorisation.
    pub(super) fn was_open(&self, is_plain: bool) -> bool {
        self.loaded.is_open && self.loaded.is_plain == is_plain
    }

    /// Where it redirects for blobs, and the least public address class of that server.
    pub(super) fn storage(&self) -> Option<(Url, AddressClass)> {
        let storage = self.loaded.storage.as_ref()?;
        let url: Url = storage.address.parse().ok()?;
        let is_address = matches!(url.scheme(), "http" | "https") && url.has_host();
        let floor = AddressClass::ALL.into_iter().find(|class| class.name() == storage.floor)?;
        is_address.then_some((url, floor))
    }

    /// Records that the registry has responded.
    pub(super) fn answered(&self, is_plain: bool, is_open: bool) {
        self.note(|now| (now.is_plain, now.is_open) = (is_plain, is_open));
    }

    /// Records the server of a blob that the registry redirected to.
    pub(super) fn redirected(&self, url: &Url, floor: AddressClass) {
        let (address, floor) = (url.origin().ascii_serialization(), floor.name().to_owned());
        self.note(|now| now.storage = Some(StorageRecord { address, floor }));
    }

    fn note(&self, change: impl FnOnce(&mut RegistryRecord)) {
        let Some(cache) = &self.cache else { return };
        let mut now = lock(&self.now);
        let before = now.clone();
        change(&mut now);
        if *now == before {
            return;
        }
        let (now, writing) = (Arc::clone(&self.now), Arc::clone(&self.writing));
        cache.write_later(move |cache| {
            let _writing = lock(&writing);
            let record = lock(&now).clone();
            cache.put_registry(&record);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheOptions;

    const HOST: &str = "registry.example.com";

    fn record(address: &str, floor: &str) -> RegistryRecord {
        let storage = Some(StorageRecord { address: address.to_owned(), floor: floor.to_owned() });
        RegistryRecord { registry: HOST.to_owned(), is_plain: false, is_open: true, storage }
    }

    #[test]
    fn a_malformed_record_is_ignored() {
        assert!(RegistryHints::loaded(record("https://s.example:8443", "public")).storage().is_some());
        for (address, floor) in [
            ("https://s.example", "anywhere"),
            ("s.example", "public"),
            ("file:///etc/passwd", "public"),
            ("", "public"),
        ] {
            assert!(RegistryHints::loaded(record(address, floor)).storage().is_none(), "{address} {floor}");
        }
    }

    #[test]
    fn open_over_one_scheme_does_not_mean_open_over_the_other() {
        let hints = RegistryHints::loaded(record("https://s.example", "public"));
        assert_eq!([false, true].map(|is_plain| hints.was_open(is_plain)), [true, false]);
    }

    #[tokio::test]
    async fn the_next_run_knows_the_server_of_blobs_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&CacheOptions::new(folder.path().join("cache"))).unwrap();
        let url: Url = "https://s.example:8443/blob?signature=hush".parse().unwrap();
        let hints = RegistryHints::of(HOST, Some(cache.clone())).await;
        assert_eq!((hints.storage(), hints.was_open(false)), (None, false));
        hints.answered(false, true);
        hints.redirected(&url, AddressClass::Private);
        cache.finish_writes();
        let next = RegistryHints::of(HOST, Some(cache.clone())).await;
        let (url, floor) = next.storage().unwrap();
        assert_eq!((url.as_str(), floor), ("https://s.example:8443/", AddressClass::Private));
        assert!(next.was_open(false));
        assert_eq!(RegistryHints::of("other.example", Some(cache)).await.storage(), None);
    }
}
