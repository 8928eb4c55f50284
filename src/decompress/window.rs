//! Sparse windows: of the 32 KiB before a checkpoint, only the bytes that later output refers to.
//!
//! Two dictionaries that differ everywhere reveal what a reference copies. The output that can still reach the window (its
//! first 32 KiB) is decoded once with each. Where the two outputs differ, the two bytes encode which byte of the window
//! was copied, however often it was copied since. Literals are equal in both.
//!
//! ```text
//! byte i of the window   low: i mod 256      high: low + 1 + i div 256 (mod 256), never the same as low
//! ```
//!
//! A window is packed as two zstd frames, because positions and bytes compress differently: one has the window's length
//! and then, alternating until that is reached, how many bytes are 0 and how many are stored (LEB128); the other has the
//! stored bytes.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::inflate::{Inflate, Stop, WINDOW_BYTES};

/// Level 3 makes a whole TOC 1 % smaller, level 9 another 1 % for a quarter of the recording time.
const LEVEL: i32 = 1;

/// Shortest run of zeros between stored bytes that is worth another pair of numbers.
const GAP_BYTES: usize = 3;

/// Most bytes of a window's positions: the length, and a pair of numbers of at most three bytes for each stored byte and
/// the gap before it.
const POSITIONS_BYTES: usize = 2 * 3 * WINDOW_BYTES / (1 + GAP_BYTES) + 16;

/// Bytes compared at once.
const STRIDE: usize = 32;

/// Positions that two bytes can encode.
const ENCODED_POSITIONS: usize = 1 << 16;

/// Finds the needed bytes of windows and packs them. Reuses its memory from one window to the next.
pub(crate) struct WindowSparsifier {
    inflate: Inflate,
    low: MarkerDictionary,
    high: MarkerDictionary,
    /// 0xff for each needed byte of a window, else 0.
    needed: Box<[u8; ENCODED_POSITIONS]>,
    compressor: Option<Compressor<'static>>,
}

/// A marker dictionary, and the output of the stream with it.
struct MarkerDictionary {
    dictionary: Vec<u8>,
    output: Vec<u8>,
}

impl WindowSparsifier {
    pub(crate) fn new() -> Self {
        let needed = Box::new([0; ENCODED_POSITIONS]);
        Self {
            inflate: Inflate::new(),
            low: MarkerDictionary::new(low),
            high: MarkerDictionary::new(high),
            needed,
            compressor: None,
        }
    }

    /// Drops the bytes of a checkpoint's window before the first needed one, and sets other unneeded bytes to 0. `bits`
    /// and `value` are the checkpoint's, `following` the compressed bytes after it, in pieces. Returns false and leaves
    /// the window unchanged if there are too few of them.
    pub(crate) fn sparsify<'a>(
        &mut self,
        bits: u8,
        value: u8,
        window: &mut Vec<u8>,
        following: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> bool {
        let again = following.clone();
        let Some(length) = self.low.decode(&mut self.inflate, bits, value, window.len(), again) else {
            return false;
        };
        if self.high.decode(&mut self.inflate, bits, value, window.len(), following) != Some(length) {
            return false;
        }
        self.needed.fill(0);
        let outputs = (self.low.output.get(..length), self.high.output.get(..length));
        let (Some(low), Some(high)) = outputs else { return false };
        for (low, high) in low.chunks(STRIDE).zip(high.chunks(STRIDE)) {
            // Most output is literals or copies of literals.
            if low == high {
                continue;
            }
            for (low, high) in low.iter().zip(high) {
                // No branch is needed: equal bytes encode a position after the window.
                if let Some(needed) = self.needed.get_mut(usize::from(position(*low, *high))) {
                    *needed = u8::MAX;
                }
            }
        }
        for (byte, needed) in window.iter_mut().zip(&*self.needed) {
            *byte &= needed;
        }
        let first = zeros(self.needed.get(..window.len()).unwrap_or_default());
        window.drain(..first);
        true
    }

