//! Images in archives, as skopeo writes them and as old versions of `docker save` did.

use std::{fs, path::Path};

use layerslayer::{Client, Digest, Limits, Platform, Verification};
use serde_json::json;

use crate::support::{
    images::{Compression, Image, Layer, Layout, Tar, layout::architecture, noise, transport},
    inspect::{Failure, block_on, carve, chain, failure, open},
    tools,
};

fn image(content: &str) -> Image {
    let base = Tar::new().file("f", "base").file("gone", "").symlink("link", "f").finish();
    let top = Tar::new().file("f", content).whiteout("gone").finish();
    Image::new().layer(Layer::new(&base, Compression::Gzip)).layer(Layer::new(&top, Compression::Gzip))
}

/// Asserts that this is the image of [`image`] with this content.
fn has_image(reference: &str, content: &str) {
    block_on(async {
        let image = open(reference).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        for verify in [false, true] {
            let options = layerslayer::CarveOptions::default().verify(verify);
            let file = carve(&image, b"/link", &options).await.unwrap();
            assert_eq!(String::from_utf8(file.content).unwrap(), content, "{reference}");
            assert!(file.layer == 1 && file.outcome.verification >= Verification::Span, "{reference}");
            assert_eq!(failure(&carve(&image, b"gone", &options).await.unwrap_err()), Failure::Deleted);
        }
        let names: Vec<_> =
            image.rootfs().await.unwrap().entries().into_iter().map(|found| found.entry.path).collect();
        assert_eq!(names, [b"f".to_vec(), b"link".to_vec()], "{reference}");
    });
}

fn fails(reference: &str, expected: Failure, words: &str) {
    let error = block_on(async {
        match open(reference).await {
            Err(error) => error,
            Ok(image) => carve(&image, b"f", &Default::default()).await.unwrap_err(),
        }
    });
    assert_eq!(failure(&error), expected, "{}", chain(&error));
    assert!(chain(&error).contains(words), "{}", chain(&error));
}

fn gzip(file: &Path) -> String {
    let compressed = file.with_extension("tar.gz");
    fs::write(&compressed, Compression::Gzip.encode(&fs::read(file).unwrap())).unwrap();
    tools::text(&compressed).to_owned()
}

#[test]
fn an_archived_layout_is_read_plain_or_compressed() {
    let folder = tools::temporary_folder();
    let file = folder.path().join("image.tar");
    transport::save_oci_archive(&Layout::of(&image("content")), "latest", &file);
    let (plain, compressed) = (tools::text(&file), gzip(&file));
    for path in [plain, &compressed] {
        for suffix in ["", ":latest"] {
            has_image(&format!("oci-archive:{path}{suffix}"), "content");
        }
        fails(&format!("oci-archive:{path}:other"), Failure::NoSuchImage, "latest");
    }
}

#[test]
fn a_compressed_archive_unpacks_to_at_most_the_limit_of_the_caller() {
    let folder = tools::temporary_folder();
    let file = folder.path().join("image.tar");
    transport::save_oci_archive(&Layout::of(&image("content")), "latest", &file);
    let (size, compressed) = (fs::metadata(&file).unwrap().len(), gzip(&file));
    let opened = |limit: u64| {
        let limits = Limits::default().with_unpacked_archive_bytes(limit);
        let client = Client::builder().limits(limits).build().unwrap();
        let reference = format!("oci-archive:{compressed}").parse().unwrap();
        block_on(async { client.image(&reference, &Platform::default()).await.map(|_| ()) })
    };
    opened(size).unwrap();
    let message = chain(&opened(size - 1).unwrap_err());
    assert!(message.contains(&format!("unpacks to more than {} bytes", size - 1)), "{message}");
}

#[test]
fn a_layer_with_more_entries_than_the_limit_of_the_caller_fails() {
    let folder = tools::temporary_folder();
    let file = folder.path().join("image.tar");
    let tar = (0..100).fold(Tar::new(), |tar, number| tar.file(format!("file-{number}"), "x")).finish();
    let image = Image::new().layer(Layer::new(&tar, Compression::Gzip));
    transport::save_oci_archive(&Layout::of(&image), "latest", &file);
    let listed = |limit: u64| {
        let limits = Limits::default().with_layer_entries_bytes(limit);
        let client = Client::builder().limits(limits).build().unwrap();
        let reference = format!("oci-archive:{}", tools::text(&file)).parse().unwrap();
        block_on(async {
            let image = client.image(&reference, &Platform::default()).await?;
            image.rootfs().await.map(|_| ())
        })
    };
    listed(10_000).unwrap();
    let message = chain(&listed(5_000).unwrap_err());
    assert!(
        message.contains("the entries of the layer take more than 5000 bytes of memory: \"file-"),
        "{message}"
    );
}

