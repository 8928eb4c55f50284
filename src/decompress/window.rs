//! Sparse windows: of the 32 KiB before a checkpoint, only the bytes that what follows refers to.
//!
//! What a reference copies can be told from two dictionaries that differ everywhere: decode the output that can still reach the
//! window (its first 32 KiB) once with each, and where the two outputs differ, the two bytes spell which byte of the window was
//! copied, however often it was copied on since. Literals are the same in both.
//!
//! ```text
//! byte i of the window   low: i mod 256      high: low + 1 + i div 256 (mod 256), never the same as low
//! ```
//!
//! A window is packed as two zstd frames, one of places and one of the bytes there, which do not resemble each other: its
//! length and then, in turns until that is reached, how many bytes are 0 and how many are stored (LEB128).

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::inflate::{Inflate, Stop, WINDOW_BYTES};

/// How hard zstd tries: level 3 makes whole tables 1 % smaller, level 9 another 1 % for a quarter of the time that recording takes.
const LEVEL: i32 = 1;

/// Zeros between two stored bytes that are worth another pair of numbers.
const GAP_BYTES: usize = 3;

/// Most bytes that the places of a window take: a pair of numbers, of three bytes at most, for each stored byte and the gap
/// before it, and the length.
const PLACES_BYTES: usize = 2 * 3 * WINDOW_BYTES / (1 + GAP_BYTES) + 16;

/// Bytes that are looked at together.
const STRIDE: usize = 32;

/// Places that two bytes can spell.
const PLACES: usize = 1 << 16;

/// Finds what of windows is needed, and packs it. Keeps its memory from one to the next.
pub(crate) struct Thinner {
    inflate: Inflate,
    low: Marked,
    high: Marked,
    /// All ones for each byte of a window that is needed, else 0.
    needed: Box<[u8; PLACES]>,
    compressor: Option<Compressor<'static>>,
}

/// A marker dictionary, and what the stream comes to with it.
struct Marked {
    dictionary: Vec<u8>,
    output: Vec<u8>,
}

impl Thinner {
    /// Ready for any window.
    pub(crate) fn new() -> Self {
        let needed = Box::new([0; PLACES]);
        Self {
            inflate: Inflate::new(),
            low: Marked::new(low),
            high: Marked::new(high),
            needed,
            compressor: None,
        }
    }

    /// Of a checkpoint's window, drops what lies before the first byte that is needed, and sets those after it to 0 that are not.
    /// `bits` and `value` are the checkpoint's, `following` the compressed bytes after it, in pieces. Returns false, and leaves the window,
    /// where these are too few to tell.
    pub(crate) fn thin<'a>(
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
            // Most of what is read is literals, or copies of those.
            if low == high {
                continue;
            }
            for (low, high) in low.iter().zip(high) {
                // Without a branch: where both are the same, this is a place behind the window.
                if let Some(needed) = self.needed.get_mut(usize::from(place(*low, *high))) {
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

    /// Packs a window; empty stays empty.
    ///
    /// # Errors
    ///
    /// What zstd says: a lack of memory.
    pub(crate) fn pack(&mut self, window: &[u8]) -> io::Result<Vec<u8>> {
        if window.is_empty() {
            return Ok(Vec::new());
        }
        let (places, stored) = split(window);
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(LEVEL)?),
        };
        let mut packed = compressor.compress(&places)?;
        packed.extend(compressor.compress(&stored)?);
        Ok(packed)
    }
}

impl Marked {
    fn new(mark: fn(usize) -> u8) -> Self {
        Self { dictionary: (0..WINDOW_BYTES).map(mark).collect(), output: vec![0; WINDOW_BYTES] }
    }

