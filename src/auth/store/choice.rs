//! Which store a credential goes to.

use std::{fmt, path::Path, str::FromStr};

use super::{
    super::{auth_file::Style, error::CredentialError, sources::CredentialSources},
    CredentialStore,
    others::OthersFile,
    plain_file::PlainFile,
    sealed,
    sealed_file::SealedFile,
};

/// A store that can be written to.
///
/// ```
/// use layerslayer::StoreKind;
///
/// assert_eq!("file".parse::<StoreKind>()?, StoreKind::File);
/// assert_eq!(StoreKind::DockerConfig.to_string(), "docker-config");
/// # Ok::<(), layerslayer::CredentialError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StoreKind {
    /// Docker's `config.json`, or the credential helper that it names: shared with docker.
    DockerConfig,
    /// Our encrypted file.
    File,
    /// The desktop's keyring.
    Keyring,
    /// Our file that holds secrets in the clear.
    Plaintext,
}

impl StoreKind {
    const ALL: [Self; 4] = [Self::DockerConfig, Self::File, Self::Keyring, Self::Plaintext];

    /// The name on the command line.
    ///
    /// ```
    /// assert_eq!(layerslayer::StoreKind::Plaintext.as_str(), "plaintext");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DockerConfig => "docker-config",
            Self::File => "file",
            Self::Keyring => "keyring",
            Self::Plaintext => "plaintext",
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StoreKind {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            CredentialError::usage(format!("{text:?} is no store; there are: {names}"))
        })
    }
}

impl CredentialSources {
    /// A store to write to.
    ///
    /// # Errors
    ///
    /// If there is none of this kind here.
    ///
    /// ```no_run
    /// use layerslayer::{Credential, CredentialSources, StoreKind};
    ///
    /// let store = CredentialSources::new().store(StoreKind::Keyring)?;
    /// store.store(&"ghcr.io".parse()?, &Credential::basic("me", String::from("secret").into()))?;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn store(&self, kind: StoreKind) -> Result<Box<dyn CredentialStore>, CredentialError> {
        match kind {
            StoreKind::DockerConfig => {
                let Some(path) = &self.places().docker_config else { return Err(homeless()) };
                Ok(Box::new(OthersFile::new(path, Style::Docker, self.own()?)))
            }
            StoreKind::File => Ok(Box::new(sealed(self.own()?, self.passphrases()))),
            #[cfg(feature = "keyring")]
            StoreKind::Keyring => Ok(Box::new(super::keyring::Keyring)),
            #[cfg(not(feature = "keyring"))]
            StoreKind::Keyring => {
                Err(CredentialError::unavailable("this program was built without keyrings"))
            }
            StoreKind::Plaintext => Ok(Box::new(PlainFile::new(self.own()?))),
        }
    }

    /// The most secure store that works here: the keyring, if a probe can be written to it, else the encrypted file, if there
    /// is a passphrase for it. Secrets are never put in the clear unasked.
    ///
    /// # Errors
    ///
    /// If neither works: the message says what to do.
    ///
    /// ```no_run
    /// let store = layerslayer::CredentialSources::new().secure_store()?;
    /// println!("credentials go to {}", store.place());
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn secure_store(&self) -> Result<Box<dyn CredentialStore>, CredentialError> {
        #[cfg(feature = "keyring")]
        let keyring = match super::keyring::may_be_there() {
            true => super::keyring::Keyring.check(),
            false => Err(CredentialError::unavailable("there is no keyring: no session bus")),
        };
        #[cfg(not(feature = "keyring"))]
        let keyring: Result<(), _> =
            Err(CredentialError::unavailable("this program was built without keyrings"));
        let Err(keyring) = keyring else { return self.store(StoreKind::Keyring) };
        // Without the keyring for its key: that has just refused.
        let sealed = SealedFile::new(self.own()?, self.passphrases().clone(), None);
        match sealed.check() {
            Ok(()) => Ok(Box::new(sealed)),
            Err(error) if sealed.is_there() || !error.is_without_passphrase() => Err(error),
            Err(_) => Err(CredentialError::locked(format!(
                "no secure store works here ({keyring}; nobody gives a passphrase for the encrypted file): set \
                 LAYERSLAYER_PASSPHRASE or LAYERSLAYER_PASSPHRASE_FD, or run this in a terminal; `--store plaintext` keeps \
                 it in the clear"
            ))),
        }
    }

    /// Every store of ours that has anything.
    ///
    /// ```no_run
    /// for store in layerslayer::CredentialSources::new().stores() {
    ///     println!("{}: {}", store.place(), store.list()?.len());
    /// }
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    #[must_use]
    pub fn stores(&self) -> Vec<Box<dyn CredentialStore>> {
        let all = super::own(self.places(), self.passphrases());
        all.into_iter().filter(|(_, is_there)| is_there()).map(|(store, _)| store).collect()
    }

    fn own(&self) -> Result<&Path, CredentialError> {
        self.places().own.as_deref().ok_or_else(homeless)
    }
}

fn homeless() -> CredentialError {
    CredentialError::unavailable("there is no home directory: set HOME or XDG_CONFIG_HOME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_known_by_its_name() {
        for kind in StoreKind::ALL {
            assert_eq!(kind.as_str().parse::<StoreKind>().unwrap(), kind);
        }
        let error = "vault".parse::<StoreKind>().unwrap_err().to_string();
        assert!(error.contains("docker-config, file, keyring, plaintext"), "{error}");
    }
}
