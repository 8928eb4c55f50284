//! The configuration of an image (OCI image specification, config.md).

use std::collections::BTreeMap;

use super::{
    descriptor::{digest, platform},
    error::{FieldPath, ManifestError, too_many},
    wire::{self, KeySet, List, Object, Scalar, WireConfig, WireExecution, WireHistory, WirePlatform, Words},
};
use crate::{
    limits,
    oci::{digest::Digest, platform::Platform},
};

/// The configuration of an image: platform, digests of the unpacked layers, history and run parameters.
///
/// All fields are optional: `{}` is a valid, empty configuration.
///
/// ```
/// use layerslayer::ImageConfig;
///
/// let config = ImageConfig::parse(
///     br#"{"os": "linux", "architecture": "arm64", "config": {"Cmd": ["sh"]}, "rootfs": {"diff_ids": []}}"#,
/// )?;
/// assert_eq!(config.platform().map(ToString::to_string).as_deref(), Some("linux/arm64"));
/// assert_eq!(config.cmd(), ["sh"]);
/// # Ok::<(), layerslayer::ManifestError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageConfig {
    platform: Option<Platform>,
    created: Option<String>,
    author: Option<String>,
    diff_ids: Vec<Digest>,
    history: Vec<HistoryEntry>,
    user: Option<String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    working_dir: Option<String>,
    exposed_ports: Vec<String>,
    labels: BTreeMap<String, String>,
    volumes: Vec<String>,
    stop_signal: Option<String>,
}

impl ImageConfig {
    /// Parses the bytes of a configuration. They are not hashed here.
    ///
    /// # Errors
    /// Fails if the document is not a JSON object, is too large, has another structure, or has a malformed
    /// platform or DiffID.
    ///
    /// ```
    /// use layerslayer::ImageConfig;
    ///
    /// assert!(ImageConfig::parse(b"{}").is_ok());
    /// assert!(ImageConfig::parse(b"[]").is_err());
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let wire: WireConfig = wire::parse(bytes, limits::CONFIG_BYTES)?;
        let stated = WirePlatform {
            architecture: wire.architecture,
            os: wire.os,
            os_version: wire.os_version,
            variant: wire.variant,
        };
        let execution = wire.config.map_or_else(WireExecution::default, |Object(execution)| execution);
        let WireExecution { cmd, entrypoint, env, exposed_ports, labels, volumes, .. } = execution;
        let labels = labels.unwrap_or_default();
        if labels.more {
            return Err(too_many("config.Labels", limits::DOCUMENT_ITEMS));
        }
        Ok(Self {
            platform: platform(&stated, FieldPath::field("architecture"))?,
            created: wire.created.filter(|text| !text.is_empty()),
            author: wire.author.filter(|text| !text.is_empty()),
            diff_ids: diff_ids(wire.rootfs.and_then(|Object(rootfs)| rootfs.diff_ids).unwrap_or_default())?,
            history: list("history", wire.history)?
                .into_iter()
                .map(|Object(step)| HistoryEntry::from_wire(step))
                .collect(),
            user: execution.user.filter(|text| !text.is_empty()),
            entrypoint: list("config.Entrypoint", entrypoint.map(|Words(words)| words))?,
            cmd: list("config.Cmd", cmd.map(|Words(words)| words))?,
            env: list("config.Env", env)?,
            working_dir: execution.working_dir.filter(|text| !text.is_empty()),
            exposed_ports: keys("config.ExposedPorts", exposed_ports)?,
            labels: labels.items,
            volumes: keys("config.Volumes", volumes)?,
            stop_signal: execution.stop_signal.filter(|text| !text.is_empty()),
        })
    }

    /// The platform that the image is for; `None` if the configuration names no architecture.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"os": "linux", "architecture": "arm64"}"#)?;
    /// assert_eq!(config.platform().map(ToString::to_string).as_deref(), Some("linux/arm64"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// When the image was created, as written (RFC 3339).
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"created": "2026-01-01T00:00:00Z"}"#)?;
    /// assert_eq!(config.created(), Some("2026-01-01T00:00:00Z"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }

    /// The author of the image.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"author": "me"}"#)?;
    /// assert_eq!(config.author(), Some("me"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn author(&self) -> Option<&str> {
        self.author.as_deref()
    }

    /// Digests of the unpacked layers, base first; at most 1,024.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"rootfs": {"type": "layers", "diff_ids": []}}"#)?;
    /// assert!(config.diff_ids().is_empty());
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    /// The build steps, oldest first. Steps that changed only the configuration have no layer.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"history": [{"created_by": "COPY app /"}]}"#)?;
    /// assert_eq!(config.history().len(), 1);
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn history(&self) -> &[HistoryEntry] {
        &self.history
    }

    /// User that the process runs as, optionally followed by a colon and a group.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"config": {"User": "app:staff"}}"#)?;
    /// assert_eq!(config.user(), Some("app:staff"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The command and its first arguments.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"config": {"Entrypoint": ["/bin/app", "--serve"]}}"#)?;
    /// assert_eq!(config.entrypoint(), ["/bin/app", "--serve"]);
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn entrypoint(&self) -> &[String] {
        &self.entrypoint
    }

    /// Default arguments; the whole command if there is no entry point.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"config": {"Cmd": ["sh"]}}"#)?;
    /// assert_eq!(config.cmd(), ["sh"]);
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn cmd(&self) -> &[String] {
        &self.cmd
    }

    /// Environment variables, each as `NAME=value`.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"config": {"Env": ["PATH=/usr/bin"]}}"#)?;
    /// assert_eq!(config.env(), ["PATH=/usr/bin"]);
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn env(&self) -> &[String] {
        &self.env
    }

    /// Working directory of the process.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"config": {"WorkingDir": "/app"}}"#)?;
    /// assert_eq!(config.working_dir(), Some("/app"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn working_dir(&self) -> Option<&str> {
        self.working_dir.as_deref()
    }

    /// Ports that the process listens on, as `80/tcp`, sorted.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"config": {"ExposedPorts": {"80/tcp": {}}}}"#)?;
    /// assert_eq!(config.exposed_ports(), ["80/tcp"]);
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn exposed_ports(&self) -> &[String] {
        &self.exposed_ports
    }

    /// Labels of the image.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"config": {"Labels": {"version": "1"}}}"#)?;
    /// assert_eq!(config.labels()["version"], "1");
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Directories that are volumes, sorted.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"config": {"Volumes": {"/data": {}}}}"#)?;
    /// assert_eq!(config.volumes(), ["/data"]);
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn volumes(&self) -> &[String] {
        &self.volumes
    }

    /// Signal that stops the process, as `SIGQUIT`.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"config": {"StopSignal": "SIGQUIT"}}"#)?;
    /// assert_eq!(config.stop_signal(), Some("SIGQUIT"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn stop_signal(&self) -> Option<&str> {
        self.stop_signal.as_deref()
    }

    /// The command that created layer number `layer` (0 = base).
    ///
    /// `None` if the history has no command for it, and for all layers if the history does not have exactly one
    /// step per layer: an answer for the wrong layer would be worse than none.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.config().await?.created_by(2), Some("RUN rm /app/secret"));
    /// assert_eq!(image.config().await?.created_by(3), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn created_by(&self, layer: usize) -> Option<&str> {
        let steps = || self.history.iter().filter(|step| !step.is_empty_layer());
        if steps().count() != self.diff_ids.len() {
            return None;
        }
        steps().nth(layer)?.created_by()
    }
}

