//! Frames with large windows and the permit for them. The content of frames is tested with the other codecs.

use std::{io::Write as _, sync::mpsc, thread, time::Duration};

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn permit(patience: Duration) -> &'static LargeWindow {
    Box::leak(Box::new(LargeWindow::new(patience)))
}

/// A frame with a window of `1 << log` bytes.
fn frame(content: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn unpack(decoder: &mut Decoder, mut blob: &[u8]) -> Result<Vec<u8>, Error> {
    let (mut content, mut output, length) = (Vec::new(), vec![0; 1000], blob.len());
    loop {
        let at = Compressed((length - blob.len()) as u64);
        let start = Position { compressed: at, ..Position::default() };
        match decoder.decompress(&mut blob, &mut output, start, None)?.produced {
            0 => return Ok(content),
            produced => content.extend_from_slice(&output[..produced]),
        }
    }
}

#[test]
fn a_large_window_waits_until_another_decoders_frame_has_ended() {
    let window = permit(LONG);
    let blob = frame(b"content", 24);
    let (begun, ended) = blob.split_at(8);
    let mut first = Decoder::with(window).unwrap();
    assert_eq!(unpack(&mut first, begun).unwrap(), b"");
    let (events, seen) = mpsc::channel();
    thread::scope(|scope| {
        let (sender, blob) = (events.clone(), &blob);
        scope.spawn(move || {
            let content = unpack(&mut Decoder::with(window).unwrap(), blob).unwrap();
            sender.send(("second", content)).unwrap();
        });
        events.send(("first", b"is held".to_vec())).unwrap();
        unpack(&mut first, ended).unwrap();
    });
    drop(events);
    let expected = [("first", b"is held".to_vec()), ("second", b"content".to_vec())];
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_holder_whose_reader_has_paused_is_reported() {
    let window = permit(Duration::ZERO);
    let blob = frame(b"content", 27);
    let mut holder = Decoder::with(window).unwrap();
    unpack(&mut holder, &blob[..blob.len() - 1]).unwrap();
    let error = unpack(&mut Decoder::with(window).unwrap(), &blob).unwrap_err();
    assert!(matches!(error, Error::Busy { at: Compressed(0), window: 0x800_0000, .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("another reader holds it without progress for 0 s"), "{message}");
    // The holder continues where it was.
    unpack(&mut holder, &blob[blob.len() - 1..]).unwrap();
    assert_eq!(unpack(&mut holder, &blob).unwrap(), b"content");
}

#[test]
fn the_end_of_a_frame_and_the_drop_of_its_decoder_release_the_permit() {
    let window = permit(Duration::ZERO);
    let blob = frame(b"content", 24);
    let mut first = Decoder::with(window).unwrap();
    assert_eq!(unpack(&mut first, &blob).unwrap(), b"content");
    let mut second = Decoder::with(window).unwrap();
    unpack(&mut second, &blob[..10]).unwrap();
    assert!(unpack(&mut Decoder::with(window).unwrap(), &blob).is_err());
    drop(second);
    assert_eq!(unpack(&mut Decoder::with(window).unwrap(), &blob).unwrap(), b"content");
}

#[test]
fn windows_up_to_8_mib_never_wait() {
    let window = permit(Duration::ZERO);
    let _held = window.acquire().unwrap();
    let mut decoder = Decoder::with(window).unwrap();
    assert_eq!(unpack(&mut decoder, &frame(b"at the border", 23)).unwrap(), b"at the border");
    let single = ::zstd::bulk::compress(b"one segment", 3).unwrap();
    assert_eq!(unpack(&mut decoder, &single).unwrap(), b"one segment");
    assert!(matches!(unpack(&mut decoder, &frame(b"above", 24)), Err(Error::Busy { .. })));
}

#[test]
fn consecutive_large_frames_decode_however_they_are_split() {
    let window = permit(Duration::ZERO);
    let blob = [frame(b"one ", 24), frame(b"", 25), frame(b"two ", 10), frame(b"three", 27)].concat();
    for step in 1..20 {
        let mut decoder = Decoder::with(window).unwrap();
        let content: Vec<u8> =
            blob.chunks(step).flat_map(|piece| unpack(&mut decoder, piece).unwrap()).collect();
        assert_eq!(content, b"one two three");
        assert!(decoder.at_end());
    }
}

#[test]
fn a_window_above_the_limit_is_reported_as_such() {
    let window = permit(Duration::ZERO);
    let refused = |blob: &[u8]| unpack(&mut Decoder::with(window).unwrap(), blob).unwrap_err();
    // 256 MiB by the window descriptor, and 1 GiB as the content of a single segment.
    for (blob, needed) in [
        (&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x90, 0, 0][..], 256 << 20),
        (&[0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 0][..], 1 << 30),
    ] {
        let error = refused(blob);
        assert!(matches!(error, Error::Window { at: Compressed(0), window } if window == needed), "{error}");
    }
    let message = refused(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x90, 0, 0]).to_string();
    assert!(
        message.ends_with("needs a window of 268435456 bytes, more than the supported 134217728 bytes"),
        "{message}"
    );
}

#[test]
fn an_error_in_a_frames_header_names_the_frames_start() {
    let mut decoder = Decoder::new().unwrap();
    let blob = [&frame(b"content", 20)[..], b"junk"].concat();
    let end = blob.len() - 4;
    let error = unpack(&mut decoder, &blob).unwrap_err().to_string();
    assert!(error.contains(&format!("byte {end} of the blob")), "{error}");
}
