use std::{fs, sync::Arc};

use super::{super::private::tests::private_folder, *};

/// Written by version 0.1.0 with the passphrase `right` and the password `hush`.
const FORMER_FILE: &str = r#"version = 1

[key]
kind = "passphrase"
memory = 19456
passes = 2
lanes = 1
salt = "pkXTFDmaKlewbF3WNGCXJg=="
check = "4ybteMZbbTT0Z3H8FqzFEMhHXGDxBGHs0/xllm2rQRt9NJmlsNnXog=="

[registries."a.b".password]
username = "me"
sealed = "m18n0nCztyLKpAiUoJp5dm+WiSN3uvCPf0LJsJjXGleb/W/DGbiiyt834MFbU8o4hIrsuLRLGx2IQnujDsnNdYiS3S5c9pWN6A=="
"#;

fn sealed(directory: &Path, passphrase: &str) -> SealedFile {
    SealedFile::new(directory, Passphrases::fixed(passphrase), None)
}

fn key(text: &str) -> RegistryKey {
    text.parse().unwrap()
}

fn login(secret: &str) -> Credential {
    Credential::basic("me", secret)
}

#[derive(Clone, Default)]
struct MemoryKeyStore(Arc<Mutex<Option<SecretString>>>);

impl KeyStore for MemoryKeyStore {
    fn load_key(&self) -> Result<Option<SecretString>, CredentialError> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn save_key(&self, key: &SecretString) -> Result<(), CredentialError> {
        *self.0.lock().unwrap() = Some(key.clone());
        Ok(())
    }
}

#[test]
fn a_wrong_passphrase_is_an_error_and_the_file_is_unchanged() {
    let folder = private_folder();
    let path = folder.path().join(NAME);
    sealed(folder.path(), "right").store(&key("a.b"), &login("hush")).unwrap();
    let before = fs::read(&path).unwrap();
    let wrong = sealed(folder.path(), "wrong");
    for error in [
        wrong.retrieve(&key("a.b"), CredentialKind::Password).unwrap_err(),
        wrong.store(&key("a.b"), &login("other")).unwrap_err(),
        wrong.store(&key("c.d"), &login("other")).unwrap_err(),
        wrong.probe().unwrap_err(),
    ] {
        assert!(error.is_locked() && error.to_string().contains("wrong passphrase"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    // Listing needs no passphrase.
    assert_eq!(wrong.list().unwrap().len(), 1);
}

#[test]
fn every_change_of_the_file_is_detected() {
    let folder = private_folder();
    let file = sealed(folder.path(), "right");
    file.store(&key("a.b"), &login("hush")).unwrap();
    file.store(&key("c.d"), &login("hush too")).unwrap();
    let path = folder.path().join(NAME);
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("hush"));
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let Some((name, value)) = line.split_once(" = ") else { continue };
        let changed = match (name, value) {
            ("salt" | "check" | "sealed", value) => {
                let middle = value.len() / 2;
                let letter = if value.as_bytes()[middle] == b'A' { "B" } else { "A" };
                format!("{}{letter}{}", &value[..middle], &value[middle + 1..])
            }
            ("username", _) => "\"you\"".to_owned(),
            ("memory", _) => "8".to_owned(),
            (_, "1") => "2".to_owned(),
            (_, "2") => "1".to_owned(),
            ("kind", _) => "\"keyring\"".to_owned(),
            other => panic!("{other:?}"),
        };
        let mut lines = lines.clone();
        let line = format!("{name} = {changed}");
        lines[number] = &line;
        fs::write(&path, lines.join("\n")).unwrap();
        let file = sealed(folder.path(), "right");
        let opened = ["a.b", "c.d"].map(|host| file.retrieve(&key(host), CredentialKind::Password));
        assert!(opened.iter().any(Result::is_err), "{line}");
    }
    // Swapped entries do not open either.
    let swapped = text.replace("a.b", "x").replace("c.d", "a.b").replace("\"x\"", "\"c.d\"");
    fs::write(&path, swapped).unwrap();
    for host in ["a.b", "c.d"] {
        let error =
            sealed(folder.path(), "right").retrieve(&key(host), CredentialKind::Password).unwrap_err();
        assert!(error.to_string().contains("does not open"), "{error}");
    }
}

#[test]
fn a_header_with_excessive_or_malformed_parameters_is_refused() {
    let folder = private_folder();
    sealed(folder.path(), "right").store(&key("a.b"), &login("hush")).unwrap();
    let path = folder.path().join(NAME);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("memory = 47104", "memory = 4294967295"),
        ("passes = 1", "passes = 1000000"),
        ("lanes = 1", "lanes = 0"),
        ("memory = 47104", "memory = \"1\""),
        ("kind = \"passphrase\"", "kind = \"magic\""),
        ("[key]", "[other]"),
    ] {
        fs::write(&path, text.replace(from, to)).unwrap();
        let file = sealed(folder.path(), "right");
        let error = file.store(&key("a.b"), &login("x")).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{to}: {error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text.replace(from, to));
    }
}

#[test]
fn a_file_with_the_former_parameters_still_opens() {
    let folder = private_folder();
    let path = folder.path().join(NAME);
    fs::write(&path, FORMER_FILE).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = sealed(folder.path(), "right");
    assert!(file.retrieve(&key("a.b"), CredentialKind::Password).unwrap().unwrap().is_same(&login("hush")));
    file.store(&key("c.d"), &login("other")).unwrap();
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("memory = 19456\npasses = 2\n"), "{text}");
}

#[test]
fn a_new_file_uses_the_first_parameters_that_owasp_recommends() {
    let folder = private_folder();
    sealed(folder.path(), "right").store(&key("a.b"), &login("hush")).unwrap();
    let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
    assert!(text.contains("memory = 47104\npasses = 1\nlanes = 1\n"), "{text}");
}

#[test]
fn without_a_passphrase_the_key_is_in_the_keyring_and_never_in_the_file() {
    let folder = private_folder();
    let key_store = MemoryKeyStore::default();
    let none = || Passphrases::from_process(Arc::new(|_| Ok(None)));
    let file = |key_store: Option<MemoryKeyStore>| {
        SealedFile::new(folder.path(), none(), key_store.map(|key_store| Box::new(key_store) as _))
    };
    let error = file(None).store(&key("a.b"), &login("hush")).unwrap_err();
    assert!(error.is_locked() && error.to_string().contains("LAYERSLAYER_PASSPHRASE"), "{error}");
    assert!(!folder.path().join(NAME).exists());
    file(Some(key_store.clone())).store(&key("a.b"), &login("hush")).unwrap();
    let found =
        file(Some(key_store.clone())).retrieve(&key("a.b"), CredentialKind::Password).unwrap().unwrap();
    assert!(found.is_same(&login("hush")));
    let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
    assert!(!text.contains(key_store.load_key().unwrap().unwrap().expose_secret()));
    let other = MemoryKeyStore::default();
    assert!(
        file(Some(other.clone())).retrieve(&key("a.b"), CredentialKind::Password).unwrap_err().is_locked()
    );
    other.save_key(&STANDARD.encode([0; KEY_BYTES]).into()).unwrap();
    assert!(file(Some(other)).retrieve(&key("a.b"), CredentialKind::Password).unwrap_err().is_locked());
}
