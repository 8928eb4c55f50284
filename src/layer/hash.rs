//! Hashing beside decoding: a thread that computes a layer's blob digest and DiffID while the decoder goes on.

use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::JoinHandle,
};

use bytes::Bytes;

use crate::{
    error::{Error, Kind},
    oci::digest::{Algorithm, Digest, Hasher},
    offset::{Position, Uncompressed},
    toc::spans::{Resume, Span},
};

/// Steps waiting to be hashed; the decoder waits when there are more.
const STEPS: usize = 8;

/// Marks that are kept: a pass that stops is taken up again at one of the last.
const MARKS: usize = 16;

/// What a layer must hash to.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Digest of the blob, where it has one.
    pub(crate) digest: Option<Digest>,
    /// Digest of the unpacked tar.
    pub(crate) diff_id: DiffId,
}

/// The digest of the unpacked tar, which may be told while the layer is already being read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum DiffId {
    /// It will be told before the layer ends.
    Awaited,
    /// The configuration gives it, or has none.
    Told(Option<Digest>),
}

/// The hash thread, as the decoder sees it.
pub(crate) struct Hashes {
    expected: Expected,
    sender: SyncSender<Input>,
    recycled: Receiver<Vec<u8>>,
    thread: JoinHandle<Hashed>,
}

enum Input {
    DiffId(Option<Digest>),
    Step(Step),
}

/// A place in the layer, and where the first header begins that has not been decoded there.
pub(super) type Mark = (Position, Option<Uncompressed>);

/// What one step of the decoder has read and come to. One message for all of it: waking a thread costs more than hashing a little.
struct Step {
    blob: Bytes,
    /// The buffer, and how much of it is filled.
    unpacked: Option<(Vec<u8>, usize)>,
    /// Where a pass may be taken up.
    mark: Option<Mark>,
}

/// What the thread computes with.
struct Hashed {
    blob: Option<Hasher>,
    /// One for each algorithm that the DiffID may turn out to have.
    unpacked: Vec<Hasher>,
    marks: VecDeque<Marked>,
}

/// Both hashes as they were at a place.
struct Marked {
    at: Position,
    /// Where the first header begins that had not been decoded then, if it lies at this place or behind.
    next_header: Option<Uncompressed>,
    blob: Option<Hasher>,
    unpacked: Vec<Hasher>,
}

impl Expected {
    /// Whether the configuration is there and gives a DiffID.
    pub(crate) fn has_diff_id(&self) -> bool {
        matches!(self.diff_id, DiffId::Told(Some(_)))
    }

    /// Whether an earlier pass has left all hashes that are to be compared.
    pub(crate) fn can_resume(&self, resume: &Resume) -> bool {
        let has = |digest: &Option<Digest>, saved: &Option<Vec<u8>>| match (digest, saved) {
            (None, _) => true,
            (Some(digest), Some(saved)) => Hasher::resume(digest.algorithm(), saved).is_some(),
            (Some(_), None) => false,
        };
        let DiffId::Told(diff_id) = &self.diff_id else { return false };
        has(&self.digest, &resume.blob) && has(diff_id, &resume.unpacked)
    }
}

impl Hashes {
    /// Starts the thread, at the beginning of the blob or where an earlier pass stopped.
    pub(crate) fn spawn(expected: Expected, resume: Option<&Resume>) -> Result<Self, Error> {
        let (sender, receiver) = sync_channel(STEPS);
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
        let unpacked = match &expected.diff_id {
            DiffId::Awaited => Algorithm::ALL.map(Hasher::new).to_vec(),
            DiffId::Told(diff_id) => {
                hasher(diff_id, resume.map(|resume| &resume.unpacked))?.into_iter().collect()
            }
        };
        let blob = hasher(&expected.digest, resume.map(|resume| &resume.blob))?;
        let hashed = Hashed { blob, unpacked, marks: VecDeque::new() };
        let thread = std::thread::Builder::new()
            .name("hash".to_owned())
            .spawn(move || hashed.run(&receiver, &recycle))
            .map_err(|error| Error::caused(Kind::Other, "starting the hash thread", error))?;
        Ok(Self { expected, sender, recycled, thread })
    }

    /// Takes the DiffID that was awaited.
    pub(crate) fn diff_id(&mut self, diff_id: Option<Digest>) {
        self.expected.diff_id = DiffId::Told(diff_id.clone());
        let _ = self.sender.send(Input::DiffId(diff_id));
    }

