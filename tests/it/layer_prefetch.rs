//! Layers that are read completely one after the other: the next one is requested before the
//! current one has arrived, at a registry that holds responses back until that happens.

use std::{
    fs,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use layerslayer::{Cache, CacheOptions, Client, Platform, Progress};

use crate::support::{
    event::Event,
    images::{Compression, Image, Layer, Layout, Tar, layout},
    inspect::block_on,
    noise::Noise,
    program::{Program, Ran},
    registry::{Reply, Request, ScriptedRegistry},
    tools,
};

/// Longer than any step here takes, so that a deadlock fails the test.
const PATIENCE: Duration = Duration::from_secs(20);

/// The unread rest of a layer at which the next one may be requested.
const LARGE: usize = 6 << 20;

/// Bytes of a layer that are held back.
const TAIL: usize = 64 << 10;

/// With this budget nothing is prefetched.
const BUDGET: &str = "--max-bytes=1000000000";

/// The blobs requested until now.
#[derive(Default)]
struct RequestLog {
    targets: Mutex<Vec<String>>,
    changed: Condvar,
}

impl RequestLog {
    fn push(&self, digest: &str) {
        self.targets.lock().unwrap().push(digest.to_owned());
        self.changed.notify_all();
    }

    /// Waits until a blob has been requested; returns false on timeout.
    fn wait_for(&self, digest: &str) -> bool {
        let is_missing = |targets: &mut Vec<String>| !targets.iter().any(|target| target == digest);
        let targets = self.targets.lock().unwrap();
        !self.changed.wait_timeout_while(targets, PATIENCE, is_missing).unwrap().1.timed_out()
    }
}

/// An image in a registry whose replies a test decides.
struct Served {
    layout: Arc<Layout>,
    /// Digests, base first.
    layers: Vec<String>,
    server: ScriptedRegistry,
    log: Arc<RequestLog>,
}

impl Served {
    /// `answer` replies to a request for a layer, counted from the base.
    fn new(
        layout: &Arc<Layout>,
        answer: impl Fn(&Arc<RequestLog>, &[String], usize, &Request, Vec<u8>) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (manifest, layers) = described(layout);
        let log = Arc::<RequestLog>::default();
        let (blobs, telling, digests) =
            (layout.path().join("blobs/sha256"), Arc::clone(&log), layers.clone());
        let server = ScriptedRegistry::start(move |request: &Request| {
            let name = request.path().rsplit_once('/').unwrap().1;
            if request.path().contains("/manifests/") {
                return Reply::ok(manifest.clone()).header("content-type", layout::MANIFEST);
            }
            telling.push(name);
            let Ok(blob) = fs::read(blobs.join(name.strip_prefix("sha256:").unwrap())) else {
                return Reply::status(404);
            };
            match digests.iter().position(|layer| layer == name) {
                Some(layer) => answer(&telling, &digests, layer, request, blob),
                None => Reply::blob(request, &blob),
            }
        });
        Self { layout: Arc::clone(layout), layers, server, log }
    }

    /// A registry that replies at once.
    fn plainly(layout: &Arc<Layout>) -> Self {
        Self::new(layout, |_, _, _, request, blob| Reply::blob(request, &blob))
    }

    fn image(&self) -> String {
        format!("{}/app", self.server.host())
    }

    fn run(&self, words: &[&str]) -> Ran {
        let words = words.iter().map(|word| word.replace("IMAGE", &self.image()));
        let cache = tools::temporary_folder();
        Program::new(words).cache(&cache.path().join("cache")).run()
    }

    /// The layers requested since the last call, in order; 0 = base. Concurrent requests may arrive
    /// in any order.
    fn order(&self) -> Vec<usize> {
        let targets = std::mem::take(&mut *self.log.targets.lock().unwrap());
        let place = |target: &String| self.layers.iter().position(|layer| layer == target);
        targets.iter().filter_map(place).collect()
    }
}

/// The manifest of the only image, and the digests of its layers.
fn described(layout: &Layout) -> (Vec<u8>, Vec<String>) {
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let index = json(&fs::read(layout.path().join("index.json")).unwrap());
    let name = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let manifest = fs::read(layout.blob_file(&name)).unwrap();
    let described = json(&manifest);
    let layers = described["layers"].as_array().unwrap().iter();
    let layers = layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect();
    (manifest, layers)
}

/// Layers of this size, each with a file of its own.
fn layers(count: usize, size: usize) -> Arc<Layout> {
    let layer = |index: usize| {
        let noise = Noise::new(index as u64 + 1).bytes(size);
        Tar::new().file(format!("file-{index}"), "content").file(format!("noise-{index}"), noise).finish()
    };
    Arc::new(Layout::of(&Image::of((0..count).map(layer))))
}

/// Commands that read whole layers, and whether they begin with the base.
const READERS: [(&[&str], bool); 5] = [
    (&["peek", "IMAGE", "--all"], true),
    (&["peek", "IMAGE", "--all", "--verify=blob"], true),
    (&["peek", "IMAGE", "--rootfs"], true),
    (&["carve", "IMAGE", "--glob", "file-*", "--tar"], false),
    (&["carve", "IMAGE", "--glob", "file-*", "--tar", "--verify"], false),
];

#[test]
fn the_next_layer_is_requested_before_the_end_of_the_current_one_arrives() {
    let layout = layers(3, LARGE);
    for (words, is_base_first) in READERS {
        let served = Served::new(&layout, move |log, digests, layer, request, blob| {
            let next = if is_base_first { Some(layer + 1) } else { layer.checked_sub(1) };
            let next = next.and_then(|next| digests.get(next)).cloned();
            let log = Arc::clone(log);
            Reply::blob(request, &blob).hold_after(blob.len() - TAIL, move || {
                assert!(
                    next.as_ref().is_none_or(|next| log.wait_for(next)),
                    "held back, but the request never came"
                );
            })
        });
        let ran = served.run(words).done();
        let order = if is_base_first { [0, 1, 2] } else { [2, 1, 0] };
        assert_eq!(served.order(), order, "{words:?}");
        let plainly = Served::plainly(&layout);
        assert_eq!(ran.stdout, plainly.run(&[words, &[BUDGET]].concat()).done().stdout, "{words:?}");
        assert_eq!(served.server.requests().len(), plainly.server.requests().len(), "{words:?}");
    }
}

/// Commands that can read several layers to their end at the same time.
const PARALLEL_READERS: [&[&str]; 2] = [&["toc", "build", "IMAGE"], &["peek", "IMAGE", "--rootfs"]];

/// The printed lines without the sizes of TOCs, which depend on the pieces in which a layer
/// arrives.
fn printed(ran: &Ran) -> String {
    let text = String::from_utf8_lossy(&ran.stdout);
    let lines = text.lines().map(|line| match line.split_once("  made  ") {
        Some((digest, rest)) => format!("{digest} {}", rest.split_once("B  ").unwrap().1),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_next_layer_is_read_before_the_end_of_the_current_one_arrives() {
    let layout = layers(3, LARGE);
    for words in PARALLEL_READERS {
        let alone = Served::plainly(&layout);
        let expected = alone.run(&[words, &["--parallel-layers=1"]].concat()).done();
        for option in ["--parallel-layers=2", "--parallel-layers=3"] {
            // After a layer as large as these, the next one is requested only while the current one
            // is read.
            let served = Served::new(&layout, |log, digests, _, request, blob| {
                let (log, last) = (Arc::clone(log), digests[2].clone());
                Reply::blob(request, &blob).hold_after(blob.len() - TAIL, move || {
                    assert!(log.wait_for(&last), "held back, but the request never came");
                })
            });
            let ran = served.run(&[words, &[option]].concat()).done();
            assert_eq!(printed(&ran), printed(&expected), "{words:?}");
            assert_eq!(served.order(), [0, 1, 2], "{words:?}");
            assert_eq!(served.server.requests().len(), alone.server.requests().len(), "{words:?}");
        }
    }
}

#[test]
fn the_number_of_parallel_layers_does_not_change_the_output() {
    // A name that occurs twice produces a warning of its layer. The digest of a layer may be wrong.
    let layer = |index: usize| {
        let twice = Tar::new().file("twice", "first").file("twice", "second");
        twice.file(format!("file-{index}"), Noise::new(index as u64 + 1).bytes(1 << 20)).finish()
    };
    let layout = Layout::of(&Image::of((0..5).map(layer)));
    let run = |words: &[&str], layers: &str| {
        let words = words.iter().map(|word| word.replace("IMAGE", &layout.reference("latest")));
        let cache = tools::temporary_folder();
        let words = words.chain([layers.to_owned()]);
        Program::new(words).cache(&cache.path().join("cache")).run()
    };
    for is_damaged in [false, true] {
        if is_damaged {
            let third = &described(&layout).1[2];
            let mut blob = fs::read(layout.blob_file(third)).unwrap();
            let middle = blob.len() / 2;
            blob[middle] ^= 1;
            fs::write(layout.blob_file(third), blob).unwrap();
        }
        for words in PARALLEL_READERS {
            let alone = run(words, "--parallel-layers=1");
            assert_eq!(alone.code, if is_damaged { 8 } else { 0 }, "{}", alone.stderr);
            assert!(alone.stderr.contains("layer 1 of"), "{}", alone.stderr);
            for layers in ["--parallel-layers=2", "--parallel-layers=5"] {
                let ran = run(words, layers);
                assert_eq!((ran.code, printed(&ran)), (alone.code, printed(&alone)), "{words:?}");
                assert_eq!(ran.stderr, alone.stderr, "{words:?}");
            }
        }
    }
}

#[test]
fn layers_with_a_large_zstd_window_are_read_in_parallel_like_others() {
    // Only one such window is in memory at a time.
    let layer = |index: usize| {
        let noise = Noise::new(index as u64 + 1).bytes(300_000);
        let tar = Tar::new().file(format!("file-{index}"), noise).finish();
        let blob = tools::filter(tools::command("zstd").args(["-c", "-q", "-1", "--long=27"]), &tar);
        // No single segment, and the exponent of the longest window (RFC 8878, 3.1.1.1).
        assert_eq!((blob[4] & 0x20, blob[5] >> 3), (0, 27 - 10));
        Layer::new(&tar, Compression::Zstd).blob(blob)
    };
    let layout = Arc::new(Layout::of(&(0..5).map(layer).fold(Image::new(), Image::layer)));
    for words in PARALLEL_READERS {
        let run = |layers| {
            let ran = Served::plainly(&layout).run(&[words, &[layers]].concat()).done();
            assert_eq!(ran.stderr, "", "{words:?}");
            printed(&ran)
        };
        let alone = run("--parallel-layers=1");
        assert!(alone.lines().count() >= 5, "{alone}");
        assert_eq!(run("--parallel-layers=4"), alone, "{words:?}");
    }
}

/// Reports when the layer above the base has been read.
struct FirstRead(Arc<Event>);

impl Progress for FirstRead {
    fn event(&self, event: &layerslayer::Event) {
        if let layerslayer::Event::LayerFinished { layer, .. } = event
            && layer.index == 1
        {
            self.0.happen();
        }
    }
}

#[test]
fn a_layer_read_completely_beside_a_failing_one_is_cached() {
    let layout = layers(3, LARGE);
    for is_built in [false, true] {
        let (folder, read) = (tools::temporary_folder(), Arc::new(Event::default()));
        let cache = Cache::open(&CacheOptions::new(folder.path().join("cache"))).unwrap();
        let client = Client::builder().parallel_layers(2).cache(cache.clone());
        let client = client.progress(Arc::new(FirstRead(Arc::clone(&read)))).build().unwrap();
        // The last byte of the base is wrong, and arrives once the parallel layer has been read.
        let served = Served::new(&layout, move |_, _, layer, request, mut blob| {
            if layer > 0 {
                return Reply::blob(request, &blob);
            }
            *blob.last_mut().unwrap() ^= 1;
            let read = Arc::clone(&read);
            Reply::blob(request, &blob).hold_after(blob.len() - TAIL, move || assert!(read.wait()))
        });
        let reference = served.image().parse().unwrap();
        block_on(async {
            let image = client.image(&reference, &Platform::default()).await.unwrap();
            let failed = match is_built {
                true => image.build_tocs().await.map(drop),
                false => image.rootfs().await.map(drop),
            };
            assert!(failed.unwrap_err().is_corrupt());
            cache.finish_writes();
            served.order();
            let image = client.image(&reference, &Platform::default()).await.unwrap();
            let mut entries = image.layer(1).unwrap().entries();
            assert!(entries.next().await.is_some_and(|entry| entry.is_ok()) && entries.is_from_toc());
        });
        assert_eq!(served.order(), [] as [usize; 0]);
    }
}

#[test]
fn the_first_range_of_the_next_layer_is_requested_before_the_end_of_a_verified_one_arrives() {
    let layout = layers(3, LARGE);
    for (path, count) in [("file-0", 3), ("file-1", 2), ("file-2", 1)] {
        let served = Served::new(&layout, move |log, digests, layer, request, blob| {
            let next = layer.checked_sub(1).map(|next| digests[next].clone());
            let (log, reply) = (Arc::clone(log), Reply::blob(request, &blob));
            let (start, end) = request.range().unwrap_or((0, blob.len()));
            if end < blob.len() {
                return reply;
            }
            reply.hold_after(end - start - TAIL, move || {
                assert!(
                    next.as_ref().is_none_or(|next| log.wait_for(next)),
                    "held back, but the request never came"
                );
            })
        });
        let words = ["carve", "IMAGE", path, "--verify"];
        let ran = served.run(&words).done();
        assert_eq!((ran.stdout.as_slice(), &ran.report["verified"]), (b"content".as_slice(), &"blob".into()));
        let plainly = Served::plainly(&layout);
        let alone = plainly.run(&[&words[..], &[BUDGET]].concat()).done();
        let fetched = |ran: &Ran| ran.report["bytes_fetched"].as_u64().unwrap();
        let range = fetched(&ran).checked_sub(fetched(&alone)).unwrap();
        assert!(range <= 128 << 10, "{range}");
        assert_eq!(plainly.order().len(), count);
        // The newest in one request, the first range and the rest of the others, and the first
        // range of a layer that is not needed.
        let expected = [&[2, 1][..], &[2, 1, 1, 0], &[2, 1, 1, 0, 0]];
        assert_eq!(served.order(), expected[count - 1]);
    }
}

#[test]
fn small_layers_that_are_read_completely_are_prefetched_three_ahead() {
    let layout = layers(4, 1_000);
    for (words, _) in READERS {
        let served = Served::new(&layout, |log, digests, _, request, blob| {
            let all = digests.iter().all(|digest| log.wait_for(digest));
            if all { Reply::blob(request, &blob) } else { Reply::status(404) }
        });
        served.run(words).done();
        assert_eq!(served.server.requests().len(), 6, "{words:?}");
    }
}

#[test]
fn no_other_layer_is_requested_while_much_of_the_current_one_is_left() {
    let layout = layers(2, LARGE);
    for (words, is_base_first) in READERS {
        let served = Served::new(&layout, |_, _, _, request, blob| {
            let reply = Reply::blob(request, &blob);
            // A resumed request is sent before the next layer's.
            if request.range().is_none() { reply.cut_after(1 << 20) } else { reply }
        });
        served.run(&[words, &["--parallel-layers=1"]].concat()).done();
        let order = if is_base_first { [0, 0, 1, 1] } else { [1, 1, 0, 0] };
        assert_eq!(served.order(), order, "{words:?}");
    }
}

#[test]
fn under_a_budget_layers_are_requested_one_after_the_other() {
    let served = Served::new(&layers(2, LARGE), |_, _, _, request, blob| {
        let reply = Reply::blob(request, &blob);
        if request.range().is_none() { reply.cut_after(LARGE - TAIL) } else { reply }
    });
    served.run(&["peek", "IMAGE", "--all", BUDGET]).done();
    assert_eq!(served.order(), [0, 0, 1, 1]);
}

#[test]
fn an_interrupted_prefetch_is_resumed_where_it_stopped() {
    let layout = layers(2, LARGE);
    let plainly = Served::plainly(&layout).run(&["peek", "IMAGE", "--all"]).done();
    for kept in [0, 1_000, 1 << 20] {
        let is_first = AtomicBool::new(true);
        let served = Served::new(&layout, move |_, _, layer, request, blob| {
            let reply = Reply::blob(request, &blob);
            match layer {
                1 if is_first.swap(false, Ordering::SeqCst) && kept == 0 => Reply::close(),
                1 if request.range().is_none() && kept > 0 => reply.cut_after(kept),
                _ => reply,
            }
        });
        let ran = served.run(&["peek", "IMAGE", "--all"]).done();
        assert_eq!(ran.stdout, plainly.stdout);
        assert_eq!(served.order(), [0, 1, 1]);
        let last = served.server.requests().pop().unwrap();
        assert_eq!(last.range().map_or(0, |range| range.0), kept);
    }
}

#[test]
fn a_failed_prefetch_fails_only_at_its_turn_and_like_any_other_layer() {
    for (size, readers) in [(1_000, &READERS[..]), (LARGE, &READERS[..1])] {
        for damage in [None, Some(b"no layer at all".as_slice())] {
            let served = Served::plainly(&layers(3, size));
            let file = served.layout.blob_file(&served.layers[1]);
            match damage {
                Some(other) => fs::write(&file, other).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let options = ["--parallel-layers=1", "--parallel-layers=3"];
            for (&(words, _), option) in
                readers.iter().flat_map(|reader| options.map(|option| (reader, option)))
            {
                let ran = served.run(&[words, &[option]].concat());
                let alone = served.run(&[words, &[BUDGET]].concat());
                assert_ne!(ran.code, 0, "{words:?}");
                assert_eq!(ran.code, alone.code, "{words:?}");
                assert_eq!(ran.stderr, alone.stderr, "{words:?}");
                assert_eq!(ran.stdout, alone.stdout, "{words:?}");
            }
        }
    }
}

#[test]
fn layers_in_the_cache_are_skipped() {
    let served = Served::plainly(&layers(4, 1_000));
    let cache = tools::temporary_folder();
    let run = |words: &[&str]| {
        let words = words.iter().map(|word| word.replace("IMAGE", &served.image()));
        Program::new(words).cache(&cache.path().join("cache")).run().done()
    };
    run(&["peek", "IMAGE", "--layer", "1", "--layer", "2"]);
    let log = || {
        let mut layers = served.order();
        layers.sort_unstable();
        layers
    };
    assert_eq!(log(), [1, 2]);
    run(&["peek", "IMAGE", "--all"]);
    assert_eq!(log(), [0, 3]);
}

#[test]
fn a_blob_that_occurs_twice_is_requested_once() {
    let archive = Tar::new().file("file-0", "content").finish();
    let other = Tar::new().file("other", "other").finish();
    let again = Image::of([archive.clone(), other, archive.clone(), archive]);
    let served = Served::plainly(&Arc::new(Layout::of(&again)));
    let readers = READERS.iter().map(|(words, _)| *words).chain(PARALLEL_READERS);
    for words in readers {
        let keeps = words[0] != "toc";
        let arguments: &[&[&str]] = if keeps { &[&[], &["--no-cache"]] } else { &[&[]] };
        for arguments in arguments {
            for how in ["--parallel-layers=1", "--parallel-layers=4", BUDGET] {
                let ran = served.run(&[words, arguments, &[how]].concat()).done();
                let mut order = served.order();
                order.sort_unstable();
                assert_eq!((order, ran.stderr.as_str()), (vec![0, 1], ""), "{words:?} {how}");
            }
        }
    }
    let ran = served.run(&["peek", "IMAGE", "--all", "--json", "--verify=blob"]).done();
    let ends: Vec<_> = ran.lines().into_iter().filter(|line| line["type"] == "layer_end").collect();
    assert!(
        ends.len() == 4 && ends.iter().all(|end| end["verified"] == "blob" && end["entries"] == 1),
        "{ends:?}"
    );
    let run = |words: &[&str]| String::from_utf8(served.run(words).done().stdout).unwrap();
    for words in [&["carve", "IMAGE", "--glob", "*", "--tar"][..], &["peek", "IMAGE", "--all"]] {
        let planned = run(&[words, &["--dry-run"]].concat());
        assert_eq!(planned.matches("layer ").count(), 2, "{planned}");
    }
}

#[test]
fn a_repeated_blob_with_another_diff_id_is_read_and_refused() {
    let layer = |content| Layer::new(&Tar::new().file("file", content).finish(), Compression::Gzip);
    let mut again = layer("content");
    again.diff_id = layer("other").diff_id;
    let image = Image::new().layer(layer("content")).layer(again).layer(layer("third"));
    let served = Served::plainly(&Arc::new(Layout::of(&image)));
    for words in [&["peek", "IMAGE", "--all"][..], PARALLEL_READERS[0], PARALLEL_READERS[1]] {
        let ran = served.run(words).failed(8);
        assert!(ran.stderr.contains("layer 1") && ran.stderr.contains("DiffID"), "{words:?} {}", ran.stderr);
    }
}

#[test]
fn a_warning_about_a_blob_is_reported_for_each_layer_that_has_it() {
    let archive = Tar::new().file("twice", "first").file("twice", "second").finish();
    let served = Served::plainly(&Arc::new(Layout::of(&Image::of([archive.clone(), archive]))));
    for (words, _) in READERS.iter().filter(|(words, _)| words[0] == "peek") {
        let ran = served.run(words).done();
        assert!(
            [0, 1].iter().all(|layer| ran.stderr.contains(&format!("layer {layer} of"))),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn dropping_the_listing_cancels_the_prefetch() {
    let served = Arc::new(Served::new(&layers(2, LARGE), |log, digests, layer, request, blob| {
        let (log, next) = (Arc::clone(log), digests[1].clone());
        let reply = Reply::blob(request, &blob);
        match layer {
            0 => reply.hold_after(blob.len() - TAIL, move || {
                assert!(log.wait_for(&next), "held back, but the request never came")
            }),
            // Until the client closes the connection.
            _ => reply.stall_after(TAIL),
        }
    }));
    let client = Client::builder().build().unwrap();
    let reference = served.image().parse().unwrap();
    block_on(async {
        let image = client.image(&reference, &Platform::default()).await.unwrap();
        let mut layers = image.layers_in_turn([0, 1], &Default::default()).unwrap();
        let mut entries = layers.next().unwrap();
        while let Some(entry) = entries.next().await {
            entry.unwrap();
        }
        drop(entries);
        drop(layers);
        // The image still exists, and so does the connection of the first layer.
        let server = Arc::clone(&served);
        let closed = tokio::task::spawn_blocking(move || server.server.wait_for_closed(1));
        tokio::time::timeout(PATIENCE, closed).await.expect("an end of the transfer").unwrap();
        drop(image);
    });
}

#[test]
fn dropping_a_read_of_all_layers_cancels_the_parallel_passes() {
    let served = Arc::new(Served::new(&layers(3, LARGE), |log, digests, layer, request, blob| {
        let (log, next) = (Arc::clone(log), digests.get(layer + 1).cloned());
        let reply = Reply::blob(request, &blob);
        match next {
            Some(next) => reply.hold_after(blob.len() - TAIL, move || {
                assert!(log.wait_for(&next), "held back, but the request never came");
                // Until the client closes the connection.
                thread::park_timeout(PATIENCE);
            }),
            None => reply.stall_after(TAIL),
        }
    }));
    let client = Client::builder().parallel_layers(3).build().unwrap();
    let reference = served.image().parse().unwrap();
    block_on(async {
        let image = client.image(&reference, &Platform::default()).await.unwrap();
        let server = Arc::clone(&served);
        let last = tokio::task::spawn_blocking(move || server.log.wait_for(&server.layers[2]));
        tokio::select! {
            ended = image.rootfs() => panic!("{ended:?}"),
            is_asked = last => assert!(is_asked.unwrap()),
        }
        let server = Arc::clone(&served);
        let closed = tokio::task::spawn_blocking(move || server.server.wait_for_closed(1));
        tokio::time::timeout(PATIENCE, closed).await.expect("an end of the transfer").unwrap();
        drop(image);
    });
}
