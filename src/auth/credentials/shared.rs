//! Sources that we share with other programs: podman's and docker's files, and the credential helpers of `registries.conf`, in order of
//! precedence.

use std::path::PathBuf;

use super::super::{
    auth_file::{AuthFile, Style},
    credential::Credential,
    error::CredentialError,
    helper::Helper,
    key::RegistryKey,
    locations::Locations,
};
#[cfg(feature = "stores")]
use super::super::{
    helper::OURSELVES,
    registries_conf::{FILES, RegistriesConf},
};

/// The sources that are searched, and those that are not.
pub(super) struct SharedSources {
    pub(super) active: Vec<SharedSource>,
    /// Files that `registries.conf` excludes.
    excluded: Vec<SharedSource>,
    /// The file that names the helpers, for messages.
    pub(super) place: String,
    /// Errors in `registries.conf`.
    pub(super) problems: Vec<CredentialError>,
}

/// A file or helper of other programs.
#[derive(Clone)]
pub(super) enum SharedSource {
    File(PathBuf, Style),
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "registries.conf is not read"))]
    Helper {
        name: String,
        named_in: String,
    },
}

impl SharedSources {
    #[cfg(feature = "stores")]
    pub(super) fn new(locations: &Locations) -> Self {
        let mut conf = RegistriesConf::read(&locations.registries);
        let mut files: Vec<SharedSource> = files(locations);
        if conf.helpers.is_empty() {
            conf.helpers.push(FILES.to_owned());
        }
        let (mut active, mut excluded) = (Vec::new(), Vec::new());
        for name in conf.helpers {
            match name.as_str() {
                FILES => active.append(&mut files),
                // Our own stores have been searched before.
                OURSELVES => {}
                _ => active.push(SharedSource::Helper { name, named_in: conf.place.clone() }),
            }
        }
        // Docker does not read registries.conf. Its files come last.
        for file in files {
            match file {
                SharedSource::File(_, Style::Docker | Style::Legacy) => active.push(file),
                _ => excluded.push(file),
            }
        }
        let place = if conf.place.is_empty() { "registries.conf".to_owned() } else { conf.place };
        Self { active, excluded, place, problems: conf.problems }
    }

    #[cfg(not(feature = "stores"))]
    pub(super) fn new(locations: &Locations) -> Self {
        Self { active: files(locations), excluded: Vec::new(), place: String::new(), problems: Vec::new() }
    }

    /// Excluded files that have a credential for an image, and why they are not used.
    pub(super) fn excluded(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Vec<(String, CredentialError)> {
        let files = self.excluded.iter().filter_map(|source| match source {
            SharedSource::File(path, style) => AuthFile::read(path, *style).ok().flatten(),
            SharedSource::Helper { .. } => None,
        });
        let relevant = files.filter(|file| matches!(file.in_file(registry, repository), Ok(Some(_))));
        let problems = relevant.map(|file| {
            let (place, conf) = (file.place(), &self.place);
            let problem = format!(
                "{place}: not used, because credential-helpers omits containers-auth.json, in {conf}"
            );
            (place.to_owned(), CredentialError::unavailable(problem))
        });
        problems.collect()
    }
}

/// The files, before `registries.conf` is applied.
fn files(locations: &Locations) -> Vec<SharedSource> {
    match &locations.registry_auth_file {
        Some(file) => vec![SharedSource::File(file.clone(), Style::Containers)],
        None => {
            locations.files.iter().map(|(path, style)| SharedSource::File(path.clone(), *style)).collect()
        }
    }
}

impl SharedSource {
    /// The credential for an image, or for a registry if `repository` is `None`. A file that names us as its helper has none: our own
    /// stores have been searched before.
    pub(super) fn find(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Result<Option<Credential>, CredentialError> {
        match self {
            Self::File(path, style) => match AuthFile::read(path, *style)? {
                Some(file) if !file.names_us(registry) => file.find(registry, repository),
                _ => Ok(None),
            },
            Self::Helper { name, named_in } => {
                let problem = |error: CredentialError| error.named_in(named_in);
                let helper = Helper::new(name).map_err(problem)?;
                let found = helper.get(registry.host()).map_err(problem)?;
                let place = format!("{}, named in {named_in}", helper.program());
                Ok(found.map(|credential| credential.with_source(place)))
            }
        }
    }

    /// Every registry that it names. A failure is reported when it is searched for a credential.
    pub(super) fn registries(&self) -> Vec<RegistryKey> {
        match self {
            Self::File(path, style) => {
                let file = AuthFile::read(path, *style).ok().flatten();
                file.map(|file| file.registries()).unwrap_or_default()
            }
            Self::Helper { name, .. } => {
                let listed = Helper::new(name).and_then(|helper| helper.list()).unwrap_or_default();
                listed.keys().filter_map(|key| key.parse().ok()).collect()
            }
        }
    }

    /// Its location, for messages.
    pub(super) fn place(&self) -> String {
        match self {
            Self::File(path, _) => path.display().to_string(),
            Self::Helper { named_in, .. } => named_in.clone(),
        }
    }
}
