//! What others keep: files of containers' tools and docker, and the credential helpers of `registries.conf`, in the order in which
//! they are asked.

use std::path::PathBuf;

use super::super::{
    auth_file::{AuthFile, Style},
    credential::Credential,
    error::CredentialError,
    helper::Helper,
    key::RegistryKey,
    places::Places,
};
#[cfg(feature = "stores")]
use super::super::{
    helper::OURSELVES,
    registries_conf::{FILES, RegistriesConf},
};

/// Who is asked, and who is not.
pub(super) struct Shared {
    pub(super) asked: Vec<SharedPlace>,
    /// Files that would be asked, but for `registries.conf`.
    left_out: Vec<SharedPlace>,
    /// What names the helpers, for messages.
    pub(super) place: String,
    /// What is wrong with `registries.conf`.
    pub(super) problems: Vec<CredentialError>,
}

/// A place of others.
#[derive(Clone)]
pub(super) enum SharedPlace {
    File(PathBuf, Style),
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "registries.conf is not read"))]
    Helper {
        name: String,
        named_in: String,
    },
}

impl Shared {
    #[cfg(feature = "stores")]
    pub(super) fn of(places: &Places) -> Self {
        let mut conf = RegistriesConf::read(&places.registries);
        let mut files: Vec<SharedPlace> = files(places);
        if conf.helpers.is_empty() {
            conf.helpers.push(FILES.to_owned());
        }
        let (mut asked, mut left_out) = (Vec::new(), Vec::new());
        for name in conf.helpers {
            match name.as_str() {
                FILES => asked.append(&mut files),
                // Our own stores have been asked already.
                OURSELVES => {}
                _ => asked.push(SharedPlace::Helper { name, named_in: conf.place.clone() }),
            }
        }
        // Docker, whose files are the last, knows of no registries.conf.
        for file in files {
            match file {
                SharedPlace::File(_, Style::Docker | Style::Legacy) => asked.push(file),
                _ => left_out.push(file),
            }
        }
        let place = if conf.place.is_empty() { "registries.conf".to_owned() } else { conf.place };
        Self { asked, left_out, place, problems: conf.problems }
    }

    #[cfg(not(feature = "stores"))]
    pub(super) fn of(places: &Places) -> Self {
        Self { asked: files(places), left_out: Vec::new(), place: String::new(), problems: Vec::new() }
    }

    /// Files with a credential for an image that does not count, and why.
    pub(super) fn unasked(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Vec<(String, CredentialError)> {
        let files = self.left_out.iter().filter_map(|place| match place {
            SharedPlace::File(path, style) => AuthFile::read(path, *style).ok().flatten(),
            SharedPlace::Helper { .. } => None,
        });
        let holding = files.filter(|file| matches!(file.in_file(registry, repository), Ok(Some(_))));
        let told = holding.map(|file| {
            let (place, conf) = (file.place(), &self.place);
            let problem = format!(
                "{place}: it is not asked, because credential-helpers leaves out containers-auth.json, in {conf}"
            );
            (place.to_owned(), CredentialError::unavailable(problem))
        });
        told.collect()
    }
}

/// The files, whatever `registries.conf` says.
fn files(places: &Places) -> Vec<SharedPlace> {
    match &places.registry_auth_file {
        Some(file) => vec![SharedPlace::File(file.clone(), Style::Containers)],
        None => places.files.iter().map(|(path, style)| SharedPlace::File(path.clone(), *style)).collect(),
    }
}

impl SharedPlace {
    /// What it has for an image, or for a registry as such. Where a file names ourselves, our own stores have been asked already.
    pub(super) fn find(
        &self,
        registry: &RegistryKey,
        repository: Option<&str>,
    ) -> Result<Option<Credential>, CredentialError> {
        match self {
            Self::File(path, style) => match AuthFile::read(path, *style)? {
                Some(file) if !file.asks_us(registry) => file.find(registry, repository),
                _ => Ok(None),
            },
            Self::Helper { name, named_in } => {
                let problem = |error| CredentialError::unavailable(format!("{error}, named in {named_in}"));
                let helper = Helper::named(name).map_err(problem)?;
                let found = helper.get(registry.host()).map_err(problem)?;
                let place = format!("{}, named in {named_in}", helper.program());
                Ok(found.map(|credential| credential.found_in(place)))
            }
        }
    }

    /// Every registry that it names. One that fails is told when it is asked for a credential.
    pub(super) fn registries(&self) -> Vec<RegistryKey> {
        match self {
            Self::File(path, style) => {
                let file = AuthFile::read(path, *style).ok().flatten();
                file.map(|file| file.registries()).unwrap_or_default()
            }
            Self::Helper { name, .. } => {
                let listed = Helper::named(name).and_then(|helper| helper.list()).unwrap_or_default();
                listed.keys().filter_map(|key| key.parse().ok()).collect()
            }
        }
    }

    /// Where that is, for messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(path, _) => path.display().to_string(),
            Self::Helper { named_in, .. } => named_in.clone(),
        }
    }
}