    /// Decodes what can refer to a window of `length` bytes; returns how much there is, if it is all there.
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

fn low(place: usize) -> u8 {
    (place % 256) as u8
}

fn high(place: usize) -> u8 {
    low(place).wrapping_add(1).wrapping_add((place / 256) as u8)
}

/// The place that two bytes spell; one behind any window where they are the same.
fn place(low: u8, high: u8) -> u16 {
    u16::from_be_bytes([high.wrapping_sub(low).wrapping_sub(1), low])
}

/// What of a window is stored, in pairs of numbers, and these bytes.
fn split(window: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut places, mut stored) = (Vec::new(), Vec::new());
    number(&mut places, window.len());
    let mut rest = window;
    while !rest.is_empty() {
        let zeros = zeros(rest);
        let (_, after) = rest.split_at(zeros);
        let length = until_gap(after);
        let (bytes, after) = after.split_at(length);
        number(&mut places, zeros);
        number(&mut places, length);
        stored.extend_from_slice(bytes);
        rest = after;
    }
    (places, stored)
}

/// Unpacks what [`Thinner::pack`] gave; `None` for all else.
pub(crate) fn decode(packed: &[u8]) -> Option<Vec<u8>> {
    if packed.is_empty() {
        return Some(Vec::new());
    }
    let unpacked = Decompressor::new().ok()?.decompress(packed, PLACES_BYTES + WINDOW_BYTES).ok()?;
    let mut places = &*unpacked;
    let length = take_number(&mut places).filter(|length| *length <= WINDOW_BYTES)?;
    let mut runs = Vec::new();
    let mut covered = 0;
    while covered < length {
        let (zeros, stored) = (take_number(&mut places)?, take_number(&mut places)?);
        covered += zeros + stored;
        runs.push((zeros, stored));
    }
    if covered > length {
        return None;
    }
    let mut stored = places;
    let mut window = Vec::with_capacity(length);
    for (zeros, length) in runs {
        let (bytes, rest) = stored.split_at_checked(length)?;
        window.resize(window.len() + zeros, 0);
        window.extend_from_slice(bytes);
        stored = rest;
    }
    stored.is_empty().then_some(window)
}

/// How many bytes are 0 before the first that is not.
fn zeros(bytes: &[u8]) -> usize {
    // By strides first, which are compared at once.
    let strides = bytes.chunks_exact(STRIDE).take_while(|stride| *stride == [0; STRIDE]).count();
    let (_, rest) = bytes.split_at(strides * STRIDE);
    strides * STRIDE + rest.iter().take_while(|byte| **byte == 0).count()
}

