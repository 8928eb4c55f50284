//! The codecs alone: the output is not kept, hashed or parsed.
#![expect(unsafe_code, reason = "the C interface is what the pump is measured against")]

use std::{io::Write as _, mem::MaybeUninit};

use libz_rs_sys::{
    Z_NO_FLUSH, Z_OK, Z_STREAM_END, inflate as step, inflateEnd, inflateInit2_, z_stream, zlibVersion,
};
use zstd::stream::raw::{Decoder, Operation as _};

/// Unpacked bytes written at a time, as in a pass.
const BUFFER_BYTES: usize = 256 << 10;

/// Window bits that mean gzip with the largest window.
const GZIP_WINDOW_BITS: i32 = 15 + 16;

/// Compresses as image builders do by default.
pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(content).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// Compresses as image builders do by default.
pub(crate) fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(content, 3).expect("zstd")
}

/// Inflates a gzip member through the C interface, CRC-32 included; returns the unpacked length.
pub(crate) fn inflate(blob: &[u8]) -> u64 {
    let mut stream = MaybeUninit::<z_stream>::zeroed();
    let size = size_of::<z_stream>() as i32;
    // SAFETY: a zeroed z_stream uses the default allocator.
    let status = unsafe { inflateInit2_(stream.as_mut_ptr(), GZIP_WINDOW_BITS, zlibVersion(), size) };
    assert_eq!(status, Z_OK);
    // SAFETY: all-zero bytes are a valid z_stream, and inflateInit2_ has initialised it.
    let stream = unsafe { stream.assume_init_mut() };
    let mut output = vec![0; BUFFER_BYTES];
    stream.next_in = blob.as_ptr().cast_mut();
    stream.avail_in = u32::try_from(blob.len()).expect("a blob below 4 GiB");
    let mut total = 0;
    loop {
        stream.next_out = output.as_mut_ptr();
        stream.avail_out = BUFFER_BYTES as u32;
        // SAFETY: next_in and next_out point to avail_in and avail_out bytes.
        let status = unsafe { step(stream, Z_NO_FLUSH) };
        total += BUFFER_BYTES as u64 - u64::from(stream.avail_out);
        if status == Z_STREAM_END {
            break;
        }
        assert_eq!(status, Z_OK);
    }
    // SAFETY: the stream was initialised and is not used again.
    unsafe { inflateEnd(stream) };
    total
}

/// Unpacks a zstd frame; returns the unpacked length.
pub(crate) fn unzstd(blob: &[u8]) -> u64 {
    let mut decoder = Decoder::new().expect("zstd");
    let (mut input, mut output, mut total) = (blob, vec![0; BUFFER_BYTES], 0);
    loop {
        let status = decoder.run_on_buffers(input, &mut output).expect("a valid frame");
        input = input.get(status.bytes_read..).unwrap_or_default();
        total += status.bytes_written as u64;
        if status.remaining == 0 {
            return total;
        }
    }
}

/// Copies in pieces, as a pass does with a plain layer before it is parsed.
pub(crate) fn copy(blob: &[u8]) -> u64 {
    let mut output = vec![0; BUFFER_BYTES];
    for piece in blob.chunks(BUFFER_BYTES) {
        if let Some(target) = output.get_mut(..piece.len()) {
            target.copy_from_slice(piece);
        }
        std::hint::black_box(&mut output);
    }
    blob.len() as u64
}
