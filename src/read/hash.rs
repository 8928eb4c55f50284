//! Hashing in parallel to decoding: the blob's digest and the DiffID of a layer.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    pool::{Buffer, WorkerPool},
    task::Task,
};
use crate::{
    error::{Error, Kind},
    oci::digest::{Algorithm, Digest, Hasher},
    offset::{Position, Uncompressed},
    toc::spans::{Resume, Span},
};

/// Steps waiting to be hashed; the decoder waits when there are more.
const STEPS: usize = 8;

/// Snapshots that are kept: a stopped pass is resumed at one of the last.
const SNAPSHOTS: usize = 16;

/// What a layer must hash to.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Digest of the blob, where it has one.
    pub(crate) digest: Option<Digest>,
    /// Digest of the unpacked tar.
    pub(crate) diff_id: DiffId,
}

/// The digest of the unpacked tar, which may arrive while the layer is already being read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum DiffId {
    /// The configuration gives it, or has none.
    Known(Option<Digest>),
    /// It arrives before the layer ends.
    Pending,
}

/// The hash task, as the decoder sees it.
pub(crate) struct HashWorker {
    expected: Expected,
    sender: mpsc::Sender<HashInput>,
    task: Task<HashState>,
}

enum HashInput {
    DiffId(Option<Digest>),
    Step(HashStep),
}

/// A place in the layer, and where the first header begins that has not been decoded there.
pub(super) type SnapshotAt = (Position, Option<Uncompressed>);

/// What one step of the decoder has read and unpacked. One message for all of it: waking a task costs more than hashing a little.
struct HashStep {
    blob: Bytes,
    /// The buffer, and how much of it is filled.
    unpacked: Option<(Buffer, usize)>,
    /// Where a pass can be resumed.
    snapshot: Option<SnapshotAt>,
}

/// The hashes.
struct HashState {
    blob: Option<Hasher>,
    /// One for each algorithm that the DiffID may turn out to have.
    unpacked: Vec<Hasher>,
    snapshots: VecDeque<HashSnapshot>,
}

/// Both hashes as they were at a place.
struct HashSnapshot {
    at: Position,
    /// Where the first header begins that had not been decoded then, if it is at or after this place.
    next_header: Option<Uncompressed>,
    blob: Option<Hasher>,
    unpacked: Vec<Hasher>,
}

impl Expected {
    /// Whether the configuration is known and gives a DiffID.
    pub(crate) fn has_diff_id(&self) -> bool {
        matches!(self.diff_id, DiffId::Known(Some(_)))
    }

    /// Whether an earlier pass has left all hashes that are to be compared.
    pub(crate) fn can_resume(&self, resume: &Resume) -> bool {
        let has = |digest: &Option<Digest>, saved: &Option<Vec<u8>>| match (digest, saved) {
            (None, _) => true,
            (Some(digest), Some(saved)) => Hasher::resume(digest.algorithm(), saved).is_some(),
            (Some(_), None) => false,
        };
        let DiffId::Known(diff_id) = &self.diff_id else { return false };
        has(&self.digest, &resume.blob) && has(diff_id, &resume.unpacked)
    }
}

impl HashWorker {
    /// Starts the task, at the beginning of the blob or where an earlier pass stopped.
    pub(crate) fn spawn(
        expected: Expected,
        resume: Option<&Resume>,
        pool: &WorkerPool,
    ) -> Result<Self, Error> {
        let hasher = |digest: &Option<Digest>, saved: Option<&Option<Vec<u8>>>| {
            let Some(algorithm) = digest.as_ref().map(Digest::algorithm) else { return Ok(None) };
            let hasher = match saved {
                None => Some(Hasher::new(algorithm)),
                Some(saved) => saved.as_ref().and_then(|saved| Hasher::resume(algorithm, saved)),
            };
            let lost = || Error::new(Kind::Other, "an earlier pass left no hash to resume from");
            hasher.map(Some).ok_or_else(lost)
        };
        let unpacked = match &expected.diff_id {
            DiffId::Pending => Algorithm::ALL.map(Hasher::new).to_vec(),
            DiffId::Known(diff_id) => {
                hasher(diff_id, resume.map(|resume| &resume.unpacked))?.into_iter().collect()
            }
        };
        let blob = hasher(&expected.digest, resume.map(|resume| &resume.blob))?;
        let state = HashState { blob, unpacked, snapshots: VecDeque::new() };
        let (sender, receiver) = mpsc::channel(STEPS);
        Ok(Self { expected, sender, task: pool.spawn(state.run(receiver))? })
    }

    /// Takes the DiffID that was pending.
    pub(crate) async fn diff_id(&mut self, diff_id: Option<Digest>) {
        self.expected.diff_id = DiffId::Known(diff_id.clone());
        let _ = self.sender.send(HashInput::DiffId(diff_id)).await;
    }

