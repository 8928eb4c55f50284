//! What our two credential files have in common: location, reading, changing.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    super::{credential::CredentialKind, error::CredentialError, key::RegistryKey},
    document::CredentialsDocument,
    private::PrivateDirectory,
};

/// A file in our directory, which may not exist yet.
#[derive(Clone, Debug)]
pub(super) struct OwnFile {
    directory: PrivateDirectory,
    name: &'static str,
    path: PathBuf,
}

impl OwnFile {
    pub(super) fn new(directory: &Path, name: &'static str) -> Self {
        let directory = PrivateDirectory::new(directory);
        Self { path: directory.file(name), directory, name }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file_exists(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    /// Checks whether it could be written now.
    pub(super) fn check(&self) -> Result<(), CredentialError> {
        self.read()?;
        self.directory.lock()?.probe()
    }

    pub(super) fn read(&self) -> Result<CredentialsDocument, CredentialError> {
        let text = self.directory.read(self.name)?;
        CredentialsDocument::parse(text.as_ref().map(|text| text.as_str()), &self.path)
    }

    /// Reads, changes and writes it, holding the lock.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut CredentialsDocument) -> Result<T, CredentialError>,
    ) -> Result<T, CredentialError> {
        let lock = self.directory.lock()?;
        let mut document = self.read()?;
        let result = change(&mut document)?;
        lock.write(self.name, &Zeroizing::new(document.text()))?;
        Ok(result)
    }

    /// Removes an entry and returns whether there was one. Without the entry the file is not written.
    pub(super) fn delete(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<bool, CredentialError> {
        if self.read()?.entry(registry, kind)?.is_none() {
            return Ok(false);
        }
        self.change(|document| Ok(document.remove(registry, kind)))
    }
}
