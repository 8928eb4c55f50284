//! The files of a local image: a directory (OCI image layout) or a tar archive read in place (`oci-archive:`,
//! `docker-archive:`).

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;

use super::{ByteStream, Error, Source, archive::Archive, file::FileBlob};
use crate::{offset::Compressed, threads::run_blocking};

/// Where the files of a local image are.
#[derive(Debug)]
pub(crate) enum Local {
    /// Members of a tar archive.
    Archive(Archive),
    /// Files below a directory.
    Directory(PathBuf),
}

impl Local {
    /// The directory at `path`. Blocks.
    pub(crate) fn directory(path: &Path) -> Result<Self, Error> {
        let metadata = std::fs::metadata(path).map_err(|error| io_error(path, error))?;
        if !metadata.is_dir() {
            let problem = "not a directory (archives are written oci-archive:FILE or docker-archive:FILE)";
            return Err(io_error(path, io::Error::new(io::ErrorKind::NotADirectory, problem)));
        }
        Ok(Self::Directory(path.to_owned()))
    }

    /// The archive at `path`, with a temporary copy of at most `max_unpacked` bytes if it is compressed or piped. Blocks.
    pub(crate) fn archive(path: &Path, max_unpacked: u64) -> Result<Self, Error> {
        Archive::open(path, max_unpacked).map(Self::Archive)
    }

    /// The file `name`, a relative path with `/`; `None` if it does not exist. Blocks.
    pub(crate) fn open(&self, name: &str) -> Result<Option<FileBlob>, Error> {
        match self {
            Self::Archive(archive) => Ok(archive.file(name)),
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
            let opened = run_blocking(move || blob.file()).await;
            let file =
                opened.map_err(|error| Error::Io { path: name, source: io::Error::other(error) })??;
            file.open(range).await
        })
    }
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}
