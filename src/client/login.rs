//! Logging in: which credential is worth storing.

use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::Client;
use crate::{
    auth::{Credential, RegistryKey},
    error::Error,
    registry::{
        NO_TOKEN_SERVER, Repository, Session,
        device::{Device, DeviceCode},
    },
};

/// What came of showing a credential to a registry.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use layerslayer::{Client, Credential, Credentials};
///
/// let registry = "ghcr.io".parse()?;
/// let login = Client::builder().build()?.log_in(&registry, &Credential::basic("me", "x")).await?;
/// Credentials::from_environment().secure_store()?.store(&registry, &login.credential)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Login {
    /// What to store: an identity token where the registry gave one, else what was shown.
    pub credential: Credential,
    /// The token server that vouched for it, to pin the credential to; `none` where the registry takes passwords itself.
    pub token_server: String,
    /// Whether the registry has looked at it. One that lets everybody in has not.
    pub is_verified: bool,
}

/// A sign-in that waits for its user to type a code at another device.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let sign_in = client.device_sign_in("https://github.com", "Iv1.0123456789abcdef").await?;
/// println!("type {} at {}", sign_in.user_code(), sign_in.verification_uri());
/// let credential = sign_in.wait().await?;
/// # Ok(())
/// # }
/// ```
pub struct DeviceSignIn {
    device: Device,
    code: DeviceCode,
}

impl Client {
    /// Shows a credential to a registry, or to the token server that the registry names. Nothing is stored.
    ///
    /// # Errors
    ///
    /// [`Error::is_unauthorized`] if it is refused; [`Error::is_unavailable`] if the registry cannot be reached or is out of
    /// order.
    ///
    /// ```
    /// # async fn example(client: layerslayer::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use layerslayer::Credential;
    ///
    /// let login = client.log_in(&"ghcr.io".parse()?, &Credential::basic("me", "x")).await?;
    /// assert!(login.is_verified);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn log_in(&self, registry: &RegistryKey, credential: &Credential) -> Result<Login, Error> {
        let verified = self.bare_session(registry)?.verify(credential).await?;
        let credential = match verified.identity {
            Some(token) => Credential::identity_token(credential.username(), token.expose_secret()),
            None => credential.clone(),
        };
        let (token_server, is_verified) = (verified.token_server, verified.is_required);
        Ok(Login { credential, token_server, is_verified })
    }

    /// Begins to sign in with a device code (RFC 8628) at a server that does it as GitHub does, as the OAuth application with
    /// this client id.
    ///
    /// # Errors
    ///
    /// If the server refuses, or cannot be reached.
    ///
    /// ```
    /// # async fn example(client: layerslayer::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let sign_in = client.device_sign_in("https://github.com", "Iv1.0123456789abcdef").await?;
    /// # let _ = sign_in;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn device_sign_in(&self, server: &str, client_id: &str) -> Result<DeviceSignIn, Error> {
        let device = Device::new(&self.http, server, client_id, &self.progress)?;
        let code = device.begin().await?;
        Ok(DeviceSignIn { device, code })
    }

    /// A session for a registry as such.
    fn bare_session(&self, registry: &RegistryKey) -> Result<Arc<Session>, Error> {
        let reference = format!("{}/login/login", registry.host()).parse();
        let reference: crate::oci::reference::Reference = reference.map_err(|error| {
            Error::caused(crate::error::Kind::Usage, format!("{registry} is no registry"), error)
        })?;
        let repository = Repository { host: reference.api_host().to_owned(), name: String::new() };
        Ok(Session::with_progress(Arc::clone(&self.http), repository, None, Arc::clone(&self.progress)))
    }
}

impl Login {
    /// The credential, for the token server alone that has just vouched for it.
    ///
    /// ```
    /// # fn example(login: layerslayer::Login) {
    /// let credential = login.pinned();
    /// assert!(credential.token_server().is_some());
    /// # }
    /// ```
    #[must_use]
    pub fn pinned(self) -> Credential {
        self.credential.pinned_to(Some(self.token_server))
    }

    /// Whether no token server had a part in it.
    ///
    /// ```
    /// # fn example(login: layerslayer::Login) {
    /// if login.is_without_token_server() {
    ///     println!("the registry checks passwords itself");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn is_without_token_server(&self) -> bool {
        self.token_server == NO_TOKEN_SERVER
    }
}

impl DeviceSignIn {
    /// What the user has to type.
    ///
    /// ```
    /// # fn example(sign_in: layerslayer::DeviceSignIn) {
    /// println!("type {}", sign_in.user_code());
    /// # }
    /// ```
    #[must_use]
    pub fn user_code(&self) -> &str {
        &self.code.user_code
    }

    /// Where they have to type it.
    ///
    /// ```
    /// # fn example(sign_in: layerslayer::DeviceSignIn) {
    /// println!("at {}", sign_in.verification_uri());
    /// # }
    /// ```
    #[must_use]
    pub fn verification_uri(&self) -> &str {
        &self.code.verification_uri
    }

    /// Waits until the code was typed; gives a token in the place of a password, with the name of its user as far as the server
    /// tells it.
    ///
    /// # Errors
    ///
    /// [`Error::is_unauthorized`] if the user refused or took too long; [`Error::is_unavailable`] if the server no longer
    /// answers.
    ///
    /// ```
    /// # async fn example(sign_in: layerslayer::DeviceSignIn) -> Result<(), layerslayer::Error> {
    /// let credential = sign_in.wait().await?;
    /// # let _ = credential;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait(&self) -> Result<Credential, Error> {
        let token = self.device.wait(&self.code).await?;
        let user = self.device.user(&token).await.unwrap_or_default();
        Ok(Credential::basic(user, token.expose_secret()))
    }
}

impl std::fmt::Debug for DeviceSignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceSignIn")
            .field("verification_uri", &self.verification_uri())
            .finish_non_exhaustive()
    }
}
