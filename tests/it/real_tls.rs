//! Registries over TLS.

use std::fs;

use layerslayer::{Client, Platform};

use crate::support::{
    certificate::Certificate,
    docker_registry::DockerRegistry,
    images::{
        Image, Layout, Tar,
        transport::{Trust, push},
    },
    program::Program,
    tools,
};

const PASSWD: &str = "root:x:0:0::/:/bin/sh\n";

fn secure() -> (DockerRegistry, String) {
    let registry = DockerRegistry::tls();
    let layout = Layout::of(&Image::of([Tar::new().file("etc/passwd", PASSWD).finish()]));
    let reference = format!("{}/tls:1", registry.host());
    push(&layout, "latest", &reference, Trust::Authority(&registry.certificate_folder()));
    (registry, reference)
}

fn carve(reference: &str) -> Program {
    Program::new(["carve", reference, "/etc/passwd"])
}

#[test]
fn a_local_registry_that_speaks_tls_is_detected() {
    let (registry, reference) = secure();
    let by_name = format!("localhost:{}/tls:1", registry.port());
    for reference in [reference, by_name] {
        let ran = carve(&reference).arg("--ca").arg(registry.ca()).run().done();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), PASSWD);
        assert_eq!(ran.stderr, "");
        // `--ca` implies TLS: one request each for the manifest, the configuration and the layer,
        // and no wasted ones.
        assert_eq!(ran.report["requests"], 3);
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_and_the_message_names_the_option() {
    let (_registry, reference) = secure();
    let ran = carve(&reference).run().failed(7).said("self-signed").said("--ca");
    assert!(ran.stdout.is_empty());
    let stranger = Certificate::new();
    carve(&reference).arg("--ca").arg(stranger.path()).run().failed(7).said("certificate");
}

#[test]
fn an_unusable_file_of_authorities_is_named() {
    let folder = tools::temporary_folder();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for file in [empty, folder.path().join("missing.pem")] {
        carve("127.0.0.1:1/a").arg("--ca").arg(&file).run().failed(1).said(tools::text(&file));
    }
}

#[test]
fn plain_http_at_a_tls_port_is_reported_as_such() {
    let (_registry, reference) = secure();
    carve(&reference).arg("--plain-http").run().failed(1).said("HTTP request to an HTTPS server");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_reads_over_tls() {
    let (registry, reference) = secure();
    let client = Client::builder().ca_file(registry.ca()).build().unwrap();
    let image = client.image(&reference.parse().unwrap(), &Platform::default()).await.unwrap();
    let content = image.carve("/etc/passwd").await.unwrap().read_to_end(1 << 20).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&content), PASSWD);
    let stranger = Client::builder().build().unwrap();
    let error = stranger.image(&reference.parse().unwrap(), &Platform::default()).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
}
