//! Hashing beside decoding: a thread that computes a layer's blob digest and DiffID while the decoder goes on.

use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::JoinHandle,
};

use bytes::Bytes;

use crate::{
    error::{Error, Kind},
    oci::digest::{Digest, Hasher},
    offset::{Position, Uncompressed},
    toc::spans::{Resume, Span},
};

/// Pieces waiting to be hashed; the decoder waits when there are more.
const PIECES: usize = 8;

/// Marks that are kept: a pass that stops is taken up again at one of the last.
const MARKS: usize = 16;

/// What a layer must hash to.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Digest of the blob, where it has one.
    pub(crate) digest: Option<Digest>,
    /// Digest of the unpacked tar, where it is known.
    pub(crate) diff_id: Option<Digest>,
}

/// The hash thread, as the decoder sees it.
pub(crate) struct Hashes {
    expected: Expected,
    sender: SyncSender<Input>,
    recycled: Receiver<Vec<u8>>,
    thread: JoinHandle<Hashed>,
}

enum Input {
    Blob(Bytes),
    Mark(Position, Option<Uncompressed>),
    Unpacked(Vec<u8>, usize),
}

/// What the thread computes with.
struct Hashed {
    blob: Option<Hasher>,
    unpacked: Option<Hasher>,
    marks: VecDeque<Mark>,
}

/// Both hashes as they were at a place.
struct Mark {
    at: Position,
    /// Where the first header begins that had not been decoded then, if it lies at this place or behind.
    next_header: Option<Uncompressed>,
    blob: Option<Hasher>,
    unpacked: Option<Hasher>,
}

impl Expected {
    /// Whether an earlier pass has left all hashes that are to be compared.
    pub(crate) fn can_resume(&self, resume: &Resume) -> bool {
        let has = |digest: &Option<Digest>, saved: &Option<Vec<u8>>| match (digest, saved) {
            (None, _) => true,
            (Some(digest), Some(saved)) => Hasher::resume(digest.algorithm(), saved).is_some(),
            (Some(_), None) => false,
        };
        has(&self.digest, &resume.blob) && has(&self.diff_id, &resume.unpacked)
    }
}

impl Hashes {
    /// Starts the thread, at the beginning of the blob or where an earlier pass stopped.
    pub(crate) fn spawn(expected: Expected, resume: Option<&Resume>) -> Result<Self, Error> {
        let (sender, receiver) = sync_channel(PIECES);
        let (recycle, recycled) = channel();
        let hasher = |digest: &Option<Digest>, saved: Option<&Option<Vec<u8>>>| {
            let Some(algorithm) = digest.as_ref().map(Digest::algorithm) else { return Ok(None) };
            let hasher = match saved {
                None => Some(Hasher::new(algorithm)),
                Some(saved) => saved.as_ref().and_then(|saved| Hasher::resume(algorithm, saved)),
            };
            let lost = || Error::new(Kind::Other, "an earlier pass left no hash to go on with");
            hasher.map(Some).ok_or_else(lost)
        };
        let hashed = Hashed {
            blob: hasher(&expected.digest, resume.map(|resume| &resume.blob))?,
            unpacked: hasher(&expected.diff_id, resume.map(|resume| &resume.unpacked))?,
            marks: VecDeque::new(),
        };
        let thread = std::thread::Builder::new()
            .name("hash".to_owned())
            .spawn(move || hashed.run(&receiver, &recycle))
            .map_err(|error| Error::caused(Kind::Other, "starting the hash thread", error))?;
        Ok(Self { expected, sender, recycled, thread })
    }

    /// Takes the next piece of the blob.
    pub(crate) fn blob(&self, piece: Bytes) {
        if self.expected.digest.is_some() {
            let _ = self.sender.send(Input::Blob(piece));
        }
    }

    /// Takes the next `length` unpacked bytes, with their buffer, which comes back at once where nothing needs hashing.
    /// `plain`: they are the blob's own bytes.
    pub(crate) fn unpacked(&self, buffer: Vec<u8>, length: usize, plain: bool) -> Option<Vec<u8>> {
        let hashed_as_blob = plain && self.expected.digest == self.expected.diff_id;
        if self.expected.diff_id.is_none() || hashed_as_blob {
            return Some(buffer);
        }
        // Nothing to do about a hash thread that is gone: it shows when it is joined.
        let _ = self.sender.send(Input::Unpacked(buffer, length));
        None
    }

    /// All that comes before this place has been handed in; the pass may be taken up again here, with the first header that has not
    /// been decoded. One that lies across the place cannot be: what comes behind it is not proved by what was hashed before.
    pub(crate) fn mark(&self, at: Position, next_header: Option<Uncompressed>) {
        let next_header = next_header.filter(|header| *header >= at.uncompressed);
        let _ = self.sender.send(Input::Mark(at, next_header));
    }

    /// What is needed to go on from the last of these places where that is possible, and which one that is.
    pub(crate) fn resume(self, places: &[Span]) -> Option<(usize, Resume)> {
        let hashed = self.join();
        let save = |hasher: Option<&Hasher>| hasher.map(Hasher::save);
        places.iter().enumerate().rev().find_map(|(index, place)| {
            let mark = hashed.marks.iter().find(|mark| mark.at == place.at)?;
            let (blob, unpacked) = (save(mark.blob.as_ref()), save(mark.unpacked.as_ref()));
            Some((index, Resume { next_header: mark.next_header?, blob, unpacked }))
        })
    }

    /// A buffer that was handed in and is free again, if any.
    pub(crate) fn recycled(&self) -> Option<Vec<u8>> {
        self.recycled.try_recv().ok()
    }

    /// Waits for the hashes of all that was handed in and compares them. `plain` as in [`Self::unpacked`].
    pub(crate) fn verify(self, plain: bool) -> Result<(), Error> {
        let Expected { digest, diff_id } = self.expected.clone();
        let hashed = self.join();
        let hashed_as_blob = plain && digest == diff_id;
        compare("the blob", digest, hashed.blob.map(Hasher::finish))?;
        if hashed_as_blob {
            return Ok(());
        }
        compare("the unpacked layer (DiffID)", diff_id, hashed.unpacked.map(Hasher::finish))
    }

    /// Waits for all that was handed in.
    fn join(self) -> Hashed {
        drop(self.sender);
        match self.thread.join() {
            Ok(hashed) => hashed,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn compare(what: &str, expected: Option<Digest>, found: Option<Digest>) -> Result<(), Error> {
    match (expected, found) {
        (Some(expected), Some(found)) if expected != found => {
            Err(Error::new(Kind::Corrupt, format!("{what} hashes to {found}, not to {expected}")))
        }
        _ => Ok(()),
    }
}

impl Hashed {
    fn run(mut self, inputs: &Receiver<Input>, recycle: &Sender<Vec<u8>>) -> Self {
        for input in inputs {
            match input {
                Input::Blob(piece) => {
                    if let Some(hasher) = &mut self.blob {
                        hasher.update(&piece);
                    }
                }
                Input::Mark(at, next_header) => {
                    if self.marks.len() == MARKS {
                        self.marks.pop_front();
                    }
                    let (blob, unpacked) = (self.blob.clone(), self.unpacked.clone());
                    self.marks.push_back(Mark { at, next_header, blob, unpacked });
                }
                Input::Unpacked(buffer, length) => {
                    if let (Some(hasher), Some(content)) = (&mut self.unpacked, buffer.get(..length)) {
                        hasher.update(content);
                    }
                    // The decoder may be gone already.
                    let _ = recycle.send(buffer);
                }
            }
        }
        self
    }
}
