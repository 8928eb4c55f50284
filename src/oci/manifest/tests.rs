use super::*;
use crate::oci::{
    digest::{Digest, DigestError},
    platform::Platform,
};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str =
    r#"{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "DIGEST", "size": 2}"#;
const LAYER: &str =
    r#"{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "DIGEST", "size": 7}"#;

/// Replaces `CONFIG`, `LAYER` and `DIGEST`.
fn document(text: &str) -> String {
    let digest = Digest::sha256(b"{}").to_string();
    text.replace("CONFIG", CONFIG).replace("LAYER", LAYER).replace("DIGEST", &digest)
}

fn parse(text: &str, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
    Manifest::parse(document(text).as_bytes(), content_type)
}

fn image(text: &str) -> ImageManifest {
    match parse(text, Some(OCI_MANIFEST)) {
        Ok(Manifest::Image(image)) => image,
        other => panic!("{text}: {other:?}"),
    }
}

fn index(text: &str) -> ImageIndex {
    match parse(text, Some(OCI_INDEX)) {
        Ok(Manifest::Index(index)) => index,
        other => panic!("{text}: {other:?}"),
    }
}

fn field(error: ManifestError) -> (String, FieldProblem) {
    match error {
        ManifestError::Field { field, problem } => (field, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_fields_of_a_manifest_are_read() {
    let image = image(
        r#"{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": CONFIG,
            "layers": [LAYER, {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": "DIGEST",
            "size": 9223372036854775807, "urls": ["https://example.com/x"], "annotations": {"a": "b", "c": null}, "data": "e30="}],
            "annotations": {"org.opencontainers.image.created": "now"}, "subject": LAYER, "artifactType": "text/x",
            "unknown": [1, {"x": null}]}"#,
    );
    assert_eq!(image.media_type().as_str(), OCI_MANIFEST);
    assert_eq!(image.config().media_type(), &MediaType::OCI_CONFIG);
    assert_eq!(image.config().digest(), &Digest::sha256(b"{}"));
    assert_eq!(
        image.layers().iter().map(Descriptor::size).collect::<Vec<_>>(),
        [7, 9_223_372_036_854_775_807]
    );
    assert_eq!(image.layers()[1].urls(), ["https://example.com/x"]);
    assert_eq!(image.layers()[1].annotations()["c"], "");
    assert!(image.layers()[1].media_type().is_foreign_layer());
    assert_eq!(image.annotations()["org.opencontainers.image.created"], "now");
    assert_eq!(image.subject().unwrap().size(), 7);
    assert_eq!(image.artifact_type().unwrap().as_str(), "text/x");
    assert!(!image.is_artifact());
}

#[test]
fn null_and_empty_values_count_as_absent() {
    for text in [
        r#"{"config": CONFIG, "layers": null}"#,
        r#"{"config": CONFIG, "layers": []}"#,
        r#"{"config": CONFIG}"#,
        r#"{"config": CONFIG, "layers": null, "manifests": null, "annotations": null, "subject": null,
            "artifactType": null, "mediaType": null, "schemaVersion": null, "fsLayers": null}"#,
        r#"{"config": CONFIG, "artifactType": "", "mediaType": ""}"#,
    ] {
        assert!(image(text).layers().is_empty(), "{text}");
    }
    for text in [r#"{"manifests": null}"#, r#"{"manifests": [], "config": null, "layers": null}"#] {
        assert!(index(text).manifests().is_empty(), "{text}");
    }
}

#[test]
fn the_fields_decide_the_type_of_a_document_without_a_media_type() {
    for content_type in [
        None,
        Some("application/octet-stream"),
        Some("application/json; charset=utf-8"),
        Some("text/plain"),
        Some("text/html"),
        Some("not a media type"),
        Some(""),
    ] {
        let media_type = |text| parse(text, content_type).unwrap().media_type().to_string();
        assert_eq!(media_type(r#"{"config": CONFIG, "layers": []}"#), OCI_MANIFEST);
        assert_eq!(media_type(r#"{"schemaVersion": 2, "manifests": []}"#), OCI_INDEX);
        assert_eq!(media_type(r#"{"schemaVersion": 2, "manifests": null}"#), OCI_INDEX);
        let docker =
            r#"{"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": CONFIG}"#;
        assert_eq!(media_type(docker), DOCKER_MANIFEST);
        for text in ["{}", r#"{"schemaVersion": 2}"#, r#"{"errors": [{"code": "DENIED"}]}"#] {
            assert_eq!(parse(text, content_type), Err(ManifestError::Unknown { media_type: None }), "{text}");
        }
    }
}

#[test]
fn a_document_without_a_media_type_has_the_announced_type() {
    for (text, content_type) in [
        (r#"{"manifests": []}"#, DOCKER_LIST),
        (r#"{"manifests": []}"#, OCI_INDEX),
        (r#"{"config": CONFIG}"#, DOCKER_MANIFEST),
    ] {
        let parsed = parse(text, Some(&format!("{content_type}; charset=utf-8"))).unwrap();
        assert_eq!(parsed.media_type().as_str(), content_type);
    }
}

#[test]
fn the_fields_of_a_document_without_a_media_type_overrule_the_announced_kind() {
    for (text, content_type, expected) in [
        (r#"{"manifests": []}"#, DOCKER_MANIFEST, DOCKER_LIST),
        (r#"{"manifests": []}"#, OCI_MANIFEST, OCI_INDEX),
        (r#"{"config": CONFIG}"#, OCI_INDEX, OCI_MANIFEST),
        (r#"{"config": CONFIG, "layers": [], "manifests": null}"#, DOCKER_LIST, DOCKER_MANIFEST),
    ] {
        let parsed = parse(text, Some(content_type)).unwrap();
        assert_eq!(parsed.media_type().as_str(), expected, "{text} {content_type}");
    }
}

#[test]
fn an_item_without_a_media_type_is_of_an_unspecified_type() {
    for media_type in ["", r#""mediaType": "", "#, r#""mediaType": null, "#] {
        let item = format!(r#"{{{media_type}"digest": "DIGEST", "size": 1}}"#);
        let layers = image(&format!(r#"{{"config": CONFIG, "layers": [{item}]}}"#));
        assert_eq!(layers.layers()[0].media_type(), &MediaType::UNSPECIFIED, "{item}");
        assert!(!layers.is_artifact());
        let entries = index(&format!(r#"{{"manifests": [{item}]}}"#));
        assert_eq!(entries.manifests()[0].media_type(), &MediaType::UNSPECIFIED, "{item}");
    }
}

#[test]
fn artifacts_are_recognised_by_configuration_or_layers_and_named() {
    const COSIGN: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    const IMAGE: &str = "application/vnd.oci.image.config.v1+json";
    const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    let layer =
        |media_type: &str| format!(r#"{{"mediaType": "{media_type}", "digest": "DIGEST", "size": 1}}"#);
    for (config, layers, artifact_type, expected) in [
        (IMAGE, vec![COSIGN, COSIGN], "", Some(COSIGN)),
        (IMAGE, vec![COSIGN], "a/b", Some("a/b")),
        (IMAGE, vec![COSIGN, "text/plain"], "", None),
        (IMAGE, vec!["application/vnd.oci.image.layer.v1.tar", "application/wasm"], "", None),
        (IMAGE, vec![], "", None),
        (
            "application/vnd.wasm.config.v1+json",
            vec!["application/wasm"],
            "",
            Some("application/vnd.wasm.config.v1+json"),
        ),
        (EMPTY, vec!["application/spdx+json"], "", Some("application/spdx+json")),
        (EMPTY, vec!["application/spdx+json"], "a/b", Some("a/b")),
        (EMPTY, vec![], "", Some(EMPTY)),
    ] {
        let layers: Vec<String> = layers.iter().map(|media_type| layer(media_type)).collect();
        let image = image(&format!(
            r#"{{"config": {}, "layers": [{}], "artifactType": "{artifact_type}"}}"#,
            layer(config),
            layers.join(",")
        ));
        assert_eq!(image.artifact().map(MediaType::as_str), expected, "{image:?}");
    }
}

#[test]
fn a_document_that_contradicts_the_announced_type_is_refused() {
    for (text, content_type) in [
        (r#"{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}"#, OCI_MANIFEST),
        (r#"{"mediaType": "application/vnd.oci.image.manifest.v1+json", "config": CONFIG}"#, DOCKER_MANIFEST),
        (
            r#"{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}"#,
            "application/vnd.x+json",
        ),
    ] {
        let error = parse(text, Some(content_type)).unwrap_err();
        assert!(matches!(error, ManifestError::ContentType { .. }), "{error:?}");
    }
}

#[test]
fn a_document_that_is_both_index_and_image_is_refused() {
    for content_type in [None, Some(OCI_INDEX), Some(OCI_MANIFEST)] {
        for text in [
            r#"{"manifests": [], "config": CONFIG}"#,
            r#"{"manifests": [], "layers": []}"#,
            r#"{"manifests": [], "config": CONFIG, "layers": [LAYER]}"#,
        ] {
            assert_eq!(parse(text, content_type), Err(ManifestError::Ambiguous), "{text} {content_type:?}");
        }
    }
}

#[test]
fn schema_1_is_refused_by_name() {
    for (text, content_type) in [
        (r#"{"schemaVersion": 1, "fsLayers": [], "history": []}"#, None),
        (r#"{"schemaVersion": 1}"#, Some("application/json")),
        (r#"{"fsLayers": []}"#, None),
        (r#"{"fsLayers": [], "config": CONFIG, "schemaVersion": 2}"#, Some(OCI_MANIFEST)),
        ("{}", Some("application/vnd.docker.distribution.manifest.v1+prettyjws")),
        ("{}", Some("application/vnd.docker.distribution.manifest.v1+json")),
        (r#"{"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}"#, None),
    ] {
        assert_eq!(parse(text, content_type), Err(ManifestError::Schema1), "{text}");
    }
}

#[test]
fn unknown_versions_and_types_are_refused() {
    for version in ["3", "0", "-2", "2.0", "\"2\"", "[2]", "{\"a\": 2}", "true"] {
        let error = parse(&format!(r#"{{"schemaVersion": {version}, "config": CONFIG}}"#), None).unwrap_err();
        assert_eq!(field(error), ("schemaVersion".to_owned(), FieldProblem::SchemaVersion), "{version}");
    }
    let artifact = "application/vnd.oci.artifact.manifest.v1+json";
    let expected = Err(ManifestError::Unknown { media_type: Some(artifact.parse().unwrap()) });
    assert_eq!(parse("{}", Some(artifact)), expected);
    assert_eq!(parse(&format!(r#"{{"mediaType": "{artifact}"}}"#), None), expected);
}

#[test]
fn the_error_names_a_malformed_field() {
    let layer = |layer: &str| format!(r#"{{"config": CONFIG, "layers": [LAYER, {layer}]}}"#);
    let config = |config: &str| format!(r#"{{"config": {config}}}"#);
    let entry = |entry: &str| format!(r#"{{"manifests": [{entry}]}}"#);
    let size = |size: &str| layer(&format!(r#"{{"mediaType": "a/b", "digest": "DIGEST", "size": {size}}}"#));
    let digest = |digest: &str| layer(&format!(r#"{{"mediaType": "a/b", "digest": {digest}, "size": 1}}"#));
    let media_type =
        |text: &str| layer(&format!(r#"{{"mediaType": {text}, "digest": "DIGEST", "size": 1}}"#));
    let platform = r#"{"mediaType": "a/b", "digest": "DIGEST", "size": 1, "platform": {"os": "li nux", "architecture": "arm"}}"#;
    for (text, name, message) in [
        (size("-5"), "layers[1].size", "not a size in bytes"),
        (size("5.0"), "layers[1].size", "not a size in bytes"),
        (size("1e3"), "layers[1].size", "not a size in bytes"),
        (size("\"5\""), "layers[1].size", "not a size in bytes"),
        (size("9223372036854775808"), "layers[1].size", "not a size in bytes"),
        (size("99999999999999999999999999"), "layers[1].size", "not a size in bytes"),
        (size("null"), "layers[1].size", "the field is missing"),
        (digest("\"garbage\""), "layers[1].digest", "a digest looks like sha256:… (no colon found)"),
        (digest("\"\""), "layers[1].digest", "a digest looks like sha256:… (no colon found)"),
        (digest("5"), "layers[1].digest", "not a string"),
        (digest("[[1], {}]"), "layers[1].digest", "not a string"),
        (digest("null"), "layers[1].digest", "the field is missing"),
        (media_type("\"gzip\""), "layers[1].mediaType", "not a media type like type/subtype (byte 4)"),
        (media_type("false"), "layers[1].mediaType", "not a string"),
        (layer("{}"), "layers[1].digest", "the field is missing"),
        (r#"{"layers": []}"#.to_owned(), "config", "the field is missing"),
        (r#"{"layers": [], "config": null}"#.to_owned(), "config", "the field is missing"),
        (config(r#"{"digest": "DIGEST", "size": -1}"#), "config.size", "not a size in bytes"),
        (config(r#"{"size": 1}"#), "config.digest", "the field is missing"),
        (r#"{"config": CONFIG, "subject": {}}"#.to_owned(), "subject.mediaType", "the field is missing"),
        (
            r#"{"config": CONFIG, "artifactType": "x"}"#.to_owned(),
            "artifactType",
            "not a media type like type/subtype (byte 1)",
        ),
        (r#"{"config": CONFIG, "mediaType": 5}"#.to_owned(), "mediaType", "not a string"),
        (
            entry(platform),
            "manifests[0].platform",
            "' ' is not allowed in a platform like linux/arm64/v8 (character 3)",
        ),
    ] {
        let (found, problem) = field(parse(&text, None).unwrap_err());
        assert_eq!((found.as_str(), problem.to_string().as_str()), (name, message), "{text}");
    }
    let error = parse("{}", Some(OCI_INDEX)).unwrap_err();
    assert_eq!(error.to_string(), "manifests: the field is missing");
}

#[test]
fn malformed_json_is_refused_with_line_and_column() {
    for (text, place) in [
        ("", (1, 0)),
        ("<html>", (1, 1)),
        ("{\"config\":\n 5}", (2, 2)),
        (r#"{"config": null} trailing"#, (1, 18)),
        ("null", (1, 4)),
        ("\"text\"", (1, 6)),
        (r#"{"layers": {}}"#, (1, 11)),
        (r#"{"layers": [null]}"#, (1, 16)),
        (r#"{"annotations": {"a": 5}}"#, (1, 23)),
        (r#"{"layers": [], "layers": []}"#, (1, 23)),
        ("\u{0}\u{1}", (1, 1)),
        // Lists instead of objects.
        ("[null, null, null, null, null, null, null, null, null]", (1, 0)),
        (r#"{"config": [null, null, null, null, null, null, null]}"#, (1, 11)),
    ] {
        match Manifest::parse(text.as_bytes(), None) {
            Err(ManifestError::Json { line, column, .. }) => assert_eq!((line, column), place, "{text:?}"),
            other => panic!("{text:?}: {other:?}"),
        }
    }
    assert!(matches!(Manifest::parse(b"\xff\xfe{", None), Err(ManifestError::Json { .. })));
    let deep = "[".repeat(100_000);
    assert!(matches!(Manifest::parse(deep.as_bytes(), None), Err(ManifestError::Json { .. })));
    let deep = format!(r#"{{"mediaType": {}"#, "[".repeat(100_000));
    assert!(matches!(Manifest::parse(deep.as_bytes(), None), Err(ManifestError::Json { .. })));
}

#[test]
fn messages_do_not_repeat_the_document() {
    let text = format!(r#"{{"layers": "{}"}}"#, "x\u{1b}".repeat(100_000));
    let error = Manifest::parse(text.replace('\u{1b}', "\\u001b").as_bytes(), None).unwrap_err().to_string();
    assert!(error.len() < 400, "{}", error.len());
    assert!(!error.contains('\u{1b}'));
}

#[test]
fn lists_and_documents_beyond_the_limits_are_refused() {
    let layers =
        |count: usize| format!(r#"{{"config": CONFIG, "layers": [{}]}}"#, vec!["LAYER"; count].join(","));
    assert_eq!(image(&layers(limits::LAYERS)).layers().len(), limits::LAYERS);
    let count = |limit| FieldProblem::Count { limit };
    let refused = |text: &str| field(parse(text, None).unwrap_err());
    assert_eq!(refused(&layers(limits::LAYERS + 1)), ("layers".to_owned(), count(limits::LAYERS)));
    let many = vec!["{}"; limits::MANIFESTS + 1].join(",");
    assert_eq!(
        refused(&format!(r#"{{"manifests": [{many}]}}"#)),
        ("manifests".to_owned(), count(limits::MANIFESTS))
    );
    let pairs: Vec<String> = (0..=limits::DOCUMENT_ITEMS).map(|key| format!("\"{key}\": \"\"")).collect();
    let annotations = format!(r#"{{"config": CONFIG, "annotations": {{{}}}}}"#, pairs.join(","));
    assert_eq!(refused(&annotations), ("annotations".to_owned(), count(limits::DOCUMENT_ITEMS)));
    let urls = vec!["\"\""; limits::DOCUMENT_ITEMS + 1].join(",");
    let urls = format!(r#"{{"config": CONFIG, "layers": [{{"mediaType": "a/b", "urls": [{urls}]}}]}}"#);
    assert_eq!(refused(&urls), ("layers[0].urls".to_owned(), count(limits::DOCUMENT_ITEMS)));

    let largest = usize::try_from(limits::MANIFEST_BYTES).unwrap();
    let padded = |size: usize| {
        let text = document(r#"{"config": CONFIG}"#);
        format!("{text}{}", " ".repeat(size - text.len()))
    };
    assert!(Manifest::parse(padded(largest).as_bytes(), None).is_ok());
    let error = Manifest::parse(padded(largest + 1).as_bytes(), None).unwrap_err();
    assert_eq!(
        error,
        ManifestError::TooLarge { size: limits::MANIFEST_BYTES + 1, limit: limits::MANIFEST_BYTES }
    );
}

#[test]
fn attestations_are_distinguished_from_images() {
    let index = index(
        r#"{"manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "DIGEST", "size": 1,
             "platform": {"os": "linux", "architecture": "aarch64", "variant": "v8", "os.features": ["x"]}},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "DIGEST", "size": 1,
             "platform": {"os": "unknown", "architecture": "unknown"}},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "DIGEST", "size": 1,
             "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "DIGEST", "size": 1,
             "platform": {"os": "", "architecture": ""}},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "DIGEST", "size": 1,
             "platform": {"os": "windows", "architecture": "amd64", "os.version": "10.0.17763.1"}}]}"#,
    );
    let attestations: Vec<bool> = index.manifests().iter().map(Descriptor::is_attestation).collect();
    assert_eq!(attestations, [false, true, true, false, false]);
    let platforms: Vec<Option<String>> =
        index.manifests().iter().map(|entry| entry.platform().map(ToString::to_string)).collect();
    let some = |text: &str| Some(text.to_owned());
    let expected =
        [some("linux/arm64"), some("unknown/unknown"), None, None, some("windows(10.0.17763.1)/amd64")];
    assert_eq!(platforms, expected);
    assert!(
        index.manifests().iter().all(|entry| entry.platform().is_none_or(|platform| !platform.is_required()))
    );
}

#[test]
fn the_configuration_type_distinguishes_images_from_artifacts() {
    for (media_type, artifact) in [
        ("application/vnd.oci.image.config.v1+json", false),
        ("application/vnd.docker.container.image.v1+json", false),
        ("application/octet-stream", false),
        ("text/html; charset=utf-8", false),
        ("", false),
        ("application/vnd.oci.empty.v1+json", true),
        ("application/vnd.cncf.helm.config.v1+json", true),
    ] {
        let text = format!(r#"{{"config": {{"mediaType": "{media_type}", "digest": "DIGEST", "size": 2}}}}"#);
        assert_eq!(image(&text).is_artifact(), artifact, "{media_type}");
    }
    let nameless = image(r#"{"config": {"digest": "DIGEST", "size": 2}}"#);
    assert_eq!(nameless.config().media_type(), &MediaType::DOCKER_CONFIG);
}

#[test]
fn an_unknown_digest_algorithm_is_refused() {
    let text = r#"{"config": {"digest": "blake3:00", "size": 2}}"#;
    let expected = ("config.digest".to_owned(), FieldProblem::Digest(DigestError::Algorithm));
    assert_eq!(field(parse(text, None).unwrap_err()), expected);
}

#[test]
fn an_empty_configuration_is_valid() {
    for text in
        ["{}", r#"{"config": null, "rootfs": null, "history": null}"#, r#"{"rootfs": {"diff_ids": null}}"#]
    {
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.platform(), None);
        assert!(config.diff_ids().is_empty() && config.history().is_empty() && config.env().is_empty());
        assert_eq!(config.created_by(0), None);
    }
}

#[test]
fn all_fields_of_a_configuration_are_read() {
    let config = ImageConfig::parse(
        document(
            r#"{"created": "2024-01-01T00:00:00Z", "author": "somebody", "architecture": "arm", "variant": "v6", "os": "linux",
                "config": {"User": "nobody:nogroup", "ExposedPorts": {"80/tcp": {}, "443/tcp": null}, "Env": ["PATH=/bin", "X="],
                "Entrypoint": ["/init"], "Cmd": ["serve", "--all"], "Volumes": {"/data": {}}, "WorkingDir": "/srv",
                "Labels": {"a": "b", "empty": null}, "StopSignal": "SIGQUIT", "Healthcheck": {"Test": ["CMD"]},
                "OnBuild": null, "ArgsEscaped": true},
                "rootfs": {"type": "layers", "diff_ids": ["DIGEST"]},
                "history": [{"created": "then", "created_by": "RUN x", "comment": "c", "author": "a"}]}"#,
        )
        .as_bytes(),
    )
    .unwrap();
    assert_eq!(config.platform(), Some(&"linux/arm/v6".parse::<Platform>().unwrap()));
    assert_eq!((config.created(), config.author()), (Some("2024-01-01T00:00:00Z"), Some("somebody")));
    assert_eq!(config.diff_ids(), [Digest::sha256(b"{}")]);
    assert_eq!(config.user(), Some("nobody:nogroup"));
    assert_eq!(config.exposed_ports(), ["443/tcp", "80/tcp"]);
    assert_eq!(config.env(), ["PATH=/bin", "X="]);
    assert_eq!(config.entrypoint(), ["/init"]);
    assert_eq!(config.cmd(), ["serve", "--all"]);
    assert_eq!(config.volumes(), ["/data"]);
    assert_eq!(config.working_dir(), Some("/srv"));
    assert_eq!(
        config.labels().iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
        ["a=b", "empty="]
    );
    assert_eq!(config.stop_signal(), Some("SIGQUIT"));
    let step = &config.history()[0];
    assert_eq!((step.created(), step.created_by()), (Some("then"), Some("RUN x")));
    assert_eq!((step.comment(), step.author(), step.is_empty_layer()), (Some("c"), Some("a"), false));
}

#[test]
fn a_command_may_be_a_single_string() {
    let config = ImageConfig::parse(br#"{"config": {"Cmd": "serve --all", "Entrypoint": null}}"#).unwrap();
    assert_eq!(config.cmd(), ["serve --all"]);
    assert!(config.entrypoint().is_empty());
}

#[test]
fn history_is_matched_to_layers_only_if_the_counts_agree() {
    let created_by = |history: &str, layers: usize| {
        let diff_ids = vec![r#""DIGEST""#; layers].join(",");
        let text =
            document(&format!(r#"{{"rootfs": {{"diff_ids": [{diff_ids}]}}, "history": [{history}]}}"#));
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        (0..3).map(|layer| config.created_by(layer).map(ToOwned::to_owned)).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    let history = r#"{"created_by": "ADD"}, {"created_by": "ENV", "empty_layer": true}, {"created_by": "RUN", "empty_layer": false}"#;
    assert_eq!(created_by(history, 2), [some("ADD"), some("RUN"), None]);
    assert_eq!(created_by(history, 1), [None, None, None]);
    assert_eq!(created_by(history, 3), [None, None, None]);
    assert_eq!(created_by(r#"{}, {"created_by": ""}, {"created_by": "RUN"}"#, 3), [None, None, some("RUN")]);
    assert_eq!(created_by("", 0), [None, None, None]);
}

#[test]
fn the_error_names_the_malformed_field_of_a_configuration() {
    let many = vec!["{}"; limits::DOCUMENT_ITEMS + 1].join(",");
    let layers = vec![r#""x""#; limits::LAYERS + 1].join(",");
    for (text, name) in [
        (r#"{"rootfs": {"diff_ids": ["sha256:00"]}}"#.to_owned(), "rootfs.diff_ids[0]"),
        (r#"{"rootfs": {"diff_ids": [null]}}"#.to_owned(), "rootfs.diff_ids[0]"),
        (r#"{"os": "linux", "architecture": "a\u001bb"}"#.to_owned(), "architecture"),
        (format!(r#"{{"history": [{many}]}}"#), "history"),
        (format!(r#"{{"rootfs": {{"diff_ids": [{layers}]}}}}"#), "rootfs.diff_ids"),
    ] {
        assert_eq!(field(ImageConfig::parse(text.as_bytes()).unwrap_err()).0, name);
    }
    for text in ["", "null", "[]", r#"{"config": []}"#, r#"{"config": {"Env": "X=1"}}"#, r#"{"history": {}}"#]
    {
        assert!(matches!(ImageConfig::parse(text.as_bytes()), Err(ManifestError::Json { .. })), "{text}");
    }
    let size = usize::try_from(limits::CONFIG_BYTES).unwrap() + 1;
    let error = ImageConfig::parse(" ".repeat(size).as_bytes()).unwrap_err();
    assert!(matches!(error, ManifestError::TooLarge { .. }), "{error:?}");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_parser_never_panics(
            text in r#"(\{|\}|\[|\]|,|:|null|-?[0-9]{1,3}|"(config|layers|manifests|size|digest|mediaType|x)"){0,40}"#,
        ) {
            let _ = Manifest::parse(text.as_bytes(), None);
            let _ = ImageConfig::parse(text.as_bytes());
        }
    }
}
