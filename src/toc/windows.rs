//! Windows in memory or in a stored TOC.

use std::io;

use bytes::Bytes;

use super::spans::{Spans, WindowRange, WindowStore};

/// Encoded windows one after another, read-only.
#[derive(Clone, Debug)]
pub(crate) struct StoredWindows(pub(crate) Bytes);

impl WindowStore for StoredWindows {
    fn push(&mut self, _: &[u8]) -> io::Result<WindowRange> {
        Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "a stored TOC is read-only"))
    }

    fn read(&self, window: WindowRange) -> io::Result<Vec<u8>> {
        slice(&self.0, window)
    }
}

/// Encoded windows one after another in memory.
#[cfg(any(test, feature = "internals"))]
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryWindows(Vec<u8>);

#[cfg(any(test, feature = "internals"))]
impl WindowStore for MemoryWindows {
    fn push(&mut self, encoded: &[u8]) -> io::Result<WindowRange> {
        let start = self.0.len() as u64;
        let length = u32::try_from(encoded.len()).map_err(io::Error::other)?;
        self.0.extend_from_slice(encoded);
        Ok(WindowRange { start, length })
    }

    fn read(&self, window: WindowRange) -> io::Result<Vec<u8>> {
        slice(&self.0, window)
    }
}

impl Spans {
    /// A copy with its windows in another store, which may accept more of them.
    ///
    /// # Errors
    ///
    /// Those of the stores.
    pub(crate) fn copied_into(&self, mut windows: Box<dyn WindowStore>) -> io::Result<Self> {
        let mut spans = self.spans.clone();
        for span in &mut spans {
            if let super::spans::Start::Deflate { window, .. } = &mut span.start
                && window.length > 0
            {
                *window = windows.push(&self.windows.read(*window)?)?;
            }
        }
        Ok(Self {
            encoding: self.encoding,
            spans,
            end: self.end,
            leaves: self.leaves.clone(),
            progress: self.progress.clone(),
            windows,
            resume: self.resume.clone(),
        })
    }
}

fn slice(bytes: &[u8], window: WindowRange) -> io::Result<Vec<u8>> {
    let range = usize::try_from(window.start).ok().zip(usize::try_from(window.length).ok());
    range
        .and_then(|(start, length)| bytes.get(start..start.checked_add(length)?))
        .map(<[u8]>::to_vec)
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "a window beyond the end of its store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_as_they_were_pushed() {
        let mut windows = MemoryWindows::default();
        let ranges = [&b"one"[..], b"", b"three"].map(|window| windows.push(window).unwrap());
        assert_eq!(ranges[2], WindowRange { start: 3, length: 5 });
        assert_eq!(windows.read(ranges[0]).unwrap(), b"one");
        assert_eq!(windows.read(ranges[1]).unwrap(), b"");
        assert_eq!(windows.read(ranges[2]).unwrap(), b"three");
    }

    #[test]
    fn stored_windows_are_read_only_and_bounds_checked() {
        let mut windows = StoredWindows(Bytes::from_static(b"window"));
        assert!(windows.push(b"x").is_err());
        assert_eq!(windows.read(WindowRange { start: 2, length: 4 }).unwrap(), b"ndow");
        for (start, length) in [(2, 5), (7, 0), (u64::MAX, 1), (6, u32::MAX)] {
            assert!(windows.read(WindowRange { start, length }).is_err(), "{start} {length}");
        }
    }
}
