//! Tests with whole archives: written by hand, by GNU tar and by the `tar` crate.

use super::{
    Decoder, Error, Event,
    entry::{Entry, EntryKind},
};

mod archive;
mod gnu_tar;
mod properties;
mod sparse;

/// An entry and its content, holes as zeros.
type Unpacked = (Entry, Vec<u8>);

/// Largest hole that tests fill with zeros, in bytes.
const HOLE_BYTES: usize = 4 << 20;

/// Decodes an archive in pieces of these lengths, and the rest in one piece.
fn decode_in_pieces(archive: &[u8], lengths: &[usize]) -> Result<Vec<Unpacked>, Error> {
    let mut decoder = Decoder::new();
    let mut unpacked: Vec<Unpacked> = Vec::new();
    let mut is_open = false;
    let mut is_huge = false;
    let mut rest = archive;
    let mut lengths = lengths.iter().copied();
    loop {
        let piece = lengths.next().unwrap_or(rest.len()).min(rest.len());
        let (mut input, behind) = rest.split_at(piece);
        while let Some(event) = decoder.decode(&mut input)? {
            match event {
                Event::Data(data) => {
                    assert!(is_open && !data.is_empty());
                    unpacked.last_mut().unwrap().1.extend_from_slice(data);
                }
                Event::End => assert!(!is_open),
                Event::Entry(entry) => {
                    assert!(!std::mem::replace(&mut is_open, true));
                    unpacked.push((*entry, Vec::new()));
                }
                Event::EntryEnd => {
                    assert!(std::mem::replace(&mut is_open, false));
                    let (entry, content) = unpacked.last().unwrap();
                    assert!(is_huge || entry.size == content.len() as u64, "{entry:?}");
                }
                Event::Hole(bytes) => {
                    assert!(is_open && bytes > 0);
                    let content = &mut unpacked.last_mut().unwrap().1;
                    // Hostile maps have holes too large to fill.
                    match usize::try_from(bytes) {
                        Ok(bytes) if bytes <= HOLE_BYTES => content.resize(content.len() + bytes, 0),
                        _ => is_huge = true,
                    }
                }
            }
        }
        assert!(input.is_empty(), "no event is due, but input is left");
        rest = behind;
        assert_eq!(decoder.offset().0, (archive.len() - rest.len()) as u64);
        if rest.is_empty() {
            return decoder.finish().map(|()| unpacked);
        }
    }
}

fn decode(archive: &[u8]) -> Result<Vec<Unpacked>, Error> {
    decode_in_pieces(archive, &[])
}

fn only_entry(archive: &[u8]) -> Unpacked {
    let mut unpacked = decode(archive).unwrap();
    assert_eq!(unpacked.len(), 1, "{unpacked:?}");
    unpacked.remove(0)
}

fn kinds(unpacked: &[Unpacked]) -> Vec<(String, EntryKind)> {
    let row = |(entry, _): &Unpacked| (String::from_utf8_lossy(&entry.path).into_owned(), entry.kind);
    unpacked.iter().map(row).collect()
}
