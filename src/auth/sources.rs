//! Every place where a credential may be, in the order in which they count.

mod shared;

use std::{cmp::Reverse, collections::BTreeSet, fmt, sync::Arc, time::SystemTime};

use self::shared::{Shared, SharedPlace};
#[cfg(feature = "stores")]
use super::passphrase::{Ask, PassphrasePurpose, Passphrases};
use super::{
    auth_file::AuthFile,
    credential::{Credential, CredentialKind},
    error::CredentialError,
    key::RegistryKey,
    places::Places,
    store::{CredentialStore, environment::Environment, preferred},
};

/// Where credentials are looked for: the environment, `DOCKER_AUTH_CONFIG`, our own stores, then either the file that
/// `REGISTRY_AUTH_FILE` names or the files of containers' tools and docker, with the credential helpers that they name, or that
/// containers' `registries.conf` names (read with the feature `stores` only: it is TOML).
/// Asking blocks: on files, on D-Bus, on programs.
///
/// ```no_run
/// use layerslayer::CredentialSources;
///
/// let sources = CredentialSources::new();
/// for candidate in sources.candidates(&"ghcr.io".parse()?) {
///     println!("{} {}", candidate.place, candidate.username);
/// }
/// # Ok::<(), layerslayer::CredentialError>(())
/// ```
#[derive(Clone)]
pub struct CredentialSources {
    environment: Environment,
    places: Places,
    own: Arc<Vec<Own>>,
    #[cfg(feature = "stores")]
    passphrases: Passphrases,
}

/// A store of ours.
struct Own {
    store: Arc<dyn CredentialStore>,
    /// Whether it may be asked at all; it is left out silently if not.
    is_there: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What a source has for a registry.
///
/// ```no_run
/// # let sources = layerslayer::CredentialSources::new();
/// let candidates = sources.candidates(&"docker.io".parse()?);
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
    /// The user name, as far as it is known.
    pub username: String,
    /// What kind of secret it is, as far as that is known.
    pub kind: Option<CredentialKind>,
    /// When it expires, as far as that is known.
    pub expires: Option<SystemTime>,
    /// Why it cannot be used: the source cannot be read, or is locked.
    pub problem: Option<CredentialError>,
    /// The credential itself.
    pub credential: Option<Credential>,
}

/// What was found for an image.
pub(crate) struct Found {
    pub(crate) credential: Option<Credential>,
    /// Sources that could not be read, for whoever wonders.
    pub(crate) warnings: Vec<String>,
}

impl Default for CredentialSources {
    fn default() -> Self {
        Self::new()
    }
}

