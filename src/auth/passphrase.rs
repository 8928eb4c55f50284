//! The passphrase of the encrypted store: from the environment, from a file descriptor, or from a prompt.

use std::{
    fs::File,
    io::Read as _,
    sync::{Arc, Mutex, PoisonError},
};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{credential::protect, error::CredentialError};
use crate::limits;

/// The variable that holds the passphrase.
const TEXT: &str = "LAYERSLAYER_PASSPHRASE";

/// The variable that holds the number of a file descriptor to read the passphrase from.
const DESCRIPTOR: &str = "LAYERSLAYER_PASSPHRASE_FD";

/// Why a passphrase is requested.
///
/// ```
/// use layerslayer::{Credentials, PassphrasePurpose};
///
/// let credentials = Credentials::from_environment().ask_passphrase(|purpose| match purpose {
///     PassphrasePurpose::New => Ok(None),
///     _ => Ok(Some("open sesame".to_owned())),
/// });
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PassphrasePurpose {
    /// To create a store: ask twice.
    New,
    /// To open an existing store.
    Unlock,
}

/// Asks for a passphrase; `None` if nobody can be asked.
pub(crate) type AskPassphrase =
    dyn Fn(PassphrasePurpose) -> Result<Option<String>, CredentialError> + Send + Sync;

/// Looks up an environment variable.
type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The sources of the passphrase. Asks at most once.
#[derive(Clone)]
pub(crate) struct Passphrases {
    variables: Arc<Variables>,
    ask: Arc<AskPassphrase>,
    known: Arc<Mutex<Option<SecretString>>>,
}

impl Passphrases {
    /// From this process's environment, else from `ask`.
    pub(crate) fn from_process(ask: Arc<AskPassphrase>) -> Self {
        Self::new(Arc::new(|name| std::env::var(name).ok()), ask)
    }

    fn new(variables: Arc<Variables>, ask: Arc<AskPassphrase>) -> Self {
        Self { variables, ask, known: Arc::default() }
    }

    /// Always the same passphrase.
    #[cfg(test)]
    pub(crate) fn fixed(text: &str) -> Self {
        let text = text.to_owned();
        Self::new(Arc::new(|_| None), Arc::new(move |_| Ok(Some(text.clone()))))
    }

    /// The passphrase; `None` if there is none.
    pub(crate) fn obtain(&self, purpose: PassphrasePurpose) -> Result<Option<SecretString>, CredentialError> {
        // Held during the prompt, so that a second caller does not prompt again.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = match self.read_environment()? {
                Some(passphrase) => Some(passphrase),
                None => (self.ask)(purpose)?.map(protect),
            };
        }
        Ok(known.clone())
    }

    /// Discards the passphrase, which was wrong.
    pub(crate) fn discard(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn read_environment(&self) -> Result<Option<SecretString>, CredentialError> {
        if let Some(text) = (self.variables)(TEXT).filter(|text| !text.is_empty()) {
            return Ok(Some(text.into()));
        }
        let Some(number) = (self.variables)(DESCRIPTOR) else { return Ok(None) };
        let Ok(number) = number.parse::<u16>() else {
            return Err(CredentialError::usage(format!(
                "{DESCRIPTOR} is not the number of a file descriptor"
            )));
        };
        let failed = |problem: &dyn std::fmt::Display| {
            CredentialError::usage(format!("reading the passphrase from file descriptor {number}: {problem}"))
        };
        let file = File::open(format!("/dev/fd/{number}")).map_err(|error| failed(&error))?;
        let mut text = Zeroizing::new(String::new());
        file.take(limits::PASSPHRASE_BYTES + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
        if text.len() as u64 > limits::PASSPHRASE_BYTES {
            return Err(failed(&"it is too long"));
        }
        let line =
            text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if line.is_empty() {
            return Err(failed(&"it is empty"));
        }
        Ok(Some(SecretString::from(line)))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::fd::AsRawFd as _};

    use secrecy::ExposeSecret as _;

    use super::*;

    fn given(name: &'static str, value: String) -> Passphrases {
        let given = move |asked: &str| Some(value.clone()).filter(|_| asked == name);
        Passphrases::new(Arc::new(given), Arc::new(|_| panic!("there must be no prompt")))
    }

    fn text(passphrases: &Passphrases) -> String {
        passphrases.obtain(PassphrasePurpose::Unlock).unwrap().unwrap().expose_secret().to_owned()
    }

    #[test]
    fn the_environment_is_used_before_a_prompt() {
        assert_eq!(text(&given(TEXT, "open sesame".into())), "open sesame");
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"open sesame\n").unwrap();
        assert_eq!(text(&given(DESCRIPTOR, file.as_raw_fd().to_string())), "open sesame");
    }

    #[test]
    fn a_descriptor_without_a_passphrase_is_an_error() {
        for number in ["", "x", "-1", "65000"] {
            let error = given(DESCRIPTOR, number.into()).obtain(PassphrasePurpose::New).unwrap_err();
            assert!(error.is_usage(), "{error}");
        }
        let file = tempfile::tempfile().unwrap();
        assert!(given(DESCRIPTOR, file.as_raw_fd().to_string()).obtain(PassphrasePurpose::New).is_err());
    }

    #[test]
    fn the_prompt_appears_once() {
        let asked = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&asked);
        let ask = move |_| {
            *counter.lock().unwrap() += 1;
            Ok(Some("x".to_owned()))
        };
        let passphrases = Passphrases::new(Arc::new(|_| None), Arc::new(ask));
        assert_eq!(text(&passphrases), text(&passphrases.clone()));
        assert_eq!(*asked.lock().unwrap(), 1);
        passphrases.discard();
        assert_eq!((text(&passphrases).as_str(), *asked.lock().unwrap()), ("x", 2));
    }
}
