//! Content, and the kinds of writers that produce layers.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use flate2::{Compress, Compression, Crc, FlushCompress, write::GzEncoder};
use proptest::prelude::*;

/// Pseudo-random bytes, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Content like that of tars: text that repeats near and far, runs of zeros, and random bytes.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words: Vec<Vec<u8>> = (0..700).map(|word| random.bytes(2 + word % 9)).collect();
    let mut content = Vec::with_capacity(length + 9000);
    while content.len() < length {
        match random.below(400) {
            0 => content.extend(random.bytes(4000)),
            1 => content.resize(content.len() + 512 * (1 + random.below(16) as usize), 0),
            2..=20 if content.len() > 40_000 => {
                let back = content.len() - 1 - random.below(40_000) as usize;
                let end = (back + 3 + random.below(250) as usize).min(content.len());
                content.extend_from_within(back..end);
            }
            _ => content.extend_from_slice(&words[random.below(700) as usize]),
        }
    }
    content.truncate(length);
    content
}

/// One gzip member.
pub(crate) fn gzip(content: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// One gzip member that is flushed after every `step` bytes of content.
pub(crate) fn flushed(content: &[u8], level: u32, step: usize, flush: FlushCompress) -> Vec<u8> {
    let mut deflate = Compress::new(Compression::new(level), false);
    let mut body = Vec::with_capacity(content.len() + (64 << 10));
    for piece in content.chunks(step) {
        let start = deflate.total_in();
        loop {
            let taken = (deflate.total_in() - start) as usize;
            body.reserve(piece.len() + (64 << 10));
            deflate.compress_vec(&piece[taken..], &mut body, flush).unwrap();
            if (deflate.total_in() - start) as usize == piece.len() && body.len() < body.capacity() {
                break;
            }
        }
    }
    body.reserve(64 << 10);
    deflate.compress_vec(&[], &mut body, FlushCompress::Finish).unwrap();
    member(&body, content)
}

/// A gzip member around a raw deflate stream.
pub(crate) fn member(deflated: &[u8], content: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(content);
    let trailer = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], deflated, &trailer].concat()
}

/// The output of a program with `content` as its standard input.
pub(crate) fn piped(program: &str, arguments: &[&str], content: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(content).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program} {arguments:?}");
    output.stdout
}

/// Bits in the order of deflate: the first is the lowest of a byte.
#[derive(Default)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    open: u32,
    filled: u32,
}

impl Bits {
    pub(crate) fn push(&mut self, value: u32, bits: u32) {
        self.open |= value << self.filled;
        self.filled += bits;
        while self.filled >= 8 {
            self.bytes.push(self.open as u8);
            self.open >>= 8;
            self.filled -= 8;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.bytes.push(self.open as u8);
        }
        self.bytes
    }

    /// The start of a block of fixed codes that is not the last one.
    pub(crate) fn fixed_block(&mut self) {
        self.push(0b010, 3);
    }

    /// The end of such a block.
    pub(crate) fn block_end(&mut self) {
        self.push(0, 7);
    }

    /// A copy of three bytes from this distance, in such a block.
    pub(crate) fn triple(&mut self, distance: u32) {
        self.push(0b100_0000, 7);
        // Two codes per power of two from 4 on; below, one code per distance.
        let back = distance - 1;
        let extra = (back.max(2).ilog2()).saturating_sub(1);
        let code = if back < 4 { back } else { 2 * extra + 2 + ((back >> extra) & 1) };
        self.push((code as u8).reverse_bits() as u32 >> 3, 5);
        if back >= 4 {
            self.push(back & ((1 << extra) - 1), extra);
        }
    }
}

/// How a piece of content is compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Writer {
    Full { level: u32, step: usize },
    Gzip { level: u32 },
    Sync { level: u32, step: usize },
}

impl Writer {
    pub(crate) fn write(self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::Full { level, step } => flushed(content, level, step, FlushCompress::Full),
            Self::Gzip { level } => gzip(content, level),
            Self::Sync { level, step } => flushed(content, level, step, FlushCompress::Sync),
        }
    }
}

pub(crate) fn writer() -> impl Strategy<Value = Writer> {
    prop_oneof![
        (1_u32..10, 1_000_usize..400_000).prop_map(|(level, step)| Writer::Full { level, step }),
        (0_u32..10).prop_map(|level| Writer::Gzip { level }),
        (1_u32..10, 1_000_usize..400_000).prop_map(|(level, step)| Writer::Sync { level, step }),
    ]
}
