//! Our stores as a credential helper for docker, podman and skopeo.

use std::{collections::BTreeMap, io::Write};

use zeroize::Zeroizing;

use super::{
    credential::CredentialKind,
    credentials::Credentials,
    error::CredentialError,
    helper::{HelperRecord, NOT_FOUND},
    key::RegistryKey,
};

/// A request to a credential helper.
///
/// ```
/// use layerslayer::HelperRequest;
///
/// assert_eq!(HelperRequest::from_name("get"), Some(HelperRequest::Get));
/// assert_eq!(HelperRequest::from_name("steal"), None);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HelperRequest {
    /// Remove the credential of the server that the input names.
    Erase,
    /// Print the credential of the server that the input names.
    Get,
    /// List servers and their user names.
    List,
    /// Store the credential in the input.
    Store,
}

impl HelperRequest {
    /// The request with this name.
    ///
    /// ```
    /// assert!(layerslayer::HelperRequest::from_name("list").is_some());
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "erase" => Some(Self::Erase),
            "get" => Some(Self::Get),
            "list" => Some(Self::List),
            "store" => Some(Self::Store),
            _ => None,
        }
    }

    /// Whether the request has input.
    ///
    /// ```
    /// assert!(!layerslayer::HelperRequest::List.reads_input());
    /// ```
    #[must_use]
    pub fn reads_input(self) -> bool {
        self != Self::List
    }
}

impl Credentials {
    /// Answers a request as a credential helper does, from our own stores only: clients search all other places themselves.
    ///
    /// # Errors
    ///
    /// If there is no such credential, with the message that clients expect; if a store fails; if `output` cannot be written.
    ///
    /// ```no_run
    /// use layerslayer::{Credentials, HelperRequest};
    ///
    /// let credentials = Credentials::from_environment();
    /// credentials.answer_helper(HelperRequest::Get, "ghcr.io", &mut std::io::stdout())?;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn answer_helper(
        &self,
        request: HelperRequest,
        input: &str,
        output: &mut dyn Write,
    ) -> Result<(), CredentialError> {
        let answer = self.helper_answer(request, input)?;
        output
            .write_all(answer.as_bytes())
            .map_err(|error| CredentialError::other(format!("writing the answer: {error}")))
    }

    fn helper_answer(
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
                // A struct of strings: serialising cannot fail.
                Ok(Zeroizing::new(serde_json::to_string(&record).unwrap_or_default()))
            }
            HelperRequest::List => self.list_for_helper(),
            HelperRequest::Store => {
                // The parser's message would quote the input.
                let record: HelperRecord = serde_json::from_str(input)
                    .map_err(|_| CredentialError::usage("the input is not a credential in JSON"))?;
                let registry = server(&record.server_url)?;
                let credential = record
                    .credential()
                    .filter(|credential| !record.username.is_empty() && !credential.username().contains('\0'))
                    .ok_or_else(|| CredentialError::usage("no credentials username or secret"))?;
                let store = self.secure_store()?;
                // Older credentials that could not be removed do not take precedence. The protocol has no warnings.
                self.save(store.as_ref(), &registry, &credential)?;
                Ok(Zeroizing::default())
            }
        }
    }

    fn erase_for_helper(&self, registry: &RegistryKey) -> Result<Zeroizing<String>, CredentialError> {
        for store in self.stores() {
            for kind in CredentialKind::ALL {
                match store.delete(registry, kind) {
                    // A keyring that does not exist holds nothing.
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
                // The first store takes precedence.
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
        super::{locations::Locations, passphrase::Passphrases, store::environment::Environment},
        *,
    };

    #[test]
    fn the_four_verbs_work_on_the_encrypted_file() {
        let folder = tempfile::tempdir().unwrap();
        let locations = Locations::new(&|_| None, Some(folder.path().into()), None);
        let credentials =
            Credentials::new(Environment::default(), locations, Passphrases::fixed("open sesame"));
        let ask = |request, input: &str| {
            let mut output = Vec::new();
            credentials
                .answer_helper(request, input, &mut output)
                .map(|()| String::from_utf8(output).unwrap())
        };
        assert_eq!(ask(HelperRequest::List, "").unwrap(), "{}");
        assert_eq!(ask(HelperRequest::Get, "a.b").unwrap_err().to_string(), NOT_FOUND);
        assert_eq!(ask(HelperRequest::Erase, "a.b").unwrap(), "");
        let hub = r#"{"ServerURL":"https://index.docker.io/v1/","Username":"me","Secret":"x"}"#;
        // The tests must not write to the developer's keyring.
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
