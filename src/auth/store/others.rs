//! Docker's `config.json` and containers' `auth.json` as stores: written as their own programs write them, every other key
//! kept in its place.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::ExposeSecret as _;
use serde::Serialize as _;
use serde_json::{Map, Value, ser::PrettyFormatter};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::{
    super::{
        auth_file::{AuthFile, InTheClear, Style},
        credential::{Credential, CredentialKind},
        error::CredentialError,
        helper::Helper,
        key::RegistryKey,
    },
    CredentialStore, StoredEntry,
    private::PrivateDirectory,
};

/// The members of an entry that hold secrets, the user name that goes with one included.
const SECRETS: [&str; 5] = ["auth", "identitytoken", "password", "registrytoken", "username"];

/// A file of docker's or containers'.
#[derive(Clone, Debug)]
pub(crate) struct OthersFile {
    path: PathBuf,
    style: Style,
    /// Where our own lock lies: theirs have none.
    own: PrivateDirectory,
}

impl OthersFile {
    pub(crate) fn new(path: &Path, style: Style, own: &Path) -> Self {
        Self { path: path.to_owned(), style, own: PrivateDirectory::new(own) }
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Registries that have a secret in the file itself, whatever helpers it names.
    pub(crate) fn in_the_clear(&self) -> Result<Vec<InTheClear>, CredentialError> {
        let file = AuthFile::read(&self.path, self.style)?;
        Ok(file.map(|file| file.in_the_clear()).unwrap_or_default())
    }

    /// Takes the secrets of a registry out of the file, if they are still those of `credential`; whether they were.
    pub(crate) fn take_out(
        &self,
        registry: &RegistryKey,
        credential: &Credential,
    ) -> Result<bool, CredentialError> {
        let _lock = self.own.lock()?;
        let now = self.in_the_clear()?;
        if !now.iter().any(|(key, found)| {
            key == registry && found.as_ref().is_ok_and(|found| found.is_same(credential))
        }) {
            return Ok(false);
        }
        self.change(|config| remove(config, registry))
    }

    /// Writes a copy beside the file, for its owner alone; its path.
    pub(crate) fn back_up(&self) -> Result<PathBuf, CredentialError> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".layerslayer-backup");
        let copy = self.path.with_file_name(name);
        let text = fs::read(&self.path).map(Zeroizing::new);
        let written = text.and_then(|text| replace(&copy, &text));
        written.map_err(|error| CredentialError::other(format!("writing {}: {error}", copy.display())))?;
        Ok(copy)
    }

    fn helper(&self, registry: &RegistryKey) -> Result<Option<Helper>, CredentialError> {
        let Some(file) = AuthFile::read(&self.path, self.style)? else { return Ok(None) };
        file.helper(registry).map(Helper::named).transpose()
    }

    /// The key that the file's own program uses.
    fn key(&self, registry: &RegistryKey) -> String {
        match self.style {
            Style::Containers => registry.as_str().to_owned(),
            Style::Docker | Style::Legacy => registry.docker_key(),
        }
    }

    fn failed(&self, error: &io::Error) -> CredentialError {
        CredentialError::other(format!("writing {}: {error}", self.path.display()))
    }

    /// The object that is the file, an empty one if there is none.
    fn config(&self) -> Result<Map<String, Value>, CredentialError> {
        // Checked here, and its mistakes named.
        AuthFile::read(&self.path, self.style)?;
        match fs::read(&self.path).map(Zeroizing::new) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|_| CredentialError::other(format!("{} is not a JSON object", self.path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Reads, changes and writes the file, under the caller's lock.
    fn change<T>(&self, change: impl FnOnce(&mut Map<String, Value>) -> T) -> Result<T, CredentialError> {
        let mut config = self.config()?;
        let result = change(&mut config);
        let mut text = Zeroizing::new(Vec::new());
        let mut writer =
            serde_json::Serializer::with_formatter(&mut *text, PrettyFormatter::with_indent(b"\t"));
        config.serialize(&mut writer).map_err(|error| self.failed(&error.into()))?;
        text.push(b'\n');
        replace(&self.path, &text).map_err(|error| self.failed(&error))?;
        Ok(result)
    }
}

impl CredentialStore for OthersFile {
    fn place(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{name} at {}", self.path.display())
    }

    /// A helper that cannot list what it has would not keep more.
    fn check(&self, registry: &RegistryKey) -> Result<(), CredentialError> {
        self.config()?;
        self.own.lock()?;
        temporary_beside(&target(&self.path)).map_err(|error| self.failed(&error))?;
        self.helper(registry)?.map_or(Ok(()), |helper| helper.list().map(drop))
    }

    /// As `docker login` does: the secret goes to the helper that the file names, else into the file.
    fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
        let helper = self.helper(registry)?;
        if let Some(helper) = &helper {
            helper.store(&registry.docker_key(), credential)?;
        }
        let _lock = self.own.lock()?;
        self.change(|config| {
            remove(config, registry);
            let auths = object(config.entry("auths").or_insert_with(|| Map::new().into()));
            let entry = object(auths.entry(self.key(registry)).or_insert_with(|| Map::new().into()));
            // With a helper the entry is a mark that there is one.
            if helper.is_none() {
                fill(entry, credential);
            }
        })
    }

    fn retrieve(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<Option<Credential>, CredentialError> {
        let Some(file) = AuthFile::read(&self.path, self.style)? else { return Ok(None) };
        Ok(file.find(registry, None)?.filter(|credential| credential.kind() == kind))
    }

    fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        if !self.exists(registry, kind)? {
            return Ok(false);
        }
        if let Some(helper) = self.helper(registry)? {
            helper.erase(&registry.docker_key())?;
        }
        let _lock = self.own.lock()?;
        self.change(|config| {
            remove(config, registry);
        })?;
        Ok(true)
    }

    /// What lies in the file itself and makes sense; what helpers have is theirs to list.
    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        let mut entries: Vec<_> = self
            .in_the_clear()?
            .into_iter()
            .filter_map(|(registry, found)| {
                let credential = found.ok()?;
                let username = credential.username().to_owned();
                Some(StoredEntry { registry, kind: credential.kind(), username })
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    fn exists(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        Ok(self.retrieve(registry, kind)?.is_some())
    }
}

/// Takes the secrets out of every entry that names `registry`, and those entries that are empty then; whether there were any.
fn remove(config: &mut Map<String, Value>, registry: &RegistryKey) -> bool {
    let Some(Value::Object(auths)) = config.get_mut("auths") else { return false };
    let is_named = |key: &String| key.parse::<RegistryKey>().is_ok_and(|key| key == *registry);
    let keys: Vec<String> = auths.keys().filter(|key| is_named(key)).cloned().collect();
    let mut removed = false;
    for key in keys {
        let left = match auths.get_mut(&key) {
            Some(Value::Object(entry)) => {
                for name in SECRETS {
                    removed |= entry.shift_remove(name).is_some();
                }
                entry.len()
            }
            _ => 0,
        };
        if left == 0 {
            auths.shift_remove(&key);
        }
    }
    removed
}

fn fill(entry: &mut Map<String, Value>, credential: &Credential) {
    let secret = credential.secret().expose_secret();
    let (password, member) = match credential.kind() {
        CredentialKind::Password => (secret, None),
        CredentialKind::IdentityToken => ("", Some("identitytoken")),
        CredentialKind::RegistryToken => ("", Some("registrytoken")),
    };
    let pair = Zeroizing::new(format!("{}:{password}", credential.username()));
    if pair.len() > 1 {
        entry.insert("auth".into(), STANDARD.encode(pair.as_bytes()).into());
    }
    if let Some(member) = member {
        entry.insert(member.into(), secret.into());
    }
}

/// The object that a value is, or is made to be.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Map::new().into();
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("it has just been made one"),
    }
}

/// Puts a file that only its owner may read in the place of what `path` leads to.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let target = target(path);
    let mut temporary = temporary_beside(&target)?;
    temporary.write_all(text)?;
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|error| error.error)?;
    File::open(directory(&target))?.sync_all()
}

