//! How a registry behaved the last time: whether it asked for a token, and where it sent us for blobs. What is known beforehand
//! spares round trips; where it turns out to be otherwise, nothing is lost but those.

use std::sync::Mutex;

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
    /// As the cache has them.
    kept: Mutex<RegistryRecord>,
    /// As they are now.
    now: Mutex<RegistryRecord>,
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
        Self { cache, now: Mutex::new(kept.clone()), kept: Mutex::new(kept) }
    }

    /// Whether it answered over http (`is_plain`) or https without any authorisation.
    pub(super) fn was_open(&self, is_plain: bool) -> bool {
        let kept = lock(&self.kept);
        kept.is_open && kept.is_plain == is_plain
    }

    /// Where it sent us for blobs, and how private an address that may have.
    pub(super) fn storage(&self) -> Option<(Url, AddressClass)> {
        let kept = lock(&self.kept);
        let storage = kept.storage.as_ref()?;
        let url: Url = storage.address.parse().ok()?;
        let is_address = matches!(url.scheme(), "http" | "https") && url.has_host();
        let floor = AddressClass::ALL.into_iter().find(|class| class.name() == storage.floor)?;
        is_address.then_some((url, floor))
    }

    /// Notes that the registry has answered.
    pub(super) fn answered(&self, is_plain: bool, is_open: bool) {
        let mut now = lock(&self.now);
        (now.is_plain, now.is_open) = (is_plain, is_open);
    }

    /// Notes that a blob has come: from where the registry redirected to, if it did.
    pub(super) fn gave_blob(&self, redirected: Option<(&Url, AddressClass)>) {
        let mut now = lock(&self.now);
        if let Some((url, floor)) = redirected {
            let address = url.origin().ascii_serialization();
            now.storage = Some(StorageRecord { address, floor: floor.name().to_owned() });
        }
        let (Some(cache), mut kept) = (&self.cache, lock(&self.kept)) else { return };
        if *kept == *now {
            return;
        }
        kept.clone_from(&now);
        let (cache, record, writing) = (cache.clone(), now.clone(), cache.begin_write());
        spawn_blocking(move || {
            cache.put_registry(&record);
            drop(writing);
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

    fn habits(record: RegistryRecord) -> Habits {
        Habits { kept: Mutex::new(record), ..Habits::default() }
    }

    #[test]
    fn a_note_that_makes_no_sense_leads_nowhere() {
        assert!(habits(record("https://s.example:8443", "public")).storage().is_some());
        for (address, floor) in [
            ("https://s.example", "anywhere"),
            ("s.example", "public"),
            ("file:///etc/passwd", "public"),
            ("", "public"),
        ] {
            assert!(habits(record(address, floor)).storage().is_none(), "{address} {floor}");
        }
    }

    #[test]
    fn who_was_open_by_one_scheme_is_not_by_the_other() {
        let habits = habits(record("https://s.example", "public"));
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
        habits.gave_blob(Some((&url, AddressClass::Private)));
        cache.finish_writes();
        let next = Habits::of(HOST, Some(cache.clone())).await;
        let (url, floor) = next.storage().unwrap();
        assert_eq!((url.as_str(), floor), ("https://s.example:8443/", AddressClass::Private));
        assert!(next.was_open(false));
        assert_eq!(Habits::of("other.example", Some(cache)).await.storage(), None);
    }
}
