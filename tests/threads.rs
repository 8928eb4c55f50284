//! How many threads questions take. A test of its own: the threads of others would count.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use layerslayer::{Cache, CacheOptions, Client, Platform};

/// Most threads of the process, whatever is asked at once.
const THREADS: usize = 64;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test]
async fn a_thousand_questions_at_once_share_a_few_threads() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&CacheOptions::new(folder.path().join("cache"))).unwrap();
    let client = Client::builder().cache(cache).build().unwrap();
    let carves = (0..1_000).map(|number| {
        let client = client.clone();
        async move {
            let reference = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo").parse().unwrap();
            let image = client.image(&reference, &Platform::default()).await.unwrap();
            let path = if number % 2 == 0 { "/etc/passwd" } else { "/etc/app.conf" };
            let mut file = image.carve(path).await.unwrap();
            file.read_to_end(1 << 20).await.unwrap().len()
        }
    });
    let (mut most, mut running) = (0, carves.collect::<FuturesUnordered<_>>());
    while let Some(length) = running.next().await {
        assert!(length > 0);
        most = most.max(threads());
    }
    assert!(most <= THREADS, "{most} threads");
}
