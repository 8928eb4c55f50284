//! eStargz: a gzip layer whose files can be unpacked one by one, with a TOC at its end (stargz-snapshotter,
//! docs/estargz.md).
//!
//! ```text
//! │ header │ content │ header │ content │ … │ TOC: gzip(tar(stargz.index.json)) │ footer │
//! ```
//! Each box is a gzip member. The footer is an empty member whose extra field has the offset of the TOC.

use crate::{
    decompress::Encoding,
    limits,
    oci::digest::Digest,
    offset::Compressed,
    tar::{
        Decoder, Event,
        entry::{Entry, EntryKind},
    },
    toc::{
        LayerToc,
        chunks::Chunk,
        embedded::{self, Error, Unpacker},
    },
};

/// The longest footer, in bytes.
pub(crate) const FOOTER_BYTES: u64 = 51;

/// The layer annotation with the digest of the TOC's JSON.
pub(crate) const DIGEST_ANNOTATION: &str = "containerd.io/snapshot/stargz/toc.digest";

/// The name of the TOC in the archive around it.
const TOC_NAME: &[u8] = b"stargz.index.json";

/// What the archive around the TOC may add: headers, padding and an end marker.
const ARCHIVE_BYTES: u64 = 64 << 10;

/// The gzip magic, deflate, and the flag of an extra field.
const MEMBER_START: [u8; 4] = [0x1f, 0x8b, 8, 4];

/// Modification time, extra flags and operating system, which may be anything.
const MEMBER_VARIABLE_BYTES: usize = 6;

/// An empty stored block, its CRC and its length.
const MEMBER_END: [u8; 13] = [1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];

/// Where the TOC is, according to the footer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Footer {
    /// In a separate artifact.
    External,
    /// In the blob.
    Toc {
        /// Its start. It ends at the footer.
        offset: Compressed,
    },
}

/// Parses the footer of a blob that ends with `tail`: its last [`FOOTER_BYTES`] at least, or the whole blob.
pub(crate) fn footer(tail: &[u8]) -> Option<Footer> {
    let body = tail.strip_suffix(&MEMBER_END)?;
    // The extra field starts with the subfield's two letters and length, except in footers of CRFS.
    let tagged = |text: usize| {
        let extra = extra(body, 4 + text)?;
        let (tag, text) = extra.split_at_checked(4)?;
        let length = u16::try_from(text.len()).ok()?.to_le_bytes();
        (tag.starts_with(b"SG") && tag.ends_with(&length)).then_some(text)
    };
    const OFFSET_TEXT: usize = 22;
    const EXTERNAL: &[u8] = b"STARGZEXTERNALTOC";
    if tagged(EXTERNAL.len()) == Some(EXTERNAL) {
        return Some(Footer::External);
    }
    let text = tagged(OFFSET_TEXT).or_else(|| extra(body, OFFSET_TEXT))?;
    let digits = str::from_utf8(text.strip_suffix(b"STARGZ")?).ok()?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some(Footer::Toc { offset: Compressed(u64::from_str_radix(digits, 16).ok()?) })
}

/// Parses the TOC. `member` is the bytes at `toc_offset`, with or without the footer after it; `expected` is the digest
/// in [`DIGEST_ANNOTATION`].
pub(crate) fn toc(
    member: &[u8],
    expected: Option<&Digest>,
    blob_size: u64,
    toc_offset: Compressed,
) -> Result<LayerToc, Error> {
    let end = toc_offset.0.checked_add(member.len() as u64).ok_or(Error::Position)?;
    if end > blob_size {
        return Err(Error::Position);
    }
    let mut json = Json::new(member);
    let entry = json.entry()?;
    // To a runtime without support for TOCs it is an ordinary file.
    let own = |size| {
        let compressed = toc_offset..Compressed(end);
        let chunk = Chunk { compressed, skip: entry.data_offset.0, size, digest: expected.cloned() };
        Some((entry, chunk))
    };
    embedded::read(&mut |out| json.next(out), expected, Encoding::Gzip, toc_offset, own)
}

/// The extra field of this length at the end of a member's header.
fn extra(header: &[u8], length: usize) -> Option<&[u8]> {
    let (header, extra) = header.split_at_checked(header.len().checked_sub(length)?)?;
    let header = header.strip_suffix(&u16::try_from(length).ok()?.to_le_bytes())?;
    let (header, _) = header.split_at_checked(header.len().checked_sub(MEMBER_VARIABLE_BYTES)?)?;
    header.ends_with(&MEMBER_START).then_some(extra)
}

