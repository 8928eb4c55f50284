//! Files shared with docker, podman and skopeo.

use super::{PASSWORD, USER, private_image};
use crate::support::{
    docker_registry::DockerRegistry,
    home::Home,
    token_server::{Policy, TokenServer},
    tools,
};

#[test]
fn skopeo_reads_dockers_configuration_as_we_write_it() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let image = private_image(&registry);
    let home = Home::new();
    home.login(&registry.host(), USER, PASSWORD, &["--store", "docker-config"]).done().said("in plain text");
    home.run(["logout", &registry.host()], "").done().said("--store docker-config");
    let file = home.path(".docker/config.json");
    let image = format!("docker://{image}");
    tools::run(home.other("skopeo").args([
        "inspect",
        "--tls-verify=false",
        "--authfile",
        tools::text(&file),
        &image,
    ]));
    // Also in the default location.
    tools::run(home.other("skopeo").args(["inspect", "--tls-verify=false", &image]));
}

#[test]
fn skopeo_uses_the_identity_token_that_we_write_for_docker() {
    let server = TokenServer::start(Policy::closed().user(USER, PASSWORD).issuing_identity_tokens());
    let registry = DockerRegistry::token(&server);
    let image = format!("docker://{}", private_image(&registry));
    let home = Home::new();
    home.login(&registry.host(), USER, PASSWORD, &["--store", "docker-config"]).done();
    let config = home.text(".docker/config.json");
    assert!(config.contains("identitytoken") && !config.contains("d29uZGVy"), "{config}");
    tools::run(home.other("skopeo").args(["inspect", "--tls-verify=false", &image]));
    let last = server.requests().pop().unwrap();
    assert_eq!((last.method.as_str(), last.user.as_deref(), last.status), ("POST", Some(USER), 200));
}

#[test]
fn we_read_what_skopeo_writes() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let (host, image) = (registry.host(), private_image(&registry));
    let login = ["login", "--tls-verify=false", "--username", USER, "--password", PASSWORD];
    let home = Home::new();
    tools::run(home.other("skopeo").args(login).arg(&host));
    let status = home.status(&[&host]);
    assert!(status[0]["place"].as_str().unwrap().contains("run/containers/auth.json"), "{status:?}");
    home.run(["logout", &host], "").done().said(&format!("remove it with: podman logout {host}"));
    home.run(["peek", &image], "").done();
    tools::run(home.other("skopeo").args(["logout", &host]));
    home.run(["peek", &image], "").failed(6);
    // An explicitly named file, and a key with a path.
    let home = Home::new();
    let file = home.path("mine.json");
    let home = home.set("REGISTRY_AUTH_FILE", tools::text(&file));
    tools::run(home.other("skopeo").args(login).arg(format!("{host}/closed")));
    assert!(home.text("mine.json").contains("/closed"));
    home.run(["peek", &image], "").done();
    let status = home.status(&[&format!("{host}/closed/one"), "--check"]);
    assert_eq!((&status[0]["username"], &status[0]["check"]), (&USER.into(), &"accepted".into()));
    home.run(["auth", "status", &host], "").done().said(&format!("below {host}/closed"));
}

#[test]
fn migration_moves_secrets_out_of_dockers_and_podmans_files() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let (host, image) = (registry.host(), private_image(&registry));
    let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame");
    home.login(&host, USER, PASSWORD, &["--store", "docker-config"]).done();
    let login = ["login", "--tls-verify=false", "--username", USER, "--password", PASSWORD];
    tools::run(home.other("skopeo").args(login).arg(&host));
    let ran = home.run(["auth", "migrate", "--dry-run"], "").done();
    ran.said("would be moved").said("2 of 2");
    assert!(home.text(".docker/config.json").contains(&host));
    let ran = home.run(["auth", "migrate"], "").done().said(&format!("{host}: moved")).said("2 of 2");
    assert!(ran.stderr.contains("credsStore"));
    for file in [".docker/config.json", "run/containers/auth.json"] {
        assert!(!home.text(file).contains("auth\":"), "{}", home.text(file));
    }
    let status = home.status(&[]);
    assert!(status.len() == 1 && status[0]["place"].as_str().unwrap().contains("encrypted"), "{status:?}");
    home.run(["peek", &image], "").done();
    home.run(["auth", "migrate"], "").done().said("0 of 0");
}

#[test]
fn status_shows_which_source_is_used_and_what_it_shadows() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let host = registry.host();
    let home = Home::new();
    home.login(&host, USER, PASSWORD, &["--store", "docker-config"]).done();
    let variable = format!("LAYERSLAYER_AUTH_{}", host.replace(['.', ':'], "_"));
    let home = home.set(&variable, "bob:else");
    let status = home.status(&[&host, "--check"]);
    assert_eq!(status.len(), 2);
    assert_eq!((&status[0]["username"], &status[0]["check"]), (&"bob".into(), &"refused".into()));
    assert_eq!((&status[1]["username"], &status[1]["wins"]), (&USER.into(), &false.into()));
    let table = home.run(["auth", "status", &host], "").done().stdout;
    assert!(table.contains(&variable) && table.contains("(shadowed)"), "{table}");
    home.run(["peek", &private_image(&registry)], "").failed(6).said(&variable);
}
