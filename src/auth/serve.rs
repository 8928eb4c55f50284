//! Our stores behind the protocol of credential helpers.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{
    credential::CredentialKind,
    error::CredentialError,
    helper::{HelperRecord, NOT_FOUND},
    key::RegistryKey,
    sources::CredentialSources,
};

/// What docker asks of a credential helper.
///
/// ```
/// use layerslayer::HelperRequest;
///
/// assert_eq!(HelperRequest::named("get"), Some(HelperRequest::Get));
/// assert_eq!(HelperRequest::named("steal"), None);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HelperRequest {
    /// Forget the credential of the server that the input names.
    Erase,
    /// Give the credential of the server that the input names.
    Get,
    /// Tell servers and their user names.
    List,
    /// Keep the credential in the input.
    Store,
}

impl HelperRequest {
    /// The request of this name.
    ///
    /// ```
    /// assert!(layerslayer::HelperRequest::named("list").is_some());
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "erase" => Some(Self::Erase),
            "get" => Some(Self::Get),
            "list" => Some(Self::List),
            "store" => Some(Self::Store),
            _ => None,
        }
    }

    /// Whether there is something to read for it.
    ///
    /// ```
    /// assert!(!layerslayer::HelperRequest::List.reads_input());
    /// ```
    #[must_use]
    pub fn reads_input(self) -> bool {
        self != Self::List
    }
}

impl CredentialSources {
    /// Answers as a credential helper does: what is to be printed. Only our own stores are asked, since those who ask look into
    /// all other places themselves.
    ///
    /// # Errors
    ///
    /// If there is no such credential, in the very words that clients look for; if a store fails.
    ///
    /// ```no_run
    /// use layerslayer::{CredentialSources, HelperRequest};
    ///
    /// let answer = CredentialSources::new().answer_helper(HelperRequest::Get, "ghcr.io")?;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn answer_helper(
        &self,
        request: HelperRequest,
        input: &str,
    ) -> Result<Zeroizing<String>, CredentialError> {
        match request {
            HelperRequest::Erase => self.erase_for_helper(&server(input)?),
            HelperRequest::Get => {
                let registry = server(input)?;
                let found = self.stored(&registry, None)?.ok_or_else(|| CredentialError::other(NOT_FOUND))?;
                let record = HelperRecord::of(&registry.docker_key(), &found);
                // Text alone: serialising cannot fail.
                Ok(Zeroizing::new(serde_json::to_string(&record).unwrap_or_default()))
            }
            HelperRequest::List => self.list_for_helper(),
            HelperRequest::Store => {
                // The parser's own message would quote what was sent.
                let record: HelperRecord = serde_json::from_str(input)
                    .map_err(|_| CredentialError::usage("the input is no credential in JSON"))?;
                let registry = server(&record.server_url)?;
                let credential = record
                    .credential()
                    .filter(|credential| !record.username.is_empty() && !credential.username().contains('\0'))
                    .ok_or_else(|| CredentialError::usage("no credentials username or secret"))?;
                let store = self.secure_store()?;
                // What could not be removed elsewhere does not count before it; those who ask have no ear for warnings.
                self.keep(store.as_ref(), &registry, &credential)?;
                Ok(Zeroizing::default())
            }
        }
    }

    fn erase_for_helper(&self, registry: &RegistryKey) -> Result<Zeroizing<String>, CredentialError> {
        for store in self.stores() {
            for kind in CredentialKind::ALL {
                match store.delete(registry, kind) {
                    // A keyring that is not there holds nothing.
                    Err(error) if error.is_unavailable() => break,
                    result => result?,
                };
            }
        }
        Ok(Zeroizing::default())
    }

    fn list_for_helper(&self) -> Result<Zeroizing<String>, CredentialError> {
        let mut users = BTreeMap::new();
        for store in self.stores() {
            let listed = match store.list() {
                Err(error) if error.is_unavailable() => continue,
                listed => listed?,
            };
            for entry in listed {
                // The first store is the one that counts.
                users.entry(entry.registry.docker_key()).or_insert(entry.username);
            }
        }
        Ok(Zeroizing::new(serde_json::to_string(&users).unwrap_or_default()))
    }
}

fn server(input: &str) -> Result<RegistryKey, CredentialError> {
    match input.trim() {
        "" => Err(CredentialError::usage("no credentials server URL")),
        text => text.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{passphrase::Passphrases, places::Places, store::environment::Environment},
        *,
    };

    #[test]
    fn the_four_verbs_work_on_the_encrypted_file() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::of(&|_| None, Some(folder.path().into()), None);
        let sources =
            CredentialSources::of(Environment::default(), places, Passphrases::fixed("open sesame"));
        let ask =
            |request, input: &str| sources.answer_helper(request, input).map(|answer| answer.to_string());
        assert_eq!(ask(HelperRequest::List, "").unwrap(), "{}");
        assert_eq!(ask(HelperRequest::Get, "a.b").unwrap_err().to_string(), NOT_FOUND);
        assert_eq!(ask(HelperRequest::Erase, "a.b").unwrap(), "");
        let hub = r#"{"ServerURL":"https://index.docker.io/v1/","Username":"me","Secret":"x"}"#;
        // The keyring of who runs the tests is not to be written to.
        if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some() {
            return;
        }
        assert_eq!(ask(HelperRequest::Store, hub).unwrap(), "");
        let token = r#"{"ServerURL":"a.b:5000","Username":"<token>","Secret":"refresh"}"#;
        assert_eq!(ask(HelperRequest::Store, token).unwrap(), "");
        assert_eq!(ask(HelperRequest::Get, "index.docker.io\n").unwrap(), hub);
        assert_eq!(ask(HelperRequest::Get, "https://a.b:5000").unwrap(), token);
        assert_eq!(
            ask(HelperRequest::List, "").unwrap(),
            r#"{"a.b:5000":"","https://index.docker.io/v1/":"me"}"#
        );
        assert_eq!(ask(HelperRequest::Erase, "docker.io").unwrap(), "");
        assert_eq!(ask(HelperRequest::Get, "docker.io").unwrap_err().to_string(), NOT_FOUND);
        for wrong in ["", "{", r#"{"ServerURL":"a.b"}"#, r#"{"ServerURL":"","Username":"a","Secret":"hush"}"#]
        {
            let error = ask(HelperRequest::Store, wrong).unwrap_err();
            assert!(error.is_usage() && !error.to_string().contains("hush"), "{error}");
        }
    }
}
