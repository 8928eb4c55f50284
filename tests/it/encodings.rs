//! Unusual but valid blobs of real builders, and invalid ones that must be refused.

use std::fs;

use crate::support::{
    images::{self, Compression, Layer, Layout, Tar, noise},
    inspect::{Failure, block_on, carve, chain, failure, open},
    tools,
};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn archive() -> Vec<u8> {
    Tar::new().directory("d").file("d/f", "content").file("noise", noise(300_000)).finish()
}

fn layout(layer: Layer) -> Layout {
    Layout::of(&images::Image::new().layer(layer))
}

fn stored(tar: &[u8], blob: Vec<u8>) -> Layout {
    layout(Layer::new(tar, Compression::None).media_type(GZIP).blob(blob))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    Compression::Gzip.encode(bytes)
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    Compression::Zstd.encode(bytes)
}

/// Asserts that the file and the whole layer can be read.
fn reads(layout: &Layout) {
    for verify in [false, true] {
        block_on(async {
            let image = open(&layout.reference("latest")).await.unwrap();
            let options = layerslayer::CarveOptions::default().verify(verify);
            let file =
                carve(&image, b"d/f", &options).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
            assert_eq!(file.content, b"content");
            let listing = image.rootfs().await.unwrap();
            assert_eq!(listing.entries().len(), 3);
            assert_eq!(listing.verification(), layerslayer::Verification::Blob);
        });
    }
}

/// Asserts that files and listings fail with this failure and these words.
fn fails(layout: &Layout, expected: Failure, words: &str) {
    let check = |error: layerslayer::Error| {
        let message = chain(&error);
        assert_eq!(failure(&error), expected, "{message}");
        assert!(message.contains(words), "{message}");
    };
    block_on(async {
        for verify in [false, true] {
            match open(&layout.reference("latest")).await {
                Err(error) => check(error),
                Ok(image) => {
                    let options = layerslayer::CarveOptions::default().verify(verify);
                    check(carve(&image, b"d/f", &options).await.unwrap_err());
                    check(image.rootfs().await.unwrap_err());
                    let mut entries = image.layer(0).unwrap().entries();
                    let last = loop {
                        match entries.next().await {
                            Some(Ok(_)) => {}
                            Some(Err(error)) => break error,
                            None => panic!("the entries end without an error"),
                        }
                    };
                    check(last);
                    assert_eq!(entries.verification(), None);
                }
            }
        }
    });
}

#[test]
fn a_layer_may_have_several_gzip_members() {
    let tar = archive();
    let members: Vec<u8> = tar.chunks(10_000).flat_map(gzip).collect();
    reads(&stored(&tar, [members, gzip(b"")].concat()));
}

#[test]
fn a_gzip_header_may_have_every_field() {
    let tar = archive();
    let plain = gzip(&tar);
    let mut header = vec![0x1f, 0x8b, 8, 0b1_1110, 0, 0, 0, 0, 0, 3];
    header.extend([5, 0]);
    header.extend(b"extra");
    header.extend(b"name.tar\0a comment\0");
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    header.extend(&crc.sum().to_le_bytes()[..2]);
    reads(&stored(&tar, [header.as_slice(), &plain[10..]].concat()));
}

#[test]
fn a_layer_may_have_several_zstd_frames_and_skippable_ones() {
    let tar = archive();
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    let frames: Vec<u8> =
        tar.chunks(10_000).flat_map(|part| [zstd(part), skippable.clone()].concat()).collect();
    reads(&stored(&tar, [skippable, frames].concat()));
}

