//! Where a client gets its credentials from.

use super::{credential::Credential, error::CredentialError, key::RegistryKey};

/// A source of credentials: a secret manager, a metadata service, a file of your own. [`Credentials`](crate::Credentials) is the
/// one for what this machine's user has stored.
///
/// ```
/// use layerslayer::{Client, Credential, CredentialError, CredentialProvider, CredentialQuery};
///
/// struct Vault;
///
/// impl CredentialProvider for Vault {
///     fn find(&self, query: &mut CredentialQuery<'_>) -> Result<Option<Credential>, CredentialError> {
///         let is_ours = query.registry().host() == "registry.example.com";
///         Ok(is_ours.then(|| Credential::basic("me", "secret").with_source("the vault")))
///     }
/// }
///
/// let client = Client::builder().credentials(Vault).build()?;
/// # let _ = client;
/// # Ok::<(), layerslayer::Error>(())
/// ```
pub trait CredentialProvider: Send + Sync {
    /// Returns the credential for a repository, or `None` to read it anonymously. May block: it runs on a thread for blocking work.
    ///
    /// If a registry rejects the credential, the request is retried anonymously with a warning that names
    /// [`Credential::source`].
    ///
    /// # Errors
    ///
    /// If the image must not be read without the credential that could not be obtained. Otherwise use [`CredentialQuery::warn`].
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(provider: &dyn CredentialProvider, query: &mut CredentialQuery<'_>) -> Result<(), CredentialError> {
    /// let credential = provider.find(query)?;
    /// # let _ = credential;
    /// # Ok(())
    /// # }
    /// ```
    fn find(&self, query: &mut CredentialQuery<'_>) -> Result<Option<Credential>, CredentialError>;
}

/// The repository that a client needs a credential for.
///
/// ```
/// # use layerslayer::*;
/// # fn example(provider: &dyn CredentialProvider, query: &mut CredentialQuery<'_>) -> Result<(), CredentialError> {
/// let name = format!("{}/{}", query.registry(), query.repository());
/// if provider.find(query)?.is_none() {
///     query.warn(format!("no credential for {name}"));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CredentialQuery<'a> {
    registry: &'a RegistryKey,
    repository: &'a str,
    warnings: Vec<String>,
}

impl<'a> CredentialQuery<'a> {
    pub(crate) fn new(registry: &'a RegistryKey, repository: &'a str) -> Self {
        Self { registry, repository, warnings: Vec::new() }
    }

    /// The registry, without a path.
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(provider: &dyn CredentialProvider, query: &mut CredentialQuery<'_>) -> Result<(), CredentialError> {
    /// let is_hub = query.registry().as_str() == "docker.io";
    /// # let _ = is_hub;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn registry(&self) -> &RegistryKey {
        self.registry
    }

    /// The repository's name below the registry, such as `library/nginx`.
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(provider: &dyn CredentialProvider, query: &mut CredentialQuery<'_>) -> Result<(), CredentialError> {
    /// let is_official = query.repository().starts_with("library/");
    /// # let _ = is_official;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn repository(&self) -> &str {
        self.repository
    }

    /// Reports a problem that does not keep the image from being read. It reaches the client's [`Progress`](crate::Progress).
    ///
    /// ```
    /// # use layerslayer::*;
    /// # fn example(provider: &dyn CredentialProvider, query: &mut CredentialQuery<'_>) -> Result<(), CredentialError> {
    /// query.warn("the vault is sealed");
    /// # Ok(())
    /// # }
    /// ```
    pub fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    /// The warnings so far.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}
