//! Finds the offset of a file in a layer's blob, independently of the program under test.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
    rc::Rc,
};

use flate2::bufread::MultiGzDecoder;

/// Compressed bytes passed to the decoder at a time: the precision of offsets.
const STEP: usize = 1 << 10;

/// Sizes of the files to extract, in bytes.
const SMALL: std::ops::RangeInclusive<u64> = 1 << 10..=64 << 10;

/// A regular file of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Deep {
    /// Without a leading slash.
    pub(crate) path: String,
    /// Compressed bytes from the start of the layer to the end of the file's content, at most [`STEP`] too many.
    pub(crate) end: u64,
    /// Its content.
    pub(crate) content: Vec<u8>,
}

/// The file at this path.
pub(crate) fn file(blob: &Path, path: &str) -> Deep {
    find(blob, |name, _, _| name == path).unwrap_or_else(|| panic!("no {path} in {}", blob.display()))
}

/// The first small file that starts at this compressed offset or later.
pub(crate) fn small_file_from(blob: &Path, offset: u64) -> Option<Deep> {
    find(blob, |_, size, position| SMALL.contains(&size) && position >= offset)
}

fn find(blob: &Path, wanted: impl Fn(&str, u64, u64) -> bool) -> Option<Deep> {
    let taken = Rc::<Cell<u64>>::default();
    let file = BufReader::with_capacity(1 << 20, File::open(blob).expect("a blob"));
    let decoder = MultiGzDecoder::new(Counting { inner: file, taken: Rc::clone(&taken) });
    let mut archive = tar::Archive::new(decoder);
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        if entry.header().entry_type().is_file() && wanted(&path, entry.size(), taken.get()) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            return Some(Deep { path, end: taken.get(), content });
        }
    }
    None
}

/// Returns small chunks and counts the bytes consumed.
struct Counting<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl<R: BufRead> io::Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counting<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.inner.fill_buf()?;
        Ok(bytes.get(..STEP).unwrap_or(bytes))
    }

    fn consume(&mut self, amount: usize) {
        self.taken.set(self.taken.get() + amount as u64);
        self.inner.consume(amount);
    }
}
