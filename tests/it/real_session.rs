//! Tokens over time and across repositories, at Debian's registry.

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use layerslayer::{Client, Image, Platform};
use serde_json::Value;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Compression, Image as Built, Layer, Layout, Tar,
        transport::{Trust, push},
    },
    noise::Noise,
    program::Program,
    recorder::{Exchange, Recorder},
    token_server::{Policy, TokenServer},
};

/// More than all buffers between the registry and the reader hold together.
const BIG: usize = 48 << 20;

struct Setting {
    server: Arc<TokenServer>,
    registry: DockerRegistry,
    recorder: Arc<Recorder>,
    pushed: usize,
}

impl Setting {
    /// A registry that requires tokens, granted to anyone, with an image of these archives in every
    /// repository.
    fn with(archives: Vec<Vec<u8>>, repositories: &[&str]) -> Self {
        let server = Arc::new(TokenServer::start(Policy::public().user("alice", "secret")));
        let registry = DockerRegistry::token(&server);
        let layers = archives.iter().map(|tar| Layer::new(tar, Compression::None));
        let layout = Layout::of(&layers.fold(Built::new(), Built::layer));
        for repository in repositories {
            let reference = format!("{}/{repository}:1", registry.host());
            push(&layout, "latest", &reference, Trust::Credentials("alice", "secret"));
        }
        let recorder = Arc::new(Recorder::before(&registry.host()));
        let pushed = server.requests().len();
        Self { server, registry, recorder, pushed }
    }

    async fn open(&self, client: &Client, repository: &str) -> Image {
        let reference = format!("{}/{repository}:1", self.recorder.host()).parse().unwrap();
        client.image(&reference, &Platform::default()).await.unwrap()
    }

    /// Makes the registry refuse all tokens it has seen.
    fn refuse_old_tokens(&mut self) {
        self.server.rotate_key();
        self.registry.restart_trusting(&self.server);
    }

    /// The scopes of the token requests, except those of the push.
    fn requested_scopes(&self) -> Vec<String> {
        let requests = self.server.requests().split_off(self.pushed);
        requests.into_iter().flat_map(|request| request.scopes).collect()
    }
}

fn token(exchange: &Exchange) -> Option<&str> {
    exchange.field("authorization")?.strip_prefix("Bearer ")
}

/// The repositories that a token grants, read from the token itself.
fn repositories(token: &str) -> Vec<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let access = claims["access"].as_array().unwrap();
    access.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_carve_survives_the_expiry_of_its_token() {
    let content = Noise::new(3).bytes(BIG);
    let mut setting = Setting::with(vec![Tar::new().file("big", &content).finish()], &["one"]);
    let client = Client::builder().build().unwrap();
    let image = setting.open(&client, "one").await;
    let mut file = image.carve("/big").await.unwrap();
    let mut read = Vec::new();
    while read.len() < 1 << 20 {
        read.extend_from_slice(&file.next().await.unwrap().unwrap());
    }
    setting.refuse_old_tokens();
    while let Some(piece) = file.next().await {
        read.extend_from_slice(&piece.unwrap());
    }
    assert!(read == content, "{} of {} bytes", read.len(), content.len());
    assert_eq!(file.outcome().unwrap().verification.to_string(), "blob");
    assert_eq!(setting.requested_scopes(), ["repository:one:pull"; 2]);
    let exchanges = setting.recorder.exchanges();
    let refused = exchanges.iter().rposition(|exchange| exchange.status == Some(401)).unwrap();
    let [refused, resumed, ..] = &exchanges[refused..] else { panic!("{exchanges:?}") };
    assert!(token(refused).is_some() && token(resumed).is_some() && token(refused) != token(resumed));
    assert_eq!(resumed.status, Some(206));
    assert!(resumed.field("range").unwrap().starts_with("bytes="), "{resumed:?}");
}

#[test]
fn a_token_that_arrives_expired_is_renewed_once_and_then_refused() {
    let setting = Setting::with(vec![Tar::new().file("a", "1").finish()], &["one"]);
    let dead = Policy::public().lifetime(Duration::from_secs(60)).back_dated(Duration::from_secs(600));
    setting.server.set_policy(dead);
    let reference = format!("{}/one:1", setting.recorder.host());
    let ran = Program::new(["carve", &reference, "/a"]).run().failed(6).said("401");
    assert!(setting.requested_scopes().len() <= 2, "{:?}", setting.requested_scopes());
    assert!(ran.report["requests"].as_u64().unwrap() <= 5, "{}", ran.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_reads_fetch_one_token() {
    let tar = (0..50).fold(Tar::new(), |tar, index| tar.file(format!("file-{index}"), format!("{index}")));
    let mut setting = Setting::with(vec![tar.finish()], &["one"]);
    let client = Client::builder().build().unwrap();
    let image = setting.open(&client, "one").await;
    assert_eq!(setting.requested_scopes().len(), 1);
    // Their token is now refused, and no new one is issued before all of them have seen that.
    setting.refuse_old_tokens();
    let (server, recorder) = (Arc::clone(&setting.server), Arc::clone(&setting.recorder));
    let (holding, held) = mpsc::channel();
    let release = thread::spawn(move || {
        let hold = server.hold();
        holding.send(()).unwrap();
        let refused =
            |exchange: &&Exchange| exchange.target.contains("/blobs/") && exchange.status == Some(401);
        recorder.wait_until(|exchanges| exchanges.iter().any(|exchange| refused(&exchange)));
        drop(hold);
    });
    held.recv().unwrap();
    let reads = (0..50).map(async |index| {
        let mut file = image.carve(format!("/file-{index}")).await.unwrap();
        assert_eq!(file.read_to_end(100).await.unwrap(), index.to_string().into_bytes());
    });
    join_all(reads).await;
    release.join().unwrap();
    assert_eq!(setting.requested_scopes().len(), 2);
    let exchanges = setting.recorder.exchanges();
    let given = |exchange: &&Exchange| exchange.target.contains("/blobs/") && exchange.status == Some(200);
    assert!(exchanges.iter().filter(given).count() >= 50, "the reads do not share what they read");
    let tokens: BTreeSet<&str> = exchanges.iter().filter_map(token).collect();
    assert_eq!(tokens.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_alternating_repositories_never_see_each_others_token() {
    let archives = vec![Tar::new().file("a", "1").finish(), Tar::new().file("b", "2").finish()];
    let names = ["team/one", "team/two"];
    let mut setting = Setting::with(archives, &names);
    let client = Client::builder().build().unwrap();
    let [one, two] = [setting.open(&client, names[0]).await, setting.open(&client, names[1]).await];
    for round in 0..3 {
        for (image, path) in [(&one, "/a"), (&two, "/b"), (&one, "/b"), (&two, "/a")] {
            image.carve(path).await.unwrap().read_to_end(10).await.unwrap();
        }
        if round == 1 {
            setting.refuse_old_tokens();
        }
    }
    let mut scopes = setting.requested_scopes();
    scopes.sort();
    assert_eq!(
        scopes,
        names.map(|name| [format!("repository:{name}:pull"), format!("repository:{name}:pull")]).concat()
    );
    let exchanges = setting.recorder.exchanges();
    let mut seen = BTreeSet::new();
    for exchange in &exchanges {
        let Some(token) = token(exchange) else { continue };
        let [repository] = repositories(token).try_into().unwrap();
        assert!(exchange.target.starts_with(&format!("/v2/{repository}/")), "{exchange:?}");
        seen.insert(repository);
    }
    assert_eq!(seen.len(), 2);
}
