//! The credentials that this machine's user has stored, in order of precedence.

mod shared;

use std::{cmp::Reverse, collections::BTreeSet, fmt, sync::Arc, time::SystemTime};

use self::shared::{SharedSource, SharedSources};
#[cfg(feature = "stores")]
use super::passphrase::{AskPassphrase, PassphrasePurpose, Passphrases};
use super::{
    auth_file::AuthFile,
    credential::{Credential, CredentialKind},
    error::CredentialError,
    key::RegistryKey,
    locations::Locations,
    provider::{CredentialProvider, CredentialQuery},
    store::{CredentialStore, environment::Environment, preferred},
};

/// What this machine's user has stored: in environment variables, `DOCKER_AUTH_CONFIG`, our own stores, then either the file that
/// `REGISTRY_AUTH_FILE` names or podman's and docker's files, including the credential helpers that they or podman's
/// `registries.conf` name (`registries.conf` is read with the feature `stores` only). Methods block on files, D-Bus and programs.
///
/// ```no_run
/// use layerslayer::{Client, Credentials};
///
/// let credentials = Credentials::from_environment();
/// for candidate in credentials.candidates(&"ghcr.io".parse()?) {
///     println!("{} {}", candidate.place, candidate.username);
/// }
/// let client = Client::builder().credentials(credentials).build()?;
/// # let _ = client;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Credentials {
    environment: Environment,
    locations: Locations,
    own: Arc<Vec<OwnStore>>,
    #[cfg(feature = "stores")]
    passphrases: Passphrases,
}

/// One of our stores.
struct OwnStore {
    store: Arc<dyn CredentialStore>,
    /// Whether it exists. If not, it is skipped silently.
    exists: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A credential that a source has for a registry.
///
/// ```no_run
/// # let credentials = layerslayer::Credentials::from_environment();
/// let candidates = credentials.candidates(&"docker.io".parse()?);
/// if let Some(first) = candidates.iter().find(|candidate| candidate.problem.is_none()) {
///     println!("{} wins", first.place);
/// }
/// # Ok::<(), layerslayer::CredentialError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// Where it is: `the keyring`, `config.json at PATH`.
    pub place: String,
    /// The user name; empty if unknown.
    pub username: String,
    /// The kind of secret, if known.
    pub kind: Option<CredentialKind>,
    /// When it expires, if known.
    pub expires: Option<SystemTime>,
    /// Why it cannot be used: the source cannot be read, or is locked.
    pub problem: Option<CredentialError>,
    /// The credential itself.
    pub credential: Option<Credential>,
}

impl Credentials {
    /// Uses the environment of this process and the files of its user. Never prompts for a passphrase; see
    /// [`ask_passphrase`](Self::ask_passphrase).
    ///
    /// ```
    /// let credentials = layerslayer::Credentials::from_environment();
    /// # let _ = credentials;
    /// ```
    #[must_use]
    pub fn from_environment() -> Self {
        Self::new(
            Environment::from_process(),
            Locations::from_process(),
            #[cfg(feature = "stores")]
            Passphrases::from_process(Arc::new(|_| Ok(None))),
        )
    }

    /// Calls `ask` for the passphrase of the encrypted store if the environment has none. `ask` returns `None` if nobody can be
    /// asked.
    ///
    /// ```
    /// use layerslayer::Credentials;
    ///
    /// let credentials = Credentials::from_environment().ask_passphrase(|_| Ok(Some("open sesame".to_owned())));
    /// # let _ = credentials;
    /// ```
    #[cfg(feature = "stores")]
    #[must_use]
    pub fn ask_passphrase(
        self,
        ask: impl Fn(PassphrasePurpose) -> Result<Option<String>, CredentialError> + Send + Sync + 'static,
    ) -> Self {
        let ask: Arc<AskPassphrase> = Arc::new(ask);
        Self::new(self.environment, self.locations, Passphrases::from_process(ask))
    }

    pub(crate) fn new(
        environment: Environment,
        locations: Locations,
        #[cfg(feature = "stores")] passphrases: Passphrases,
    ) -> Self {
        #[cfg(feature = "stores")]
        let own = super::store::own(&locations, &passphrases);
        #[cfg(not(feature = "stores"))]
        let own: Vec<super::store::StoreAndCheck> = Vec::new();
        let own = own
            .into_iter()
            .map(|(store, exists): super::store::StoreAndCheck| OwnStore { store: store.into(), exists })
            .collect();
        Self {
            environment,
            locations,
            own: Arc::new(own),
            #[cfg(feature = "stores")]
            passphrases,
        }
    }

