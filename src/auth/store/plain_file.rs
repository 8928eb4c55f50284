//! Credentials in a plain-text file, used only on request.

use std::path::Path;

use secrecy::SecretString;

use super::{
    super::{
        credential::{Credential, CredentialKind},
        error::CredentialError,
        key::RegistryKey,
    },
    CredentialStore, StoredEntry,
    own_file::OwnFile,
};

/// The file's name.
const NAME: &str = "credentials.toml";

/// The plain file in our directory.
#[derive(Clone, Debug)]
pub(crate) struct PlainFile(OwnFile);

impl PlainFile {
    /// The file in `directory`, which may not exist yet.
    pub(crate) fn new(directory: &Path) -> Self {
        Self(OwnFile::new(directory, NAME))
    }

    pub(crate) fn file_exists(&self) -> bool {
        self.0.file_exists()
    }
}

impl CredentialStore for PlainFile {
    fn place(&self) -> String {
        format!("the plain file {}", self.0.path().display())
    }

    fn check(&self, _: &RegistryKey) -> Result<(), CredentialError> {
        self.0.check()
    }

    fn store(&self, registry: &RegistryKey, credential: &Credential) -> Result<(), CredentialError> {
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty()).map(Into::into);
        let values = vec![
            ("username", filled(credential.username())),
            ("secret", Some(credential.expose_secret().into())),
            ("token-server", credential.token_server().map(Into::into)),
            ("expires", credential.expiry().map(|time| time.to_string().into())),
        ];
        self.0.change(|document| document.set(registry, credential.kind(), values))
    }

    fn retrieve(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<Option<Credential>, CredentialError> {
        let document = self.0.read()?;
        let Some(entry) = document.entry(registry, kind)? else { return Ok(None) };
        let text = |name: &str| document.text_of(registry, entry, name);
        let Some(secret) = text("secret")? else {
            return Err(document.damaged(format!("the entry of {registry} has no secret")));
        };
        let expires = match text("expires")?.map(str::parse) {
            None => None,
            Some(Ok(expires)) => Some(expires),
            Some(Err(_)) => return Err(document.damaged(format!("expires of {registry} is not a time"))),
        };
        let username = text("username")?.unwrap_or_default().to_owned();
        let credential = Credential::of_kind(kind, username, SecretString::from(secret));
        let pin = text("token-server")?.map(str::to_owned);
        Ok(Some(credential.pinned_to(pin).with_expiry(expires).with_source(self.place())))
    }

    fn delete(&self, registry: &RegistryKey, kind: CredentialKind) -> Result<bool, CredentialError> {
        self.0.delete(registry, kind)
    }

    fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        self.0.read()?.list()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::OpenOptionsExt as _};

    use super::{super::private::tests::private_folder, *};

    fn write(directory: &Path, text: &str) {
        use std::io::Write as _;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(directory.join(NAME));
        file.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn key(text: &str) -> RegistryKey {
        text.parse().unwrap()
    }

    #[test]
    fn unknown_keys_and_comments_are_preserved() {
        let folder = private_folder();
        let text = "# mine\nversion = 1\nother = [1, 2]\n\n[registries.\"a.b\".password] # why\nusername = \"me\" # who\n\
                    secret = \"old\"\nnote = \"keep\"\n\n[later]\nx = 1\n";
        write(folder.path(), text);
        let file = PlainFile::new(folder.path());
        file.store(&key("a.b"), &Credential::basic("me", "new")).unwrap();
        let now = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(now, text.replace("old", "new"));
        file.store(&key("c.d:5"), &Credential::basic("you", "x")).unwrap();
        assert!(file.delete(&key("c.d:5"), CredentialKind::Password).unwrap());
        assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), now);
    }

    #[test]
    fn the_error_for_a_damaged_file_does_not_quote_it_and_the_file_is_unchanged() {
        let folder = private_folder();
        let file = PlainFile::new(folder.path());
        for text in [
            "version = 1\n[registries.\"a.b\".password\nsecret = \"hush\"\n",
            "[registries.\"a.b\".password]\nsecret = \"hush\"\n",
            "version = 2\n[registries.\"a.b\".password]\nsecret = \"hush\"\n",
            "version = 1\nregistries = \"hush\"\n",
            "version = 1\n[registries.\"a.b\"]\npassword = \"hush\"\n",
            "version = 1\n[registries.\"a.b\".password]\nsecret = [\"hush\"]\n",
            "version = 1\n[registries.\"a.b\".password]\nusername = \"hush\"\n",
            "version = 1\n[registries.\"a.b\".password]\nsecret = \"x\"\nexpires = \"hush\"\n",
        ] {
            write(folder.path(), text);
            let error = file.retrieve(&key("a.b"), CredentialKind::Password).unwrap_err().to_string();
            assert!(error.contains("damaged") && error.contains(NAME), "{error}");
            assert!(!error.contains("hush"), "{error}");
            assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), text);
        }
        // A file that cannot be read completely is not overwritten.
        write(folder.path(), "version = 1\n[");
        assert!(file.store(&key("c.d"), &Credential::basic("me", "x")).is_err());
        assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), "version = 1\n[");
    }
}
