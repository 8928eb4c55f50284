//! The files of a local image: a directory (OCI image layout) or a tar archive read in place (`oci-archive:`,
//! `docker-archive:`).

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;

use super::{ByteStream, Error, Source, file::FileBlob};
use crate::{
    decompress::{Decompressor, Encoding},
    limits,
    offset::Compressed,
};

/// Bytes unpacked at a time from a compressed archive.
const BUFFER_BYTES: usize = 256 << 10;

/// Links followed inside an archive: old `docker save` links a layer to the same layer of another image.
const ARCHIVE_LINKS: usize = 8;

/// Where the files of a local image lie.
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
    /// A file whose content lies there.
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
    pub(crate) fn archive(path: &Path) -> Result<Self, Error> {
        let error = |error| io_error(path, error);
        let mut file = File::open(path).map_err(error)?;
        if let Some(unpacked) = unpack(&mut file).map_err(error)? {
            file = unpacked;
        }
        file.seek(SeekFrom::Start(0)).map_err(error)?;
        let members = members(&file).map_err(error)?;
        let archive = FileBlob::new(file, &path.display().to_string()).map_err(error)?;
        Ok(Self::Archive { archive, members })
    }

    /// The file `name`, a relative path with `/`; `None` if there is none. Blocks.
    pub(crate) fn open(&self, name: &str) -> Result<Option<FileBlob>, Error> {
        match self {
            Self::Archive { archive, members } => {
                let mut name = name.to_owned();
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

/// A blob of a local image, opened when it is read: a layer that is not there (foreign layers often are not) only matters to
/// whoever asks for it.
#[derive(Debug)]
pub(crate) struct LocalBlob {
    local: Arc<Local>,
    name: String,
    size: u64,
}

impl LocalBlob {
    /// The file `name`, which its descriptor says to be of this size.
    pub(crate) fn new(local: Arc<Local>, name: String, size: u64) -> Self {
        Self { local, name, size }
    }

    /// The file, of the size that was promised. Blocks.
    pub(crate) fn file(&self) -> Result<FileBlob, Error> {
        let wrong = |problem| Error::Local { name: self.name.clone(), problem };
        let file = self.local.open(&self.name)?.ok_or_else(|| wrong("is missing".to_owned()))?;
        if file.size() != self.size {
            return Err(wrong(format!("has {} bytes, not the {} of its descriptor", file.size(), self.size)));
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
            let file = opened.map_err(|error| Error::Io { path: name, source: io::Error::other(error) })??;
            file.open(range).await
        })
    }
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

/// The members of a tar archive, found by hopping from header to header.
fn members(file: &File) -> io::Result<HashMap<String, Member>> {
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if members.len() >= limits::ARCHIVE_MEMBERS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many members for an image archive"));
        }
        let Some(name) = entry.path()?.to_str().map(|name| clean(Path::new(""), name)) else { continue };
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let start = entry.raw_file_position();
            let end = start.checked_add(entry.size()).ok_or(io::ErrorKind::InvalidData)?;
            members.insert(name, Member::File(start..end));
        } else if let Some(target) = entry.link_name()?.as_deref().and_then(Path::to_str) {
            let base = Path::new(&name).parent().filter(|_| kind.is_symlink());
            let target = clean(base.unwrap_or(Path::new("")), target);
            members.insert(name, Member::Link(target));
        }
    }
    Ok(members)
}

/// `name` relative to `base`, without `.` and `..`, held inside the archive.
fn clean(base: &Path, name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = base.to_str().unwrap_or_default();
    for part in base.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The content of a compressed file as a temporary one; `None` if the file is not compressed.
fn unpack(file: &mut File) -> io::Result<Option<File>> {
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
            if total > limits::UNPACKED_ARCHIVE_BYTES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the archive unpacks to too many bytes"));
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
