//! Where everything begins: settings, and images by their references.

use std::{fmt, path::PathBuf, sync::Arc, thread, time::Duration};

use futures_util::future;

use crate::{
    auth::{Credential, CredentialProvider, CredentialQuery, RegistryKey},
    cache::Cache,
    error::{Error, Kind},
    image::{
        Image,
        resolve::{self, ImageRequest},
    },
    limits::Limits,
    oci::{
        platform::Platform,
        reference::{ImageReference, Reference},
    },
    progress::{Progress, Reporter, Silent},
    read::pool::WorkerPool,
    registry::{AddressPolicy, Http, HttpBuilder, RegistryHints, Repository, Session},
};

mod carve;
mod login;
mod push;

pub use login::{DeviceSignIn, Login};
pub use push::PushedArtifact;

/// Most layers that are decoded at the same time where nothing is said.
const PARALLEL_LAYERS: usize = 4;

/// Opens images. Cheap to clone; clones share connections and settings.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use layerslayer::{Client, Platform};
///
/// let client = Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Platform::default()).await?;
/// let mut file = image.carve("/etc/passwd").await?;
/// let content = file.read_to_end(1 << 20).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    http: Arc<Http>,
    credentials: Vec<(String, Credential)>,
    provider: Option<Arc<dyn CredentialProvider>>,
    progress: Arc<Reporter>,
    cache: Option<Cache>,
    parallel_layers: usize,
    pool: Arc<WorkerPool>,
    limits: Limits,
}

impl Client {
    /// Settings to begin with: HTTPS except for registries on this machine, anonymous requests, nothing stored on disk.
    ///
    /// ```
    /// let client = layerslayer::Client::builder().build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            http: Http::builder(),
            ca_files: Vec::new(),
            credentials: Vec::new(),
            provider: None,
            progress: Arc::new(Silent),
            cache: None,
            parallel_layers: parallel_layers(),
            limits: Limits::default(),
        }
    }

    /// Opens an image: reads its manifest and configuration, and nothing of its layers. The image of the given platform is
    /// taken from an index; [`Platform::default`] is a preference, a platform that was parsed a demand.
    ///
    /// # Errors
    ///
    /// [`Error::is_no_such_image`] if there is no such image, tag or platform; [`Error::is_unauthorized`] if the registry
    /// refuses; [`Error::is_unavailable`] if it cannot be reached; [`Error::is_corrupt`] if a document does not hash to its
    /// digest or is malformed.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &"linux/amd64".parse()?).await?;
    /// assert_eq!(image.layers().len(), 3);
    /// let other = client.image(&"oci:fixtures/demo".parse()?, &"linux/s390x".parse()?).await;
    /// assert!(other.is_err_and(|error| error.is_no_such_image()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn image(&self, reference: &ImageReference, platform: &Platform) -> Result<Image, Error> {
        let request = self.request(reference, platform);
        match reference {
            ImageReference::DockerArchive { path, .. } => resolve::docker_archive(request, path).await,
            ImageReference::OciArchive { path, .. } => resolve::layout(request, path, true).await,
            ImageReference::OciLayout { path, .. } => resolve::layout(request, path, false).await,
            ImageReference::Registry(reference) => {
                let session = self.session(reference, &request.progress).await?;
                resolve::registry(request, reference, session, 0).await
            }
        }
    }

    /// What this client and its clones have sent and received so far.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// // Nothing of an image on this machine goes over the network.
    /// assert_eq!(client.transferred().bytes, 0);
    /// # let _ = image;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn transferred(&self) -> Transferred {
        Transferred { requests: self.http.requests(), bytes: self.http.bytes_fetched() }
    }

    fn request(&self, reference: &ImageReference, platform: &Platform) -> ImageRequest {
        ImageRequest {
            reference: reference.clone(),
            platform: platform.clone(),
            progress: Arc::new(self.progress.for_image(reference)),
            cache: self.cache.clone(),
            parallel_layers: self.parallel_layers,
            pool: Arc::clone(&self.pool),
            limits: self.limits,
        }
    }

    async fn session(&self, reference: &Reference, progress: &Arc<Reporter>) -> Result<Arc<Session>, Error> {
        let hints = RegistryHints::of(reference.api_host(), self.cache.clone());
        let (access, hints) = future::join(self.access(reference, progress), hints).await;
        let (repository, credential) = access?;
        let (http, progress) = (Arc::clone(&self.http), Arc::clone(progress));
        Ok(Session::reading(http, repository, credential, progress, hints))
    }

    /// A repository, and the credential for it.
    async fn access(
        &self,
        reference: &Reference,
        progress: &Reporter,
    ) -> Result<(Repository, Option<Credential>), Error> {
        let (host, name) = (reference.api_host().to_owned(), reference.repository().to_owned());
        let mut given = self.credentials.iter().rev();
        let given = given.find(|(registry, _)| registry == reference.registry() || *registry == host);
        let credential = match given {
            Some((_, credential)) => Some(credential.clone()),
            None => self.stored(reference.registry(), reference.repository(), progress).await?,
        };
        Ok((Repository { host, name }, credential))
    }

    /// The provider's credential for a repository. It may block, so it runs on a thread for blocking work.
    async fn stored(
        &self,
        registry: &str,
        repository: &str,
        progress: &Reporter,
    ) -> Result<Option<Credential>, Error> {
        let Some(provider) = self.provider.clone() else { return Ok(None) };
        let failed = |error: &dyn fmt::Display| {
            Error::new(Kind::Other, format!("looking for the credential of {registry}: {error}"))
        };
        let key: RegistryKey = registry.parse().map_err(|error| failed(&error))?;
        let repository = repository.to_owned();
        let search = move || {
            let mut query = CredentialQuery::new(&key, &repository);
            (provider.find(&mut query), query.take_warnings())
        };
        let (found, warnings) = tokio::task::spawn_blocking(search).await.map_err(|error| failed(&error))?;
        for warning in warnings {
            progress.warning(&format!("{warning}; continuing without it"));
        }
        Ok(found.map_err(|error| failed(&error))?.map(Credential::stored))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

/// What went over the network.
///
/// ```
/// let client = layerslayer::Client::builder().build()?;
/// assert_eq!(client.transferred().requests, 0);
/// # Ok::<(), layerslayer::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Transferred {
    /// Requests sent, those for tokens and those that failed included.
    pub requests: u64,
    /// Bytes of bodies received, as transferred.
    pub bytes: u64,
}

