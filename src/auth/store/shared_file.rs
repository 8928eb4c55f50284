//! Docker's `config.json` and podman's `auth.json` as stores: written as those programs write them, with all other keys preserved in
//! order.

use std::{
    fmt,
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize as _,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, ser::PrettyFormatter};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::{
    super::{
        auth_file::{AuthFile, PlainEntry, Style, read},
        credential::{Credential, CredentialKind},
        error::CredentialError,
        go_json::is_field,
        helper::Helper,
        key::RegistryKey,
    },
    CredentialStore, StoredEntry,
    private::PrivateDirectory,
};
use crate::limits;

/// The members of an entry that hold a secret or its user name.
const SECRETS: [&str; 5] = ["auth", "identitytoken", "password", "registrytoken", "username"];

/// A file of docker's or podman's.
#[derive(Clone, Debug)]
pub(crate) struct SharedFile {
    path: PathBuf,
    style: Style,
    /// The directory of our lock: docker and podman use none.
    own: PrivateDirectory,
}

impl SharedFile {
    pub(crate) fn new(path: &Path, style: Style, own: &Path) -> Self {
        Self { path: path.to_owned(), style, own: PrivateDirectory::new(own) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Registries that have a secret in the file itself, whatever helpers it names.
    pub(crate) fn plain_entries(&self) -> Result<Vec<PlainEntry>, CredentialError> {
        let file = AuthFile::read(&self.path, self.style)?;
        Ok(file.map(|file| file.plain_entries()).unwrap_or_default())
    }

    /// An error if the file has several credentials for a registry.
    pub(crate) fn check_unique(&self, registry: &RegistryKey) -> Result<(), CredentialError> {
        AuthFile::read(&self.path, self.style)?.map_or(Ok(()), |file| file.check_unique(registry))
    }

    /// Removes the secrets of a registry if they are still those of `credential`. Returns whether they were.
    pub(crate) fn remove_plain(
        &self,
        registry: &RegistryKey,
        credential: &Credential,
    ) -> Result<bool, CredentialError> {
        let _lock = self.own.lock()?;
        self.check_unique(registry)?;
        let now = self.plain_entries()?;
        if !now.iter().any(|(key, found)| {
            key == registry && found.as_ref().is_ok_and(|found| found.is_same(credential))
        }) {
            return Ok(false);
        }
        self.change(|config| remove(config, registry))?;
        Ok(true)
    }

    /// Writes a copy next to the file, readable by its owner only. Returns its path.
    pub(crate) fn back_up(&self) -> Result<PathBuf, CredentialError> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".layerslayer-backup");
        let copy = self.path.with_file_name(name);
        let text = read(&self.path, limits::DOCKER_CONFIG_BYTES)?.unwrap_or_default();
        let written = replace(&copy, &text);
        written.map_err(|error| CredentialError::other(format!("writing {}: {error}", copy.display())))?;
        Ok(copy)
    }

    fn helper(&self, registry: &RegistryKey) -> Result<Option<Helper>, CredentialError> {
        let Some(file) = AuthFile::read(&self.path, self.style)? else { return Ok(None) };
        file.helper(registry).map(Helper::new).transpose()
    }

    /// The key under which the file's program stores a registry.
    fn key(&self, registry: &RegistryKey) -> String {
        match self.style {
            Style::Containers => registry.as_str().to_owned(),
            Style::Docker | Style::Legacy => registry.docker_key(),
        }
    }

    fn failed(&self, error: &io::Error) -> CredentialError {
        CredentialError::other(format!("writing {}: {error}", self.path.display()))
    }

    /// The file's object; an empty one if there is no file, or the file is empty.
    fn config(&self) -> Result<Map<String, Value>, CredentialError> {
        // Reports the position of an error.
        AuthFile::read(&self.path, self.style)?;
        let text = read(&self.path, limits::DOCKER_CONFIG_BYTES)?.unwrap_or_default();
        if text.trim_ascii().is_empty() {
            return Ok(Map::new());
        }
        let object: Option<MergedObject> = serde_json::from_slice(&text)
            .map_err(|_| CredentialError::other(format!("{} is not a JSON object", self.path.display())))?;
        Ok(object.map(|object| object.0).unwrap_or_default())
    }

    /// Reads, changes and writes the file. The caller holds the lock.
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

impl CredentialStore for SharedFile {
    fn place(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{name} at {}", self.path.display())
    }

    /// A helper that cannot list its entries could not store one either.
    fn check(&self, registry: &RegistryKey) -> Result<(), CredentialError> {
        self.config()?;
        self.own.lock()?;
        temporary_beside(&target(&self.path)).map_err(|error| self.failed(&error))?;
        self.helper(registry)?.map_or(Ok(()), |helper| helper.list().map(drop))
    }

