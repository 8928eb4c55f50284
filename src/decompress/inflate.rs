//! Raw deflate streams (RFC 1951), by zlib-rs through its C interface, which can stop at block ends and start between blocks.

#![expect(unsafe_code, reason = "only the C interface can stop at block ends and prime the bit buffer")]

use std::{
    alloc::{Layout, handle_alloc_error},
    ffi::{CStr, c_int, c_uint},
    ptr,
};

use libz_rs_sys::{
    Z_BLOCK, Z_BUF_ERROR, Z_DATA_ERROR, Z_NO_FLUSH, Z_OK, Z_STREAM_END, inflate, inflateEnd,
    inflateGetDictionary, inflateInit2_, inflatePrime, inflateReset, inflateSetDictionary, z_stream,
    zlibVersion,
};

/// Unpacked bytes that a deflate stream can refer back to.
pub(crate) const WINDOW_BYTES: usize = 32 << 10;

/// Window bits that mean a raw stream with the largest window.
const RAW: c_int = -15;

/// `data_type`: the inflater is right after a block.
const AFTER_BLOCK: c_int = 0x80;

/// `data_type`: all but the number of leftover bits, if that is at most 7. Includes the flag of the last block.
const ALL_BUT_BITS: c_int = !7;

/// Inflates one raw deflate stream after another.
pub(super) struct Inflate {
    /// Boxed, because an implementation of the C interface may keep a pointer to it.
    stream: Box<z_stream>,
    /// The last compressed byte that was consumed.
    last: u8,
}

/// What one step of [`Inflate`] did.
#[derive(Debug)]
pub(super) struct Step {
    /// Compressed bytes consumed.
    pub(super) consumed: usize,
    /// Bytes of output written.
    pub(super) produced: usize,
    /// Why it stopped.
    pub(super) stop: Stop,
}

/// Why a step stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// A block has ended, and another follows.
    BlockEnd {
        /// How many bits of the last consumed byte belong to the next block, `0..=7`.
        bits: u8,
        /// These bits, in the low end.
        value: u8,
    },
    /// The deflate stream has ended.
    End,
    /// There is no more input or no room for output.
    Full,
}

impl Inflate {
    /// An inflater at the start of a stream.
    pub(super) fn new() -> Self {
        let mut stream = Box::new(z_stream::default());
        // SAFETY: `stream` is a valid z_stream whose allocator is unset or zlib-rs' own, which uses Rust's global
        // allocator. The version and the size are the library's own.
        let status =
            unsafe { inflateInit2_(&mut *stream, RAW, zlibVersion(), size_of::<z_stream>() as c_int) };
        if status != Z_OK {
            // The arguments are constant and valid, so only an allocation can fail.
            handle_alloc_error(Layout::new::<z_stream>());
        }
        Self { stream, last: 0 }
    }

    /// Resets the inflater for another stream; its memory is reused.
    pub(super) fn reset(&mut self) {
        // SAFETY: `stream` was initialised by `inflateInit2_` and is ended in `drop` only.
        unsafe { inflateReset(&mut *self.stream) };
        self.last = 0;
    }

    /// Continues between two blocks: `bits` and `value` as in [`Stop::BlockEnd`], `window` the unpacked bytes before.
    pub(super) fn resume(&mut self, bits: u8, value: u8, window: &[u8]) {
        self.reset();
        let skip = window.len().saturating_sub(WINDOW_BYTES);
        let window = window.get(skip..).unwrap_or_default();
        // SAFETY: as in `reset`.
        unsafe { inflatePrime(&mut *self.stream, c_int::from(bits & 7), c_int::from(value)) };
        // SAFETY: as in `reset`; `window` is valid for reads of its length, at most 32 KiB, and is copied.
        unsafe { inflateSetDictionary(&mut *self.stream, window.as_ptr(), window.len() as c_uint) };
    }

    /// Inflates as much as `input` and `output` allow. The error describes what is wrong with the stream.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        self.run(input, output, Z_NO_FLUSH)
    }

    /// The same, but stops at the end of the current block.
    pub(super) fn step_in_block(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        self.run(input, output, Z_BLOCK)
    }

    /// The last unpacked bytes of the stream, as many as later bytes may refer to.
    pub(super) fn window(&self) -> Vec<u8> {
        let mut window = vec![0; WINDOW_BYTES];
        let mut length: c_uint = 0;
        // SAFETY: as in `reset`; `window` is valid for writes of 32 KiB, the most that is written.
        unsafe { inflateGetDictionary(&*self.stream, window.as_mut_ptr(), &mut length) };
        window.truncate(length as usize);
        window
    }

    fn run(&mut self, input: &[u8], output: &mut [u8], flush: c_int) -> Result<Step, String> {
        let (offered, room) = (capped(input.len()), capped(output.len()));
        self.stream.next_in = input.as_ptr();
        self.stream.avail_in = offered;
        self.stream.next_out = output.as_mut_ptr();
        self.stream.avail_out = room;
        // SAFETY: as in `reset`; `next_in` is valid for reads of `avail_in` bytes and `next_out` for writes of
        // `avail_out` bytes, neither exceeds its slice, and both slices outlive the call.
        let status = unsafe { inflate(&mut *self.stream, flush) };
        let consumed = offered.saturating_sub(self.stream.avail_in) as usize;
        let produced = room.saturating_sub(self.stream.avail_out) as usize;
        self.stream.next_in = ptr::null();
        self.stream.avail_in = 0;
        self.stream.next_out = ptr::null_mut();
        self.stream.avail_out = 0;
        if let Some(&last) = input.get(..consumed).and_then(<[u8]>::last) {
            self.last = last;
        }
        let stop = match status {
            Z_STREAM_END => Stop::End,
            Z_OK | Z_BUF_ERROR => self.block_end().unwrap_or(Stop::Full),
            // Output before the error is returned first; the next call returns the error again.
            Z_DATA_ERROR if produced > 0 => Stop::Full,
            _ => return Err(self.message()),
        };
        Ok(Step { consumed, produced, stop })
    }

    fn block_end(&self) -> Option<Stop> {
        let kind = self.stream.data_type;
        if kind & ALL_BUT_BITS != AFTER_BLOCK {
            return None;
        }
        let bits = (kind & 7) as u8;
        // The leftover bits are the highest of the last byte.
        let value = self.last.checked_shr(8 - u32::from(bits)).unwrap_or(0);
        Some(Stop::BlockEnd { bits, value })
    }

    fn message(&self) -> String {
        if self.stream.msg.is_null() {
            return "invalid deflate data".to_owned();
        }
        // SAFETY: `msg` is null or points to a static string that ends with a zero byte.
        unsafe { CStr::from_ptr(self.stream.msg) }.to_string_lossy().into_owned()
    }
}

/// The part of a slice's length that the interface can express.
fn capped(length: usize) -> c_uint {
    c_uint::try_from(length).unwrap_or(c_uint::MAX)
}

impl Drop for Inflate {
    fn drop(&mut self) {
        // SAFETY: `stream` was initialised by `inflateInit2_`; nothing uses it after this.
        unsafe { inflateEnd(&mut *self.stream) };
    }
}

// SAFETY: the stream owns its state, which Rust's global allocator allocated and nothing else shares. Its pointers to input
// and output are cleared after each call, and copies of them in the state are replaced before they are used again.
unsafe impl Send for Inflate {}
