//! `credential-helpers` in `registries.conf`: the credential helpers that podman and skopeo use, and their order.
//! Format: containers/image `docs/containers-registries.conf.5.md`, `docs/containers-registries.conf.d.5.md` and
//! `pkg/sysregistriesv2`.
//!
//! ```text
//! the file named by a variable ───┐
//! the user's registries.conf ─────┼▸ the machine's registries.conf.d/*.conf ▸ the user's registries.conf.d/*.conf
//! the machine's registries.conf ──┘  (skipped if the user has a registries.conf)   the last list is used
//! ```

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use toml_edit::Document;

use super::{
    auth_file::read, error::CredentialError, locations::RegistriesLocations, store::document::line_and_column,
};
use crate::limits;

/// The name in the list that stands for podman's and docker's files.
pub(crate) const FILES: &str = "containers-auth.json";

/// The result of reading all files.
#[derive(Debug, Default)]
pub(crate) struct RegistriesConf {
    /// Names of helpers, and [`FILES`], in order; empty if no file has a list.
    pub(crate) helpers: Vec<String>,
    /// The file that the list is from, for messages.
    pub(crate) place: String,
    /// Files that cannot be read and are ignored.
    pub(crate) problems: Vec<CredentialError>,
}

impl RegistriesConf {
    /// Reads all files that exist.
    pub(crate) fn read(locations: &RegistriesLocations) -> Self {
        let mut conf = Self::default();
        let user =
            locations.user.as_ref().map(|user| user.join("registries.conf")).filter(|path| path.exists());
        let is_users = locations.named.is_none() && user.is_some();
        let machine = locations.machine.as_ref().filter(|_| !is_users);
        match (&locations.named, user.or_else(|| machine.map(|machine| machine.join("registries.conf")))) {
            (Some(named), _) => conf.include(named, IfMissing::Report),
            (None, Some(main)) => conf.include(&main, IfMissing::Ignore),
            (None, None) => {}
        }
        for directory in machine.into_iter().chain(&locations.user) {
            for path in conf.drop_ins(&directory.join("registries.conf.d")) {
                conf.include(&path, IfMissing::Ignore);
            }
        }
        let mut seen = BTreeSet::new();
        conf.helpers.retain(|name| seen.insert(name.clone()));
        if let Some(more) = conf.helpers.get(limits::HELPERS..).filter(|more| !more.is_empty()) {
            let problem =
                format!("{} credential helpers beyond {} are not used", more.len(), limits::HELPERS);
            conf.problems.push(CredentialError::other(format!("{}: {problem}", conf.place)));
            conf.helpers.truncate(limits::HELPERS);
        }
        conf
    }

    /// Reads a file, whose list replaces the one so far.
    fn include(&mut self, path: &Path, if_missing: IfMissing) {
        let shown = path.display().to_string();
        match read(path, limits::REGISTRIES_CONF_BYTES) {
            Ok(Some(text)) => match list(&text, &shown) {
                Ok(Some(helpers)) => {
                    self.helpers = helpers;
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    self.place = format!("{name} at {shown}");
                }
                Ok(None) => {}
                Err(problem) => self.problems.push(problem),
            },
            Ok(None) if if_missing == IfMissing::Ignore => {}
            Ok(None) => self.problems.push(CredentialError::other(format!("there is no {shown}"))),
            Err(problem) => self.problems.push(problem),
        }
    }

    /// The configuration files in a directory, sorted by name.
    fn drop_ins(&mut self, directory: &Path) -> Vec<PathBuf> {
        let shown = directory.display();
        let failed = |error| CredentialError::other(format!("reading {shown}: {error}"));
        // Podman does not follow a symbolic link here either.
        let entries = match fs::symlink_metadata(directory) {
            Ok(metadata) if metadata.is_dir() => fs::read_dir(directory),
            Ok(_) => return Vec::new(),
            Err(error) => Err(error),
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Vec::new();
            }
            Err(error) => {
                self.problems.push(failed(error));
                return Vec::new();
            }
        };
        let mut paths = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {}
                Ok(entry) if !entry.file_name().as_encoded_bytes().ends_with(b".conf") => {}
                Ok(_) if paths.len() == limits::REGISTRIES_CONF_FILES => {
                    let most = limits::REGISTRIES_CONF_FILES;
                    let problem = format!("{shown} has more than {most} files, so all of them are ignored");
                    self.problems.push(CredentialError::other(problem));
                    return Vec::new();
                }
                Ok(entry) => paths.push(entry.path()),
                Err(error) => self.problems.push(failed(error)),
            }
        }
        paths.sort();
        paths
    }
}