impl CredentialSources {
    /// Those of this process: its environment, its user's files. Nobody is asked for a passphrase.
    ///
    /// ```
    /// let sources = layerslayer::CredentialSources::new();
    /// # let _ = sources;
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::of(
            Environment::of_process(),
            Places::of_process(),
            #[cfg(feature = "stores")]
            Passphrases::of_process(Arc::new(|_| Ok(None))),
        )
    }

    /// The same, asking `ask` for the passphrase of the encrypted store where the environment has none. It returns `None` where
    /// nobody can be asked.
    ///
    /// ```
    /// let sources = layerslayer::CredentialSources::new().ask_passphrase(|_| Ok(Some(String::from("open sesame").into())));
    /// # let _ = sources;
    /// ```
    #[cfg(feature = "stores")]
    #[must_use]
    pub fn ask_passphrase(
        self,
        ask: impl Fn(PassphrasePurpose) -> Result<Option<secrecy::SecretString>, CredentialError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let ask: Arc<Ask> = Arc::new(ask);
        Self::of(self.environment, self.places, Passphrases::of_process(ask))
    }

    pub(crate) fn of(
        environment: Environment,
        places: Places,
        #[cfg(feature = "stores")] passphrases: Passphrases,
    ) -> Self {
        #[cfg(feature = "stores")]
        let own = super::store::own(&places, &passphrases);
        #[cfg(not(feature = "stores"))]
        let own: Vec<super::store::OwnStore> = Vec::new();
        let own = own
            .into_iter()
            .map(|(store, is_there): super::store::OwnStore| Own { store: store.into(), is_there })
            .collect();
        Self {
            environment,
            places,
            own: Arc::new(own),
            #[cfg(feature = "stores")]
            passphrases,
        }
    }

    #[cfg(feature = "stores")]
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    #[cfg(feature = "stores")]
    pub(crate) fn passphrases(&self) -> &Passphrases {
        &self.passphrases
    }

    /// The credential that counts for an image.
    ///
    /// What the user has said to us must be right: an environment that makes no sense and a store of ours that cannot be
    /// read are errors. What others keep may be broken without keeping anybody from a public image.
    pub(crate) fn find(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Result<Found, CredentialError> {
        let mut warnings = Vec::new();
        let found = |credential, warnings| Ok(Found { credential: Some(credential), warnings });
        if let Some(credential) = self.environment.find(registry)? {
            return found(credential, warnings);
        }
        match self.of_docker_variable(registry) {
            Ok(Some(credential)) => return found(credential, warnings),
            Ok(None) => {}
            Err(error) => warnings.push(error.to_string()),
        }
        if let Some(credential) = self.stored(registry, repository)? {
            return found(credential, warnings);
        }
        let shared = Shared::of(&self.places);
        warnings.extend(shared.problems.iter().map(ToString::to_string));
        for place in &shared.asked {
            match place.find(registry, repository) {
                Ok(Some(credential)) => return found(credential, warnings),
                Ok(None) => {}
                Err(error) => warnings.push(error.to_string()),
            }
        }
        let unasked = shared.unasked(registry, repository);
        warnings.extend(unasked.into_iter().map(|(_, problem)| problem.to_string()));
        Ok(Found { credential: None, warnings })
    }

    /// What our own stores alone have for an image, or for a registry as such.
    ///
    /// # Errors
    ///
    /// If a store that has one cannot be read or opened. A keyring that does not answer is none.
    ///
    /// ```no_run
    /// let sources = layerslayer::CredentialSources::new();
    /// let credential = sources.stored(&"ghcr.io".parse()?, None)?;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    pub fn stored(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Result<Option<Credential>, CredentialError> {
        for own in self.own.iter().filter(|own| (own.is_there)()) {
            match preferred(own.store.as_ref(), registry, repository) {
                Ok(Some((key, credential))) => return Ok(Some(self.kept(credential, &own.store, &key))),
                Ok(None) => {}
                // No keyring on this machine is no news; a passphrase that nobody gives is.
                Err(error) if error.is_unavailable() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What every source has for a registry, or for a path below it: the one that wins first, those that it shadows after it.
    ///
    /// ```no_run
    /// let sources = layerslayer::CredentialSources::new();
    /// let candidates = sources.candidates(&"ghcr.io".parse()?);
    /// # let _ = candidates;
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    #[must_use]
    pub fn candidates(&self, registry: &RegistryKey) -> Vec<Candidate> {
        let (host, repository) = registry.parts();
        let mut candidates = Vec::new();
        candidates.extend(Candidate::of(self.environment.find(&host), || self.environment.place()));
        candidates.extend(Candidate::of(self.of_docker_variable(&host), || "DOCKER_AUTH_CONFIG".into()));
        for own in self.own.iter().filter(|own| (own.is_there)()) {
            candidates.extend(own.candidates(registry).into_iter().map(|(key, mut candidate)| {
                let kept = |credential| self.kept(credential, &own.store, &key);
                candidate.credential = candidate.credential.map(kept);
                candidate
            }));
        }
        let shared = Shared::of(&self.places);
        candidates.extend(
            shared
                .problems
                .iter()
                .filter_map(|problem| Candidate::of(Err(problem.clone()), || shared.place.clone())),
        );
        for place in &shared.asked {
            candidates.extend(Candidate::of(place.find(&host, repository), || place.shown()));
        }
        for (place, problem) in shared.unasked(&host, repository) {
            candidates.extend(Candidate::of(Err(problem), || place));
        }
        candidates
    }

    /// Every registry that some source has a credential for, as far as they can be listed, sorted.
    ///
    /// ```no_run
    /// for registry in layerslayer::CredentialSources::new().registries() {
    ///     println!("{registry}");
    /// }
    /// ```
    #[must_use]
    pub fn registries(&self) -> Vec<RegistryKey> {
        let mut registries = BTreeSet::new();
        let own = self.own.iter().filter(|own| (own.is_there)()).map(|own| own.store.as_ref());
        // A source that cannot be listed is told when it is asked for a registry.
        for store in [&self.environment as &dyn CredentialStore].into_iter().chain(own) {
            registries.extend(store.list().unwrap_or_default().into_iter().map(|entry| entry.registry));
        }
        if let Some(Ok(file)) = self.docker_variable() {
            registries.extend(file.registries());
        }
        registries.extend(Shared::of(&self.places).asked.iter().flat_map(SharedPlace::registries));
        registries.into_iter().collect()
    }

    /// An identity token may be replaced by its token server: then the store must learn of it.
    #[cfg_attr(not(feature = "stores"), allow(clippy::unused_self, reason = "there is no store"))]
    fn kept(
        &self,
        credential: Credential,
        store: &Arc<dyn CredentialStore>,
        registry: &RegistryKey,
    ) -> Credential {
        #[cfg(feature = "stores")]
        if let (CredentialKind::IdentityToken, Some(directory)) = (credential.kind(), &self.places.own) {
            let directory = super::store::private::PrivateDirectory::new(directory);
            let (store, registry) = (Arc::clone(store), registry.clone());
            let keeper = super::store::keeper::StoreKeeper { store, registry, directory };
            return credential.kept_by(Arc::new(keeper));
        }
        let _ = (store, registry);
        credential
    }

    fn docker_variable(&self) -> Option<Result<AuthFile, CredentialError>> {
        self.places.docker_auth_config.as_ref().map(AuthFile::of_environment)
    }

    fn of_docker_variable(&self, registry: &RegistryKey) -> Result<Option<Credential>, CredentialError> {
        self.docker_variable().transpose()?.map_or(Ok(None), |file| file.find(registry, None))
    }
}

impl Own {
    /// What it has, by the key that it is kept under: opened where that asks nobody anything that was not asked before, else as it is
    /// listed.
    fn candidates(&self, registry: &RegistryKey) -> Vec<(RegistryKey, Candidate)> {
        let place = || self.store.place();
        let listed = match self.store.list() {
            Ok(listed) => listed,
            Err(error) if error.is_unavailable() => return Vec::new(),
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

    /// Whether it has anything for a registry, as far as it tells.
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
                place: credential.origin().to_owned(),
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

impl fmt::Debug for CredentialSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSources").field("files", &self.places.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
