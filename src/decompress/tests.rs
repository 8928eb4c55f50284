//! The codecs against independent writers: flate2 and zstd in process, with GNU gzip's behaviour for padding and members.

use std::io::Write as _;

use flate2::{Compression, GzBuilder, write::GzEncoder};
use proptest::prelude::*;

use super::*;

mod checkpoints;
pub(crate) mod writers;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Decompresses `blob` in pieces of `step` bytes with an output buffer of `room` bytes.
fn unpack_in(blob: &[u8], step: usize, room: usize) -> Result<Vec<u8>, Error> {
    let mut decompressor = Decompressor::new();
    let mut content = Vec::new();
    let mut output = vec![0; room];
    for mut piece in blob.chunks(step) {
        loop {
            let produced = decompressor.decompress(&mut piece, &mut output)?;
            content.extend_from_slice(&output[..produced]);
            if produced == 0 {
                assert!(piece.is_empty(), "input remains although nothing was produced");
                break;
            }
        }
    }
    loop {
        match decompressor.finish(&mut output)? {
            0 => return Ok(content),
            produced => content.extend_from_slice(&output[..produced]),
        }
    }
}

fn unpack(blob: &[u8]) -> Result<Vec<u8>, Error> {
    unpack_in(blob, 64 << 10, 256 << 10)
}

#[test]
fn an_empty_blob_is_an_empty_layer() {
    assert_eq!(unpack(b"").unwrap(), b"");
}

#[test]
fn a_plain_blob_shorter_than_any_magic_number_is_complete() {
    assert_eq!(unpack(b"abc").unwrap(), b"abc");
    assert_eq!(unpack_in(b"abc", 1, 1).unwrap(), b"abc");
}

#[test]
fn a_blob_may_have_several_gzip_members() {
    let blob = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
    assert_eq!(unpack(&blob).unwrap(), b"one two");
}

#[test]
fn every_gzip_header_field_is_skipped() {
    let mut encoder = GzBuilder::new()
        .extra(vec![7; 300])
        .filename("a name")
        .comment("a comment")
        .mtime(1)
        .write(Vec::new(), Compression::best());
    encoder.write_all(b"content").unwrap();
    assert_eq!(unpack(&encoder.finish().unwrap()).unwrap(), b"content");
}

#[test]
fn an_empty_extra_field_is_skipped() {
    let plain = gzip(b"content");
    let blob = [&[0x1f, 0x8b, 8, FLAG_EXTRA, 0, 0, 0, 0, 0, 255, 0, 0], &plain[10..]].concat();
    assert_eq!(unpack_in(&blob, 1, 3).unwrap(), b"content");
}

const FLAG_EXTRA: u8 = 4;
const FLAG_HEADER_CRC: u8 = 2;

#[test]
fn a_gzip_header_crc_is_checked() {
    let plain = gzip(b"content");
    let header = [0x1f, 0x8b, 8, FLAG_HEADER_CRC, 0, 0, 0, 0, 0, 255];
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    let sum = (crc.sum() as u16).to_le_bytes();
    let good = [&header[..], &sum, &plain[10..]].concat();
    assert_eq!(unpack(&good).unwrap(), b"content");
    let bad = [&header[..], &[!sum[0], sum[1]], &plain[10..]].concat();
    assert!(unpack(&bad).unwrap_err().to_string().contains("CRC of a gzip header"));
}

#[test]
fn zero_padding_after_the_last_member_or_frame_is_ignored() {
    let gzipped = [gzip(b"content"), vec![0; 1000]].concat();
    assert_eq!(unpack_in(&gzipped, 7, 100).unwrap(), b"content");
    let frames = [::zstd::encode_all(&b"content"[..], 3).unwrap(), vec![0; 1000]].concat();
    assert_eq!(unpack(&frames).unwrap(), b"content");
}

#[test]
fn other_bytes_after_the_last_member_are_an_error_with_their_offset() {
    let mut blob = gzip(b"content");
    let end = blob.len();
    blob.extend_from_slice(b"junk after the end");
    let message = unpack(&blob).unwrap_err().to_string();
    assert!(message.contains(&format!("byte {end} of the blob")), "{message}");
    let mut padded = gzip(b"content");
    padded.extend_from_slice(b"\0\0junk");
    assert!(unpack(&padded).is_err());
}