/// Settings of a [`Client`].
///
/// ```no_run
/// use layerslayer::{Client, Credential};
///
/// let password = std::env::var("REGISTRY_PASSWORD").unwrap_or_default();
/// let client = Client::builder()
///     .ca_file("/etc/ssl/registry.pem")
///     .credential("registry.example.com:5000", Credential::basic("me", password))
///     .build()?;
/// # Ok::<(), layerslayer::Error>(())
/// ```
pub struct ClientBuilder {
    http: HttpBuilder,
    ca_files: Vec<PathBuf>,
    credentials: Vec<(String, Credential)>,
    provider: Option<Arc<dyn CredentialProvider>>,
    progress: Arc<dyn Progress>,
    cache: Option<Cache>,
    parallel_layers: usize,
    limits: Limits,
}

impl ClientBuilder {
    /// Trusts the certificates in this file (PEM) besides the platform's.
    ///
    /// ```no_run
    /// let client = layerslayer::Client::builder().ca_file("/etc/ssl/registry.pem").build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_files.push(file.into());
        self
    }

    /// Keeps in `cache` what later runs can use, and uses what earlier ones have kept: manifests, configurations, tables of layers.
    /// What a tag means is asked of the registry every time, but by a `HEAD` request once it has been seen.
    ///
    /// ```
    /// use layerslayer::{Cache, CacheOptions, Client};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// let client = Client::builder().cache(cache).build()?;
    /// # let _ = client;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Uses this credential for `registry` (as [`Reference::registry`] gives it: `docker.io`, `localhost:5000`), and for no
    /// other, instead of what is stored for it. The last one for a registry counts.
    ///
    /// ```
    /// use layerslayer::{Client, Credential};
    ///
    /// let credential = Credential::basic("me", "secret");
    /// let client = Client::builder().credential("registry.example.com:5000", credential).build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn credential(mut self, registry: impl Into<String>, credential: Credential) -> Self {
        self.credentials.push((registry.into(), credential));
        self
    }

    /// Gets credentials from `provider`, such as [`Credentials::from_environment`](crate::Credentials::from_environment) for those
    /// that this machine's user has stored. By default requests are anonymous.
    ///
    /// ```
    /// use layerslayer::{Client, Credentials};
    ///
    /// let client = Client::builder().credentials(Credentials::from_environment()).build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn credentials(mut self, provider: impl CredentialProvider + 'static) -> Self {
        self.provider = Some(Arc::new(provider));
        self
    }

    /// Changes limits on what images may take.
    ///
    /// ```
    /// use layerslayer::{Client, Limits};
    ///
    /// let client = Client::builder().limits(Limits::default().with_unpacked_archive_bytes(1 << 30)).build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Lets this client and its clones fetch so many bytes in all: of the bodies of answers, those for manifests and tokens and those of
    /// errors included. What is known to be longer is not asked for, and fails with [`Error::is_over_budget`]. Images on this machine
    /// and shared stores of tables do not count.
    ///
    /// ```
    /// let client = layerslayer::Client::builder().max_bytes(10 << 20).build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.http = self.http.max_bytes(bytes);
        self
    }

    /// Decodes at most so many layers of an image at the same time, where several are read to their end: [`Image::rootfs`],
    /// [`Image::build_tocs`]. Another one is begun where decoding, and not the link, is the limit, or where the rest of
    /// the one before is on its way; what is found, and how many bytes are fetched for it, is the same for any number. Each takes some
    /// 20 MiB and keeps two threads busy. Where nothing is said, it goes by the number of cores, and is four at most; 0 counts as 1.
    ///
    /// ```
    /// let client = layerslayer::Client::builder().parallel_layers(2).build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn parallel_layers(mut self, layers: usize) -> Self {
        self.parallel_layers = layers.max(1);
        self
    }

    /// Limits the time that servers may take for each question: for opening an image, and for each question about it. Beyond it the
    /// question fails with [`Error::is_timed_out`]. Without a limit, a question ends only once servers have made it wait for 60 s
    /// without progress.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let client = layerslayer::Client::builder().timeout(Duration::from_secs(30)).build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.http = self.http.timeout(timeout);
        self
    }

    /// Speaks plain http to every registry. Those on this machine are always tried by plain http first.
    ///
    /// ```
    /// let client = layerslayer::Client::builder().plain_http(true).build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn plain_http(mut self, plain_http: bool) -> Self {
        self.http = self.http.plain_http(plain_http);
        self
    }

    /// Reports events to `progress`.
    ///
    /// ```
    /// let progress = std::sync::Arc::new(layerslayer::Silent);
    /// let client = layerslayer::Client::builder().progress(progress).build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Reaches only the addresses that `policy` allows.
    ///
    /// ```
    /// use layerslayer::{AddressPolicy, Client};
    ///
    /// let client = Client::builder().address_policy(AddressPolicy::new().public_only()).build()?;
    /// # let _ = client;
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn address_policy(mut self, policy: AddressPolicy) -> Self {
        self.http = self.http.address_policy(policy);
        self
    }

    /// The client. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// If a certificate file cannot be read or the platform's TLS roots cannot be set up.
    ///
    /// ```
    /// let client = layerslayer::Client::builder().ca_file("no/such/file.pem").build();
    /// assert!(client.is_err());
    /// ```
    pub fn build(self) -> Result<Client, Error> {
        let Self { http, ca_files, credentials, provider, progress, cache, parallel_layers, limits } = self;
        let http = http.ca_files(ca_files).build()?;
        let progress = Arc::new(Reporter::new(progress));
        let cache = cache.map(|cache| cache.with_progress(Arc::clone(&progress)));
        #[cfg(feature = "object-store")]
        let cache = match cache.map(|cache| cache.connect(http.objects())).transpose() {
            Ok(cache) => cache,
            Err(error) => {
                return Err(Error::caused(crate::error::Kind::Usage, "setting up shared tables", error));
            }
        };
        let pool = WorkerPool::new();
        Ok(Client { http, credentials, provider, progress, cache, parallel_layers, pool, limits })
    }
}

/// As many layers as there are cores for.
fn parallel_layers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(PARALLEL_LAYERS)
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("ClientBuilder");
        text.field("ca_files", &self.ca_files).field("credentials", &self.credentials).finish_non_exhaustive()
    }
}