/// Whether a missing file is a problem.
#[derive(Clone, Copy, Eq, PartialEq)]
enum IfMissing {
    Ignore,
    Report,
}

/// The list in a file's text, which may be empty; `None` if there is no list.
fn list(text: &[u8], path: &str) -> Result<Option<Vec<String>>, CredentialError> {
    let malformed = |text: &str, span, what: &str| {
        let (line, column) = line_and_column(text, span);
        CredentialError::other(format!("{path}: line {line}, column {column} is {what}; the file is ignored"))
    };
    let text = std::str::from_utf8(text).map_err(|error| {
        let at = error.valid_up_to();
        CredentialError::other(format!("{path}: byte {at} is not UTF-8; the file is ignored"))
    })?;
    let document = Document::parse(text).map_err(|error| malformed(text, error.span(), "not TOML"))?;
    let name = "credential-helpers";
    let other_case = || document.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, item)| item);
    let Some(item) = document.get(name).or_else(other_case) else { return Ok(None) };
    let wrong = |span| malformed(text, span, "not a list of names of credential helpers");
    let array = item.as_array().ok_or_else(|| wrong(item.span()))?;
    let names = array.iter().map(|name| match name.as_str() {
        Some(name) => Ok(name.to_owned()),
        None => Err(wrong(name.span())),
    });
    names.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// Configuration directories of a user and a machine.
    struct Machine(TempDir);

    impl Machine {
        fn new(files: &[(&str, &str)]) -> Self {
            let machine = Self(TempDir::new().unwrap());
            for (name, text) in files {
                let path = machine.0.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            machine
        }

        fn read_with(&self, named: Option<&str>) -> RegistriesConf {
            let below = |name: &str| Some(self.0.path().join(name));
            let named = named.and_then(below);
            RegistriesConf::read(&RegistriesLocations { named, user: below("user"), machine: below("etc") })
        }

        fn read(&self) -> RegistriesConf {
            self.read_with(None)
        }
    }

    /// A file that names this helper.
    fn naming(name: &str) -> String {
        format!("credential-helpers = [\"{name}\"]\n")
    }

    #[test]
    fn the_users_file_replaces_the_machines_and_drop_ins_override_both() {
        let order = [
            "etc/registries.conf",
            "etc/registries.conf.d/a.conf",
            "etc/registries.conf.d/b.conf",
            "user/registries.conf.d/a.conf",
        ];
        for count in 1..=order.len() {
            let texts: Vec<String> = order.iter().map(|name| naming(name)).collect();
            let files: Vec<_> = order.into_iter().zip(texts.iter().map(String::as_str)).collect();
            let machine = Machine::new(&files[..count]);
            let conf = machine.read();
            assert_eq!(conf.helpers, [order[count - 1]]);
            assert!(conf.place.ends_with(order[count - 1]) && conf.problems.is_empty(), "{conf:?}");
        }
        // If the user has a file, the machine's files are not read.
        let (user, etc) = (naming("user"), naming("etc"));
        let machine =
            Machine::new(&[("user/registries.conf", &user), ("etc/registries.conf.d/z.conf", &etc)]);
        assert_eq!(machine.read().helpers, ["user"]);
        // If a variable names the file, drop-ins of both are read.
        let machine = Machine::new(&[
            ("named", &user),
            ("user/registries.conf", &etc),
            ("etc/registries.conf.d/z.conf", &etc),
        ]);
        assert_eq!(machine.read_with(Some("named")).helpers, ["etc"]);
        let machine = Machine::new(&[("named", &user), ("user/registries.conf", &etc)]);
        assert_eq!(machine.read_with(Some("named")).helpers, ["user"]);
    }

    #[test]
    fn a_list_replaces_the_previous_one_and_an_empty_list_resets_it() {
        let first = ("etc/registries.conf", "credential-helpers = [\"a\", \"containers-auth.json\", \"a\"]");
        let silent = ("etc/registries.conf.d/a.conf", "unqualified-search-registries = [\"x.y\"]");
        let machine = Machine::new(&[first, silent]);
        assert_eq!(machine.read().helpers, ["a", FILES]);
        let empty = ("etc/registries.conf.d/b.conf", "credential-helpers = []");
        assert!(Machine::new(&[first, silent, empty]).read().helpers.is_empty());
        // Podman's parser accepts any case if the exact name is missing.
        let machine = Machine::new(&[("etc/registries.conf", "Credential-Helpers = [\"a\"]")]);
        assert_eq!(machine.read().helpers, ["a"]);
        assert!(Machine::new(&[]).read().helpers.is_empty());
    }

    #[test]
    fn other_files_subdirectories_and_a_linked_directory_are_ignored() {
        let text = naming("a");
        let machine = Machine::new(&[
            ("etc/registries.conf.d/a.txt", &text),
            ("etc/registries.conf.d/folder.conf/a.conf", &text),
            ("elsewhere/a.conf", &text),
        ]);
        fs::create_dir_all(machine.0.path().join("user")).unwrap();
        let link = machine.0.path().join("user/registries.conf.d");
        std::os::unix::fs::symlink(machine.0.path().join("elsewhere"), link).unwrap();
        let conf = machine.read();
        assert!(conf.helpers.is_empty() && conf.problems.is_empty(), "{conf:?}");
    }

    #[test]
    fn a_malformed_file_is_ignored_and_its_position_is_reported() {
        let good = ("etc/registries.conf", "credential-helpers = [\"good\"]");
        for (text, place) in [
            ("a = 1\ncredential-helpers = [hush", "line 2, column "),
            ("\ncredential-helpers = \"hush\"", "line 2, column 22 is not a list"),
            ("credential-helpers = [\"hush\", 7]", "line 1, column 31 is not a list"),
            ("[credential-helpers]\nhush = 1", "line 1, column 1 is not a list"),
        ] {
            let machine = Machine::new(&[good, ("etc/registries.conf.d/bad.conf", text)]);
            let conf = machine.read();
            assert_eq!(conf.helpers, ["good"]);
            let [problem] = &conf.problems[..] else { panic!("one problem: {conf:?}") };
            let problem = problem.to_string();
            assert!(problem.contains("registries.conf.d/bad.conf: line"), "{problem}");
            assert!(problem.contains(place) && !problem.contains("hush"), "{problem}");
        }
        let machine = Machine::new(&[good]);
        fs::write(machine.0.path().join("etc/registries.conf"), b"# \xff\n").unwrap();
        assert!(machine.read().problems[0].to_string().contains("byte 2 is not UTF-8"));
        let problems = machine.read_with(Some("missing")).problems;
        assert!(problems[0].to_string().ends_with("/missing"), "{problems:?}");
    }

    #[test]
    fn the_size_of_files_and_the_number_of_files_and_helpers_are_capped() {
        let long = format!("# {}\n{}", "x".repeat(1 << 20), naming("a"));
        let conf = Machine::new(&[("etc/registries.conf", &long)]).read();
        assert!(conf.helpers.is_empty());
        assert!(conf.problems[0].to_string().contains("larger than 1048576 bytes"), "{conf:?}");
        let many: Vec<String> = (0..20).map(|number| format!("\"n{number}\"")).collect();
        let many = format!("credential-helpers = [{}]", many.join(","));
        let conf = Machine::new(&[("etc/registries.conf", &many)]).read();
        assert_eq!(conf.helpers.len(), limits::HELPERS);
        assert!(conf.problems[0].to_string().contains("12 credential helpers beyond 8"), "{conf:?}");
        let names: Vec<String> =
            (0..=limits::REGISTRIES_CONF_FILES).map(|n| format!("etc/registries.conf.d/{n}.conf")).collect();
        let text = naming("a");
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
        let conf = Machine::new(&files).read();
        assert!(conf.helpers.is_empty() && conf.problems[0].to_string().contains("more than 1000 files"));
        assert_eq!(Machine::new(&files[1..]).read().helpers, ["a"]);
    }
}