#[test]
fn a_wrong_crc_or_length_is_an_error() {
    let whole = gzip(b"content");
    for back in 1..=8 {
        let mut blob = whole.clone();
        let at = blob.len() - back;
        blob[at] ^= 1;
        assert!(matches!(unpack(&blob), Err(Error::Corrupt { .. })), "byte {back} from the end");
    }
}

#[test]
fn a_truncated_blob_is_an_error() {
    let gzipped = gzip(&[b'x'; 1000]);
    let frame = ::zstd::encode_all(&[b'x'; 1000][..], 3).unwrap();
    for cut in 2..gzipped.len() {
        assert!(unpack(&gzipped[..cut]).is_err(), "gzip cut at {cut}");
    }
    for cut in 4..frame.len() {
        assert!(unpack(&frame[..cut]).is_err(), "zstd cut at {cut}");
    }
}

#[test]
fn a_blob_may_have_several_zstd_frames_with_skippable_ones_in_between() {
    let frame = |content: &[u8]| ::zstd::encode_all(content, 3).unwrap();
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"extra"].concat();
    let blob = [skippable.clone(), frame(b"one "), skippable, frame(b""), frame(b"two")].concat();
    assert_eq!(unpack_in(&blob, 3, 2).unwrap(), b"one two");
}

#[test]
fn repeated_calls_without_input_change_nothing() {
    let content = writers::content(5, 300_000);
    for blob in [gzip(&content), ::zstd::encode_all(&content[..], 3).unwrap(), content.clone()] {
        let mut decompressor = Decompressor::new();
        let (mut unpacked, mut output) = (Vec::new(), vec![0; 1_000]);
        for piece in blob.chunks(20_000) {
            for mut input in [piece].into_iter().chain([&[][..]; 100]) {
                while let produced @ 1.. = decompressor.decompress(&mut input, &mut output).unwrap() {
                    unpacked.extend_from_slice(&output[..produced]);
                }
            }
        }
        while let produced @ 1.. = decompressor.finish(&mut output).unwrap() {
            unpacked.extend_from_slice(&output[..produced]);
        }
        assert!(unpacked == content);
    }
}

#[test]
fn a_flipped_bit_in_a_checksummed_zstd_frame_is_an_error() {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(b"content that is checked").unwrap();
    let mut blob = encoder.finish().unwrap();
    let last = blob.len() - 1;
    blob[last] ^= 1;
    assert!(matches!(unpack(&blob), Err(Error::Corrupt { .. })));
}

#[test]
fn unsupported_compressions_are_named() {
    let named = |blob: &[u8]| unpack(blob).unwrap_err().to_string();
    assert!(named(b"BZh91AY&SY\0\0\0\0").contains("bzip2"));
    assert!(named(b"\xfd7zXZ\0\0\0\0\0\0").contains("xz"));
    assert!(named(b"\x04\x22\x4d\x18\0\0\0\0\0\0").contains("lz4"));
}

#[test]
fn a_plain_tar_whose_first_name_looks_like_bzip2_is_still_plain() {
    assert_eq!(unpack(b"BZh9 notes.txt").unwrap(), b"BZh9 notes.txt");
}

/// The output of a blob before its error, and whether it has none.
fn before_error(blob: &[u8], step: usize, room: usize, records: bool) -> (Vec<u8>, bool) {
    let mut decompressor = Decompressor::new();
    if records {
        decompressor.record();
    }
    let (mut content, mut output) = (Vec::new(), vec![0; room]);
    for mut piece in blob.chunks(step) {
        loop {
            let Ok(produced) = decompressor.decompress(&mut piece, &mut output) else {
                return (content, false);
            };
            content.extend_from_slice(&output[..produced]);
            if produced == 0 && decompressor.take_checkpoint().is_none() {
                break;
            }
        }
    }
    loop {
        match decompressor.finish(&mut output) {
            Ok(0) => return (content, true),
            Ok(produced) => content.extend_from_slice(&output[..produced]),
            Err(_) => return (content, false),
        }
    }
}