#[test]
fn a_wrong_media_type_is_ignored() {
    let tar = archive();
    for compression in Compression::ALL {
        for media_type in
            [GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip", images::layer::LAYER, "text/plain"]
        {
            reads(&layout(Layer::new(&tar, compression).media_type(media_type)));
        }
    }
}

#[test]
fn zeros_after_the_compressed_data_are_padding() {
    let tar = archive();
    for blob in [gzip(&tar), zstd(&tar)] {
        reads(&stored(&tar, [blob, vec![0; 1_000]].concat()));
    }
}

#[test]
fn zeros_after_the_archive_are_padding_and_its_end_may_be_missing() {
    let tar = || Tar::new().directory("d").file("d/f", "content").file("noise", noise(3_000));
    for archive in [
        [tar().finish(), vec![0; 20_480]].concat(),
        [tar().finish_without_end(), vec![0; 512]].concat(),
        tar().finish_without_end(),
    ] {
        for compression in Compression::ALL {
            reads(&layout(Layer::new(&archive, compression)));
        }
    }
}

#[test]
fn an_empty_blob_is_an_empty_layer() {
    for blob in [Vec::new(), gzip(b""), zstd(b""), vec![0; 1_024]] {
        let tar = if blob.len() == 1_024 { blob.clone() } else { Vec::new() };
        let layout = stored(&tar, blob);
        block_on(async {
            let image = open(&layout.reference("latest")).await.unwrap();
            let error = image.carve("d/f").await.unwrap_err();
            assert_eq!(failure(&error), Failure::NotFound, "{}", chain(&error));
            assert!(image.rootfs().await.unwrap().entries().is_empty());
        });
    }
}

#[test]
fn a_compression_that_is_not_supported_is_named() {
    let tar = archive();
    for (tool, name) in [("bzip2", "bzip2"), ("xz", "xz")] {
        let blob = tools::filter(tools::command(tool).arg("-c"), &tar);
        fails(&stored(&tar, blob), Failure::Other, name);
    }
}

#[test]
fn a_layer_that_is_not_an_archive_is_named_as_such() {
    let json = format!(r#"{{"_type":"https://in-toto.io/Statement/v0.1","subject":"{}"}}"#, "s".repeat(600));
    for bytes in [json.as_bytes(), b"{}"] {
        for blob in [bytes.to_vec(), gzip(bytes)] {
            fails(&stored(bytes, blob), Failure::Other, "not a tar archive");
        }
    }
}

#[test]
fn a_tampered_blob_gives_no_content() {
    let tar = archive();
    for compression in Compression::ALL {
        let layer = Layer::new(&tar, compression);
        let blob = layer.blob.clone();
        let layout = layout(layer.clone());
        let file = layout.blob_file(&layer.digest());
        for at in [blob.len() / 2, blob.len() - 1, 100] {
            let mut tampered = blob.clone();
            tampered[at] ^= 0x20;
            fs::write(&file, tampered).unwrap();
            fails(&layout, Failure::Corrupt, "layer 0");
        }
    }
}

#[test]
fn another_archive_of_the_same_size_gives_no_content() {
    let layer = Layer::new(&archive(), Compression::None);
    let layout = layout(layer.clone());
    let other = Tar::new().directory("d").file("d/f", "another").file("noise", noise(300_000)).finish();
    assert_eq!(other.len(), layer.blob.len());
    fs::write(layout.blob_file(&layer.digest()), other).unwrap();
    fails(&layout, Failure::Corrupt, "hashes to");
}

#[test]
fn a_blob_whose_size_differs_from_its_descriptor_is_corrupt() {
    let layer = Layer::new(&archive(), Compression::Gzip);
    for length in [0, 1, 100, layer.blob.len() - 1, layer.blob.len() + 1] {
        let layout = layout(layer.clone());
        let mut blob = layer.blob.clone();
        blob.resize(length, 0);
        fs::write(layout.blob_file(&layer.digest()), blob).unwrap();
        fails(&layout, Failure::Corrupt, "bytes, but its descriptor says");
    }
}

#[test]
fn a_truncated_blob_with_a_matching_digest_is_corrupt() {
    let tar = archive();
    for compression in Compression::ALL {
        let layer = Layer::new(&tar, compression);
        let blob = layer.blob[..layer.blob.len() - 200_000].to_vec();
        fails(&layout(layer.blob(blob)), Failure::Corrupt, " at ");
    }
}

#[test]
fn a_missing_blob_is_corrupt_and_named() {
    let layer = Layer::new(&archive(), Compression::Gzip);
    let layout = layout(layer.clone());
    fs::remove_file(layout.blob_file(&layer.digest())).unwrap();
    fails(&layout, Failure::Corrupt, &layer.digest());
}

#[test]
fn a_wrong_diff_id_is_corrupt() {
    let other = Layer::new(b"another", Compression::None);
    for compression in Compression::ALL {
        let mut layer = Layer::new(&archive(), compression);
        layer.diff_id.clone_from(&other.diff_id);
        let (digest, diff_id) = (layer.digest(), layer.diff_id.clone());
        let words = match compression {
            // The blob of a plain layer is what the DiffID is of.
            Compression::None => "DiffID".to_owned(),
            _ => format!("the blob matches its digest {digest}, but its DiffID is"),
        };
        let layout = layout(layer);
        fails(&layout, Failure::Corrupt, &words);
        fails(&layout, Failure::Corrupt, &format!("not {diff_id} as the image's configuration says"));
        fails(&layout, Failure::Corrupt, "container runtimes refuse such an image");
    }
}

#[test]
fn junk_after_the_compressed_data_is_corrupt() {
    let tar = archive();
    for blob in [gzip(&tar), zstd(&tar)] {
        fails(&stored(&tar, [blob, b"junk".repeat(10)].concat()), Failure::Corrupt, " at ");
    }
}

#[test]
fn a_large_blob_that_is_not_an_archive_is_hashed_before_the_error() {
    let tar = Tar::new().directory("d").file("d/f", "content").file("noise", noise(3 << 20)).finish();
    let layer = Layer::new(&tar, Compression::None);
    let layout = layout(layer.clone());
    fs::write(layout.blob_file(&layer.digest()), noise(tar.len())).unwrap();
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        for (verify, expected) in [(false, Failure::Other), (true, Failure::Corrupt)] {
            let options = layerslayer::CarveOptions::default().verify(verify);
            let error = carve(&image, b"d/f", &options).await.unwrap_err();
            assert_eq!(failure(&error), expected, "{}", chain(&error));
        }
    });
}

#[test]
fn entries_before_a_damaged_one_come_before_the_error() {
    let mut tar = Tar::new().file("a", "1").file("b", "2").file("c", "3").finish();
    // Invalidates the checksum of the third header.
    tar[2 * 1_024] ^= 1;
    let layout = layout(Layer::new(&tar, Compression::Gzip));
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let mut entries = image.layer(0).unwrap().entries();
        for path in [b"a", b"b"] {
            assert_eq!(entries.next().await.unwrap().unwrap().path, path);
        }
        let error = entries.next().await.unwrap().unwrap_err();
        assert_eq!(failure(&error), Failure::Corrupt, "{}", chain(&error));
        assert!(entries.next().await.is_none());
    });
}