    /// Packs a window; an empty one stays empty.
    ///
    /// # Errors
    ///
    /// If zstd runs out of memory.
    pub(crate) fn pack(&mut self, window: &[u8]) -> io::Result<Vec<u8>> {
        if window.is_empty() {
            return Ok(Vec::new());
        }
        let (positions, stored) = split(window);
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(LEVEL)?),
        };
        let mut packed = compressor.compress(&positions)?;
        packed.extend(compressor.compress(&stored)?);
        Ok(packed)
    }
}

impl MarkerDictionary {
    fn new(marker: fn(usize) -> u8) -> Self {
        Self { dictionary: (0..WINDOW_BYTES).map(marker).collect(), output: vec![0; WINDOW_BYTES] }
    }

    /// Decodes the output that can refer to a window of `length` bytes. Returns its length, or `None` if input is missing.
    fn decode<'a>(
        &mut self,
        inflate: &mut Inflate,
        bits: u8,
        value: u8,
        length: usize,
        following: impl Iterator<Item = &'a [u8]>,
    ) -> Option<usize> {
        inflate.resume(bits, value, self.dictionary.get(..length)?);
        let mut filled = 0;
        for mut input in following {
            while !input.is_empty() {
                let step = inflate.step(input, self.output.get_mut(filled..)?).ok()?;
                input = input.get(step.consumed..)?;
                filled += step.produced;
                if filled == self.output.len() || step.stop == Stop::End {
                    return Some(filled);
                }
                if step.consumed == 0 && step.produced == 0 {
                    return None;
                }
            }
        }
        None
    }
}

fn low(position: usize) -> u8 {
    (position % 256) as u8
}

fn high(position: usize) -> u8 {
    low(position).wrapping_add(1).wrapping_add((position / 256) as u8)
}

/// The position that two bytes encode; one after any window if they are equal.
fn position(low: u8, high: u8) -> u16 {
    u16::from_be_bytes([high.wrapping_sub(low).wrapping_sub(1), low])
}

/// Splits a window into its positions (pairs of numbers) and its stored bytes.
fn split(window: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut positions, mut stored) = (Vec::new(), Vec::new());
    number(&mut positions, window.len());
    let mut rest = window;
    while !rest.is_empty() {
        let zeros = zeros(rest);
        let (_, after) = rest.split_at(zeros);
        let length = until_gap(after);
        let (bytes, after) = after.split_at(length);
        number(&mut positions, zeros);
        number(&mut positions, length);
        stored.extend_from_slice(bytes);
        rest = after;
    }
    (positions, stored)
}

/// Unpacks the output of [`WindowSparsifier::pack`]; `None` for any other input.
pub(crate) fn decode(packed: &[u8]) -> Option<Vec<u8>> {
    if packed.is_empty() {
        return Some(Vec::new());
    }
    let unpacked = Decompressor::new().ok()?.decompress(packed, POSITIONS_BYTES + WINDOW_BYTES).ok()?;
    let mut positions = &*unpacked;
    let length = take_number(&mut positions).filter(|length| *length <= WINDOW_BYTES)?;
    let mut runs = Vec::new();
    let mut covered = 0;
    while covered < length {
        let (zeros, stored) = (take_number(&mut positions)?, take_number(&mut positions)?);
        covered += zeros + stored;
        runs.push((zeros, stored));
    }
    if covered > length {
        return None;
    }
    let mut stored = positions;
    let mut window = Vec::with_capacity(length);
    for (zeros, length) in runs {
        let (bytes, rest) = stored.split_at_checked(length)?;
        window.resize(window.len() + zeros, 0);
        window.extend_from_slice(bytes);
        stored = rest;
    }
    stored.is_empty().then_some(window)
}

/// The number of leading zero bytes.
fn zeros(bytes: &[u8]) -> usize {
    // Whole strides first, which are compared at once.
    let strides = bytes.chunks_exact(STRIDE).take_while(|stride| *stride == [0; STRIDE]).count();
    let (_, rest) = bytes.split_at(strides * STRIDE);
    strides * STRIDE + rest.iter().take_while(|byte| **byte == 0).count()
}

