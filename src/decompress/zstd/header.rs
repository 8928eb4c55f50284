//! The start of a zstd frame (RFC 8878 §3.1.1.1), parsed up to the window size.

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const SINGLE_SEGMENT: u8 = 1 << 5;

/// Bytes of the magic number and the frame header descriptor.
const DESCRIPTOR_END: usize = 5;

/// The result of parsing the first bytes of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Header {
    /// This many bytes of the frame are needed.
    Needs(usize),
    /// A frame that needs a window of this many bytes.
    Window(u64),
    /// No window: a skippable frame, or not a zstd frame, which libzstd reports.
    Windowless,
}

/// Parses the first bytes of a frame, as many as [`Header::Needs`] requested.
pub(super) fn parse(bytes: &[u8]) -> Header {
    let Some((magic, rest)) = bytes.split_first_chunk() else { return Header::Needs(MAGIC.len()) };
    if *magic != MAGIC {
        return Header::Windowless;
    }
    let Some((&descriptor, rest)) = rest.split_first() else { return Header::Needs(DESCRIPTOR_END) };
    if descriptor & SINGLE_SEGMENT == 0 {
        return match rest.first() {
            None => Header::Needs(DESCRIPTOR_END + 1),
            Some(&window) => Header::Window(described(window)),
        };
    }
    // The window is the whole content, whose size follows the dictionary's identifier.
    let identifier = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or_default();
    let field: usize = 1 << (descriptor >> 6);
    let Some(size) = rest.get(identifier..identifier + field) else {
        return Header::Needs(DESCRIPTOR_END + identifier + field);
    };
    let size = size.iter().rev().fold(0, |size, &byte| size << 8 | u64::from(byte));
    // Two bytes count from 256, because one byte covers smaller sizes.
    Header::Window(if field == 2 { size + 256 } else { size })
}

/// RFC 8878 §3.1.1.1.2: five bits of exponent, three of mantissa.
fn described(window: u8) -> u64 {
    let base = 1 << (10 + u64::from(window >> 3));
    base + base / 8 * u64::from(window & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(rest: &[u8]) -> Vec<u8> {
        [&MAGIC[..], rest].concat()
    }

    #[test]
    fn the_window_is_read_from_its_descriptor() {
        assert_eq!(parse(&frame(&[0, 0])), Header::Window(1 << 10));
        assert_eq!(parse(&frame(&[0, 0x68])), Header::Window(8 << 20));
        assert_eq!(parse(&frame(&[0, 0x69])), Header::Window(9 << 20));
        assert_eq!(parse(&frame(&[0, 0x88])), Header::Window(128 << 20));
        // The largest window of the format: 3.75 TiB.
        assert_eq!(parse(&frame(&[0, 0xff])), Header::Window((1 << 41) / 8 * 15));
    }

    #[test]
    fn the_window_of_a_single_segment_is_its_content() {
        assert_eq!(parse(&frame(&[0x20, 7])), Header::Window(7));
        assert_eq!(parse(&frame(&[0x60, 1, 1])), Header::Window(257 + 256));
        assert_eq!(parse(&frame(&[0xa0, 1, 0, 0, 1])), Header::Window(1 | 1 << 24));
        assert_eq!(parse(&frame(&[0xe0, 0, 0, 0, 0, 1, 0, 0, 0])), Header::Window(1 << 32));
        assert_eq!(parse(&frame(&[0xe0, 255, 255, 255, 255, 255, 255, 255, 255])), Header::Window(u64::MAX));
        // After a dictionary's identifier of 1, 2 or 4 bytes.
        assert_eq!(parse(&frame(&[0x21, 9, 7])), Header::Window(7));
        assert_eq!(parse(&frame(&[0x22, 9, 9, 7])), Header::Window(7));
        assert_eq!(parse(&frame(&[0x23, 9, 9, 9, 9, 7])), Header::Window(7));
    }

    #[test]
    fn only_the_bytes_up_to_the_window_size_are_requested() {
        assert_eq!(parse(&[]), Header::Needs(4));
        assert_eq!(parse(&MAGIC), Header::Needs(5));
        assert_eq!(parse(&frame(&[0])), Header::Needs(6));
        assert_eq!(parse(&frame(&[0x20])), Header::Needs(6));
        assert_eq!(parse(&frame(&[0xe3])), Header::Needs(17));
        assert_eq!(parse(&frame(&[0xe3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), Header::Needs(17));
    }

    #[test]
    fn other_frames_have_no_window() {
        assert_eq!(parse(&[0x50, 0x2a, 0x4d, 0x18]), Header::Windowless);
        assert_eq!(parse(b"junk"), Header::Windowless);
    }
}