/// What `path` leads to: whoever keeps the file elsewhere and has a link here wants to go on so.
fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn temporary_beside(target: &Path) -> io::Result<NamedTempFile> {
    let directory = directory(target);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let permissions = Permissions::from_mode(0o600);
    tempfile::Builder::new().prefix(".layerslayer-").permissions(permissions).tempfile_in(directory)
}

fn directory(target: &Path) -> &Path {
    target.parent().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn file(folder: &TempDir, style: Style) -> OthersFile {
        OthersFile::new(&folder.path().join("theirs/config.json"), style, &folder.path().join("own"))
    }

    fn key(text: &str) -> RegistryKey {
        text.parse().unwrap()
    }

    fn login(user: &str, password: &str) -> Credential {
        Credential::basic(user, password.to_owned().into())
    }

    fn text(file: &OthersFile) -> String {
        fs::read_to_string(&file.path).unwrap()
    }

    #[test]
    fn entries_are_written_under_the_key_and_in_the_form_of_their_program() {
        let folder = TempDir::new().unwrap();
        let docker = file(&folder, Style::Docker);
        docker.store(&key("docker.io"), &login("me", "a:b")).unwrap();
        let token = Credential::identity_token("me", String::from("refresh").into());
        docker.store(&key("host:5000"), &token).unwrap();
        let expected = "{\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \"bWU6YTpi\"\n\t\t},\n\t\t\
                        \"host:5000\": {\n\t\t\t\"auth\": \"bWU6\",\n\t\t\t\"identitytoken\": \"refresh\"\n\t\t}\n\t}\n}\n";
        assert_eq!(text(&docker), expected);
        assert_eq!(fs::metadata(&docker.path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = |kind| docker.retrieve(&key("host:5000"), kind).unwrap();
        assert!(read(CredentialKind::IdentityToken).unwrap().is_same(&token));
        assert!(read(CredentialKind::Password).is_none());
        fs::remove_file(&docker.path).unwrap();
        let containers = file(&folder, Style::Containers);
        containers.store(&key("docker.io"), &login("me", "a:b")).unwrap();
        assert!(text(&containers).contains("\"docker.io\""));
    }

    #[test]
    fn every_other_key_keeps_its_place() {
        let folder = TempDir::new().unwrap();
        let docker = file(&folder, Style::Docker);
        fs::create_dir(folder.path().join("theirs")).unwrap();
        let before = "{\n\t\"z\": 1,\n\t\"auths\": {\n\t\t\"https://a/v1/\": {\n\t\t\t\"auth\": \"YTox\"\n\t\t},\n\t\t\"b\": \
                      {\n\t\t\t\"auth\": \"YTox\",\n\t\t\t\"email\": \"x\",\n\t\t\t\"note\": 1\n\t\t},\n\t\t\"c\": {}\n\t},\n\t\"a\": \
                      [\n\t\tnull\n\t]\n}\n";
        fs::write(&docker.path, before).unwrap();
        assert!(docker.delete(&key("a"), CredentialKind::Password).unwrap());
        assert!(docker.delete(&key("b"), CredentialKind::Password).unwrap());
        assert!(!docker.delete(&key("c"), CredentialKind::Password).unwrap());
        let expected = "{\n\t\"z\": 1,\n\t\"auths\": {\n\t\t\"b\": {\n\t\t\t\"email\": \"x\",\n\t\t\t\"note\": 1\n\t\t},\n\t\t\"c\": \
                        {}\n\t},\n\t\"a\": [\n\t\tnull\n\t]\n}\n";
        assert_eq!(text(&docker), expected);
        // Storing replaces what goes by another name of the same registry.
        docker.store(&key("b"), &login("me", "2")).unwrap();
        assert!(docker.list().unwrap().len() == 1 && text(&docker).contains("\"email\""));
    }

    #[test]
    fn secrets_are_taken_out_only_if_they_are_still_the_same() {
        let folder = TempDir::new().unwrap();
        let docker = file(&folder, Style::Docker);
        docker.store(&key("a.b"), &login("me", "new")).unwrap();
        assert!(!docker.take_out(&key("a.b"), &login("me", "old")).unwrap());
        assert!(docker.take_out(&key("a.b"), &login("me", "new")).unwrap());
        assert!(docker.list().unwrap().is_empty());
        assert!(!docker.take_out(&key("a.b"), &login("me", "new")).unwrap());
    }

    #[test]
    fn a_broken_file_is_left_as_it_is_and_a_link_stays_a_link() {
        let folder = TempDir::new().unwrap();
        let docker = file(&folder, Style::Docker);
        fs::create_dir(folder.path().join("theirs")).unwrap();
        for broken in ["{", "[]", "{\"auths\":[]}"] {
            fs::write(&docker.path, broken).unwrap();
            assert!(docker.store(&key("a.b"), &login("me", "x")).is_err(), "{broken}");
            assert_eq!(text(&docker), broken);
        }
        fs::remove_file(&docker.path).unwrap();
        fs::write(folder.path().join("real"), "{}").unwrap();
        std::os::unix::fs::symlink(folder.path().join("real"), &docker.path).unwrap();
        docker.store(&key("a.b"), &login("me", "x")).unwrap();
        assert!(fs::symlink_metadata(&docker.path).unwrap().is_symlink());
        assert!(fs::read_to_string(folder.path().join("real")).unwrap().contains("auths"));
    }
}
