//! Hashing beside decoding: a thread that computes a layer's blob digest and DiffID while the decoder goes on.

use std::{
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::JoinHandle,
};

use bytes::Bytes;

use crate::{
    error::{Error, Kind},
    oci::digest::{Digest, Hasher},
};

/// Pieces waiting to be hashed; the decoder waits when there are more.
const PIECES: usize = 8;

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
    thread: JoinHandle<(Option<Digest>, Option<Digest>)>,
}

enum Input {
    Blob(Bytes),
    Unpacked(Vec<u8>, usize),
}

impl Hashes {
    /// Starts the thread.
    pub(crate) fn spawn(expected: Expected) -> Result<Self, Error> {
        let (sender, receiver) = sync_channel(PIECES);
        let (recycle, recycled) = channel();
        let hasher = |digest: &Option<Digest>| digest.as_ref().map(|digest| Hasher::new(digest.algorithm()));
        let (blob, unpacked) = (hasher(&expected.digest), hasher(&expected.diff_id));
        let thread = std::thread::Builder::new()
            .name("hash".to_owned())
            .spawn(move || hash(&receiver, &recycle, blob, unpacked))
            .map_err(|error| Error::caused(Kind::Other, "starting the hash thread", error))?;
        Ok(Self { expected, sender, recycled, thread })
    }

    /// Takes the next piece of the blob.
    pub(crate) fn blob(&self, piece: &Bytes) {
        if self.expected.digest.is_some() {
            let _ = self.sender.send(Input::Blob(piece.clone()));
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

    /// A buffer that was handed in and is free again, if any.
    pub(crate) fn recycled(&self) -> Option<Vec<u8>> {
        self.recycled.try_recv().ok()
    }

    /// Waits for the hashes of all that was handed in and compares them. `plain` as in [`Self::unpacked`].
    pub(crate) fn verify(self, plain: bool) -> Result<(), Error> {
        drop(self.sender);
        let (blob, unpacked) = match self.thread.join() {
            Ok(digests) => digests,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let Expected { digest, diff_id } = self.expected;
        let hashed_as_blob = plain && digest == diff_id;
        compare("the blob", digest, blob)?;
        if hashed_as_blob { Ok(()) } else { compare("the unpacked layer (DiffID)", diff_id, unpacked) }
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

fn hash(
    inputs: &Receiver<Input>,
    recycle: &Sender<Vec<u8>>,
    mut blob: Option<Hasher>,
    mut unpacked: Option<Hasher>,
) -> (Option<Digest>, Option<Digest>) {
    for input in inputs {
        match input {
            Input::Blob(piece) => {
                if let Some(hasher) = &mut blob {
                    hasher.update(&piece);
                }
            }
            Input::Unpacked(buffer, length) => {
                if let (Some(hasher), Some(content)) = (&mut unpacked, buffer.get(..length)) {
                    hasher.update(content);
                }
                // The decoder may be gone already.
                let _ = recycle.send(buffer);
            }
        }
    }
    (blob.map(Hasher::finish), unpacked.map(Hasher::finish))
}
