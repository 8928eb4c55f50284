//! Where credentials are on this machine, according to its environment.

use std::{ffi::OsString, path::PathBuf};

use etcetera::home_dir;
use secrecy::SecretString;

use super::auth_file::Style;

/// Paths of files that may or may not exist. Cannot be printed: `DOCKER_AUTH_CONFIG` holds secrets.
#[derive(Clone, Default)]
pub(crate) struct Locations {
    /// `DOCKER_AUTH_CONFIG`.
    pub(crate) docker_auth_config: Option<SecretString>,
    /// `REGISTRY_AUTH_FILE`. If set, `files` are not used.
    pub(crate) registry_auth_file: Option<PathBuf>,
    /// Podman's files, then docker's, in order of precedence.
    pub(crate) files: Vec<(PathBuf, Style)>,
    /// Where `registries.conf` may be.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "reading it takes a TOML parser"))]
    pub(crate) registries: RegistriesLocations,
    /// Docker's `config.json`.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "used for writing"))]
    pub(crate) docker_config: Option<PathBuf>,
    /// Our own directory.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "used by stores"))]
    pub(crate) own: Option<PathBuf>,
}

/// Where podman's and skopeo's configuration may be.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "reading it takes a TOML parser"))]
pub(crate) struct RegistriesLocations {
    /// The file that `CONTAINERS_REGISTRIES_CONF` or `REGISTRIES_CONFIG_PATH` names.
    pub(crate) named: Option<PathBuf>,
    /// The user's configuration directory, below the home directory whatever `XDG_CONFIG_HOME` is.
    pub(crate) user: Option<PathBuf>,
    /// The machine's configuration directory.
    pub(crate) machine: Option<PathBuf>,
}

impl Locations {
    /// The locations of this process.
    pub(crate) fn from_process() -> Self {
        let user = Some(rustix::process::geteuid().as_raw());
        let mut locations = Self::new(&|name| std::env::var_os(name), home_dir().ok(), user);
        locations.registries.machine = Some("/etc/containers".into());
        locations
    }

    /// The locations for an environment, a home directory and a user ID, without the machine's.
    pub(crate) fn new(
        variable: &dyn Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
        user: Option<u32>,
    ) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = |below: &str| home.as_ref().map(|home| home.join(below));
        let absolute = |name: &str| set(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = absolute("XDG_CONFIG_HOME").or_else(|| home(".config"));
        let runtime = set("XDG_RUNTIME_DIR").map(PathBuf::from);
        // On other systems podman keeps its file in the configuration directory.
        let runtime = match cfg!(target_os = "linux") {
            true => runtime
                .map(|runtime| runtime.join("containers/auth.json"))
                .or_else(|| user.map(|user| format!("/run/containers/{user}/auth.json").into())),
            false => None,
        };
        let docker = set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| home(".docker"));
        let docker_config = docker.map(|directory| directory.join("config.json"));
        let containers = config.as_ref().map(|config| config.join("containers/auth.json"));
        let files = [
            (runtime, Style::Containers),
            (containers, Style::Containers),
            (docker_config.clone(), Style::Docker),
            (home(".dockercfg"), Style::Legacy),
        ];
        // The first variable that is set is used, even if it is empty.
        let named = ["CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH"].into_iter().find_map(variable);
        let registries = RegistriesLocations {
            named: named.filter(|path| !path.is_empty()).map(PathBuf::from),
            user: home(".config/containers"),
            machine: None,
        };
        Self {
            docker_auth_config: set("DOCKER_AUTH_CONFIG")
                .map(|value| SecretString::from(value.into_string().unwrap_or_default())),
            registry_auth_file: set("REGISTRY_AUTH_FILE").map(PathBuf::from),
            files: files.into_iter().filter_map(|(path, style)| Some((path?, style))).collect(),
            docker_config,
            registries,
            own: config.map(|config| config.join("layerslayer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn locations(variables: &[(&str, &str)]) -> Locations {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let variable = |name: &str| variables.get(name).map(OsString::from);
        Locations::new(&variable, Some("/home/me".into()), Some(1000))
    }

    fn paths(locations: &Locations) -> Vec<String> {
        locations.files.iter().map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_are_where_docker_and_podman_look_for_them() {
        let bare = locations(&[]);
        assert_eq!(
            paths(&bare),
            [
                "/run/containers/1000/auth.json",
                "/home/me/.config/containers/auth.json",
                "/home/me/.docker/config.json",
                "/home/me/.dockercfg",
            ]
        );
        assert_eq!(bare.own, Some("/home/me/.config/layerslayer".into()));
        let set = locations(&[
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ("XDG_CONFIG_HOME", "/etc/me"),
            ("DOCKER_CONFIG", "/opt/docker"),
            ("REGISTRY_AUTH_FILE", "/x"),
            ("DOCKER_AUTH_CONFIG", "{}"),
        ]);
        assert_eq!(
            paths(&set),
            [
                "/run/user/1000/containers/auth.json",
                "/etc/me/containers/auth.json",
                "/opt/docker/config.json",
                "/home/me/.dockercfg",
            ]
        );
        assert_eq!(set.own, Some("/etc/me/layerslayer".into()));
        assert_eq!(set.registry_auth_file, Some("/x".into()));
        assert_eq!(set.docker_auth_config.unwrap().expose_secret(), "{}");
    }

    #[test]
    fn registries_conf_is_where_podman_looks_for_it() {
        let named = |variables: &[(&str, &str)]| locations(variables).registries.named;
        let (new, old) = (("CONTAINERS_REGISTRIES_CONF", "/new"), ("REGISTRIES_CONFIG_PATH", "/old"));
        assert_eq!(named(&[new, old]), Some("/new".into()));
        assert_eq!(named(&[old]), Some("/old".into()));
        assert_eq!(named(&[("CONTAINERS_REGISTRIES_CONF", ""), old]), None);
        let elsewhere = locations(&[("XDG_CONFIG_HOME", "/etc/me")]).registries;
        assert_eq!(elsewhere.user, Some("/home/me/.config/containers".into()));
        assert_eq!(Locations::from_process().registries.machine, Some("/etc/containers".into()));
    }

    #[test]
    fn an_empty_or_relative_variable_is_ignored() {
        let empty = [("DOCKER_CONFIG", ""), ("REGISTRY_AUTH_FILE", ""), ("DOCKER_AUTH_CONFIG", "")];
        let empty = locations(&[&empty[..], &[("XDG_CONFIG_HOME", "relative")]].concat());
        assert_eq!(paths(&empty), paths(&locations(&[])));
        assert!(empty.registry_auth_file.is_none() && empty.docker_auth_config.is_none());
        assert_eq!(empty.own, locations(&[]).own);
    }
}