/// The TOC's JSON: the first file of the archive in a member.
struct Json<'a> {
    unpacker: Unpacker<'a>,
    decoder: Decoder,
    unpacked: u64,
    /// The file's entry, until it is taken.
    entry: Option<Entry>,
    /// Content before the caller asked for it.
    held: Vec<u8>,
    state: JsonState,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum JsonState {
    Before,
    InFile,
    After,
    End,
}

impl<'a> Json<'a> {
    fn new(member: &'a [u8]) -> Self {
        Self {
            unpacker: Unpacker::new(member, Encoding::Gzip),
            decoder: Decoder::new(),
            unpacked: 0,
            entry: None,
            held: Vec::new(),
            state: JsonState::Before,
        }
    }

    /// The entry of the file, once.
    fn entry(&mut self) -> Result<Entry, Error> {
        let mut held = Vec::new();
        while self.state == JsonState::Before {
            self.advance(&mut held)?;
        }
        self.held = held;
        self.entry.take().ok_or(Error::TarMember)
    }

    /// Appends the next piece of content; returns false once the whole archive was read.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        if !self.held.is_empty() {
            out.append(&mut self.held);
            return Ok(true);
        }
        self.advance(out)?;
        Ok(self.state != JsonState::End)
    }

    fn advance(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let Self { unpacker, decoder, unpacked, entry: found, state, .. } = self;
        let mut piece = unpacker.next()?;
        if piece.is_empty() {
            decoder.finish().map_err(Error::Tar)?;
            *state = JsonState::End;
            return Ok(());
        }
        *unpacked += piece.len() as u64;
        if *unpacked > limits::TOC_BYTES + ARCHIVE_BYTES {
            return Err(Error::TooLong);
        }
        while let Some(event) = decoder.decode(&mut piece).map_err(Error::Tar)? {
            match (*state, event) {
                (JsonState::Before, Event::Entry(entry)) => {
                    if entry.path != TOC_NAME || entry.kind != EntryKind::File {
                        return Err(Error::TarMember);
                    }
                    (*found, *state) = (Some(*entry), JsonState::InFile);
                }
                (JsonState::InFile, Event::Data(data)) => out.extend_from_slice(data),
                // No tool writes a sparse TOC.
                (JsonState::InFile, Event::Hole(_)) => return Err(Error::TarMember),
                (JsonState::InFile, Event::EntryEnd) => *state = JsonState::After,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;
    use crate::toc::embedded::tests::{annotations, assert_agrees, fixture};

    const FIXTURES: [&str; 3] = ["estargz", "estargz-min-chunk", "estargz-prefetch"];

    fn parts(name: &str) -> (Vec<u8>, Compressed, Digest) {
        let blob = fixture(name);
        let Some(Footer::Toc { offset }) = footer(&blob) else { panic!("{name} has no footer") };
        (blob, offset, annotations(name)[DIGEST_ANNOTATION].parse().unwrap())
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn archive(name: &str, json: &[u8]) -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_ustar();
        header.set_size(json.len() as u64);
        builder.append_data(&mut header, name, json).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_toc_agrees_with_its_layer() {
        for name in FIXTURES {
            let (blob, offset, digest) = parts(name);
            let member = &blob[offset.0 as usize..];
            for member in [member, &member[..member.len() - FOOTER_BYTES as usize]] {
                let toc = toc(member, Some(&digest), blob.len() as u64, offset).unwrap();
                assert_agrees(&toc, &blob, |entry| {
                    // The producer rounds to seconds.
                    entry.mtime.nanoseconds = 0;
                    // A TOC omits names that it gave before, and landmarks have none.
                    if entry.path.ends_with(b".landmark") {
                        entry.uname.clear();
                        entry.gname.clear();
                    }
                });
            }
        }
    }

    #[test]
    fn footers_of_all_three_kinds_are_recognised_and_lookalikes_are_not() {
        let blob = fixture("estargz");
        let current = &blob[blob.len() - 51..];
        let toc = Some(Footer::Toc { offset: Compressed(0x678c) });
        assert_eq!(footer(current), toc);

        let member = |extra: &[u8]| {
            [&MEMBER_START[..], &[1, 2, 3, 4, 5, 6, extra.len() as u8, 0], extra, &MEMBER_END].concat()
        };
        let legacy = member(b"000000000000678cSTARGZ");
        let external = member(b"SG\x11\0STARGZEXTERNALTOC");
        assert_eq!((legacy.len(), external.len()), (47, 46));
        assert_eq!(footer(&legacy), toc);
        assert_eq!(footer(&external), Some(Footer::External));
        assert_eq!(footer(&[&blob[..100], &legacy].concat()), toc);

        for extra in [
            &b"00000000000+678cSTARGZ"[..],
            b"000000000000678xSTARGZ",
            b"000000000000678cSTARGY",
            b"SG\x15\x00000000000000678cSTARGZ",
            b"SH\x16\x00000000000000678cSTARGZ",
            b"SG\x11\0STARGZEXTERNALTOX",
            b"SG\x10\0STARGZEXTERNALTOC",
            b"",
        ] {
            assert_eq!(footer(&member(extra)), None, "{}", extra.escape_ascii());
        }
        for length in 0..current.len() {
            assert_eq!(footer(&current[..length]), None);
            assert_eq!(footer(&current[current.len() - length..]), None);
        }
        for at in (0..current.len()).filter(|at| !(4..10).contains(at)) {
            let mut mutated = current.to_vec();
            mutated[at] ^= 0x80;
            assert_eq!(footer(&mutated), None, "byte {at}");
        }
        assert_eq!(footer(&gzip(b"")), None);
    }

    #[test]
    fn a_toc_with_another_digest_than_the_manifest_says_is_rejected() {
        let (blob, offset, _) = parts("estargz");
        let other = Digest::sha256(b"other");
        let refused = toc(&blob[offset.0 as usize..], Some(&other), blob.len() as u64, offset);
        assert!(matches!(refused, Err(Error::Digest { .. })));
    }

    #[test]
    fn a_toc_of_another_blob_or_beyond_its_end_is_rejected() {
        let (blob, offset, digest) = parts("estargz");
        let member = &blob[offset.0 as usize..];
        for (size, offset) in [(blob.len() as u64 - 1, offset.0), (u64::MAX, u64::MAX)] {
            let refused = toc(member, Some(&digest), size, Compressed(offset));
            assert!(matches!(refused, Err(Error::Position)));
        }
        // The same TOC at a smaller offset: its files would be after it.
        let refused = toc(member, Some(&digest), blob.len() as u64, Compressed(offset.0 / 2));
        assert!(matches!(refused, Err(Error::Entry { fault: embedded::Fault::ContentOutside, .. })));
    }

    #[test]
    fn an_archive_with_another_file_is_rejected() {
        let json = br#"{"version":1,"entries":[]}"#;
        let read = |archive: &[u8]| toc(&gzip(archive), None, 10_000, Compressed(0));
        assert!(read(&archive("./stargz.index.json", json)).is_ok());
        assert!(matches!(read(&archive("stargz.index.jso", json)), Err(Error::TarMember)));
        assert!(matches!(read(&[0; 1024]), Err(Error::TarMember)));
        assert!(matches!(read(json), Err(Error::Tar(_))));
        assert!(matches!(read(&archive("stargz.index.json", json)[..512]), Err(Error::Tar(_))));
        assert!(matches!(toc(json, None, 10_000, Compressed(0)), Err(Error::Encoding { .. })));
        let packed = gzip(&archive("stargz.index.json", json));
        let cut = toc(&packed[..packed.len() - 1], None, 10_000, Compressed(0));
        assert!(matches!(cut, Err(Error::Decompress(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(footer(&bytes), None);
            prop_assert!(toc(&bytes, None, 1 << 20, Compressed(0)).is_err());
        }

        #[test]
        fn a_toc_with_a_changed_byte_is_rejected(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let (blob, offset, digest) = parts("estargz");
            let mut member = blob[offset.0 as usize..blob.len() - FOOTER_BYTES as usize].to_vec();
            let at = at.index(member.len());
            // The header's time and system are ignored.
            prop_assume!(!(4..10).contains(&at));
            member[at] ^= flip;
            prop_assert!(toc(&member, Some(&digest), blob.len() as u64, offset).is_err());
        }
    }
}
