//! The files of a local image: a directory (OCI image layout) or a tar archive read in place (`oci-archive:`,
//! `docker-archive:`).

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;

use super::{ByteStream, Error, Source, file::FileBlob};
use crate::{
    decompress::{Decompressor, Encoding},
    limits::{self, Limits},
    offset::Compressed,
    tar::{self, Event, entry::EntryKind},
};

/// Bytes unpacked at a time from a compressed archive.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes read at a time while skipping from header to header: most headers are one block.
const HEADER_BYTES: usize = 512;

/// Links followed inside an archive: older versions of `docker save` link a layer to the same layer of another image.
const ARCHIVE_LINKS: usize = 8;

/// Where the files of a local image are.
#[derive(Debug)]
pub(crate) enum Local {
    /// Members of a tar archive.
    Archive {
        /// The archive, unpacked if it was compressed.
        archive: FileBlob,
        /// The members by name.
        members: HashMap<String, Member>,
    },
    /// Files below a directory.
    Directory(PathBuf),
}

/// A member of an archive.
#[derive(Debug)]
pub(crate) enum Member {
    /// A file, and the range of its content in the archive.
    File(Range<u64>),
    /// A link to another member.
    Link(String),
}

impl Local {
    /// The directory at `path`. Blocks.
    pub(crate) fn directory(path: &Path) -> Result<Self, Error> {
        let metadata = std::fs::metadata(path).map_err(|error| io_error(path, error))?;
        if !metadata.is_dir() {
            return Err(io_error(path, io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self::Directory(path.to_owned()))
    }

    /// The archive at `path`; a compressed one is unpacked once into an unlinked temporary file. Blocks.
    pub(crate) fn archive(path: &Path, limits: Limits) -> Result<Self, Error> {
        let error = |error| io_error(path, error);
        let mut file = File::open(path).map_err(error)?;
        if let Some(unpacked) = unpack(&mut file, limits.unpacked_archive_bytes).map_err(error)? {
            file = unpacked;
        }
        let archive = FileBlob::new(file, &path.display().to_string()).map_err(error)?;
        let members = members(&archive).map_err(error)?;
        Ok(Self::Archive { archive, members })
    }

    /// The file `name`, a relative path with `/`; `None` if it does not exist. Blocks.
    pub(crate) fn open(&self, name: &str) -> Result<Option<FileBlob>, Error> {
        match self {
            Self::Archive { archive, members } => {
                let mut name = clean("", name);
                for _ in 0..ARCHIVE_LINKS {
                    match members.get(&name) {
                        Some(Member::File(range)) => return Ok(archive.slice(range.clone())),
                        Some(Member::Link(target)) => name.clone_from(target),
                        None => return Ok(None),
                    }
                }
                Ok(None)
            }
            Self::Directory(root) => {
                let path = root.join(name);
                match FileBlob::open(&path) {
                    Ok(blob) => Ok(Some(blob)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(io_error(&path, error)),
                }
            }
        }
    }
}

/// A blob of a local image, opened when it is read: a missing layer (foreign layers often are) matters only when it is needed.
#[derive(Debug)]
pub(crate) struct LocalBlob {
    local: Arc<Local>,
    name: String,
    size: u64,
}

impl LocalBlob {
    /// The file `name`, of the size in its descriptor.
    pub(crate) fn new(local: Arc<Local>, name: String, size: u64) -> Self {
        Self { local, name, size }
    }

    /// The file, of the size in its descriptor. Blocks.
    pub(crate) fn file(&self) -> Result<FileBlob, Error> {
        let wrong = |problem| Error::Local { name: self.name.clone(), problem };
        let file = self.local.open(&self.name)?.ok_or_else(|| wrong("is missing".to_owned()))?;
        if file.size() != self.size {
            return Err(wrong(format!("has {} bytes, but its descriptor says {}", file.size(), self.size)));
        }
        Ok(file)
    }
}

impl Source for LocalBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let blob = Self { local: Arc::clone(&self.local), name: self.name.clone(), size: self.size };
        Box::pin(async move {
            let name = blob.name.clone();
            let opened = tokio::task::spawn_blocking(move || blob.file()).await;
            let file =
                opened.map_err(|error| Error::Io { path: name, source: io::Error::other(error) })??;
            file.open(range).await
        })
    }
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

/// The members of a tar archive, found by skipping from header to header.
fn members(archive: &FileBlob) -> io::Result<HashMap<String, Member>> {
    let invalid = |tar::Error { kind, offset }| {
        let problem = format!("{kind} at byte {} of the unpacked archive", offset.0);
        io::Error::new(io::ErrorKind::InvalidData, problem)
    };
    let mut members = HashMap::new();
    let (mut decoder, mut at) = (tar::Decoder::new(), 0);
    let mut buffer = vec![0; HEADER_BYTES];
    while at < archive.size() {
        let left = usize::try_from(archive.size() - at).unwrap_or(usize::MAX);
        let Some(piece) = buffer.get_mut(..HEADER_BYTES.min(left)) else { break };
        archive.read_exact_at(piece, at)?;
        let mut input = &*piece;
        let event = decoder.decode(&mut input).map_err(invalid)?;
        at = decoder.offset().0;
        let Some(event) = event else { continue };
        let entry = match event {
            Event::End => return Ok(members),
            Event::Entry(entry) => entry,
            Event::Data(_) | Event::EntryEnd | Event::Hole(_) => continue,
        };
        decoder.skip_content();
        at = decoder.offset().0;
        if members.len() >= limits::ARCHIVE_MEMBERS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many members for an image archive"));
        }
        let Ok(name) = String::from_utf8(entry.path.clone()) else { continue };
        let link = String::from_utf8_lossy(&entry.link);
        let member = match entry.kind {
            EntryKind::File if entry.stored_size == entry.size => {
                Member::File(entry.data_offset.0..entry.data_offset.0.saturating_add(entry.size))
            }
            EntryKind::Hardlink => Member::Link(link.into_owned()),
            EntryKind::Symlink => {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                Member::Link(clean(parent, &link))
            }
            _ => continue,
        };
        members.insert(name, member);
    }
    decoder.finish().map_err(invalid)?;
    Ok(members)
}

/// `target` relative to `base`, without `.` and `..`, and never outside the archive.
fn clean(base: &str, target: &str) -> String {
    let path = if target.starts_with('/') { target.to_owned() } else { format!("{base}/{target}") };
    String::from_utf8_lossy(&tar::normalise(path.as_bytes())).into_owned()
}

/// Unpacks a compressed file to a temporary one; `None` if the file is not compressed.
fn unpack(file: &mut File, limit: u64) -> io::Result<Option<File>> {
    let mut decompressor = Decompressor::new();
    let mut unpacked: Option<File> = None;
    let (mut input, mut output) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut total = 0_u64;
    loop {
        let read = file.read(&mut input)?;
        let mut piece = input.get(..read).unwrap_or_default();
        loop {
            let produced = match read {
                0 => decompressor.finish(&mut output),
                _ => decompressor.decompress(&mut piece, &mut output),
            };
            let produced = produced.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if decompressor.encoding() == Some(Encoding::Plain) {
                return Ok(None);
            }
            if produced == 0 {
                break;
            }
            total += produced as u64;
            if total > limit {
                let message = format!("the archive unpacks to more than {limit} bytes");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
            }
            let target = match &mut unpacked {
                Some(target) => target,
                none => none.insert(tempfile::tempfile()?),
            };
            target.write_all(output.get(..produced).unwrap_or_default())?;
        }
        if read == 0 {
            return Ok(unpacked);
        }
    }
}