#[test]
fn a_saved_image_is_found_by_name_or_position() {
    let folder = tools::temporary_folder();
    let file = folder.path().join("image.tar");
    transport::save_docker_archive(&Layout::of(&image("content")), "latest", &file, "example/one:1");
    let (plain, compressed) = (tools::text(&file), gzip(&file));
    for path in [plain, &compressed] {
        for suffix in ["", ":example/one:1", ":docker.io/example/one:1", ":@0"] {
            has_image(&format!("docker-archive:{path}{suffix}"), "content");
        }
        fails(&format!("docker-archive:{path}:example/two:1"), Failure::NoSuchImage, "example/one:1");
        fails(&format!("docker-archive:{path}:@1"), Failure::NoSuchImage, "example/one:1");
    }
}

/// An archive as `docker save` wrote it before version 25: one folder per layer, and a link if two images share a layer.
fn docker_save(images: &[(&str, &[&str])], layers: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Tar::new();
    let mut stored: Vec<&str> = Vec::new();
    let mut manifest = Vec::new();
    for (number, (name, names)) in images.iter().enumerate() {
        let mut files = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in *names {
            let tar = layers.iter().find(|(name, _)| name == layer).unwrap().1;
            diff_ids.push(Digest::sha256(tar).to_string());
            let folder = format!("{number}{layer}");
            archive = archive.directory(&folder).file(format!("{folder}/VERSION"), "1.0");
            let file = format!("{folder}/layer.tar");
            let first = stored.iter().position(|stored| stored == layer);
            archive = match first {
                Some(_) => archive.symlink(&file, format!("../0{layer}/layer.tar")),
                None => archive.file(&file, tar),
            };
            stored.push(layer);
            files.push(file);
        }
        let config = json!({ "architecture": architecture(), "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        archive = archive.file(format!("{number}.json"), config.to_string());
        manifest.push(json!({ "Config": format!("{number}.json"), "RepoTags": [name], "Layers": files }));
    }
    archive.file("manifest.json", json!(manifest).to_string()).finish()
}

fn write(folder: &Path, archive: &[u8]) -> String {
    let file = folder.join("saved.tar");
    fs::write(&file, archive).unwrap();
    tools::text(&file).to_owned()
}

#[test]
fn an_old_archive_of_several_images_links_shared_layers() {
    let base = Tar::new().file("f", "base").file("gone", "").symlink("link", "f").finish();
    let [one, two] = ["one", "two"].map(|content| Tar::new().file("f", content).whiteout("gone").finish());
    let archive = docker_save(
        &[("example/one:1", &["base", "one"]), ("example/two:2", &["base", "two"])],
        &[("base", &base), ("one", &one), ("two", &two)],
    );
    let folder = tools::temporary_folder();
    let path = write(folder.path(), &archive);
    has_image(&format!("docker-archive:{path}:example/one:1"), "one");
    has_image(&format!("docker-archive:{path}:example/two:2"), "two");
    has_image(&format!("docker-archive:{path}:@1"), "two");
    fails(&format!("docker-archive:{path}"), Failure::NoSuchImage, "example/two:2");
}

#[test]
fn a_saved_layer_is_checked_against_its_diff_id() {
    let tar = |content: &str| Tar::new().file("f", content).file("noise", noise(3 << 20)).finish();
    let (original, forged) = (tar("good"), tar("evil"));
    let archive = docker_save(&[("example/one:1", &["base"])], &[("base", &original)]);
    let start = archive.windows(original.len()).position(|window| window == original).unwrap();
    let mut tampered = archive.clone();
    tampered[start..start + forged.len()].copy_from_slice(&forged);
    let folder = tools::temporary_folder();
    let path = format!("docker-archive:{}", write(folder.path(), &tampered));
    block_on(async {
        let image = open(&path).await.unwrap();
        let early = carve(&image, b"f", &Default::default()).await.unwrap();
        assert_eq!(
            (early.content.as_slice(), early.outcome.verification),
            (&b"evil"[..], Verification::None)
        );
        let error =
            carve(&image, b"f", &layerslayer::CarveOptions::default().verify(true)).await.unwrap_err();
        assert_eq!(failure(&error), Failure::Corrupt, "{}", chain(&error));
    });
}

#[test]
fn files_that_are_not_image_archives_are_named_as_such() {
    let folder = tools::temporary_folder();
    let path = write(folder.path(), &Tar::new().file("readme", "").finish());
    fails(&format!("docker-archive:{path}"), Failure::NoSuchImage, "manifest.json");
    fails(&format!("oci-archive:{path}"), Failure::NoSuchImage, "index.json");
    fails(&format!("oci:{}", tools::text(folder.path())), Failure::NoSuchImage, "index.json");
    fails("oci:/no/such/folder", Failure::NoSuchImage, "/no/such/folder");
    fails("docker-archive:/no/such/file", Failure::NoSuchImage, "/no/such/file");
    let path = write(folder.path(), &[7; 2_000]);
    for transport in ["docker-archive", "oci-archive"] {
        let problem = "not a tar archive: no header at byte 0 of the unpacked archive";
        fails(&format!("{transport}:{path}"), Failure::Other, problem);
    }
    let archive = docker_save(&[("example/one:1", &["base"])], &[("base", &Tar::new().finish())]);
    // The last occurrence of the name is in manifest.json.
    let name = b"0base/layer.tar";
    let start = archive.windows(name.len()).rposition(|window| window == name).unwrap();
    let mut lacking = archive;
    lacking[start..start + name.len()].copy_from_slice(b"0base/other.tar");
    let path = write(folder.path(), &lacking);
    fails(&format!("docker-archive:{path}"), Failure::Corrupt, "0base/other.tar");
}

#[test]
fn an_image_under_two_names_is_one_image() {
    let mut layout = Layout::new();
    let descriptor = layout.image(&image("content"));
    layout.tag("one", descriptor.clone());
    layout.tag("two", descriptor.clone());
    layout.tag("", layout.attestation(&descriptor));
    for suffix in ["", ":one", ":two"] {
        has_image(&format!("oci:{}{suffix}", tools::text(layout.path())), "content");
    }
    let other = layout.image(&image("other"));
    layout.tag("three", other);
    fails(&format!("oci:{}", tools::text(layout.path())), Failure::NoSuchImage, "exactly one image");
}

#[test]
fn descriptors_with_one_name_and_different_platforms_are_one_image() {
    for tag in ["", "latest"] {
        let mut layout = Layout::new();
        for (architecture, content) in [("s390x", "other"), (architecture(), "content")] {
            let descriptor = layout.image(&image(content).platform("linux", architecture, ""));
            layout.tag(tag, descriptor);
        }
        has_image(&format!("oci:{}", tools::text(layout.path())), "content");
        if !tag.is_empty() {
            has_image(&layout.reference(tag), "content");
        }
    }
    let mut layout = Layout::new();
    for architecture in ["s390x", "riscv64"] {
        let descriptor = layout.image(&image("other").platform("linux", architecture, ""));
        layout.tag("", descriptor);
    }
    fails(&format!("oci:{}", tools::text(layout.path())), Failure::NoSuchImage, "linux/riscv64, linux/s390x");
}

#[test]
fn a_local_image_is_read_with_one_blocking_thread() {
    let layout = Layout::of(&image("content"));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    let read = async {
        let image = open(&layout.reference("latest")).await.unwrap();
        carve(&image, b"f", &Default::default()).await.unwrap().content
    };
    let within = std::time::Duration::from_secs(60);
    let content = runtime.block_on(async { tokio::time::timeout(within, read).await });
    assert_eq!(content.expect("decoding leaves no thread for reading"), b"content");
}

#[test]
fn a_saved_image_may_be_listed_once_per_name_and_its_paths_may_start_with_a_dot() {
    let layer = Tar::new().file("f", "base").file("gone", "").symlink("link", "f").finish();
    let top = Tar::new().file("f", "content").whiteout("gone").finish();
    let config = json!({ "architecture": architecture(), "os": "linux", "rootfs": { "type": "layers",
        "diff_ids": [Digest::sha256(&layer).to_string(), Digest::sha256(&top).to_string()] } });
    let item =
        |name| json!({ "Config": "./config.json", "RepoTags": [name], "Layers": ["./base.tar", "top.tar"] });
    let archive =
        Tar::new().file("config.json", config.to_string()).file("base.tar", &layer).file("top.tar", &top);
    let manifest = json!([item("example/one:1"), item("example/two:2")]);
    let folder = tools::temporary_folder();
    let path = write(folder.path(), &archive.file("manifest.json", manifest.to_string()).finish());
    for suffix in ["", ":example/two:2"] {
        has_image(&format!("docker-archive:{path}{suffix}"), "content");
    }
}