    /// Takes the next bytes of the blob, and the next `length` unpacked bytes with their buffer. `is_plain`: they are the blob's
    /// own bytes.
    ///
    /// With a `snapshot` the pass may be resumed after these bytes, with the first header that has not been decoded. A header that
    /// straddles the place cannot be resumed from: the bytes after it are not covered by the saved hash.
    pub(crate) async fn step(
        &mut self,
        blob: Bytes,
        (buffer, length): (Buffer, usize),
        is_plain: bool,
        snapshot: Option<SnapshotAt>,
    ) {
        let Expected { digest, diff_id } = &self.expected;
        let is_hashed = match diff_id {
            DiffId::Pending => true,
            DiffId::Known(diff_id) => diff_id.is_some() && !(is_plain && digest == diff_id),
        };
        let unpacked = (is_hashed && length > 0).then_some((buffer, length));
        let blob = if digest.is_some() { blob } else { Bytes::new() };
        let after = |(at, header): SnapshotAt| (at, header.filter(|header| *header >= at.uncompressed));
        let step = HashStep { blob, unpacked, snapshot: snapshot.map(after) };
        if !step.blob.is_empty() || step.unpacked.is_some() || step.snapshot.is_some() {
            // A hash task that is gone shows when it is joined.
            let _ = self.sender.send(HashInput::Step(step)).await;
        }
    }

    /// The state to resume from at the last of these spans where that is possible, and which span that is.
    pub(crate) async fn resume(self, spans: &[Span]) -> Option<(usize, Resume)> {
        let state = self.join().await.ok()?;
        let save = |hasher: Option<&Hasher>| hasher.map(Hasher::save);
        // Where the DiffID is still pending: it is seldom of any but the first algorithm.
        spans.iter().enumerate().rev().find_map(|(index, span)| {
            let snapshot = state.snapshots.iter().find(|snapshot| snapshot.at == span.at)?;
            let (blob, unpacked) = (save(snapshot.blob.as_ref()), save(snapshot.unpacked.first()));
            Some((index, Resume { next_header: snapshot.next_header?, blob, unpacked }))
        })
    }

    /// Waits for the hashes of all steps and compares them. `is_plain` as in [`Self::step`].
    pub(crate) async fn verify(self, is_plain: bool) -> Result<(), Error> {
        let Expected { digest, diff_id } = self.expected.clone();
        let DiffId::Known(diff_id) = diff_id else {
            return Err(Error::new(Kind::Other, "the layer ended before its DiffID was known"));
        };
        let state = self.join().await?;
        let is_hashed_as_blob = is_plain && digest == diff_id;
        compare("the blob", digest.clone(), state.blob.map(Hasher::finish))?;
        if is_hashed_as_blob {
            return Ok(());
        }
        let found = state.unpacked.into_iter().next().map(Hasher::finish);
        let (Some(expected), Some(found)) = (&diff_id, &found) else {
            return compare("the unpacked layer (DiffID)", diff_id, found);
        };
        if expected == found {
            return Ok(());
        }
        // Some builders write wrong DiffIDs (skopeo 1.9.3 of Debian 12 does so for zstd:chunked layers).
        let intact =
            digest.map(|digest| format!("the blob matches its digest {digest}, but ")).unwrap_or_default();
        let message = format!(
            "{intact}its DiffID is {found}, not {expected} as the image's configuration says; container runtimes refuse such an image"
        );
        Err(Error::new(Kind::Corrupt, message))
    }

    /// Waits for all steps.
    async fn join(self) -> Result<HashState, Error> {
        drop(self.sender);
        self.task.await
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

impl HashState {
    async fn run(mut self, mut inputs: mpsc::Receiver<HashInput>) -> Result<Self, Error> {
        while let Some(input) = inputs.recv().await {
            match input {
                HashInput::DiffId(diff_id) => {
                    let wanted = diff_id.map(|diff_id| diff_id.algorithm());
                    self.unpacked.retain(|hasher| Some(hasher.algorithm()) == wanted);
                    for snapshot in &mut self.snapshots {
                        snapshot.unpacked.retain(|hasher| Some(hasher.algorithm()) == wanted);
                    }
                }
                HashInput::Step(step) => self.step(step),
            }
        }
        Ok(self)
    }

    fn step(&mut self, step: HashStep) {
        if let Some(hasher) = &mut self.blob {
            hasher.update(&step.blob);
        }
        if let Some((buffer, length)) = step.unpacked {
            for hasher in &mut self.unpacked {
                hasher.update(buffer.get(..length).unwrap_or_default());
            }
        }
        if let Some((at, next_header)) = step.snapshot {
            if self.snapshots.len() == SNAPSHOTS {
                self.snapshots.pop_front();
            }
            let (blob, unpacked) = (self.blob.clone(), self.unpacked.clone());
            self.snapshots.push_back(HashSnapshot { at, next_header, blob, unpacked });
        }
    }
}
