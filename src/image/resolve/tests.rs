//! Images in a scripted registry: which manifest of an index is selected, and documents that are not images.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use super::*;
use crate::{
    hint::Hint,
    oci::digest::Hasher,
    offset::Compressed,
    registry::{
        Http, Repository,
        scripted::{Reply, ScriptedRegistry},
    },
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The documents of a registry: media type and content by the end of the path.
#[derive(Default)]
struct StoredDocuments(BTreeMap<String, (String, Vec<u8>)>);

impl StoredDocuments {
    /// Stores a document below `folder`; returns its descriptor.
    fn put(&mut self, folder: &str, media_type: &str, document: &Value) -> Value {
        let bytes = serde_json::to_vec(document).unwrap();
        let (digest, size) = (Digest::sha256(&bytes), bytes.len());
        self.0.insert(format!("{folder}/{digest}"), (media_type.to_owned(), bytes));
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
    }

    fn manifest(&mut self, document: &Value) -> Value {
        self.put("manifests", document["mediaType"].as_str().unwrap(), document)
    }

    fn index(&mut self, entries: &[Value]) -> Value {
        self.manifest(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }))
    }

    /// An image without layers and with this configuration.
    fn image(&mut self, config: &Value) -> Value {
        let config = self.put("blobs", CONFIG, config);
        self.manifest(&manifest(&config, &[]))
    }

    /// Starts the registry with this document as the tag 1.
    fn open(mut self, descriptor: &Value) -> ScriptedRegistry {
        let digest = descriptor["digest"].as_str().unwrap();
        let document = self.0[&format!("manifests/{digest}")].clone();
        self.0.insert("manifests/1".to_owned(), document);
        ScriptedRegistry::start(move |request| {
            let document = request.path().strip_prefix("/v2/app/").and_then(|path| self.0.get(path));
            match document {
                Some((media_type, bytes)) => Reply::ok(bytes.clone()).header("content-type", media_type),
                None => Reply::status(404),
            }
        })
    }
}

fn manifest(config: &Value, layers: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
}

fn config(platform: &str) -> Value {
    let mut config = platform_of(platform);
    config["rootfs"] = json!({ "type": "layers", "diff_ids": [] });
    config
}

fn platform_of(text: &str) -> Value {
    let platform: Platform = text.parse().unwrap();
    let mut stated = json!({ "os": platform.os(), "architecture": platform.architecture() });
    stated.as_object_mut().unwrap().extend(platform.variant().map(|one| ("variant".to_owned(), one.into())));
    let version = platform.os_version().map(|one| ("os.version".to_owned(), one.into()));
    stated.as_object_mut().unwrap().extend(version);
    stated
}

fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl crate::progress::Progress for Warnings {
    fn event(&self, event: &crate::progress::Event) {
        if let crate::progress::Event::Warning { message, .. } = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_owned());
        }
    }
}

async fn resolve(
    server: &ScriptedRegistry,
    suffix: &str,
    platform: &str,
) -> (Result<Image, Error>, Vec<String>) {
    let warnings = Arc::new(Warnings::default());
    let progress = Arc::new(Reporter::new(Arc::<Warnings>::clone(&warnings)));
    let reference: ImageReference = format!("{}/app{suffix}", server.host()).parse().unwrap();
    let ImageReference::Registry(registry) = reference.clone() else { panic!("not a registry reference") };
    let platform = if platform.is_empty() { Platform::host() } else { platform.parse().unwrap() };
    let repository = Repository { host: server.host(), name: "app".to_owned() };
    let session =
        Session::with_progress(Http::builder().build().unwrap(), repository, None, Arc::clone(&progress));
    let image = super::registry(
        ImageRequest {
            reference,
            platform,
            progress,
            cache: None,
            parallel_layers: 1,
            pool: WorkerPool::with_threads(1),
            limits: Default::default(),
        },
        &registry,
        session,
        0,
    )
    .await;
    let image = match image {
        Ok(image) => image.config().await.map(drop).map(|()| image.clone()),
        Err(error) => Err(error),
    };
    let warnings = warnings.0.lock().unwrap().clone();
    (image, warnings)
}

/// The digest of the selected image, or the error.
async fn selected(server: &ScriptedRegistry, platform: &str) -> Result<String, String> {
    match resolve(server, ":1", platform).await {
        (Ok(image), _) => Ok(image.digest().to_string()),
        (Err(error), _) => {
            assert!(error.is_no_such_image(), "{error}");
            Err(error.to_string())
        }
    }
}

