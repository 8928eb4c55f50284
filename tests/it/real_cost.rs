//! The costs in the report, compared with what the registry saw.

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Compression, Image, Layer, Layout, Tar,
        transport::{Trust, push},
    },
    noise::Noise,
    program::{Program, Ran},
    recorder::{Exchange, Recorder},
    token_server::{Policy, TokenServer},
};

fn bytes(exchanges: &[Exchange]) -> u64 {
    exchanges.iter().map(|exchange| exchange.body_bytes).sum()
}

fn number(ran: &Ran, key: &str) -> u64 {
    ran.report[key].as_u64().unwrap()
}

#[test]
fn requests_and_bytes_in_the_report_are_those_the_registry_saw() {
    let registry = DockerRegistry::open();
    let archives =
        [1_u64, 2, 3].map(|seed| Tar::new().file(seed.to_string(), Noise::new(seed).bytes(70_000)).finish());
    let sizes: usize = archives.iter().map(Vec::len).sum();
    let layers = archives.iter().map(|tar| Layer::new(tar, Compression::None));
    let layout = Layout::of(&layers.fold(Image::new(), Image::layer));
    push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
    // Expected requests: manifest and configuration, then the needed layers, newest first.
    for (arguments, requests) in [
        (&["peek", "IMAGE"][..], 2),
        (&["peek", "IMAGE", "--all"], 5),
        (&["peek", "IMAGE", "--layer=1"], 3),
        (&["peek", "IMAGE", "--rootfs", "--verify"], 5),
        // If all layers were needed, the next ones would be prefetched before the newest answers.
        (&["carve", "IMAGE", "--layer=2", "/3"], 3),
        (&["carve", "IMAGE", "/1", "--verify"], 5),
    ] {
        let recorder = Recorder::before(&registry.host());
        let image = format!("{}/one:1", recorder.host());
        let ran = Program::new(arguments.iter().map(|text| text.replace("IMAGE", &image))).run().done();
        let exchanges = recorder.settled();
        assert_eq!(number(&ran, "requests"), requests, "{arguments:?}");
        assert_eq!(exchanges.len() as u64, requests, "{arguments:?}: {exchanges:?}");
        assert_eq!(number(&ran, "bytes_fetched"), bytes(&exchanges), "{arguments:?}");
        assert_eq!(number(&ran, "bytes_of_layers"), sizes as u64);
    }
}

#[test]
fn token_requests_and_refused_requests_count_too() {
    let server = TokenServer::start(Policy::public().user("alice", "secret"));
    let registry = DockerRegistry::token(&server);
    let layout = Layout::of(&Image::of([Tar::new().file("a", "b").finish()]));
    push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Credentials("alice", "secret"));
    let recorder = Recorder::before(&registry.host());
    let before = server.requests().len();
    let ran = Program::new(["carve", &format!("{}/one:1", recorder.host()), "/a"]).run().done();
    let (exchanges, tokens) = (recorder.settled(), server.requests().len() - before);
    assert_eq!((exchanges.len(), tokens), (4, 1), "{exchanges:?}");
    assert_eq!(number(&ran, "requests"), 5);
    assert!(number(&ran, "bytes_fetched") > bytes(&exchanges));
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_transfer_successfully() {
    let registry = DockerRegistry::open();
    let tar = Tar::new().file("big", Noise::new(7).bytes(64 << 20)).finish();
    let layout = Layout::of(&Image::new().layer(Layer::new(&tar, Compression::None)));
    push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
    let recorder = Recorder::before(&registry.host());
    let image = format!("{}/one:1", recorder.host());
    let ran = Program::new(["carve", &image, "/big"]).run_until(1).done();
    assert_eq!(ran.stderr, "");
    assert!(number(&ran, "bytes_fetched") < tar.len() as u64 / 2, "{}", ran.report);
    recorder.settled();
}

#[test]
fn a_file_at_the_front_of_a_big_layer_costs_a_fraction_of_it() {
    let registry = DockerRegistry::open();
    let tar = Tar::new().file("first", "first\n").file("big", Noise::new(7).bytes(64 << 20)).finish();
    let layout = Layout::of(&Image::new().layer(Layer::new(&tar, Compression::None)));
    push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
    let recorder = Recorder::before(&registry.host());
    let ran = Program::new(["carve", &format!("{}/one:1", recorder.host()), "/first"]).run().done();
    assert_eq!(ran.stdout, b"first\n");
    let exchanges = recorder.settled();
    let (fetched, all) = (number(&ran, "bytes_fetched"), number(&ran, "bytes_of_layers"));
    assert!(fetched <= bytes(&exchanges), "{fetched}: {exchanges:?}");
    assert!(fetched < all / 8, "{fetched} of {all}");
    assert_eq!((number(&ran, "requests"), exchanges.len()), (3, 3));
}

#[test]
fn a_plain_layer_is_read_from_header_to_header() {
    let registry = DockerRegistry::open();
    let big = |seed| Noise::new(seed).bytes(12 << 20);
    let tar = Tar::new().file("one", big(1)).file("two", big(2)).file("end", "here").finish();
    let layout = Layout::of(&Image::new().layer(Layer::new(&tar, Compression::None)));
    push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
    let recorder = Recorder::before(&registry.host());
    let image = format!("{}/one:1", recorder.host());
    let ran = Program::new(["carve", &image, "/end", "--no-cache"]).run().done();
    assert_eq!(ran.stdout, b"here");
    assert_eq!((&ran.report["plan"], &ran.report["verified"]), (&"hop".into(), &"none".into()));
    // Two skips, and the bytes in flight at each.
    assert!(number(&ran, "bytes_fetched") < 4 << 20, "{}", ran.report);
    // Skipping from header to header also shows that a file is missing; verification needs every
    // byte.
    Program::new(["carve", &image, "/none", "--no-cache"]).run().failed(3);
    let ran = Program::new(["carve", &image, "/end", "--no-cache", "--verify"]).run().done();
    assert_eq!((&ran.report["plan"], &ran.report["verified"]), (&"scan".into(), &"blob".into()));
    recorder.settled();
}

#[test]
fn a_plain_layer_that_is_cut_inside_content_is_corrupt() {
    let mut tar = Tar::new().file("one", Noise::new(1).bytes(12 << 20)).file("end", "here").finish();
    tar.truncate(8 << 20);
    let layout = Layout::of(&Image::new().layer(Layer::new(&tar, Compression::None)));
    Program::new(["carve", &layout.reference("latest"), "/end", "--no-cache"]).run().failed(8);
}

#[test]
fn a_file_near_the_start_of_a_layer_costs_little_more_than_the_first_range() {
    let registry = DockerRegistry::open();
    let tar = Tar::new().file("early", "here").file("rest", Noise::new(5).bytes(16 << 20)).finish();
    let layout = Layout::of(&Image::new().layer(Layer::new(&tar, Compression::Gzip)));
    push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
    let recorder = Recorder::before(&registry.host());
    let image = format!("{}/one:1", recorder.host());
    let ran = Program::new(["carve", &image, "/early", "--no-cache"]).run().done();
    assert!(number(&ran, "bytes_fetched") < (128 << 10) + 4096, "{}", ran.report);
    assert_eq!(number(&ran, "requests"), 3);
    recorder.settled();
}