#[test]
fn an_invalid_block_does_not_lose_output_of_the_blocks_before_it() {
    let blob = ::zstd::encode_all(&*writers::Random::new(3).bytes(400_000), 3).unwrap();
    // Noise is stored. One of these offsets is the third block's header, after the frame's header and two whole blocks.
    let of_damaged = (5..15).map(|header| {
        let mut blob = blob.clone();
        blob[header + 2 * (3 + (128 << 10))] |= 0b110;
        let whole = before_error(&blob, usize::MAX, 1 << 20, false);
        assert!(before_error(&blob, 1_000, 1 << 20, true) == whole);
        (whole.0.len(), whole.1)
    });
    assert!(of_damaged.collect::<Vec<_>>().contains(&(256 << 10, false)));
    // A gzip header, a stored block, and the start of a block of an invalid type.
    let blob = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", &b"\0\x07\0\xf8\xffcontent"[..], &[0b110]].concat();
    for (step, records) in [(1, false), (1, true), (100, false), (100, true)] {
        assert_eq!(before_error(&blob, step, 1_000, records), (b"content".to_vec(), false));
    }
}

#[test]
fn no_blob_unpacks_to_more_than_its_encoding_allows() {
    let zeros = vec![0; 64 << 20];
    for (encoding, blob) in [
        (Encoding::Gzip, gzip(&zeros)),
        (Encoding::Zstd, ::zstd::encode_all(&zeros[..], 19).unwrap()),
        (Encoding::Plain, zeros.clone()),
    ] {
        let most = encoding.max_unpacked(blob.len() as u64);
        assert!(most >= zeros.len() as u64, "{encoding}: {most}");
        assert!(most <= 8 * zeros.len() as u64, "{encoding}: {most} is no useful bound");
        assert_eq!(encoding.max_unpacked(0), 0);
    }
    assert_eq!(Encoding::Zstd.max_unpacked(u64::MAX), u64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_output_before_an_error_does_not_depend_on_how_the_blob_is_split(
        seed in any::<u64>(),
        length in 0_usize..700_000,
        damage in prop::option::of((any::<prop::sample::Index>(), 1_u8.., 1_usize..200)),
        cut in any::<prop::sample::Index>(),
        steps in prop::collection::vec((500_usize..90_000, 5_000_usize..300_000), 2),
        zstandard in any::<bool>(),
    ) {
        let content = writers::content(seed, length);
        let mut blob = if zstandard { ::zstd::encode_all(&content[..], 3).unwrap() } else { gzip(&content) };
        if let Some((at, bits, length)) = damage {
            let at = at.index(blob.len());
            blob.iter_mut().skip(at).take(length).for_each(|byte| *byte ^= bits);
        } else {
            blob.truncate(cut.index(blob.len()));
        }
        let whole = before_error(&blob, usize::MAX, 1 << 20, false);
        for (step, room) in steps {
            for records in [false, true] {
                let pieces = before_error(&blob, step, room, records);
                prop_assert_eq!(pieces.0.len(), whole.0.len(), "{} {} {}", step, room, records);
                prop_assert!(pieces == whole, "{} {} {}", step, room, records);
            }
        }
    }

    #[test]
    fn random_content_round_trips_however_it_is_split(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..4),
        step in 1_usize..500,
        room in 1_usize..5000,
        level in 0_u32..10,
    ) {
        let content = pieces.concat();
        let gzipped: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
                encoder.write_all(piece).unwrap();
                encoder.finish().unwrap()
            })
            .collect();
        let frames: Vec<u8> =
            pieces.iter().flat_map(|piece| ::zstd::encode_all(&piece[..], 3).unwrap()).collect();
        prop_assert_eq!(&unpack_in(&gzipped, step, room).unwrap(), &content);
        prop_assert_eq!(&unpack_in(&frames, step, room).unwrap(), &content);
    }

    #[test]
    fn mutated_blobs_never_panic(
        content in prop::collection::vec(any::<u8>(), 0..2000),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        zstandard in any::<bool>(),
    ) {
        let mut blob = if zstandard { ::zstd::encode_all(&content[..], 3).unwrap() } else { gzip(&content) };
        for (at, byte) in flips {
            let at = at.index(blob.len());
            blob[at] = byte;
        }
        let _ = unpack_in(&blob, 100, 1000);
    }
}