/// The number of bytes before the next gap, or before the zeros at the end.
fn until_gap(bytes: &[u8]) -> usize {
    let mut end = 0;
    for (position, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        if position - end >= GAP_BYTES {
            break;
        }
        end = position + 1;
    }
    end
}

fn number(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        bytes.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A number up to 2²¹.
fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in [0, 7, 14] {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::iter;

    use proptest::prelude::*;

    use super::*;
    use crate::decompress::tests::writers::{Bits, Random, content, flushed};

    /// A fixed block that copies three bytes from each of these positions of a whole window, then has `rest` literals.
    fn referring(positions: &[usize], rest: usize) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.fixed_block();
        for (done, position) in positions.iter().enumerate() {
            bits.triple((WINDOW_BYTES - position + 3 * done) as u32);
        }
        for _ in 0..rest {
            bits.push(u32::from(0x30_u8.reverse_bits()), 8);
        }
        bits.block_end();
        bits.finish()
    }

    fn encode(window: &[u8]) -> io::Result<Vec<u8>> {
        WindowSparsifier::new().pack(window)
    }

    fn random_window() -> Vec<u8> {
        Random::new(1).bytes(WINDOW_BYTES).iter().map(|byte| byte | 1).collect()
    }

    /// The sparse window, padded to its original length.
    fn sparse(window: &[u8], following: &[u8]) -> Option<Vec<u8>> {
        let mut sparse = window.to_vec();
        WindowSparsifier::new().sparsify(0, 0, &mut sparse, iter::once(following)).then(|| {
            let mut whole = vec![0; window.len() - sparse.len()];
            whole.append(&mut sparse);
            whole
        })
    }

    #[test]
    fn the_two_markers_of_a_position_differ_and_encode_it() {
        for at in 0..WINDOW_BYTES {
            assert_ne!(low(at), high(at));
            assert_eq!(usize::from(position(low(at), high(at))), at);
        }
        assert!((0..=255).all(|byte| usize::from(position(byte, byte)) >= WINDOW_BYTES));
    }

    #[test]
    fn only_referenced_bytes_are_kept() {
        let window = random_window();
        // With plain markers (i mod 256, i div 256) the positions 257 k would look like literals.
        for start in [300, 32_765].into_iter().chain((3..128).step_by(31).map(|k| 257 * k)) {
            let sparse = sparse(&window, &referring(&[start], 40_000)).unwrap();
            for (at, byte) in sparse.into_iter().enumerate() {
                let expected = if (start..start + 3).contains(&at) { window[at] } else { 0 };
                assert_eq!(byte, expected, "position {at}, reference to {start}");
            }
        }
    }

    #[test]
    fn references_to_copied_bytes_count_for_their_origin() {
        let window = random_window();
        let mut bits = Bits::default();
        bits.fixed_block();
        bits.triple(1_000);
        for _ in 0..11_000 {
            bits.triple(3);
        }
        let sparse = sparse(&window, &bits.finish()).unwrap();
        assert_eq!(sparse.iter().filter(|byte| **byte != 0).count(), 3);
        assert_eq!(sparse[WINDOW_BYTES - 1_000..][..3], window[WINDOW_BYTES - 1_000..][..3]);
    }

    #[test]
    fn without_references_nothing_is_stored() {
        let mut window = random_window();
        assert!(WindowSparsifier::new().sparsify(0, 0, &mut window, iter::once(&*referring(&[], 33_000))));
        assert_eq!(window, b"");
        assert_eq!(encode(&window).unwrap(), b"");
        assert_eq!(decode(b"").unwrap(), b"");
    }

    #[test]
    fn referenced_zeros_are_kept() {
        let mut window = vec![0; WINDOW_BYTES];
        assert!(WindowSparsifier::new().sparsify(
            0,
            0,
            &mut window,
            iter::once(&*referring(&[32_000], 33_000))
        ));
        assert_eq!(window, vec![0; WINDOW_BYTES - 32_000]);
        assert_eq!(decode(&encode(&window).unwrap()).unwrap(), window);
    }

    #[test]
    fn too_few_following_bytes_leave_the_window_unchanged() {
        let window = random_window();
        assert!(sparse(&window, &referring(&[5], 30_000)).is_none());
        assert!(sparse(&window, b"").is_none());
        assert!(sparse(&window, &[6; 100]).is_none());
    }

    #[test]
    fn a_stream_that_ends_early_determines_the_needed_bytes() {
        let window = random_window();
        let mut bits = Bits::default();
        bits.push(0b011, 3);
        bits.triple(7);
        bits.block_end();
        let sparse = sparse(&window, &bits.finish()).unwrap();
        assert_eq!(sparse.iter().filter(|byte| **byte != 0).count(), 3);
    }

    #[test]
    fn an_oversized_or_inconsistent_window_is_rejected() {
        let packed = |positions: &[u8], stored: &[u8]| {
            [zstd::bulk::compress(positions, 1).unwrap(), zstd::bulk::compress(stored, 1).unwrap()].concat()
        };
        assert_eq!(decode(&packed(&[3, 1, 2], b"ab")).unwrap(), b"\0ab");
        assert!(decode(&packed(&[0x81, 0x80, 2, 0x81, 0x80, 2, 0], b"")).is_none());
        assert!(decode(&packed(&[3, 2, 2], b"ab")).is_none());
        assert!(decode(&packed(&[3, 1, 2], b"abc")).is_none());
        assert!(decode(&packed(&[3, 1, 2], b"a")).is_none());
        assert!(decode(&packed(&[3, 1], b"")).is_none());
        assert!(decode(&zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap()).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn windows_round_trip(
            runs in prop::collection::vec((0_usize..400, prop::collection::vec(any::<u8>(), 0..60)), 0..150),
        ) {
            let mut window = Vec::new();
            for (zeros, bytes) in runs {
                window.resize(window.len() + zeros, 0);
                window.extend(bytes);
            }
            window.truncate(WINDOW_BYTES);
            prop_assert_eq!(decode(&encode(&window).unwrap()).unwrap(), window);
        }

        #[test]
        fn the_worst_window_round_trips(period in 1_usize..9) {
            let window: Vec<u8> =
                (0..WINDOW_BYTES).map(|at| u8::from(at % period == 0) * (at % 251) as u8).collect();
            prop_assert_eq!(decode(&encode(&window).unwrap()).unwrap(), window);
        }

        #[test]
        fn damaged_windows_never_panic(seed in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut window = content(seed, 3_000);
            window.resize(6_000, 0);
            let mut packed = encode(&window).unwrap();
            let at = at.index(packed.len());
            packed[at] = byte;
            let _ = decode(&packed);
            let _ = decode(packed.get(..at).unwrap());
        }

        #[test]
        fn bytes_that_a_writer_refers_to_are_kept(seed in any::<u64>(), level in 1_u32..10, cut in 40_000_usize..90_000) {
            let content = content(seed, 200_000);
            let blob = flushed(&content, level, cut, flate2::FlushCompress::Sync);
            let body = &blob[10..];
            // The same up to the first flush, where a block starts on a byte; then an empty block and the trailer.
            let first = flushed(&content[..cut], level, cut, flate2::FlushCompress::Sync);
            let taken = first.len() - 10 - 2 - 8;
            prop_assert_eq!(&body[taken - 4..taken], [0, 0, 0xff, 0xff]);
            let mut window = content[cut - WINDOW_BYTES..cut].to_vec();
            prop_assert!(WindowSparsifier::new().sparsify(0, 0, &mut window, body[taken..].chunks(100)));
            let mut inflate = Inflate::new();
            inflate.resume(0, 0, &window);
            let mut output = vec![0; content.len() - cut];
            let step = inflate.step(&body[taken..], &mut output).unwrap();
            prop_assert_eq!(step.produced, output.len());
            prop_assert!(output == content[cut..]);
        }
    }
}
