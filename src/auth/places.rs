//! Where people keep credentials on this machine, by its environment.

use std::{ffi::OsString, path::PathBuf};

use etcetera::home_dir;
use secrecy::SecretString;

use super::auth_file::Style;

/// Paths, be there anything at them or not. Cannot be printed: a variable holds secrets.
#[derive(Clone, Default)]
pub(crate) struct Places {
    /// `DOCKER_AUTH_CONFIG`.
    pub(crate) docker_auth_config: Option<SecretString>,
    /// `REGISTRY_AUTH_FILE`: if it is set, `files` do not count.
    pub(crate) registry_auth_file: Option<PathBuf>,
    /// Files of containers, then of docker, in the order in which they are asked.
    pub(crate) files: Vec<(PathBuf, Style)>,
    /// Where `registries.conf` may be.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "reading it takes a parser of TOML"))]
    pub(crate) registries: RegistriesPlaces,
    /// Docker's `config.json`.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "a store to write to"))]
    pub(crate) docker_config: Option<PathBuf>,
    /// Our own directory.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "the place of stores"))]
    pub(crate) own: Option<PathBuf>,
}

/// Where the configuration of containers' tools may be.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "reading it takes a parser of TOML"))]
pub(crate) struct RegistriesPlaces {
    /// The one file that `CONTAINERS_REGISTRIES_CONF` or `REGISTRIES_CONFIG_PATH` names.
    pub(crate) named: Option<PathBuf>,
    /// The user's directory of configuration, which is below the home directory whatever `XDG_CONFIG_HOME` says.
    pub(crate) user: Option<PathBuf>,
    /// The machine's.
    pub(crate) machine: Option<PathBuf>,
}

impl Places {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let user = Some(rustix::process::geteuid().as_raw());
        let mut places = Self::of(&|name| std::env::var_os(name), home_dir().ok(), user);
        places.registries.machine = Some("/etc/containers".into());
        places
    }

    /// Those of an environment, a home directory and a user's number; nothing that the machine says to everybody.
    pub(crate) fn of(
        variable: &dyn Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
        user: Option<u32>,
    ) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = |below: &str| home.as_ref().map(|home| home.join(below));
        let absolute = |name: &str| set(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = absolute("XDG_CONFIG_HOME").or_else(|| home(".config"));
        let runtime = set("XDG_RUNTIME_DIR").map(PathBuf::from);
        // Containers' tools on other systems keep it where it lasts.
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
        // The first that is set counts, be it to nothing.
        let named = ["CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH"].into_iter().find_map(variable);
        let registries = RegistriesPlaces {
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

    fn places(variables: &[(&str, &str)]) -> Places {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let variable = |name: &str| variables.get(name).map(OsString::from);
        Places::of(&variable, Some("/home/me".into()), Some(1000))
    }

    fn paths(places: &Places) -> Vec<String> {
        places.files.iter().map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_lie_where_others_look_for_them() {
        let bare = places(&[]);
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
        let set = places(&[
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
    fn the_configuration_of_containers_tools_is_where_they_look_for_it() {
        let named = |variables: &[(&str, &str)]| places(variables).registries.named;
        let (new, old) = (("CONTAINERS_REGISTRIES_CONF", "/new"), ("REGISTRIES_CONFIG_PATH", "/old"));
        assert_eq!(named(&[new, old]), Some("/new".into()));
        assert_eq!(named(&[old]), Some("/old".into()));
        assert_eq!(named(&[("CONTAINERS_REGISTRIES_CONF", ""), old]), None);
        let elsewhere = places(&[("XDG_CONFIG_HOME", "/etc/me")]).registries;
        assert_eq!(elsewhere.user, Some("/home/me/.config/containers".into()));
        assert_eq!(Places::of_process().registries.machine, Some("/etc/containers".into()));
    }

    #[test]
    fn an_empty_or_relative_variable_is_none() {
        let empty = [("DOCKER_CONFIG", ""), ("REGISTRY_AUTH_FILE", ""), ("DOCKER_AUTH_CONFIG", "")];
        let empty = places(&[&empty[..], &[("XDG_CONFIG_HOME", "relative")]].concat());
        assert_eq!(paths(&empty), paths(&places(&[])));
        assert!(empty.registry_auth_file.is_none() && empty.docker_auth_config.is_none());
        assert_eq!(empty.own, places(&[]).own);
    }
}
