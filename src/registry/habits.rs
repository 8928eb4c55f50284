//! How a registry behaved the last time: whether it asked for a token, and where it sent us for blobs. What is known beforehand
//! spares round trips; where it turns out to be otherwise, nothing is lost but those.

use std::sync::{Arc, Mutex};

use tokio::task::spawn_blocking;

use crate::{
    cache::{Cache, RegistryRecord, StorageRecord},
    registry::{
        http::{Url, address::AddressClass},
        lock,
    },
};

/// The habits of one registry.
#[derive(Default)]
pub(crate) struct Habits {
    /// Where they outlive the run.
    cache: Option<Cache>,
    /// As they were.
    kept: RegistryRecord,
    /// As they are.
    now: Arc<Mutex<RegistryRecord>>,
    /// Held by who writes: of two, either writes all that is known then.
    writing: Arc<Mutex<()>>,
}

impl Habits {
    /// Those of the registry with this API host, as earlier runs have found them.
    pub(crate) async fn of(host: &str, cache: Option<Cache>) -> Self {
        let host = host.to_owned();
        let reading = cache.clone().map(|cache| {
            let host = host.clone();
            spawn_blocking(move || cache.registry(&host))
        });
        let kept = match reading {
            Some(reading) => reading.await.ok().flatten(),
            None => None,
        };
        let kept = kept.unwrap_or_else(|| RegistryRecord { registry: host, ..RegistryRecord::default() });
        Self { cache, now: Arc::new(Mutex::new(kept.clone())), kept, writing: Arc::default() }
    }

    #[cfg(test)]
    pub(super) fn kept(record: RegistryRecord) -> Self {
        Self { kept: record, ..Self::default() }
    }

    /// Whether it answered over http (`is_plain`) or https without any authorisation.
    pub(super) fn was_open(&self, is_plain: bool) -> bool {
        self.kept.is_open && self.kept.is_plain == is_plain
    }

    /// Where it sent us for blobs, and how private an address that may have.
    pub(super) fn storage(&self) -> Option<(Url, AddressClass)> {
        let storage = self.kept.storage.as_ref()?;
        let url: Url = storage.address.parse().ok()?;
        let is_address = matches!(url.scheme(), "http" | "https") && url.has_host();
        let floor = AddressClass::ALL.into_iter().find(|class| class.name() == storage.floor)?;
        is_address.then_some((url, floor))
    }

    /// Notes that the registry has answered.
    pub(super) fn answered(&self, is_plain: bool, is_open: bool) {
        self.note(|now| (now.is_plain, now.is_open) = (is_plain, is_open));
    }

    /// Notes that a blob has come from where the registry redirected to.
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
    fn a_note_that_makes_no_sense_leads_nowhere() {
        assert!(Habits::kept(record("https://s.example:8443", "public")).storage().is_some());
        for (address, floor) in [
            ("https://s.example", "anywhere"),
            ("s.example", "public"),
            ("file:///etc/passwd", "public"),
            ("", "public"),
        ] {
            assert!(Habits::kept(record(address, floor)).storage().is_none(), "{address} {floor}");
        }
    }

    #[test]
    fn who_was_open_by_one_scheme_is_not_by_the_other() {
        let habits = Habits::kept(record("https://s.example", "public"));
        assert_eq!([false, true].map(|is_plain| habits.was_open(is_plain)), [true, false]);
    }

    #[tokio::test]
    async fn the_next_run_knows_where_blobs_came_from_and_nothing_that_is_secret() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&CacheOptions::new(folder.path().join("cache"))).unwrap();
        let url: Url = "https://s.example:8443/blob?signature=hush".parse().unwrap();
        let habits = Habits::of(HOST, Some(cache.clone())).await;
        assert_eq!((habits.storage(), habits.was_open(false)), (None, false));
        habits.answered(false, true);
        habits.redirected(&url, AddressClass::Private);
        cache.finish_writes();
        let next = Habits::of(HOST, Some(cache.clone())).await;
        let (url, floor) = next.storage().unwrap();
        assert_eq!((url.as_str(), floor), ("https://s.example:8443/", AddressClass::Private));
        assert!(next.was_open(false));
        assert_eq!(Habits::of("other.example", Some(cache)).await.storage(), None);
    }
}