    /// Takes the next bytes of the blob, and the next `length` unpacked bytes with their buffer, which comes back at once where
    /// nothing of it needs hashing. `plain`: they are the blob's own bytes.
    ///
    /// With a `mark` the pass may be taken up again behind these, with the first header that has not been decoded. One that lies
    /// across the place cannot be: what comes behind it is not proved by what was hashed before.
    pub(crate) fn step(
        &self,
        blob: Bytes,
        (buffer, length): (Vec<u8>, usize),
        plain: bool,
        mark: Option<Mark>,
    ) -> Option<Vec<u8>> {
        let Expected { digest, diff_id } = &self.expected;
        let is_hashed = match diff_id {
            DiffId::Awaited => true,
            DiffId::Told(diff_id) => diff_id.is_some() && !(plain && digest == diff_id),
        };
        let (unpacked, spare) =
            if is_hashed && length > 0 { (Some((buffer, length)), None) } else { (None, Some(buffer)) };
        let blob = if digest.is_some() { blob } else { Bytes::new() };
        let behind = |(at, header): Mark| (at, header.filter(|header| *header >= at.uncompressed));
        let step = Step { blob, unpacked, mark: mark.map(behind) };
        if !step.blob.is_empty() || step.unpacked.is_some() || step.mark.is_some() {
            // Nothing to do about a hash thread that is gone: it shows when it is joined.
            let _ = self.sender.send(Input::Step(step));
        }
        spare
    }

    /// What is needed to go on from the last of these places where that is possible, and which one that is.
    pub(crate) fn resume(self, places: &[Span]) -> Option<(usize, Resume)> {
        let hashed = self.join();
        let save = |hasher: Option<&Hasher>| hasher.map(Hasher::save);
        // Where the DiffID is still awaited: it is seldom of any but the first algorithm.
        places.iter().enumerate().rev().find_map(|(index, place)| {
            let mark = hashed.marks.iter().find(|mark| mark.at == place.at)?;
            let (blob, unpacked) = (save(mark.blob.as_ref()), save(mark.unpacked.first()));
            Some((index, Resume { next_header: mark.next_header?, blob, unpacked }))
        })
    }

    /// A buffer that was handed in and is free again, if any.
    pub(crate) fn recycled(&self) -> Option<Vec<u8>> {
        self.recycled.try_recv().ok()
    }

    /// Waits for the hashes of all that was handed in and compares them. `plain` as in [`Self::step`].
    pub(crate) fn verify(self, plain: bool) -> Result<(), Error> {
        let Expected { digest, diff_id } = self.expected.clone();
        let DiffId::Told(diff_id) = diff_id else {
            return Err(Error::new(Kind::Other, "the layer ended before its DiffID was known"));
        };
        let hashed = self.join();
        let hashed_as_blob = plain && digest == diff_id;
        compare("the blob", digest, hashed.blob.map(Hasher::finish))?;
        if hashed_as_blob {
            return Ok(());
        }
        compare(
            "the unpacked layer (DiffID)",
            diff_id,
            hashed.unpacked.into_iter().next().map(Hasher::finish),
        )
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
    let Some(expected) = expected else { return Ok(()) };
    match found {
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(Error::new(Kind::Corrupt, format!("{what} hashes to {found}, not to {expected}"))),
        None => Err(Error::new(Kind::Other, format!("{what} was not hashed"))),
    }
}

impl Hashed {
    fn run(mut self, inputs: &Receiver<Input>, recycle: &Sender<Vec<u8>>) -> Self {
        for input in inputs {
            match input {
                Input::DiffId(diff_id) => {
                    let wanted = diff_id.map(|diff_id| diff_id.algorithm());
                    self.unpacked.retain(|hasher| Some(hasher.algorithm()) == wanted);
                    for mark in &mut self.marks {
                        mark.unpacked.retain(|hasher| Some(hasher.algorithm()) == wanted);
                    }
                }
                Input::Step(step) => {
                    if let Some(hasher) = &mut self.blob {
                        hasher.update(&step.blob);
                    }
                    if let Some((buffer, length)) = step.unpacked {
                        for hasher in &mut self.unpacked {
                            hasher.update(buffer.get(..length).unwrap_or_default());
                        }
                        // The decoder may be gone already.
                        let _ = recycle.send(buffer);
                    }
                    if let Some((at, next_header)) = step.mark {
                        self.mark(at, next_header);
                    }
                }
            }
        }
        self
    }

    fn mark(&mut self, at: Position, next_header: Option<Uncompressed>) {
        if self.marks.len() == MARKS {
            self.marks.pop_front();
        }
        let (blob, unpacked) = (self.blob.clone(), self.unpacked.clone());
        self.marks.push_back(Marked { at, next_header, blob, unpacked });
    }
}