/// How many bytes come before the next gap, or before the zeros at the end.
fn until_gap(bytes: &[u8]) -> usize {
    let mut end = 0;
    for (place, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        if place - end >= GAP_BYTES {
            break;
        }
        end = place + 1;
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

    /// One fixed block of three bytes each from these places of a whole window, then `rest` literals.
    fn referring(places: &[usize], rest: usize) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.fixed_block();
        for (done, place) in places.iter().enumerate() {
            bits.triple((WINDOW_BYTES - place + 3 * done) as u32);
        }
        for _ in 0..rest {
            bits.push(u32::from(0x30_u8.reverse_bits()), 8);
        }
        bits.block_end();
        bits.finish()
    }

    fn encode(window: &[u8]) -> io::Result<Vec<u8>> {
        Thinner::new().pack(window)
    }

    fn random_window() -> Vec<u8> {
        Random::new(1).bytes(WINDOW_BYTES).iter().map(|byte| byte | 1).collect()
    }

    /// The window after thinning, as long as before.
    fn thinned(window: &[u8], following: &[u8]) -> Option<Vec<u8>> {
        let mut thin = window.to_vec();
        Thinner::new().thin(0, 0, &mut thin, iter::once(following)).then(|| {
            let mut whole = vec![0; window.len() - thin.len()];
            whole.append(&mut thin);
            whole
        })
    }

    #[test]
    fn the_two_markers_of_a_place_differ_and_spell_it() {
        for place in 0..WINDOW_BYTES {
            assert_ne!(low(place), high(place));
            assert_eq!(usize::from(super::place(low(place), high(place))), place);
        }
        assert!((0..=255).all(|byte| usize::from(super::place(byte, byte)) >= WINDOW_BYTES));
    }

    #[test]
    fn what_is_referred_to_stays_and_all_else_goes_wherever_it_lies() {
        let window = random_window();
        // With plain markers (i mod 256, i div 256) the places 257 k would look like literals.
        for start in [300, 32_765].into_iter().chain((3..128).step_by(31).map(|k| 257 * k)) {
            let thin = thinned(&window, &referring(&[start], 40_000)).unwrap();
            for (place, byte) in thin.into_iter().enumerate() {
                let expected = if (start..start + 3).contains(&place) { window[place] } else { 0 };
                assert_eq!(byte, expected, "place {place}, reference to {start}");
            }
        }
    }

    #[test]
    fn references_to_what_was_copied_count_for_where_it_came_from() {
        let window = random_window();
        let mut bits = Bits::default();
        bits.fixed_block();
        bits.triple(1_000);
        for _ in 0..11_000 {
            bits.triple(3);
        }
        let thin = thinned(&window, &bits.finish()).unwrap();
        assert_eq!(thin.iter().filter(|byte| **byte != 0).count(), 3);
        assert_eq!(thin[WINDOW_BYTES - 1_000..][..3], window[WINDOW_BYTES - 1_000..][..3]);
    }

    #[test]
    fn where_nothing_is_referred_to_nothing_is_stored() {
        let mut window = random_window();
        assert!(Thinner::new().thin(0, 0, &mut window, iter::once(&*referring(&[], 33_000))));
        assert_eq!(window, b"");
        assert_eq!(encode(&window).unwrap(), b"");
        assert_eq!(decode(b"").unwrap(), b"");
    }

    #[test]
    fn zeros_that_are_referred_to_are_not_nothing() {
        let mut window = vec![0; WINDOW_BYTES];
        assert!(Thinner::new().thin(0, 0, &mut window, iter::once(&*referring(&[32_000], 33_000))));
        assert_eq!(window, vec![0; WINDOW_BYTES - 32_000]);
        assert_eq!(decode(&encode(&window).unwrap()).unwrap(), window);
    }

    #[test]
    fn too_little_of_what_follows_leaves_the_window_whole() {
        let window = random_window();
        assert!(thinned(&window, &referring(&[5], 30_000)).is_none());
        assert!(thinned(&window, b"").is_none());
        assert!(thinned(&window, &[6; 100]).is_none());
    }

    #[test]
    fn a_stream_that_ends_early_says_all_that_is_needed() {
        let window = random_window();
        let mut bits = Bits::default();
        bits.push(0b011, 3);
        bits.triple(7);
        bits.block_end();
        let thin = thinned(&window, &bits.finish()).unwrap();
        assert_eq!(thin.iter().filter(|byte| **byte != 0).count(), 3);
    }

    #[test]
    fn a_window_that_claims_to_be_longer_than_any_is_refused() {
        let packed = |places: &[u8], stored: &[u8]| {
            [zstd::bulk::compress(places, 1).unwrap(), zstd::bulk::compress(stored, 1).unwrap()].concat()
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
        fn windows_survive_packing(
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
        fn the_worst_window_survives_packing(period in 1_usize..9) {
            let window: Vec<u8> =
                (0..WINDOW_BYTES).map(|place| u8::from(place % period == 0) * (place % 251) as u8).collect();
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
        fn what_a_writer_refers_to_stays(seed in any::<u64>(), level in 1_u32..10, cut in 40_000_usize..90_000) {
            let content = content(seed, 200_000);
            let blob = flushed(&content, level, cut, flate2::FlushCompress::Sync);
            let body = &blob[10..];
            // The same up to the first flush, where a block begins with a byte; then an empty block and the trailer.
            let first = flushed(&content[..cut], level, cut, flate2::FlushCompress::Sync);
            let taken = first.len() - 10 - 2 - 8;
            prop_assert_eq!(&body[taken - 4..taken], [0, 0, 0xff, 0xff]);
            let mut window = content[cut - WINDOW_BYTES..cut].to_vec();
            prop_assert!(Thinner::new().thin(0, 0, &mut window, body[taken..].chunks(100)));
            let mut inflate = Inflate::new();
            inflate.resume(0, 0, &window);
            let mut output = vec![0; content.len() - cut];
            let step = inflate.step(&body[taken..], &mut output).unwrap();
            prop_assert_eq!(step.produced, output.len());
            prop_assert!(output == content[cut..]);
        }
    }
}
