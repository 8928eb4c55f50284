//! `credential-helpers` in `registries.conf`: we use the same sources as skopeo, in the same order.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{PASSWORD, USER, private_image};
use crate::support::{docker_registry::DockerRegistry, home::Home, tools};

const CONF: &str = ".config/containers/registries.conf";

/// A home with helpers installed. Each returns its own name as the user name; `none` has no credential, `bad` fails.
fn home_with_helpers() -> Home {
    let home = Home::new();
    for name in ["one", "two", "none", "bad"] {
        let answer = match name {
            "none" => "echo 'credentials not found in native keychain'; exit 1".to_owned(),
            "bad" => "exit 3".to_owned(),
            _ => format!(r#"printf '{{"ServerURL":"%s","Username":"{name}","Secret":"x"}}' "$(cat)""#),
        };
        let path = home.path(&format!("bin/docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{answer}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // "file:x"
    home.file("run/containers/auth.json", r#"{"auths":{"a.b":{"auth":"ZmlsZTp4"}}}"#)
}

#[test]
fn we_use_the_same_source_as_skopeo() {
    let list =
        |names: &str| format!("unqualified-search-registries = [\"a.b\"]\ncredential-helpers = [{names}]\n");
    let drop_in = |name: &str| format!("{CONF}.d/{name}");
    let none = String::new;
    for (main, first, second) in [
        (none(), none(), none()),
        (list(""), none(), none()),
        (list(r#""one", "two""#), none(), none()),
        (list(r#""two", "containers-auth.json""#), none(), none()),
        (list(r#""containers-auth.json", "one""#), none(), none()),
        (list(r#""none", "containers-auth.json", "one""#), none(), none()),
        (list(r#""none", "two""#), none(), none()),
        (list(r#""bad", "two""#), none(), none()),
        (list(r#""bad", "containers-auth.json""#), none(), none()),
        (list(r#""none""#), none(), none()),
        (list(r#""one""#), list(r#""two""#), none()),
        (list(r#""one""#), list(r#""two""#), list(r#""one""#)),
        (list(r#""one""#), list(r#""two""#), "short-name-mode = \"disabled\"\n".to_owned()),
        (list(r#""one""#), list(r#""two""#), list("")),
        ("Credential-Helpers = [\"one\"]\n".to_owned(), none(), none()),
    ] {
        let shown = format!("{main}|{first}|{second}");
        let home = home_with_helpers().file(&drop_in("a.conf"), first).file(&drop_in("b.conf"), second);
        let home = home.file(&drop_in("z.txt"), list(r#""bad""#)).file(CONF, main);
        let skopeo = home.other("skopeo").args(["login", "--get-login", "a.b"]).output().unwrap();
        let theirs = String::from_utf8(skopeo.stdout).unwrap().trim().to_owned();
        let status = home.status(&["a.b"]);
        let winner = status.iter().find(|line| line["wins"] == true);
        let ours = winner.map_or("", |line| line["username"].as_str().unwrap());
        assert_eq!(ours, theirs, "{shown} {status:?}");
    }
}

#[test]
fn an_image_is_read_with_a_credential_that_skopeo_stored_in_a_helper_of_registries_conf() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let (host, image) = (registry.host(), private_image(&registry));
    let home = Home::with_keyring().file(CONF, "credential-helpers = [\"secretservice\"]\n");
    home.run(["peek", &image], "").failed(6);
    let login = ["login", "--tls-verify=false", "--username", USER, "--password", PASSWORD, &host];
    tools::run(home.other("skopeo").args(login));
    assert_eq!(home.text("run/containers/auth.json"), "");
    home.run(["peek", &image], "").done();
    let status = home.status(&[]);
    let place = status[0]["place"].as_str().unwrap();
    assert!(place.contains("docker-credential-secretservice, named in registries.conf at "), "{place}");
    home.run(["logout", &host], "").done().said(&format!("remove it with: podman logout {host}"));
}

#[test]
fn the_warning_for_a_malformed_registries_conf_gives_the_position() {
    let home = Home::new().file(CONF, "\ncredential-helpers = [\"a\"");
    let ran = home.run(["auth", "status", "a.b"], "").done();
    assert!(ran.stdout.contains("registries.conf: line 2, column "), "{}", ran.stdout);
}
