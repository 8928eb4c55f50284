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
    /// Docker's `config.json`.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "a store to write to"))]
    pub(crate) docker_config: Option<PathBuf>,
    /// Our own directory.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "the place of stores"))]
    pub(crate) own: Option<PathBuf>,
}

impl Places {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        Self::of(&|name| std::env::var_os(name), home_dir().ok(), Some(rustix::process::geteuid().as_raw()))
    }

    /// Those of an environment, a home directory and a user's number.
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
        Self {
            docker_auth_config: set("DOCKER_AUTH_CONFIG")
                .map(|value| SecretString::from(value.into_string().unwrap_or_default())),
            registry_auth_file: set("REGISTRY_AUTH_FILE").map(PathBuf::from),
            files: files.into_iter().filter_map(|(path, style)| Some((path?, style))).collect(),
            docker_config,
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
    fn an_empty_or_relative_variable_is_none() {
        let empty = [("DOCKER_CONFIG", ""), ("REGISTRY_AUTH_FILE", ""), ("DOCKER_AUTH_CONFIG", "")];
        let empty = places(&[&empty[..], &[("XDG_CONFIG_HOME", "relative")]].concat());
        assert_eq!(paths(&empty), paths(&places(&[])));
        assert!(empty.registry_auth_file.is_none() && empty.docker_auth_config.is_none());
        assert_eq!(empty.own, places(&[]).own);
    }
}