/// One build step of an image.
///
/// ```
/// use layerslayer::ImageConfig;
///
/// let config = ImageConfig::parse(br#"{"history": [{"created_by": "COPY app /", "empty_layer": false}]}"#)?;
/// assert_eq!(config.history()[0].created_by(), Some("COPY app /"));
/// # Ok::<(), layerslayer::ManifestError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HistoryEntry {
    created_by: Option<String>,
    created: Option<String>,
    comment: Option<String>,
    author: Option<String>,
    empty_layer: bool,
}

impl HistoryEntry {
    /// The command of the step, as `RUN apt-get update`.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"history": [{"created_by": "COPY app /"}]}"#)?;
    /// assert_eq!(config.history()[0].created_by(), Some("COPY app /"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// When the step ran, as written (RFC 3339).
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"history": [{"created": "2026-01-01T00:00:00Z"}]}"#)?;
    /// assert_eq!(config.history()[0].created(), Some("2026-01-01T00:00:00Z"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }

    /// A comment.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"history": [{"comment": "by hand"}]}"#)?;
    /// assert_eq!(config.history()[0].comment(), Some("by hand"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The author of the step.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"history": [{"author": "me"}]}"#)?;
    /// assert_eq!(config.history()[0].author(), Some("me"));
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn author(&self) -> Option<&str> {
        self.author.as_deref()
    }

    /// Whether the step changed only the configuration and has no layer.
    ///
    /// ```
    /// # use layerslayer::ImageConfig;
    /// let config = ImageConfig::parse(br#"{"history": [{"empty_layer": true}]}"#)?;
    /// assert!(config.history()[0].is_empty_layer());
    /// # Ok::<(), layerslayer::ManifestError>(())
    /// ```
    #[must_use]
    pub fn is_empty_layer(&self) -> bool {
        self.empty_layer
    }

    fn from_wire(wire: WireHistory) -> Self {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            created_by: filled(wire.created_by),
            created: filled(wire.created),
            comment: filled(wire.comment),
            author: filled(wire.author),
            empty_layer: wire.empty_layer.unwrap_or_default(),
        }
    }
}

fn diff_ids(wire: List<Scalar, { limits::LAYERS }>) -> Result<Vec<Digest>, ManifestError> {
    if wire.more {
        return Err(too_many("rootfs.diff_ids", limits::LAYERS));
    }
    let place = FieldPath::field("rootfs.diff_ids");
    wire.items.iter().enumerate().map(|(index, text)| digest(Some(text), place.item(index))).collect()
}

fn list<T>(field: &'static str, wire: Option<List<T>>) -> Result<Vec<T>, ManifestError> {
    let wire = wire.unwrap_or_default();
    if wire.more { Err(too_many(field, limits::DOCUMENT_ITEMS)) } else { Ok(wire.items) }
}

fn keys(field: &'static str, wire: Option<KeySet>) -> Result<Vec<String>, ManifestError> {
    let wire = wire.unwrap_or_default();
    if wire.more {
        Err(too_many(field, limits::DOCUMENT_ITEMS))
    } else {
        Ok(wire.items.into_keys().collect())
    }
}