    /// As `docker login` does, stores the secret with the helper that the file names, else in the file.
    fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
        let helper = self.helper(registry)?;
        if let Some(helper) = &helper {
            helper.store(&registry.docker_key(), credential)?;
        }
        let _lock = self.own.lock()?;
        self.change(|config| {
            remove(config, registry);
            let name = config.keys().rfind(|key| is_field(key, "auths")).cloned();
            let name = name.unwrap_or_else(|| "auths".to_owned());
            let auths = object(config.entry(name).or_insert_with(|| Map::new().into()));
            let entry = object(auths.entry(self.key(registry)).or_insert_with(|| Map::new().into()));
            // With a helper the entry stays empty, as docker writes it.
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

    /// The valid entries in the file itself, without those of helpers.
    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        let mut entries: Vec<_> = self
            .plain_entries()?
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

/// A JSON object whose repeated members are merged as Go merges them, so that writing it loses none.
struct MergedObject(Map<String, Value>);

impl<'de> Deserialize<'de> for MergedObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = MergedObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MergedObject, A::Error> {
                let mut object = Map::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    match (object.get_mut(&key), value) {
                        (Some(Value::Object(members)), Value::Object(more)) => members.extend(more),
                        (_, value) => drop(object.insert(key, value)),
                    }
                }
                Ok(MergedObject(object))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Removes the secrets from every entry that names `registry`, and entries that are then empty.
fn remove(config: &mut Map<String, Value>, registry: &RegistryKey) {
    let is_named = |key: &String| key.parse::<RegistryKey>().is_ok_and(|key| key == *registry);
    let members = config.iter_mut().filter(|(name, _)| is_field(name, "auths"));
    for auths in members.filter_map(|(_, auths)| auths.as_object_mut()) {
        auths.retain(|key, entry| {
            if !is_named(key) {
                return true;
            }
            let Some(entry) = entry.as_object_mut() else { return false };
            entry.retain(|name, _| !SECRETS.iter().any(|secret| is_field(name, secret)));
            !entry.is_empty()
        });
    }
}

fn fill(entry: &mut Map<String, Value>, credential: &Credential) {
    let secret = credential.expose_secret();
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

/// Makes a value an object if it is not one.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Map::new().into();
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("it has just been made one"),
    }
}

/// Replaces the file that `path` leads to with one that only its owner can read.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let target = target(path);
    let mut temporary = temporary_beside(&target)?;
    temporary.write_all(text)?;
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|error| error.error)?;
    File::open(directory(&target))?.sync_all()
}

/// The file that `path` leads to. A symbolic link to a file elsewhere is preserved.
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

    fn file(folder: &TempDir, style: Style) -> SharedFile {
        SharedFile::new(&folder.path().join("theirs/config.json"), style, &folder.path().join("own"))
    }

    fn key(text: &str) -> RegistryKey {
        text.parse().unwrap()
    }

    fn login(user: &str, password: &str) -> Credential {
        Credential::basic(user, password)
    }

    fn text(file: &SharedFile) -> String {
        fs::read_to_string(&file.path).unwrap()
    }

    #[test]
    fn entries_are_written_with_the_key_and_format_of_their_program() {
        let folder = TempDir::new().unwrap();
        let docker = file(&folder, Style::Docker);
        docker.store(&key("docker.io"), &login("me", "a:b")).unwrap();
        let token = Credential::identity_token("me", "refresh");
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
    fn every_other_key_stays_in_place() {
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
        // Storing replaces entries with another name of the same registry.
        docker.store(&key("b"), &login("me", "2")).unwrap();
        assert!(docker.list().unwrap().len() == 1 && text(&docker).contains("\"email\""));
    }

    #[test]
    fn secrets_are_removed_only_if_they_are_unchanged() {
        let folder = TempDir::new().unwrap();
        let docker = file(&folder, Style::Docker);
        docker.store(&key("a.b"), &login("me", "new")).unwrap();
        assert!(!docker.remove_plain(&key("a.b"), &login("me", "old")).unwrap());
        assert!(docker.remove_plain(&key("a.b"), &login("me", "new")).unwrap());
        assert!(docker.list().unwrap().is_empty());
        assert!(!docker.remove_plain(&key("a.b"), &login("me", "new")).unwrap());
    }

    #[test]
    fn an_empty_file_can_be_written_and_repeated_members_are_not_lost() {
        let folder = TempDir::new().unwrap();
        let docker = file(&folder, Style::Docker);
        fs::create_dir(folder.path().join("theirs")).unwrap();
        fs::write(&docker.path, "").unwrap();
        docker.check(&key("a.b")).unwrap();
        docker.store(&key("a.b"), &login("me", "x")).unwrap();
        assert!(docker.exists(&key("a.b"), CredentialKind::Password).unwrap());
        // Go reads all of these members, in any case.
        let repeated = "{\"auths\":{\"a\":{\"auth\":\"YTox\"}},\"Auths\":{\"b\":{\"Auth\":\"YTox\"}},\"auths\":{\"c\":{\"auth\":\"YTox\"}}}";
        fs::write(&docker.path, repeated).unwrap();
        assert!(docker.delete(&key("b"), CredentialKind::Password).unwrap());
        docker.store(&key("d"), &login("me", "2")).unwrap();
        let listed: Vec<_> =
            docker.list().unwrap().into_iter().map(|entry| entry.registry.to_string()).collect();
        assert_eq!(listed, ["a", "c", "d"]);
    }

    #[test]
    fn a_malformed_file_is_not_changed_and_a_link_stays_a_link() {
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