    #[cfg(feature = "stores")]
    pub(crate) fn locations(&self) -> &Locations {
        &self.locations
    }

    #[cfg(feature = "stores")]
    pub(crate) fn passphrases(&self) -> &Passphrases {
        &self.passphrases
    }

    /// Returns what our own stores have for an image, or for a registry if `repository` is `None`.
    ///
    /// # Errors
    ///
    /// If a store that has a credential cannot be read or opened. A keyring that does not exist or does not answer is skipped.
    ///
    /// ```no_run
    /// let credentials = layerslayer::Credentials::from_environment();
    /// let credential = credentials.stored(&"ghcr.io".parse()?, None)?;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn stored(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Result<Option<Credential>, CredentialError> {
        self.find_stored(registry, repository, &mut Vec::new())
    }

    fn find_stored(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Credential>, CredentialError> {
        for own in self.own.iter().filter(|own| (own.exists)()) {
            match preferred(own.store.as_ref(), registry, repository) {
                Ok(Some((key, credential))) => {
                    return Ok(Some(self.with_token_store(credential, &own.store, &key)));
                }
                Ok(None) => {}
                Err(error) if error.is_timeout() => warnings.push(error.to_string()),
                // Most machines have no keyring. A missing passphrase is an error.
                Err(error) if error.is_unavailable() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Lists what each source has for a registry, or for a path below it: the credential that is used, then those it shadows.
    ///
    /// ```no_run
    /// let credentials = layerslayer::Credentials::from_environment();
    /// let candidates = credentials.candidates(&"ghcr.io".parse()?);
    /// # let _ = candidates;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    #[must_use]
    pub fn candidates(&self, registry: &RegistryKey) -> Vec<Candidate> {
        let (host, repository) = registry.parts();
        let mut candidates = Vec::new();
        candidates.extend(Candidate::of(self.environment.find(&host), || self.environment.place()));
        candidates.extend(Candidate::of(self.of_docker_variable(&host), || "DOCKER_AUTH_CONFIG".into()));
        for own in self.own.iter().filter(|own| (own.exists)()) {
            candidates.extend(own.candidates(registry).into_iter().map(|(key, mut candidate)| {
                let with_store = |credential| self.with_token_store(credential, &own.store, &key);
                candidate.credential = candidate.credential.map(with_store);
                candidate
            }));
        }
        let shared = SharedSources::new(&self.locations);
        candidates.extend(
            shared
                .problems
                .iter()
                .filter_map(|problem| Candidate::of(Err(problem.clone()), || shared.place.clone())),
        );
        for source in &shared.active {
            candidates.extend(Candidate::of(source.find(&host, repository), || source.place()));
        }
        for (place, problem) in shared.excluded(&host, repository) {
            candidates.extend(Candidate::of(Err(problem), || place));
        }
        candidates
    }

    /// Lists every registry for which some source has a credential, sorted. Sources that cannot be listed are skipped.
    ///
    /// ```no_run
    /// for registry in layerslayer::Credentials::from_environment().registries() {
    ///     println!("{registry}");
    /// }
    /// ```
    #[must_use]
    pub fn registries(&self) -> Vec<RegistryKey> {
        let mut registries = BTreeSet::new();
        let own = self.own.iter().filter(|own| (own.exists)()).map(|own| own.store.as_ref());
        // A source that cannot be listed is reported when it is searched for a registry.
        for store in [&self.environment as &dyn CredentialStore].into_iter().chain(own) {
            registries.extend(store.list().unwrap_or_default().into_iter().map(|entry| entry.registry));
        }
        if let Some(Ok(file)) = self.docker_variable() {
            registries.extend(file.registries());
        }
        let shared = SharedSources::new(&self.locations);
        registries.extend(shared.active.iter().flat_map(SharedSource::registries));
        registries.into_iter().collect()
    }

    /// A token server may replace an identity token, which then has to be stored.
    #[cfg_attr(not(feature = "stores"), allow(clippy::unused_self, reason = "there is no store"))]
    fn with_token_store(
        &self,
        credential: Credential,
        store: &Arc<dyn CredentialStore>,
        registry: &RegistryKey,
    ) -> Credential {
        #[cfg(feature = "stores")]
        if let (CredentialKind::IdentityToken, Some(directory)) = (credential.kind(), &self.locations.own) {
            let directory = super::store::private::PrivateDirectory::new(directory);
            let (store, registry) = (Arc::clone(store), registry.clone());
            let stored = super::store::refresh::StoredIdentityToken { store, registry, directory };
            return credential.with_token_store(Arc::new(stored));
        }
        let _ = (store, registry);
        credential
    }

    fn docker_variable(&self) -> Option<Result<AuthFile, CredentialError>> {
        self.locations.docker_auth_config.as_ref().map(AuthFile::of_environment)
    }

    fn of_docker_variable(&self, registry: &RegistryKey) -> Result<Option<Credential>, CredentialError> {
        self.docker_variable().transpose()?.map_or(Ok(None), |file| file.find(registry, None))
    }
}

impl CredentialProvider for Credentials {
    /// Invalid environment variables of ours and unreadable own stores are errors: the user set them up for us. Files and helpers of
    /// other programs may be broken without keeping a public image from being read.
    fn find(&self, query: &mut CredentialQuery<'_>) -> Result<Option<Credential>, CredentialError> {
        let (registry, repository) = (query.registry().clone(), query.repository().to_owned());
        if let Some(credential) = self.environment.find(&registry)? {
            return Ok(Some(credential));
        }
        match self.of_docker_variable(&registry) {
            Ok(Some(credential)) => return Ok(Some(credential)),
            Ok(None) => {}
            Err(error) => query.warn(error.to_string()),
        }
        let repository = Some(repository.as_str()).filter(|repository| !repository.is_empty());
        let mut warnings = Vec::new();
        let stored = self.find_stored(&registry, repository, &mut warnings);
        warnings.into_iter().for_each(|warning| query.warn(warning));
        if let Some(credential) = stored? {
            return Ok(Some(credential));
        }
        let shared = SharedSources::new(&self.locations);
        shared.problems.iter().for_each(|problem| query.warn(problem.to_string()));
        for source in &shared.active {
            match source.find(&registry, repository) {
                Ok(Some(credential)) => return Ok(Some(credential)),
                Ok(None) => {}
                Err(error) => query.warn(error.to_string()),
            }
        }
        for (_, problem) in shared.excluded(&registry, repository) {
            query.warn(problem.to_string());
        }
        Ok(None)
    }
}

impl OwnStore {
    /// The credentials for a registry with their keys: opened if that needs no further prompt, else as listed.
    fn candidates(&self, registry: &RegistryKey) -> Vec<(RegistryKey, Candidate)> {
        let place = || self.store.place();
        let listed = match self.store.list() {
            Ok(listed) => listed,
            Err(error) if error.is_unavailable() && !error.is_timeout() => return Vec::new(),
            Err(error) if error.is_locked() && !self.has(registry) => return Vec::new(),
            Err(error) => {
                let candidate = Candidate::of(Err(error), place);
                return candidate.into_iter().map(|candidate| (registry.clone(), candidate)).collect();
            }
        };
        let (host, repository) = registry.parts();
        let mut listed: Vec<_> =
            listed.into_iter().filter(|entry| entry.registry.covers(&host, repository)).collect();
        listed.sort_by_key(|entry| {
            let rank = CredentialKind::ALL.iter().position(|kind| *kind == entry.kind);
            (Reverse(entry.registry.as_str().len()), rank)
        });
        let opened = listed.into_iter().filter_map(|entry| {
            let mut candidate = Candidate::of(self.store.retrieve(&entry.registry, entry.kind), place)?;
            candidate.kind = Some(entry.kind);
            candidate.username = entry.username;
            Some((entry.registry, candidate))
        });
        opened.collect()
    }

    /// Whether it may have a credential for a registry.
    fn has(&self, registry: &RegistryKey) -> bool {
        CredentialKind::ALL.into_iter().any(|kind| self.store.exists(registry, kind).unwrap_or(true))
    }
}

impl Candidate {
    fn of(
        result: Result<Option<Credential>, CredentialError>,
        place: impl FnOnce() -> String,
    ) -> Option<Self> {
        match result {
            Ok(None) => None,
            Ok(Some(credential)) => Some(Self {
                place: credential.source().to_owned(),
                username: credential.username().to_owned(),
                kind: Some(credential.kind()),
                expires: credential.expires(),
                problem: None,
                credential: Some(credential),
            }),
            Err(error) => Some(Self {
                place: place(),
                username: String::new(),
                kind: None,
                expires: None,
                problem: Some(error),
                credential: None,
            }),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("files", &self.locations.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
