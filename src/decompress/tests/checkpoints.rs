//! Checkpoints: decoding from each one yields the rest of the stream.

use std::io::Read as _;

use flate2::{FlushCompress, read::MultiGzDecoder};
use proptest::prelude::*;

use super::{
    super::*,
    writers::{Bits, Random, content, flushed, gzip, member, piped, writer},
};

const MIB: usize = 1 << 20;

/// Unpacks `blob` while recording, in pieces of `step` bytes and buffers of `room` bytes.
fn record(blob: &[u8], step: usize, room: usize) -> (Vec<u8>, Vec<Checkpoint>) {
    record_on(Decompressor::new(), blob, step, room)
}

fn record_on(
    mut decompressor: Decompressor,
    blob: &[u8],
    step: usize,
    room: usize,
) -> (Vec<u8>, Vec<Checkpoint>) {
    decompressor.record();
    let start = decompressor.position();
    let (mut content, mut checkpoints, mut output) = (Vec::new(), Vec::new(), vec![0; room]);
    let mut given = 0;
    for mut piece in blob.chunks(step) {
        given += piece.len();
        loop {
            let produced = decompressor.decompress(&mut piece, &mut output).unwrap();
            content.extend_from_slice(&output[..produced]);
            let position = decompressor.position();
            assert_eq!(position.uncompressed.0, start.uncompressed.0 + content.len() as u64);
            // Until the compression is known, the first bytes are kept, not consumed.
            let taken = start.compressed.0 + (given - piece.len()) as u64;
            assert!(position.compressed.0 == taken || taken < MAGIC_BYTES as u64);
            let checkpoint = decompressor.take_checkpoint();
            assert!(checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.at == position));
            if produced == 0 && checkpoint.is_none() {
                assert!(piece.is_empty(), "input remains although nothing was produced");
                break;
            }
            checkpoints.extend(checkpoint);
        }
    }
    loop {
        match decompressor.finish(&mut output).unwrap() {
            0 => break,
            produced => content.extend_from_slice(&output[..produced]),
        }
    }
    assert!(decompressor.take_checkpoint().is_none());
    (content, checkpoints)
}

/// The output from a checkpoint on, with input in pieces of `step` bytes.
fn rest(blob: &[u8], encoding: Encoding, checkpoint: &Checkpoint, step: usize) -> Vec<u8> {
    let mut decompressor = Decompressor::restart(encoding, checkpoint).unwrap();
    assert_eq!(decompressor.position(), checkpoint.at);
    let (mut content, mut output) = (Vec::new(), vec![0; 64 << 10]);
    for mut piece in blob[checkpoint.at.compressed.0 as usize..].chunks(step) {
        loop {
            match decompressor.decompress(&mut piece, &mut output).unwrap() {
                0 => break,
                produced => content.extend_from_slice(&output[..produced]),
            }
        }
    }
    loop {
        match decompressor.finish(&mut output).unwrap() {
            0 => return content,
            produced => content.extend_from_slice(&output[..produced]),
        }
    }
}

/// Records, compares the output with `expected`, and checks the output from every checkpoint.
fn check(blob: &[u8], encoding: Encoding, expected: &[u8], step: usize, room: usize) -> Vec<Checkpoint> {
    let (content, checkpoints) = record(blob, step, room);
    assert!(content == expected, "the output while recording differs");
    for pair in checkpoints.windows(2) {
        assert!(pair[0].at.uncompressed < pair[1].at.uncompressed);
        assert!(pair[0].at.compressed < pair[1].at.compressed);
    }
    for mib in 0..=expected.len() / MIB {
        let within =
            checkpoints.iter().filter(|checkpoint| checkpoint.at.uncompressed.0 as usize / MIB == mib);
        assert!(within.count() <= if mib == 0 { 0 } else { 2 }, "in MiB {mib}");
    }
    for checkpoint in &checkpoints {
        let start = checkpoint.at.uncompressed.0 as usize;
        assert!(
            rest(blob, encoding, checkpoint, step) == expected[start..],
            "from {:?} on the content differs",
            checkpoint.at
        );
    }
    checkpoints
}