fn digest(descriptor: &Value) -> Result<String, String> {
    Ok(descriptor["digest"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_image_of_an_index_for_the_platform_is_selected() {
    let mut documents = StoredDocuments::default();
    let names = [
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm64",
        "windows(10.0.17763.1)/amd64",
        "windows(10.0.20348.9)/amd64",
    ];
    let images = names.map(|name| {
        let image = documents.image(&with(config(name), "author", name.into()));
        with(image, "platform", platform_of(name))
    });
    let attestation = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let attestation = with(
        with(images[2].clone(), "digest", format!("sha256:{:064}", 0).into()),
        "annotations",
        attestation,
    );
    let [v6, v7, arm64, old, new] = &images;
    let entries = [attestation, v6.clone(), v7.clone(), arm64.clone(), old.clone(), new.clone()];
    let index = documents.index(&entries);
    let server = documents.open(&index);
    for (platform, expected) in [
        ("linux/arm/v6", v6),
        ("linux/arm", v7),
        ("linux/arm/v8", v7),
        ("linux/aarch64", arm64),
        ("windows/amd64", old),
        ("windows(10.0.20348)/amd64", new),
    ] {
        assert_eq!(selected(&server, platform).await, digest(expected), "{platform}");
    }
    for platform in ["linux/arm/v5", "linux/s390x", "windows(10.0.1)/amd64"] {
        let refused = selected(&server, platform).await.unwrap_err();
        assert!(refused.contains("linux/arm/v6, linux/arm/v7, linux/arm64, windows("), "{refused}");
    }
}

#[tokio::test]
async fn the_platform_in_the_index_takes_precedence_over_the_configuration() {
    // Configurations without a variant and for another architecture: both are common.
    for (stated, configured, warns) in [
        ("linux/arm/v6", r#"{"os":"linux","architecture":"arm"}"#, false),
        ("linux/arm64", r#"{"os":"linux","architecture":"amd64"}"#, true),
    ] {
        let mut documents = StoredDocuments::default();
        let image = documents.image(&serde_json::from_str(configured).unwrap());
        let other = with(documents.image(&config("linux/s390x")), "platform", platform_of("linux/s390x"));
        let index = documents.index(&[other, with(image, "platform", platform_of(stated))]);
        let server = documents.open(&index);
        let (image, warnings) = resolve(&server, ":1", stated).await;
        assert_eq!(image.unwrap().platform().await.unwrap().unwrap().to_string(), stated);
        assert_eq!(warnings.len(), usize::from(warns), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_single_image_for_another_platform_is_accepted_with_a_warning_unless_a_platform_is_required() {
    let mut documents = StoredDocuments::default();
    let image = documents.image(&config("plan9/mips"));
    let server = documents.open(&image);
    let (opened, warnings) = resolve(&server, ":1", "").await;
    assert_eq!(opened.unwrap().platform().await.unwrap().unwrap().to_string(), "plan9/mips");
    assert!(warnings[0].contains("is for plan9/mips, not for linux/"), "{warnings:?}");
    assert!(selected(&server, "linux/amd64").await.is_err());
    let mut documents = StoredDocuments::default();
    let image = with(documents.image(&config("plan9/mips")), "platform", platform_of("plan9/mips"));
    let index = documents.index(&[image]);
    let server = documents.open(&index);
    let (opened, warnings) = resolve(&server, ":1", "").await;
    assert!(opened.is_ok() && warnings.len() == 1, "{warnings:?}");
    assert!(selected(&server, "linux/amd64").await.is_err());
}

#[tokio::test]
async fn indexes_may_be_nested_four_deep() {
    for (depth, is_good) in [(0, true), (limits::INDEX_DEPTH, true), (limits::INDEX_DEPTH + 1, false)] {
        let mut documents = StoredDocuments::default();
        let image = documents.image(&config("linux/amd64"));
        let mut top = image.clone();
        for _ in 0..depth {
            top = documents.index(&[top]);
        }
        let server = documents.open(&top);
        let (opened, _) = resolve(&server, ":1", "linux/amd64").await;
        match opened {
            Ok(opened) => assert!(is_good && Ok(opened.digest().to_string()) == digest(&image)),
            Err(error) => assert!(!is_good && error.to_string().contains("more than 4 nested"), "{error}"),
        }
    }
}

#[tokio::test]
async fn schema_1_is_refused_by_name_at_any_level() {
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let document = json!({ "schemaVersion": 1, "name": "app", "tag": "1", "fsLayers": [], "history": [] });
    let mut documents = StoredDocuments::default();
    let old = documents.put("manifests", schema1, &document);
    let mut nested = StoredDocuments(documents.0.clone());
    let index = nested.index(&[with(old.clone(), "platform", platform_of("linux/amd64"))]);
    for server in [documents.open(&old), nested.open(&index)] {
        let error = resolve(&server, ":1", "linux/amd64").await.0.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("schema 1") && !error.is_corrupt(), "{error}: {cause}");
    }
}

#[tokio::test]
async fn an_artifact_is_opened_without_reading_its_configuration() {
    let mut documents = StoredDocuments::default();
    let empty = json!({
        "mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}").to_string(), "size": 2
    });
    let layer =
        json!({ "mediaType": "text/spdx+json", "digest": Digest::sha256(b"x").to_string(), "size": 1 });
    let manifest = with(manifest(&empty, &[layer]), "artifactType", "application/spdx+json".into());
    let manifest = documents.manifest(&manifest);
    let server = documents.open(&manifest);
    let image = resolve(&server, ":1", "").await.0.unwrap();
    assert_eq!(image.layers().len(), 1);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(image.artifact_type().unwrap().as_str(), "application/spdx+json");
    assert_eq!(image.platform().await.unwrap(), None);
    // It is not an image for every platform.
    let refused = selected(&server, "linux/amd64").await.unwrap_err();
    assert!(refused.contains("states no platform, and linux/amd64 is required"), "{refused}");
}

#[tokio::test]
async fn an_index_entry_without_a_platform_is_selected_only_by_its_configuration() {
    let mut documents = StoredDocuments::default();
    let arm = documents.image(&config("linux/arm64"));
    let amd = documents.image(&with(config("linux/amd64"), "author", "unstated".into()));
    let blank = documents.image(&json!({ "rootfs": { "type": "layers", "diff_ids": [] } }));
    let chart = documents.put("blobs", "application/vnd.cncf.helm.config.v1+json", &json!({ "name": "c" }));
    let chart = documents.manifest(&manifest(&chart, &[]));
    let missing = with(amd.clone(), "digest", format!("sha256:{:064}", 0).into());
    let stated = with(arm.clone(), "platform", platform_of("linux/arm64"));
    let riscv = documents.image(&config("linux/riscv64"));
    let nested = documents.index(&[with(riscv.clone(), "platform", platform_of("linux/riscv64"))]);
    let index = documents.index(&[stated, chart, missing, blank, nested, amd.clone()]);
    let server = documents.open(&index);
    for (platform, expected) in [("linux/amd64", &amd), ("linux/arm64", &arm), ("linux/riscv64", &riscv)] {
        assert_eq!(selected(&server, platform).await, digest(expected), "{platform}");
    }
    let refused = selected(&server, "linux/s390x").await.unwrap_err();
    assert!(refused.ends_with("it has linux/arm64, 5 entries without a platform"), "{refused}");
}

#[tokio::test]
async fn an_artifact_in_an_index_is_not_selected_in_place_of_an_image() {
    let mut documents = StoredDocuments::default();
    let other = with(documents.image(&config("plan9/mips")), "platform", platform_of("plan9/mips"));
    let chart = documents.put("blobs", "application/vnd.cncf.helm.config.v1+json", &json!({ "name": "c" }));
    let chart = documents.manifest(&manifest(&chart, &[]));
    let index = documents.index(&[other, chart]);
    let server = documents.open(&index);
    for platform in ["", "linux/amd64"] {
        let refused = selected(&server, platform).await.unwrap_err();
        assert!(refused.ends_with("it has plan9/mips, an entry without a platform"), "{refused}");
    }
}

#[tokio::test]
async fn an_image_that_states_no_platform_does_not_satisfy_a_required_one() {
    let mut documents = StoredDocuments::default();
    let image = documents.image(&json!({ "rootfs": { "type": "layers", "diff_ids": [] } }));
    for top in [image.clone(), documents.index(&[image])] {
        let server = StoredDocuments(documents.0.clone()).open(&top);
        assert!(selected(&server, "").await.is_ok());
        let refused = selected(&server, "linux/s390x").await.unwrap_err();
        assert!(refused.contains("states no platform, and linux/s390x is required"), "{refused}");
    }
}

#[tokio::test]
async fn an_index_announced_as_a_manifest_is_opened() {
    let mut documents = StoredDocuments::default();
    let image = with(documents.image(&config("linux/amd64")), "platform", platform_of("linux/amd64"));
    let document = json!({ "schemaVersion": 2, "manifests": [image] });
    let index = documents.put("manifests", "application/vnd.docker.distribution.manifest.v2+json", &document);
    let server = documents.open(&index);
    assert_eq!(selected(&server, "linux/amd64").await, digest(&image));
}

#[tokio::test]
async fn a_foreign_layer_that_the_registry_lacks_is_not_fetched_from_its_urls() {
    let other_server = ScriptedRegistry::start(|request| Reply::blob(request, b"content"));
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    for (media_type, is_corrupt) in [(foreign, false), (LAYER, true)] {
        let mut documents = StoredDocuments::default();
        let layer = json!({
            "mediaType": media_type, "digest": Digest::sha256(b"content").to_string(), "size": 7,
            "urls": [format!("{}/layer", other_server.url())]
        });
        let config = documents.put("blobs", CONFIG, &config("linux/amd64"));
        let manifest = documents.manifest(&manifest(&config, &[layer]));
        let server = documents.open(&manifest);
        let image = resolve(&server, ":1", "linux/amd64").await.0.unwrap();
        let opened = image.layers()[0].source.open(Compressed(0)..Compressed(7)).await;
        let error = Error::from(opened.err().unwrap());
        assert_eq!(error.is_corrupt(), is_corrupt, "{error}");
        assert_eq!(error.hint() == Some(&Hint::ForeignLayer), !is_corrupt, "{error}");
    }
    assert!(other_server.requests().is_empty());
}

#[tokio::test]
async fn manifests_configurations_and_layers_may_have_sha_512_digests() {
    let sha512 = |bytes: &[u8]| {
        let mut hasher = Hasher::new(format!("sha512:{:0128}", 0).parse::<Digest>().unwrap().algorithm());
        hasher.update(bytes);
        hasher.finish().to_string()
    };
    let config = serde_json::to_vec(&config("linux/amd64")).unwrap();
    let of_config = json!({ "mediaType": CONFIG, "digest": sha512(&config), "size": config.len() });
    let layer = json!({ "mediaType": LAYER, "digest": sha512(b"layer"), "size": 5 });
    let manifest = serde_json::to_vec(&manifest(&of_config, &[layer])).unwrap();
    let name = sha512(&manifest);
    let (path, config_path) =
        (format!("/v2/app/manifests/{name}"), format!("/v2/app/blobs/{}", sha512(&config)));
    let server = ScriptedRegistry::start(move |request| match request.path() {
        own if own == path => Reply::ok(manifest.clone()).header("content-type", MANIFEST),
        own if own == config_path => Reply::ok(config.clone()),
        _ => Reply::blob(request, b"layer"),
    });
    // The digest takes precedence over the tag.
    for suffix in [format!("@{name}"), format!(":other@{name}")] {
        let image = resolve(&server, &suffix, "linux/amd64").await.0.unwrap();
        assert_eq!(image.digest().to_string(), name);
        let bytes = image.layers()[0].source.open(Compressed(0)..Compressed(5)).await.unwrap();
        let bytes: Vec<_> = bytes.try_collect().await.unwrap();
        assert_eq!(bytes.concat(), b"layer");
    }
    assert!(server.requests().iter().all(|request| request.target.contains("/sha512:")));
}

#[tokio::test]
async fn a_configuration_that_does_not_match_its_digest_is_corrupt() {
    let mut documents = StoredDocuments::default();
    let image = documents.image(&config("linux/amd64"));
    for (path, (_, bytes)) in &mut documents.0 {
        if path.starts_with("blobs/") {
            *bytes = String::from_utf8(bytes.clone()).unwrap().replace("linux", "linus").into_bytes();
        }
    }
    let server = documents.open(&image);
    assert!(resolve(&server, ":1", "").await.0.unwrap_err().is_corrupt());
}