fn windows(checkpoints: &[Checkpoint]) -> Vec<usize> {
    checkpoints
        .iter()
        .map(|checkpoint| match &checkpoint.restart {
            Restart::Deflate { window, .. } => window.len(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn ordinary_gzip_has_up_to_two_checkpoints_in_each_mib_after_the_first() {
    let content = content(1, 4 * MIB + 1000);
    for level in [6, 9] {
        let checkpoints = check(&gzip(&content, level), Encoding::Gzip, &content, 64 << 10, 256 << 10);
        assert!((4..=7).contains(&checkpoints.len()), "level {level}: {}", checkpoints.len());
        assert!(windows(&checkpoints).iter().all(|&length| length == WINDOW_BYTES));
    }
}

#[test]
fn decoding_resumes_with_every_number_of_leftover_bits() {
    let content = content(2, 6 * MIB);
    let mut seen = [false; 8];
    for level in 1..=9 {
        for checkpoint in check(&gzip(&content, level), Encoding::Gzip, &content, 100_000, 256 << 10) {
            let Restart::Deflate { bits, value, .. } = checkpoint.restart else { panic!() };
            assert!(u32::from(value) < 1 << bits);
            seen[usize::from(bits)] = true;
        }
    }
    assert_eq!(seen, [true; 8]);
}

#[test]
fn stored_blocks_have_checkpoints_too() {
    let content = Random::new(3).bytes(3 * MIB);
    let checkpoints = check(&gzip(&content, 0), Encoding::Gzip, &content, 10_000, 256 << 10);
    // The last one is before the empty block that ends the stream.
    assert_eq!(checkpoints.len(), 5);
}

#[test]
fn a_block_that_ends_exactly_at_the_mib_gets_a_checkpoint() {
    let content = content(4, 3 * MIB + 5);
    for flush in [FlushCompress::Sync, FlushCompress::Full] {
        let blob = flushed(&content, 6, 256 << 10, flush);
        let checkpoints = check(&blob, Encoding::Gzip, &content, 64 << 10, 256 << 10);
        assert!(checkpoints.iter().any(|checkpoint| checkpoint.at.uncompressed.0 as usize == MIB));
    }
}

#[test]
fn output_of_other_programs_has_checkpoints() {
    let content = content(5, 4 * MIB);
    for (program, arguments) in
        [("gzip", &["-6"][..]), ("pigz", &["-6"]), ("pigz", &["-9", "-b", "512"]), ("pigz", &["-i"])]
    {
        let blob = piped(program, arguments, &content);
        let checkpoints = check(&blob, Encoding::Gzip, &content, 30_000, 256 << 10);
        assert!(checkpoints.len() >= 5, "{program} {arguments:?}: {}", checkpoints.len());
    }
}

#[test]
fn gzip_members_are_checkpoints_once_per_mib_and_need_no_window() {
    let content = content(6, 5 * MIB);
    let small: Vec<u8> = content.chunks(10_000).flat_map(|piece| gzip(piece, 6)).collect();
    let checkpoints = check(&small, Encoding::Gzip, &content, 3_000, 256 << 10);
    assert!(checkpoints.iter().all(|checkpoint| checkpoint.restart == Restart::Member));
    assert_eq!(checkpoints.len(), 4);
    let large: Vec<u8> = content.chunks(MIB + 1).flat_map(|piece| gzip(piece, 6)).collect();
    let checkpoints = check(&large, Encoding::Gzip, &content, 30_000, 256 << 10);
    assert!(checkpoints.iter().any(|checkpoint| checkpoint.restart == Restart::Member));
}

#[test]
fn padding_is_not_a_checkpoint() {
    let content = content(13, MIB);
    let mut blob: Vec<u8> = content.chunks(64 << 10).flat_map(|piece| gzip(piece, 6)).collect();
    blob.extend([0; 100]);
    assert!(check(&blob, Encoding::Gzip, &content, 3_000, 256 << 10).is_empty());
}

#[test]
fn a_window_ends_at_the_start_of_its_member() {
    let content = content(7, 2 * MIB);
    let (before, after) = content.split_at(MIB - 20_000);
    let blob = [gzip(before, 6), flushed(after, 6, 10_000, FlushCompress::Sync)].concat();
    let checkpoints = check(&blob, Encoding::Gzip, &content, 64 << 10, 256 << 10);
    assert_eq!(windows(&checkpoints)[0], 20_000);
}

#[test]
fn zstd_frames_are_checkpoints_once_per_mib() {
    let content = content(8, 5 * MIB);
    let blob: Vec<u8> =
        content.chunks(300_000).flat_map(|piece| ::zstd::encode_all(piece, 3).unwrap()).collect();
    let checkpoints = check(&blob, Encoding::Zstd, &content, 7_000, 256 << 10);
    assert_eq!(checkpoints.len(), 4);
    let one = ::zstd::encode_all(&content[..], 3).unwrap();
    assert!(check(&one, Encoding::Zstd, &content, 64 << 10, 256 << 10).is_empty());
}

#[test]
fn a_plain_blob_has_a_checkpoint_at_every_mib() {
    let content = content(9, 3 * MIB + 1);
    for room in [100_000, 256 << 10, 4 * MIB] {
        let checkpoints = check(&content, Encoding::Plain, &content, 70_000, room);
        let places: Vec<u64> = checkpoints.iter().map(|checkpoint| checkpoint.at.compressed.0).collect();
        assert_eq!(places, [1, 2, 3].map(|mib| mib * MIB as u64));
    }
}

#[test]
fn a_pass_from_a_checkpoint_records_the_following_ones() {
    let content = content(10, 6 * MIB);
    let blob = gzip(&content, 6);
    let (_, checkpoints) = record(&blob, 64 << 10, 256 << 10);
    let first = checkpoints.iter().find(|one| one.at.uncompressed.0 as usize > 2 * MIB).unwrap();
    let decompressor = Decompressor::restart(Encoding::Gzip, first).unwrap();
    let (rest, again) = record_on(decompressor, &blob[first.at.compressed.0 as usize..], 64 << 10, 256 << 10);
    assert!(rest == content[first.at.uncompressed.0 as usize..]);
    let later: Vec<_> =
        checkpoints.iter().filter(|one| one.at.uncompressed.0 as usize > 3 * MIB).cloned().collect();
    assert!(again == later);
}

#[test]
fn members_after_the_first_partial_one_are_checked_again() {
    let content = content(11, 3 * MIB);
    let mut blob = [gzip(&content, 6), gzip(b"more", 6)].concat();
    let (_, checkpoints) = record(&blob, 64 << 10, 256 << 10);
    let last = blob.len() - 5;
    blob[last] ^= 1;
    let mut decompressor = Decompressor::restart(Encoding::Gzip, &checkpoints[0]).unwrap();
    let mut input = &blob[checkpoints[0].at.compressed.0 as usize..];
    let mut output = vec![0; 4 * MIB];
    let error = loop {
        match decompressor.decompress(&mut input, &mut output) {
            Ok(0) => panic!("the broken trailer was accepted"),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    let place = blob.len() - 8;
    assert!(error.contains("CRC-32") && error.contains(&format!("byte {place} of the blob")), "{error}");
}

#[test]
fn an_invalid_checkpoint_is_rejected() {
    let at = Position { compressed: Compressed(7), uncompressed: Uncompressed(9) };
    let deflate = |bits, value, window| Restart::Deflate { bits, value, window: vec![0; window] };
    for (encoding, restart) in [
        (Encoding::Gzip, deflate(8, 0, 0)),
        (Encoding::Gzip, deflate(3, 8, 0)),
        (Encoding::Gzip, deflate(0, 0, WINDOW_BYTES + 1)),
        (Encoding::Gzip, Restart::Frame),
        (Encoding::Plain, Restart::Member),
        (Encoding::Zstd, deflate(0, 0, 0)),
    ] {
        let Err(error) = Decompressor::restart(encoding, &Checkpoint { at, restart }) else {
            panic!("believed")
        };
        assert!(error.to_string().contains("byte 7 of the blob"), "{error}");
    }
}

#[test]
fn one_block_without_an_end_has_no_checkpoints() {
    // One block of fixed codes: a literal, then many matches of maximum length.
    let mut bits = Bits::default();
    bits.push(0b011, 3);
    bits.push(u32::from(0x30_u8).reverse_bits() >> 24, 8);
    let matches = 5 * MIB / 258;
    for _ in 0..matches {
        bits.push(u32::from(0b1100_0101_u8).reverse_bits() >> 24, 8);
        bits.push(0, 5);
    }
    bits.push(0, 7);
    let content = vec![0; 1 + 258 * matches];
    let blob = member(&bits.finish(), &content);
    assert!(check(&blob, Encoding::Gzip, &content, 100, 256 << 10).is_empty());
}

#[test]
fn empty_blocks_yield_no_additional_checkpoints() {
    let content = content(12, 2 * MIB);
    let whole = flushed(&content, 6, 2 * MIB, FlushCompress::Sync);
    let mut bits = Bits::default();
    for _ in 0..400_000 {
        bits.push(0b010, 3);
        bits.push(0, 7);
    }
    // At the byte boundary after the flush, before the empty last block.
    let deflated = &whole[10..whole.len() - 8];
    let (first, last) = deflated.split_at(deflated.len() - 2);
    assert_eq!(last, [3, 0]);
    let blob = member(&[first, &bits.finish(), last].concat(), &content);
    let checkpoints = check(&blob, Encoding::Gzip, &content, 64 << 10, 256 << 10);
    assert!(checkpoints.len() <= 4, "{}", checkpoints.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn decoding_resumes_from_every_checkpoint_of_random_gzip(
        seed in any::<u64>(),
        members in prop::collection::vec((1_usize..3 * MIB, writer()), 1..4),
        step in 1_000_usize..200_000,
        room in 1_000_usize..(512 << 10),
    ) {
        let content = content(seed, members.iter().map(|(length, _)| length).sum());
        let (mut blob, mut left) = (Vec::new(), &content[..]);
        for (length, writer) in members {
            let (now, later) = left.split_at(length);
            blob.extend(writer.write(now));
            left = later;
        }
        let mut oracle = Vec::new();
        MultiGzDecoder::new(&blob[..]).read_to_end(&mut oracle).unwrap();
        prop_assert!(oracle == content);
        check(&blob, Encoding::Gzip, &content, step, room);
    }
}
